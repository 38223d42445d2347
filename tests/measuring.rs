//! What is measured: all images that are given, under the right names, none that was trained on without
//! a word, and none that could not be read in any number.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use candle_core::{Device, Tensor};
use common::program::error_line;
use convzoo::Result;
use convzoo::data::{DataKind, DataRequest, Pipeline};
use convzoo::models::{self, Config, Model};
use convzoo::rng::Rng;
use convzoo::train::{MeasureRequest, RunFolder};
use convzoo::weights::{self, Metadata};
use serde_json::Value;

/// Grey values that the images of a class begin at.
const SHADES: [(&str, usize); 3] = [("dark", 20), ("grey", 90), ("light", 160)];

/// A folder for a test, and the program run in it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `count` images of each class below `folder`; other seeds give other images.
    fn images(&self, folder: &str, classes: &[&str], count: usize, seed: u64) {
        for class in classes {
            let base = SHADES.iter().find(|(name, _)| name == class).map_or(0, |(_, base)| *base);
            let at = self.path(folder).join(class);
            std::fs::create_dir_all(&at).expect("a folder");
            for i in 0..count {
                let mut rng = Rng::stream(seed, class, &[i as u64]);
                let pixel = |_, _| image::Rgb([0; 3].map(|_: u8| (base + rng.below(70)) as u8));
                let image = image::RgbImage::from_fn(28, 28, pixel);
                image.save(at.join(format!("{class}{seed}-{i:03}.png"))).expect("an image");
            }
        }
    }

    /// Files of `folder` that are no images any more.
    fn spoil(&self, folder: &str, names: &[&str]) {
        for name in names {
            std::fs::write(self.path(folder).join(name), "not an image").expect("a file");
        }
    }

    fn run(&self, line: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_convzoo"));
        command.current_dir(self.0.path()).env_remove("CONVZOO_DATA").env("HF_HUB_OFFLINE", "1");
        command.env("CONVZOO_CACHE", self.path("cache"));
        command.args(line.split_whitespace()).output().expect("the program runs")
    }

    /// Standard output of what must succeed.
    fn said(&self, line: &str) -> String {
        let output = self.run(line);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.said(&format!("{line} --json"))).expect("JSON")
    }

    fn refused(&self, line: &str) -> String {
        error_line(&self.run(line))
    }

    /// A run of a few steps on `data`, called `run`.
    fn train(&self, flags: &str) {
        let fixed = "train simpleconvnet --dataset folder --epochs 2 --batch-size 8 --lr 0.02";
        self.said(&format!("{fixed} {flags} --out run"));
    }

    /// A network with weights that mean nothing, for these classes.
    fn weights(&self, name: &str, classes: &[&str]) -> Model {
        let input = (3, 28, 28);
        let architecture = models::find("simpleconvnet").expect("a network");
        let config = Config { classes: classes.len(), input, ..architecture.config() };
        let model = Model::new("simpleconvnet", config, 1, &Device::Cpu).expect("a model");
        let pipeline = Pipeline::eval(DataKind::Pictures, 28, 3, &[0.5; 3], &[0.25; 3]);
        let metadata = Metadata {
            architecture: "simpleconvnet".to_owned(),
            stem: Default::default(),
            classes: classes.iter().map(|class| (*class).to_owned()).collect(),
            input,
            preprocessing: serde_json::to_value(pipeline.expect("a pipeline")).expect("JSON"),
            dataset: "folder".to_owned(),
            data_kind: "pictures".to_owned(),
            val_top1: None,
            trained_on: None,
        };
        weights::save(&self.path(name), model.network.params(), &metadata).expect("a file");
        model
    }

    /// The same as another program leaves it: tensors alone.
    fn foreign(&self, from: &str, to: &str) {
        let file = weights::load(&self.path(from), &Device::Cpu).expect("weights");
        let tensors = file.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
        weights::write(&self.path(to), tensors, None).expect("a file");
    }
}

fn count(found: &Value, part: &str) -> u64 {
    found[part]["images"].as_u64().unwrap_or_else(|| panic!("no part {part} in {found}"))
}

fn warnings(found: &Value) -> String {
    found["warnings"].to_string()
}

#[test]
fn all_images_that_are_given_are_measured() {
    let here = Place::new();
    here.weights("w.safetensors", &["dark", "light"]);
    here.images("set", &["dark", "light"], 20, 1);
    let found = here.json("eval --weights w.safetensors --dataset folder --data-dir set");
    assert_eq!(count(&found, "all"), 40);
    let text = here.said("eval --weights w.safetensors --data-dir set");
    assert!(text.contains("on 40 pictures"), "{text}");
    let found = here.json("eval --weights w.safetensors --data-dir set --limit 12");
    assert_eq!(count(&found, "all"), 12);
    let said = found["all"]["measured"].as_str().unwrap_or_default();
    assert!(said.contains("12 of 40"), "{said}");
    let error = here.refused("eval --weights w.safetensors --data-dir set --split val");
    assert!(error.contains("part"), "{error}");
    // The same, to look at what is wrong.
    let text = here.said("inspect mistakes --weights w.safetensors --data-dir set");
    assert!(text.contains(" of 40 right"), "{text}");
}

#[test]
fn a_part_is_chosen_and_said() {
    let here = Place::new();
    here.weights("w.safetensors", &["dark", "light"]);
    for (part, images, seed) in [("train", 9, 1), ("val", 6, 2), ("test", 4, 3)] {
        here.images(&format!("set/{part}"), &["dark", "light"], images, seed);
    }
    let eval = "eval --weights w.safetensors --data-dir set";
    assert_eq!(count(&here.json(eval), "test"), 8);
    for (part, images) in [("train", 18), ("val", 12), ("test", 8), ("all", 38)] {
        assert_eq!(count(&here.json(&format!("{eval} --split {part}")), part), images);
    }
    std::fs::remove_dir_all(here.path("set/test")).expect("a folder");
    assert_eq!(count(&here.json(eval), "val"), 12);
    // A part alone is a set to measure on.
    std::fs::remove_dir_all(here.path("set/train")).expect("a folder");
    assert_eq!(count(&here.json(eval), "val"), 12);
    let text = here.said(eval);
    assert!(text.contains("measured  val"), "{text}");
}

#[test]
fn classes_are_matched_by_name() {
    let here = Place::new();
    here.weights("w.safetensors", &["light", "dark", "grey"]);
    here.images("all", &["dark", "grey", "light"], 6, 1);
    here.images("two", &["dark", "light"], 6, 1);
    let eval = |set: &str| here.json(&format!("eval --weights w.safetensors --data-dir {set}"));
    let (all, two) = (eval("all"), eval("two"));
    let right = |found: &Value, class: usize| found["all"]["per_class"][class].clone();
    // In the network's order, which is not that of the folders.
    assert_eq!(
        [0, 1, 2].map(|class| right(&two, class)["images"].as_u64()),
        [Some(6), Some(6), Some(0)]
    );
    assert_eq!([right(&two, 0), right(&two, 1)], [right(&all, 0), right(&all, 1)]);
    assert_eq!(two["class_order_assumed"], false);
    std::fs::rename(here.path("two/light"), here.path("two/Light")).expect("a folder");
    assert_eq!(right(&eval("two"), 0), right(&all, 0));
    std::fs::rename(here.path("two/Light"), here.path("two/bright")).expect("a folder");
    for command in ["eval", "inspect mistakes"] {
        let error = here.refused(&format!("{command} --weights w.safetensors --data-dir two"));
        assert!(
            error.contains("no class bright") && error.contains("light, dark, grey"),
            "{error}"
        );
    }
}

#[test]
fn class_names_are_the_same_in_every_unicode_form() {
    let here = Place::new();
    here.weights("w.safetensors", &["th\u{e9}", "caf\u{e9}"]);
    here.images("set", &["cafe\u{301}", "the\u{301}"], 3, 1);
    let found = here.json("eval --weights w.safetensors --data-dir set");
    assert_eq!(count(&found, "all"), 6);
    assert_eq!(found["all"]["per_class"][1]["images"], 3);
}

#[test]
fn weights_without_names_have_an_order_that_is_assumed_and_said() {
    let here = Place::new();
    here.weights("w.safetensors", &["light", "dark"]);
    here.foreign("w.safetensors", "f.safetensors");
    here.images("set", &["dark", "light"], 6, 1);
    here.images("one", &["dark"], 6, 1);
    let eval = "eval --model simpleconvnet --image-size 28 --weights f.safetensors";
    let found = here.json(&format!("{eval} --data-dir set"));
    assert_eq!(found["class_order_assumed"], true);
    assert!(found["notes"].to_string().contains("order dark, light"), "{}", found["notes"]);
    let error = here.refused(&format!("{eval} --data-dir one"));
    assert!(error.contains("--classes FILE"), "{error}");

    std::fs::write(here.path("names"), "light\ndark\n").expect("a file");
    std::fs::write(here.path("names.json"), "[\"light\", \"dark\"]").expect("a file");
    let with = "--normalise 0.5/0.25 --classes";
    let own = here.json("eval --weights w.safetensors --data-dir set");
    for names in ["names", "names.json"] {
        let found = here.json(&format!("{eval} --data-dir set {with} {names}"));
        assert_eq!(found["class_order_assumed"], false);
        assert_eq!(found["all"]["confusion"], own["all"]["confusion"]);
        let found = here.json(&format!("{eval} --data-dir one {with} {names}"));
        assert_eq!(found["all"]["confusion"][1], own["all"]["confusion"][1]);
    }
    std::fs::write(here.path("names"), "light\ndark\ngrey").expect("a file");
    let error = here.refused(&format!("{eval} --data-dir set --classes names"));
    assert!(error.contains("3 names for a network of 2"), "{error}");
    for flag in ["--classes names", "--normalise half"] {
        let error = here.refused(&format!("eval --weights w.safetensors --data-dir set {flag}"));
        assert!(error.contains("says itself"), "{error}");
    }
}

#[test]
fn weights_know_which_images_they_were_trained_on_wherever_they_are() {
    let here = Place::new();
    here.images("set", &["dark", "light"], 20, 1);
    here.images("other", &["dark", "light"], 5, 2);
    here.train("--data-dir set --seed 5 --val-split 0.3 --ema 0.5");
    let summary = RunFolder::open(&here.path("run")).and_then(|run| run.summary()).expect("a run");
    std::fs::create_dir(here.path("out")).expect("a folder");
    for file in ["best", "last", "ema"].map(|name| format!("{name}.safetensors")) {
        std::fs::rename(here.path("run").join(&file), here.path("out").join(&file))
            .expect("a file");
    }
    here.said("weights convert out/best.safetensors out/half.safetensors --dtype f16");
    // Elsewhere too, under another name.
    std::fs::rename(here.path("set"), here.path("moved")).expect("a folder");
    let best = here.json("eval --weights out/best.safetensors --data-dir moved");
    assert_eq!(best["val"]["top1"].as_f64(), summary.best_val_top1);
    for name in ["best", "last", "ema", "half"] {
        let found = here.json(&format!("eval --weights out/{name}.safetensors --data-dir moved"));
        assert_eq!(count(&found, "val"), 12, "{name}");
        assert_eq!(found["val"]["overlap"]["trained_on"], 0);
        assert_eq!(warnings(&found), "[]");
        assert!(found["val"]["measured"].as_str().is_some_and(|said| said.contains("held out")));
    }
    let eval = "eval --weights out/half.safetensors --data-dir";
    for (split, known, of) in [("train", 28, 28), ("all", 28, 40)] {
        let found = here.json(&format!("{eval} moved --split {split}"));
        assert!(warnings(&found).contains(&format!("{known} of the {of} images")), "{found}");
    }
    // One image more is another set; the others are still known.
    here.images("moved", &["dark"], 1, 9);
    let found = here.json(&format!("{eval} moved"));
    assert_eq!((count(&found, "all"), &found["all"]["overlap"]["trained_on"]), (41, &28.into()));
    assert!(warnings(&found).contains("28 of the 41 images"), "{}", warnings(&found));
    let text = here.said(&format!("{eval} moved"));
    assert!(text.contains("WARNING"), "{text}");
    let found = here.json(&format!("{eval} other"));
    assert_eq!((count(&found, "all"), warnings(&found)), (10, "[]".to_owned()));
    let text = here.said("inspect mistakes --weights out/best.safetensors --data-dir moved");
    assert!(text.contains("28 of the 41 images"), "{text}");
}

#[test]
fn a_run_measures_its_own_images() {
    let here = Place::new();
    for (part, images, seed) in [("train", 12, 1), ("val", 6, 2), ("test", 4, 3)] {
        here.images(&format!("set/{part}"), &["dark", "light"], images, seed);
    }
    here.train("--data-dir set");
    let found = here.json("eval --weights run/best.safetensors");
    assert_eq!((count(&found, "val"), count(&found, "test")), (12, 8));
    let found = here.json("eval --weights run/last.safetensors --split test --limit 4");
    assert_eq!((count(&found, "test"), found.get("val")), (4, None));
}

#[test]
fn images_that_cannot_be_read_are_named_and_counted_nowhere() {
    let here = Place::new();
    for (part, images, seed) in [("train", 8, 1), ("val", 8, 2), ("test", 5, 3)] {
        here.images(&format!("set/{part}"), &["dark", "light"], images, seed);
    }
    here.spoil("set/val", &["dark/dark2-001.png", "dark/dark2-004.png", "light/light2-000.png"]);
    here.spoil("set/test", &["light/light3-002.png", "light/light3-003.png"]);
    here.train("--data-dir set --ema 0.5");
    let run = RunFolder::open(&here.path("run")).expect("a run");
    let (summary, evaluation) = (run.summary().expect("JSON"), run.evaluation().expect("JSON"));
    assert_eq!((summary.val_images, summary.skipped_images), (13, 3));
    assert_eq!((summary.test_images, summary.skipped_test_images), (Some(8), 2));
    let part = |name: &str| &evaluation.parts[name];
    let names = |name| part(name).left_out.iter().map(|out| out.name.clone()).collect::<Vec<_>>();
    assert_eq!((part("val").images, part("ema_val").images, part("test").images), (13, 13, 8));
    assert_eq!(names("test"), ["test/light/light3-002.png", "test/light/light3-003.png"]);
    assert_eq!(names("val").len(), 3);

    let found = here.json("eval --weights run/best.safetensors");
    assert_eq!((count(&found, "val"), count(&found, "test")), (13, 8));
    assert_eq!(found["val"]["images_left_out"], 3);
    assert_eq!(found["test"]["left_out"][0]["name"], "test/light/light3-002.png");
    let counted: u64 = (0..2)
        .map(|class| found["val"]["per_class"][class]["images"].as_u64().expect("a count"))
        .sum();
    assert_eq!(counted, 13);
    let text = here.said("eval --weights run/best.safetensors --split val");
    for said in ["on 13 pictures (3 of 16 could not be read)", "dark2-001.png", "light2-000.png"] {
        assert!(text.contains(said), "{said} is not in {text}");
    }
    let text = here.said("inspect mistakes --weights run/best.safetensors --split val");
    assert!(text.contains("of 13 right") && text.contains("dark2-004.png"), "{text}");
    for command in ["eval", "inspect mistakes"] {
        let line = format!("{command} --weights run/best.safetensors --on-bad fail");
        let error = here.refused(&line);
        assert!(error.contains("2-001.png"), "{error}");
    }
    // The end of training says what was measured, not what there was.
    let text = here.said("train simpleconvnet --dataset folder --data-dir set --epochs 1 --out b");
    assert!(text.contains("13 pictures)") && text.contains("(8 pictures)"), "{text}");
    assert!(text.contains("test/light/light3-003.png"), "{text}");
}

#[test]
fn outputs_that_are_not_finite_are_no_result() -> Result<()> {
    let here = Place::new();
    here.images("set", &["dark", "light"], 4, 1);
    let model = here.weights("w.safetensors", &["dark", "light"]);
    let entry = &model.network.params().entries()[0];
    let broken = (entry.var.as_detached_tensor() * f64::NAN)?;
    let file = weights::load(&here.path("w.safetensors"), &Device::Cpu)?;
    let name = entry.spec.name.clone();
    let tensors = file.tensors.iter().map(|(own, tensor)| match *own == name {
        true => (own.as_str(), &broken),
        false => (own.as_str(), tensor),
    });
    weights::write(&here.path("nan.safetensors"), tensors, file.metadata.as_ref())?;
    for command in ["eval", "inspect mistakes"] {
        let error = here.refused(&format!("{command} --weights nan.safetensors --data-dir set"));
        assert!(error.contains(&name) && error.contains("finite"), "{error}");
    }
    // In the library too, for a network that became so.
    entry.var.set(&broken)?;
    let loader = common::run::dataset(9, 9);
    let pipeline = loader.eval_pipeline(28, 3)?;
    let loader = convzoo::data::Loader::new(loader.val, pipeline, Default::default())?;
    let error = convzoo::train::evaluate(&model, &loader, &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains(&name), "{error}");
    Ok(())
}

/// Ten digits' worth of grey squares as MNIST's files hold them.
fn idx_files(folder: &Path, train: usize, test: usize) {
    std::fs::create_dir_all(folder).expect("a folder");
    for (name, count) in [("train", train), ("t10k", test)] {
        let be =
            |numbers: &[u32]| numbers.iter().flat_map(|n| n.to_be_bytes()).collect::<Vec<u8>>();
        let mut rng = Rng::stream(1, name, &[]);
        let mut images = be(&[2051, count as u32, 28, 28]);
        images.extend((0..count * 784).map(|_| rng.below(256) as u8));
        let mut labels = be(&[2049, count as u32]);
        labels.extend((0..count).map(|i| (i % 10) as u8));
        std::fs::write(folder.join(format!("{name}-images-idx3-ubyte")), images).expect("a file");
        std::fs::write(folder.join(format!("{name}-labels-idx1-ubyte")), labels).expect("a file");
    }
}

#[test]
fn weights_of_other_programs_get_the_set_s_own_size_and_pipeline() -> Result<()> {
    let here = Place::new();
    idx_files(&here.path("digits"), 40, 20);
    let config = models::find("lenet5")?.config();
    let model = Model::new("lenet5", config, 1, &Device::Cpu)?;
    let entries = model.network.params().entries();
    let tensors: Vec<(String, Tensor)> = entries
        .iter()
        .map(|entry| (entry.spec.name.clone(), entry.var.as_detached_tensor()))
        .collect();
    let tensors = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    weights::write(&here.path("f.safetensors"), tensors, None)?;
    let eval = "eval --model lenet5 --weights f.safetensors --data-dir digits";
    let found = here.json(eval);
    let said = |found: &Value| found["pipeline"].as_str().unwrap_or_default().to_owned();
    assert_eq!(said(&found), "resize 28x28 > grey > normalise (mean 0.1307, deviation 0.3081)");
    assert_eq!(count(&found, "test"), 20);
    for (whose, numbers) in [
        ("half", "(mean 0.5000, deviation 0.5000)"),
        ("none", "(mean 0.0000, deviation 1.0000)"),
        ("imagenet", "(mean 0.4590, deviation 0.2256)"),
        ("0.25/0.5", "(mean 0.2500, deviation 0.5000)"),
    ] {
        let found = here.json(&format!("{eval} --normalise {whose}"));
        assert!(said(&found).ends_with(numbers), "{whose}: {}", said(&found));
    }
    let found = here.json(&format!("{eval} --invert"));
    assert!(said(&found).starts_with("invert > "), "{}", said(&found));
    for wrong in ["all/1", "0.5,0.5/1", "half/half"] {
        let error = here.refused(&format!("{eval} --normalise {wrong}"));
        assert!(error.contains("--normalise"), "{error}");
    }
    Ok(())
}

#[test]
fn a_size_of_one_s_own_is_obeyed() -> Result<()> {
    let here = Place::new();
    here.images("set", &["dark", "light"], 4, 1);
    let input = (3, 32, 32);
    let config = Config { classes: 2, input, ..models::find("resnet20")?.config() };
    let model = Model::new("resnet20", config, 1, &Device::Cpu)?;
    let entries = model.network.params().entries();
    let tensors: Vec<_> =
        entries.iter().map(|e| (e.spec.name.clone(), e.var.as_detached_tensor())).collect();
    let tensors = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    weights::write(&here.path("f.safetensors"), tensors, None)?;
    let eval = "eval --model resnet20 --weights f.safetensors --data-dir set";
    assert_eq!(here.json(&format!("{eval} --image-size 40"))["image_size"], 40);
    let file = weights::load(&here.path("f.safetensors"), &Device::Cpu)?;
    let data = DataRequest { data_dir: Some(here.path("set")), ..DataRequest::new("folder") };
    let request = MeasureRequest { image_size: Some(48), ..MeasureRequest::new(data) };
    let found = request.open(file, Some("resnet20"), &Device::Cpu)?;
    assert_eq!(found.pipeline.output(), [3, 48, 48]);
    Ok(())
}

#[test]
fn a_public_network_gets_right_what_its_author_says() {
    let Some(shared) = common::shared() else { return };
    let weights = shared.join("cases/weights/resnet20-12fca82f.th");
    let data = shared.join("data/cifar-10");
    if !weights.is_file() || !data.is_dir() || std::env::var_os("CONVZOO_ALL").is_none() {
        println!("skipped: no weights, no CIFAR-10, or no CONVZOO_ALL");
        return;
    }
    let here = Place::new();
    let (weights, data) = (weights.display(), data.display());
    let found = here.json(&format!(
        "eval --model resnet20 --weights {weights} --dataset cifar-10 --data-dir {data} --normalise \
         imagenet"
    ));
    assert_eq!(count(&found, "test"), 5000);
    let top1 = found["test"]["top1"].as_f64().expect("a share");
    assert!((top1 - 0.9156).abs() < 5e-4, "{top1}");
}

#[test]
fn what_has_no_meaning_for_measuring_is_refused() {
    let here = Place::new();
    here.weights("w.safetensors", &["dark", "light"]);
    here.images("set", &["dark", "light"], 2, 1);
    for flag in ["--lr 5", "--epochs 2", "--val-split 0.5", "--partial", "--resume run"] {
        let line = format!("eval --weights w.safetensors --data-dir set {flag}");
        let error = here.refused(&line);
        assert!(error.contains("unexpected argument"), "{flag}: {error}");
        let line = format!("train simpleconvnet --eval --weights w.safetensors {flag}");
        let error = here.refused(&line);
        assert!(error.contains("--"), "{flag}: {error}");
    }
    let error = here.refused("train simpleconvnet --eval --weights w.safetensors --lr 5");
    assert!(error.contains("--lr has no meaning with --eval"), "{error}");
    let help = here.said("eval --help");
    assert!(help.lines().count() < 80, "{}", help.lines().count());
    assert!(help.contains("--split") && !help.contains("--epochs"), "{help}");
    let found = here.json("train simpleconvnet --eval --weights w.safetensors --data-dir set");
    assert_eq!(count(&found, "all"), 4);
    let error = here.refused("eval --data-dir set");
    assert!(error.contains("--weights") || error.contains("required"), "{error}");
}

#[test]
fn a_run_says_where_everything_is_and_goes_on_from_anywhere() {
    let here = Place::new();
    here.images("pics/set", &["dark", "light"], 10, 1);
    let line = "train simpleconvnet --data-dir pics/set --epochs 1 --batch-size 8 --out run";
    let found = here.json(line);
    let absolute = |value: &Value| {
        let path = PathBuf::from(value.as_str().unwrap_or_else(|| panic!("{value} is no path")));
        assert!(path.is_absolute() && path.exists(), "{}", path.display());
    };
    absolute(&found["run"]);
    absolute(&found["data"]);
    absolute(&found["weights"]["best"]);
    absolute(&found["weights"]["last"]);
    let config = RunFolder::open(&here.path("run")).and_then(|run| run.config()).expect("a run");
    let request = config.data.request.expect("a request");
    assert!(request.data_dir.is_some_and(|dir| dir.is_absolute()));
    std::fs::create_dir(here.path("elsewhere")).expect("a folder");
    let run = here.path("run");
    for args in [
        vec!["train", "--resume", run.to_str().expect("UTF-8"), "--epochs", "2"],
        vec!["train", "--config", "../run/config.json", "--out", "again"],
        vec!["eval", "--weights", "../run/best.safetensors"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_convzoo"));
        command.current_dir(here.path("elsewhere")).env_remove("CONVZOO_DATA").args(&args);
        let output = command.output().expect("the program runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {errors}");
    }
}
