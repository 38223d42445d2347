//! The command line as a user meets it: what it prints, and how it fails.

use std::path::Path;
use std::process::{Command, Output};

fn convzoo(args: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_convzoo"));
    // No photographs and no network: as on a train.
    command
        .current_dir(folder)
        .env("HF_HUB_OFFLINE", "1")
        .env("CONVZOO_CACHE", folder.join("cache"));
    command.env_remove("CONVZOO_DATA").args(args).output().expect("the binary runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The one line that a failed command prints.
fn failure(args: &[&str], folder: &Path) -> String {
    let output = convzoo(args, folder);
    assert!(!output.status.success(), "{args:?} did not fail");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{args:?} printed {text}");
    assert!(!text.contains("panicked"), "{text}");
    errors[0].to_owned()
}

#[test]
fn list_and_summary_are_data() {
    let here = tempfile::tempdir().unwrap();
    let list = convzoo(&["list", "--json"], here.path());
    let list: serde_json::Value = serde_json::from_slice(&list.stdout).unwrap();
    let vgg = list.as_array().unwrap().iter().find(|row| row["name"] == "vgg16").unwrap();
    assert_eq!(vgg["params"], 138_357_544);

    let summary = convzoo(&["summary", "googlenet", "--json"], here.path());
    let summary: serde_json::Value = serde_json::from_slice(&summary.stdout).unwrap();
    assert_eq!(summary["params"], 6_624_904);
    assert_eq!(summary["macs"], 1_498_376_192u64);

    let text = stdout(&convzoo(&["summary", "resnet18", "--depth", "1"], here.path()));
    assert!(text.contains("layer4") && text.contains("11,689,512"), "{text}");
    assert!(!text.contains("layer4.0"), "{text}");
}

#[test]
fn a_run_leaves_what_it_says_and_can_be_asked() {
    let here = tempfile::tempdir().unwrap();
    let run = [
        "train",
        "lenet5-relu",
        "--dataset",
        "cats-dogs",
        "--limit",
        "12",
        "--epochs",
        "1",
        "--out",
        "run",
    ];
    let output = convzoo(&run, here.path());
    let text = stdout(&output);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    // It was asked for photographs, could have none, and says so throughout.
    assert!(text.contains("drawn"), "{text}");
    assert!(text.contains("not photographs"), "{text}");
    for file in [
        "config.json",
        "metrics.csv",
        "best.safetensors",
        "last.safetensors",
        "resume.safetensors",
        "summary.json",
    ] {
        assert!(here.path().join("run").join(file).exists(), "{file} is missing");
    }
    let summary = std::fs::read_to_string(here.path().join("run/summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    assert_eq!((&summary["data_kind"], &summary["epochs"]), (&"drawn".into(), &1.into()));
    for key in [
        "model",
        "dataset",
        "image_size",
        "num_classes",
        "val_top1",
        "best_val_top1",
        "best_epoch",
        "params",
        "macs",
        "train_images_per_s",
        "seconds",
        "seed",
        "device",
    ] {
        assert!(!summary[key].is_null(), "summary.json has no {key}");
    }
    let header = std::fs::read_to_string(here.path().join("run/metrics.csv")).unwrap();
    let wanted = "epoch,lr,train_loss,train_top1,val_loss,val_top1,images_per_s,seconds";
    assert_eq!(header.lines().next(), Some(wanted));

    let data = ["--dataset", "cats-dogs-drawn", "--limit", "12"];
    let eval = [&["eval", "--weights", "run/best.safetensors", "--json"][..], &data].concat();
    let eval: serde_json::Value =
        serde_json::from_slice(&convzoo(&eval, here.path()).stdout).unwrap();
    assert_eq!(eval["val"]["images"], 12);
    assert_eq!(eval["val"]["top1"], summary["best_val_top1"]);

    image::RgbImage::from_pixel(40, 30, image::Rgb([200, 120, 30]))
        .save(here.path().join("a.png"))
        .unwrap();
    let asked =
        convzoo(&["predict", "--weights", "run/best.safetensors", "--json", "a.png"], here.path());
    let asked: serde_json::Value = serde_json::from_slice(&asked.stdout).unwrap();
    let sum: f64 = asked[0]["top"]
        .as_array()
        .unwrap()
        .iter()
        .map(|g| g["probability"].as_f64().unwrap())
        .sum();
    assert!((sum - 1.0).abs() < 1e-5, "{asked}");

    let more = ["train", "lenet5-relu", "--resume", "run", "--epochs", "2"];
    let output = convzoo(&more, here.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metrics = std::fs::read_to_string(here.path().join("run/metrics.csv")).unwrap();
    assert_eq!(metrics.lines().count(), 3);
    assert!(failure(&run, here.path()).contains("holds a run already"));
}

#[test]
fn failures_are_one_line_that_helps() {
    let here = tempfile::tempdir().unwrap();
    let fails = |args: &[&str]| failure(args, here.path());
    assert!(fails(&["summary", "resnet19"]).contains("resnet18"));
    assert!(fails(&["summary", "vgg16", "--input", "3x16x16"]).contains("3x32x32"));
    assert!(fails(&["train", "resnet18", "--dataset", "mnist"]).contains("mnist"));
    assert!(fails(&["train", "resnet81", "--no-fallback"]).contains("no model resnet81"));
    assert!(fails(&["train", "resnet18", "--no-fallback"]).contains("cats-dogs"));
    assert!(fails(&["train", "resnet18", "--data-dir", "nowhere"]).contains("nowhere"));
    assert!(fails(&["train", "resnet18", "--device", "abacus"]).contains("abacus"));
    assert!(fails(&["train", "resnet18", "--resume", "nowhere"]).contains("nowhere"));
    assert!(
        fails(&["train", "lenet5", "--dataset", "cats-dogs-drawn", "--lr=-1"]).contains("rate")
    );
    assert!(fails(&["eval", "--weights", "nothing.safetensors"]).contains("nothing.safetensors"));
    std::fs::write(here.path().join("text.safetensors"), "no weights at all").unwrap();
    assert!(fails(&["eval", "--weights", "text.safetensors"]).contains("text.safetensors"));
}

// Memory is read from where only Linux keeps it.
#[cfg(target_os = "linux")]
#[test]
fn bench_lines_are_data() {
    let here = tempfile::tempdir().unwrap();
    let rows = |args: &[&str]| {
        let fast = ["--target", "0.05", "--threads", "2", "--json"];
        let output = convzoo(&[&["bench"], args, &fast].concat(), here.path());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = stdout(&output);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>()
    };
    let models: Vec<serde_json::Value> = rows(&["models", "--only", "lenet5"]);
    let kind =
        |row: &serde_json::Value| format!("{} {} {}", row["section"], row["op"], row["batch"]);
    let kinds: Vec<_> = models.iter().map(|row| kind(row).replace('"', "")).collect();
    let wanted = ["infer infer 1", "infer infer 128", "train train_step 128", "rss train_step 128"];
    assert_eq!(kinds, wanted);
    for row in &models[..3] {
        assert_eq!((&row["name"], &row["threads"]), (&"lenet5".into(), &2.into()));
        assert_eq!(row["image"], serde_json::json!([1, 28, 28]));
        for key in ["median_s", "min_s", "max_s", "reps", "gflop", "gflops", "images_per_s"] {
            assert!(row[key].as_f64().is_some_and(|value| value > 0.0), "{key} in {row}");
        }
    }
    assert!(models[3]["peak_minus_import_mib"].as_f64().is_some_and(|mib| mib > 0.0));

    let pool: Vec<serde_json::Value> =
        rows(&["ops", "--only", "maxpool2x2s2_64_224_b4,lenet_5x5_1_6_28", "--candle"]);
    let conv = pool.iter().filter(|row| row["section"] == "conv").collect::<Vec<_>>();
    assert_eq!(conv.len(), 6);
    assert!(conv.iter().all(|row| row["gflops"].is_f64()), "{conv:?}");
    // candle's gradient of max pooling is wrong.
    assert!(pool.iter().any(|row| row["op"] == "fwd+bwd" && row["cannot"].is_string()));
    let alone: Vec<serde_json::Value> =
        rows(&["ops", "--only", "lenet_5x5_1_6_28", "--candle-as-it-comes"]);
    assert_eq!(alone.len(), 3);
    assert!(alone.iter().all(|row| row["backend"] == "candle as it comes"), "{alone:?}");
}

#[test]
fn bench_refuses_what_is_not_there() {
    let here = tempfile::tempdir().unwrap();
    let fails = |args: &[&str]| failure(&[&["bench"], args].concat(), here.path());
    let names = fails(&["models", "--only", "resnet19"]);
    assert!(names.contains("resnet19") && names.contains("resnet18, resnet50"), "{names}");
    assert!(fails(&["ops", "--section", "train"]).contains("conv, ops"));
    assert!(fails(&["machine", "--target=-1"]).contains("--target"));
    assert!(fails(&["machine", "--threads", "0"]).contains("--threads"));
}

/// A network trained on one task keeps its backbone in another, and learns a new last layer.
#[test]
fn a_frozen_backbone_stays_to_the_bit() {
    let here = tempfile::tempdir().unwrap();
    let run = |args: &str| {
        let args: Vec<_> = args.split(' ').collect();
        let output = convzoo(&args, here.path());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {errors}");
        stdout(&output)
    };
    for (class, colour) in
        [("red", [220, 30, 30]), ("green", [30, 220, 30]), ("blue", [30, 30, 220])]
    {
        let folder = here.path().join("data").join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..8u8 {
            let picture = image::RgbImage::from_fn(40, 40, |x, y| {
                image::Rgb(colour.map(|c: u8| c.saturating_add(((x * y) as u8 ^ i) % 30)))
            });
            picture.save(folder.join(format!("{i}.png"))).unwrap();
        }
    }
    run(
        "train resnet18 --stem cifar --dataset cats-dogs-drawn --limit 8 --image-size 32 --epochs 1 \
         --batch-size 4 --out first",
    );
    let data = "--dataset folder --data-dir data --image-size 32 --val-split 0.25 --batch-size 6";
    let weights = "--weights first/last.safetensors --freeze backbone --head-lr 0.05";
    let text = run(&format!("train resnet18 {data} {weights} --epochs 4 --out second"));
    assert!(text.contains("1,539 of 11,") && text.contains("fc had another size"), "{text}");
    run(&format!("train resnet18 {data} {weights} --cache-features --epochs 8 --out third"));
    let read = |run: &str| {
        let path = here.path().join(run).join("last.safetensors");
        convzoo::weights::load(&path, &candle_core::Device::Cpu).unwrap().tensors
    };
    let first = read("first");
    for (name, tensor) in read("second").into_iter().chain(read("third")) {
        if !name.starts_with("fc.") {
            let bits = |t: &candle_core::Tensor| {
                let t = t.flatten_all().unwrap().to_dtype(candle_core::DType::F64).unwrap();
                t.to_vec1::<f64>().unwrap()
            };
            assert_eq!(bits(&tensor), bits(&first[&name]), "{name}");
        }
    }
    // It goes on as it was, too.
    run("train resnet18 --resume third --epochs 9");
    let failed = failure(
        &["train", "resnet18", "--dataset", "cats-dogs-drawn", "--freeze", "nose"],
        here.path(),
    );
    assert!(failed.contains("nose") && failed.contains("layer4"), "{failed}");
    let failed = failure(
        &["train", "resnet18", "--dataset", "cats-dogs-drawn", "--cache-features"],
        here.path(),
    );
    assert!(failed.contains("--freeze backbone"), "{failed}");
}
