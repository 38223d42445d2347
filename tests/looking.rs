//! `convzoo inspect`, `diagram`, `draw`, `receptive-field` as a user meets them.

use std::path::Path;
use std::process::{Command, Output};

use candle_core::Device;
use convzoo::Result;
use convzoo::data::{DataKind, Limits, Picture, Pipeline, decode_file};
use convzoo::inspect;
use convzoo::models::{self, Config, Model};
use convzoo::weights::{self, Metadata};

fn convzoo(args: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_convzoo"));
    command.current_dir(folder).env_remove("CONVZOO_DATA").args(args);
    command.output().expect("the binary runs")
}

/// Runs what must succeed, and returns what it printed.
fn printed(args: &[&str], folder: &Path) -> String {
    let output = convzoo(args, folder);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The one line that a failed command prints.
fn failure(args: &[&str], folder: &Path) -> String {
    let output = convzoo(args, folder);
    assert!(!output.status.success(), "{args:?} did not fail");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("panicked"), "{text}");
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{args:?} printed {text}");
    errors[0].to_owned()
}

/// `w.safetensors`, a small network with random weights, and `drawn/`, six pictures.
fn prepare(folder: &Path) -> Result<()> {
    let input = (3, 32, 32);
    let config = Config { classes: 2, input, ..models::find("lenet5-relu")?.config() };
    let model = Model::new("lenet5-relu", config, 1, &Device::Cpu)?;
    let pipeline = Pipeline::eval(DataKind::Drawn, 32, 3, &[0.5; 3], &[0.25; 3])?;
    let metadata = Metadata {
        architecture: "lenet5-relu".to_owned(),
        stem: Default::default(),
        classes: vec!["cat".to_owned(), "dog".to_owned()],
        input,
        preprocessing: serde_json::to_value(&pipeline).expect("a pipeline is JSON"),
        dataset: "cats-dogs-drawn".to_owned(),
        data_kind: "drawn".to_owned(),
        val_top1: None,
        trained_on: None,
    };
    weights::save(&folder.join("w.safetensors"), model.network.params(), &metadata)?;
    printed(&["draw", "-o", "drawn", "--val", "4", "--train", "2"], folder);
    Ok(())
}

#[test]
fn every_kind_of_look_leaves_its_picture() -> Result<()> {
    let here = tempfile::tempdir().unwrap();
    prepare(here.path())?;
    let (cat, dog) = ("drawn/val/cat/cat-0002.png", "drawn/val/dog/dog-0003.png");
    let file = |name: &str| decode_file(&here.path().join(name), Limits::default());
    assert_eq!(file(cat)?.width, 128);
    assert!(here.path().join("drawn/train/dog/dog-0001.png").exists());
    let with_weights = ["--weights", "w.safetensors"];
    for (what, images, more) in [
        ("filters", vec![], vec![]),
        ("maps", vec![cat], vec!["--layers", "conv1, pool2", "--most", "3"]),
        ("gradcam", vec![cat, dog], vec!["--class", "dog,0"]),
        ("occlusion", vec![dog], vec!["--patch", "12", "--stride", "10", "--scale", "1"]),
        ("receptive-field", vec![cat], vec!["--unit", "1,2", "--layers", "conv2"]),
        ("mistakes", vec![], vec!["--dataset", "folder", "--data-dir", "drawn", "--limit", "4"]),
    ] {
        let args = [&["inspect", what][..], &with_weights[..], &images[..], &more[..]].concat();
        let said = printed(&args, here.path());
        assert!(said.ends_with(&format!("wrote {what}.png\n")), "{said}");
        let picture = file(&format!("{what}.png"))?;
        assert!(picture.width > 300 && picture.height > 100, "{what}");
    }
    for name in ["k.jpg", "K.JPEG"] {
        printed(&["inspect", "kernels", dog, "-o", name, "--scale", "0.5"], here.path());
        assert!((300..600).contains(&file(name)?.width));
    }
    printed(&["inspect", "kernels", dog, "-o", "k.svg"], here.path());
    let svg = std::fs::read_to_string(here.path().join("k.svg")).unwrap();
    assert_eq!(svg.matches("<image").count(), 7);
    assert!(svg.contains("horizontal edge") && svg.contains("data:image/png;base64,iVBOR"));
    let covered = ["inspect", "occlusion", dog, "--patch", "12", "--stride", "10", "-o", "o.svg"];
    printed(&[&covered[..], &with_weights[..]].concat(), here.path());
    let svg = std::fs::read_to_string(here.path().join("o.svg")).unwrap();
    assert!(svg.contains(" points, gains up to "));
    let all = [&["inspect", "all", cat][..], &with_weights[..]].concat();
    assert_eq!(printed(&all, here.path()), "wrote inspect.html\n");
    let html = std::fs::read_to_string(here.path().join("inspect.html")).unwrap();
    for part in ["conv1: 6 filters", "Grad-CAM", "occlusion", "receptive fields", "pool2: 16 maps"]
    {
        assert!(html.contains(part), "{part}");
    }
    Ok(())
}

#[test]
fn what_cannot_be_looked_at_is_said_in_one_line() -> Result<()> {
    let here = tempfile::tempdir().unwrap();
    prepare(here.path())?;
    let cat = "drawn/val/cat/cat-0000.png";
    for (args, why) in [
        (vec!["gradcam", cat, "--class", "horse"], "no class horse; there are cat, dog"),
        (vec!["gradcam", cat, "--layer", "conv9"], "no layer conv9"),
        (vec!["gradcam", cat, "--layer", "fc1"], "layer fc1 has no maps: it is behind"),
        (vec!["gradcam", "nowhere.png"], "nowhere.png"),
        (vec!["gradcam", cat, "-o", "x.gif"], "x.gif: it is written as .png, .svg, .jpg or .html"),
        (vec!["gradcam", cat, "-o", "no/x.png"], "no/x.png: there is no folder no; make it first"),
        (vec!["gradcam", cat, "--top", "0"], "invalid value '0' for '--top"),
        (vec!["maps", cat, "--layers", "conv1,nose"], "no layer nose"),
        (vec!["maps", cat, "--layers", ""], "a name is missing"),
        (vec!["maps", cat, "--most", "0"], "invalid value '0' for '--most"),
        (vec!["occlusion", cat, "--patch", "33"], "a patch of 33x33"),
        (vec!["occlusion", cat, "--stride", "0"], "it must move"),
        (vec!["receptive-field", cat, "--layers", "conv1", "--unit", "28,0"], "28 rows"),
        (vec!["receptive-field", cat, "--unit", "3"], "a unit is ROW,COLUMN"),
        (vec!["mistakes", "--dataset", "folder", "--data-dir", "nowhere"], "nowhere"),
        (vec!["mistakes", "--dataset", "folder", "--most", "0"], "invalid value '0' for '--most"),
        (vec!["filters", "--model", "resnet18"], "not for resnet18"),
    ] {
        let args = [&["inspect"][..], &args, &["--weights", "w.safetensors"]].concat();
        let said = failure(&args, here.path());
        assert!(said.contains(why), "{args:?}: {said}");
    }
    let said = failure(&["inspect", "kernels", "w.safetensors"], here.path());
    assert!(said.contains("not a picture"), "{said}");
    let dot = inspect::png(&Picture::new(1, 1, 1, vec![0])?)?;
    std::fs::write(here.path().join("dot.png"), dot).unwrap();
    let said = failure(&["inspect", "kernels", "dot.png"], here.path());
    assert!(said.contains("dot.png: 1x1 pixels; at least 3x3 are needed"), "{said}");
    // Before the work: the weights are not looked for.
    let args = ["inspect", "filters", "--weights", "nowhere.safetensors", "-o", "x.gif"];
    let said = failure(&args, here.path());
    assert!(said.contains("x.gif: it is written as"), "{said}");
    let said = failure(&["diagram", "resnet18", "-o", "x.pdf"], here.path());
    assert!(said.contains("x.pdf: a diagram is written as .svg, .png or .html"), "{said}");
    let said = failure(&["diagram", "resnet18", "-o", "x.svg", "--depth", "0"], here.path());
    assert!(said.contains("a depth is at least 1"), "{said}");
    let said = failure(&["diagram", "resnet", "-o", "no/x.svg"], here.path());
    assert!(said.contains("no/x.svg: there is no folder no; make it first"), "{said}");
    for (args, why) in [
        (["--depth", "0"], "a depth is at least 1"),
        (["--classes", "0"], "from 1 to 1000000 classes"),
        (["--classes", "9999999999999999999"], "from 1 to 1000000 classes"),
    ] {
        let said = failure(&[&["summary", "resnet18"][..], &args].concat(), here.path());
        assert!(said.contains(why), "{said}");
    }
    let said = failure(&["diagram", "resnet", "-o", "x.svg"], here.path());
    assert!(said.contains("there is no model resnet;"), "{said}");
    let said = failure(&["receptive-field", "--layers", "conv3 dense"], here.path());
    assert!(said.contains("layer \"dense\": unknown kind"), "{said}");
    Ok(())
}

#[test]
fn mistakes_are_counted_on_the_same_classes_only() -> Result<()> {
    let here = tempfile::tempdir().unwrap();
    prepare(here.path())?;
    for part in ["train", "val"] {
        let part = here.path().join("drawn").join(part);
        std::fs::rename(part.join("dog"), part.join("fox")).unwrap();
    }
    let about = ["--weights", "w.safetensors", "--dataset", "folder", "--data-dir", "drawn"];
    let args = [&["inspect", "mistakes"][..], &about].concat();
    let said = failure(&args, here.path());
    let expected =
        "w.safetensors: knows no class fox, which drawn has; its 2 classes are cat, dog;";
    assert!(said.contains(expected), "{said}");
    let said = failure(&[&["eval"][..], &about].concat(), here.path());
    assert!(said.contains(expected), "{said}");
    for part in ["train", "val"] {
        let part = here.path().join("drawn").join(part);
        std::fs::rename(part.join("fox"), part.join("Dog")).unwrap();
        std::fs::rename(part.join("cat"), part.join("Cat")).unwrap();
    }
    assert!(printed(&args, here.path()).ends_with("wrote mistakes.png\n"));
    Ok(())
}

#[test]
fn tables_and_drawings_without_weights() {
    let here = tempfile::tempdir().unwrap();
    let layers = ["--layers", "conv3 conv3 conv3 conv3 pool2"];
    let args = [&["receptive-field"][..], &layers, &["--json"]].concat();
    let chain: serde_json::Value = serde_json::from_str(&printed(&args, here.path())).unwrap();
    let fields = chain["layers"].as_array().unwrap().iter().map(|l| l["receptive_field"].as_u64());
    assert_eq!(fields.flatten().collect::<Vec<_>>(), [3, 5, 7, 9, 10]);
    let text = printed(&[&["receptive-field"][..], &layers].concat(), here.path());
    assert!(text.contains("(kernel - 1) x dilation x jump"), "{text}");

    let json = printed(&["summary", "vgg16", "--json", "--batch", "8"], here.path());
    let summary: serde_json::Value = serde_json::from_str(&json).unwrap();
    let last = summary["layers"].as_array().unwrap().iter().find(|l| l["name"] == "features.30");
    assert_eq!(last.unwrap()["receptive_field"]["size"], serde_json::json!([212, 212]));
    assert_eq!(summary["memory"]["weights"], 4 * 138_357_544u64);
    assert_eq!(summary["memory"]["batch"], 8);

    for name in ["a.svg", "a.png", "a.html"] {
        printed(&["diagram", "lenet5", "-o", name], here.path());
        assert!(std::fs::metadata(here.path().join(name)).unwrap().len() > 4000, "{name}");
    }
    let wide = printed(&["summary", "resnet20", "--input", "3X64X64"], here.path());
    assert!(wide.contains("resnet20 on 3x64x64"), "{wide}");
    let small = printed(&["diagram", "resnet20", "-o", "b.svg", "--input", "3x64x64"], here.path());
    assert_eq!(small, "wrote b.svg\n");
    let svg = std::fs::read_to_string(here.path().join("b.svg")).unwrap();
    assert!(svg.contains("3×64×64"));
}
