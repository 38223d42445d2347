//! Flags, files of flags, and runs that are repeated; what is measured and how it is said.

use std::path::Path;
use std::process::{Command, Output};

fn convzoo(args: &str, folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_convzoo"));
    command.current_dir(folder).args(args.split_whitespace()).output().expect("the binary runs")
}

fn succeed(args: &str, folder: &Path) -> String {
    let output = convzoo(args, folder);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The one line that a failed command prints.
fn failure(args: &str, folder: &Path) -> String {
    let output = convzoo(args, folder);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{args} did not fail");
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{args} printed {text}");
    errors[0].to_owned()
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("JSON")
}

const SETTINGS: &str = "\
model = \"lenet5-relu\"
dataset = \"cats-dogs-drawn\"
limit = 24
epochs = 2
batch_size = 6
seed = 5
augment = \"trivial\"
erase = 0.25
mixup = 0.2
cutmix = 1
ema = 0.9
clip-norm = 1.0
accumulate = 2
class_weights = \"balanced\"
schedule = \"cosine-restarts\"
restart_every = 1
label-smoothing = 0.1
no_norm_decay = true
tensorboard = true
";

#[test]
fn a_file_of_flags_is_the_flags_and_a_config_json_repeats_its_run() {
    let here = tempfile::tempdir().unwrap();
    std::fs::write(here.path().join("run.toml"), SETTINGS).unwrap();
    let text = succeed("train --config run.toml --out one", here.path());
    for said in
        ["trivial-augment", "erase 0.25", "mixup 0.2", "2 batches", "cosine-restarts", "0.9"]
    {
        let said = if said == "2 batches" { "batches to a step 2" } else { said };
        assert!(text.contains(said), "{said} is not in {text}");
    }
    let flags = "train lenet5-relu --dataset cats-dogs-drawn --limit 24 --epochs 2 --batch-size 6 \
                 --seed 5 --augment trivial --erase 0.25 --mixup 0.2 --cutmix 1 --ema 0.9 --clip-norm 1 \
                 --accumulate 2 --class-weights balanced --schedule cosine-restarts --restart-every 1 \
                 --label-smoothing 0.1 --no-norm-decay --workers 1 --out two";
    succeed(flags, here.path());
    succeed("train --config one/config.json --out three", here.path());
    let read = |run: &str, file: &str| std::fs::read(here.path().join(run).join(file)).unwrap();
    for file in ["last.safetensors", "best.safetensors", "ema.safetensors"] {
        assert!(read("one", file) == read("two", file), "{file}: flags");
        assert!(read("one", file) == read("three", file), "{file}: repeated");
    }
    assert!(here.path().join("one/tensorboard").is_dir());
    // What is on the command line wins, over both kinds of file.
    succeed("train --config run.toml --epochs 1 --out four", here.path());
    succeed("train --config one/config.json --epochs 1 --augment none --out five", here.path());
    for (run, random) in [("four", true), ("five", false)] {
        let config = json(&String::from_utf8(read(run, "config.json")).unwrap());
        assert_eq!(config["train"]["epochs"], 1);
        let pipeline = config["data"]["train_pipeline"].to_string();
        assert_eq!(pipeline.contains("trivial"), random, "{pipeline}");
        assert_eq!(config["train"]["gradients"]["accumulate"], 2);
    }
}

#[test]
fn what_is_measured_is_said_in_detail() {
    let here = tempfile::tempdir().unwrap();
    let data = "--dataset cats-dogs-drawn --limit 24";
    succeed(
        &format!("train lenet5-relu {data} --epochs 1 --save-dtype bf16 --out run"),
        here.path(),
    );
    let run = here.path().join("run");
    let results = json(&std::fs::read_to_string(run.join("evaluation.json")).unwrap());
    let summary = json(&std::fs::read_to_string(run.join("summary.json")).unwrap());
    let val = &results["parts"]["val"];
    assert_eq!((&results["classes"][0], &results["epoch"]), (&"cat".into(), &1.into()));
    let count = |row: usize, column: usize| val["confusion"][row][column].as_u64().unwrap();
    assert_eq!(count(0, 0) + count(0, 1), val["per_class"][0]["images"].as_u64().unwrap());
    assert_eq!(count(0, 0) + count(0, 1) + count(1, 0) + count(1, 1), 24);
    // Of the weights in 16 bits, so about that of the run.
    let near = val["top1"].as_f64().unwrap() - summary["best_val_top1"].as_f64().unwrap();
    assert!(near.abs() < 0.1, "{near}");

    let eval = format!("eval --weights run/best.safetensors {data} --top-k 1,2");
    let text = succeed(&eval, here.path());
    for said in ["calibration error", "top-2 100.00 %", "right", "what it was taken for"] {
        assert!(text.contains(said), "{said} is not in {text}");
    }
    let plain = json(&succeed(&format!("{eval} --json"), here.path()));
    assert_eq!(plain["val"]["confusion"], val["confusion"]);
    assert_eq!(plain["val"]["top_k"]["1"], plain["val"]["top1"]);
    let flipped = json(&succeed(&format!("{eval} --json --tta flip"), here.path()));
    assert_ne!(flipped["val"]["loss"], plain["val"]["loss"]);

    image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([(x * 6) as u8, (y * 8) as u8, 90]))
        .save(here.path().join("a.png"))
        .unwrap();
    let ask = |flags: &str| {
        let text = succeed(
            &format!("predict --weights run/best.safetensors --json a.png {flags}"),
            here.path(),
        );
        json(&text)[0]["top"]
            .as_array()
            .unwrap()
            .iter()
            .map(|g| g["probability"].as_f64().unwrap())
            .sum::<f64>()
    };
    assert!((ask("") - 1.0).abs() < 1e-5 && (ask("--tta flip") - 1.0).abs() < 1e-5);
}

#[test]
fn a_learning_rate_is_found() {
    let here = tempfile::tempdir().unwrap();
    let flags = "--dataset cats-dogs-drawn --limit 32 --image-size 32 --batch-size 8 --steps 30";
    let text = succeed(&format!("lr-find lenet5-relu {flags} --csv steps.csv"), here.path());
    assert!(text.contains("suggestion: --lr "), "{text}");
    let csv = std::fs::read_to_string(here.path().join("steps.csv")).unwrap();
    assert_eq!(csv.lines().next(), Some("lr,loss,smooth"));
    let svg = std::fs::read_to_string(here.path().join("lr-find.svg")).unwrap();
    assert!(svg.contains("suggested") && svg.contains("learning rate"), "{svg}");
    let found = json(&succeed(&format!("lr-find lenet5-relu {flags} --json"), here.path()));
    let points = found["points"].as_array().unwrap();
    assert_eq!(points.len() + 1, csv.lines().count());
    assert!(found["suggestion"].as_f64().unwrap() > 1e-6);
}

#[test]
fn flags_that_make_no_sense_are_refused() {
    let here = tempfile::tempdir().unwrap();
    std::fs::write(here.path().join("typo.toml"), "epoch = 3").unwrap();
    std::fs::write(here.path().join("bad.json"), "{}").unwrap();
    let data = "train lenet5-relu --dataset cats-dogs-drawn --limit 8";
    for (args, told) in [
        ("train --config typo.toml", "did you mean epochs?"),
        ("train --config bad.json", "no config.json of a run"),
        ("train --config nowhere.toml", "nowhere.toml"),
        ("train", "say which network"),
        ("lr-find lenet5-relu --dataset cats-dogs-drawn --limit 8 --steps 3", "at least 10"),
        (&format!("{data} --clip-norm=-1"), "norm"),
        (&format!("{data} --accumulate 0"), "accumulate"),
        (&format!("{data} --class-weights 1,2,3"), "2 in all"),
        (&format!("{data} --ema 1.5"), "averaged weights is 1.5"),
        (&format!("{data} --mixup=-1"), "mixup is -1"),
        (&format!("{data} --erase 2"), "erasing"),
        (&format!("{data} --rand-magnitude 3"), "--augment rand"),
        (&format!("{data} --restart-every 2"), "cosine-restarts"),
        (&format!("{data} --schedule constant --min-lr 1"), "--min-lr goes with"),
        (&format!("{data} --schedule plateau --plateau-factor 2"), "plateau"),
        (&format!("{data} --patience 0"), "patience"),
        (&format!("{data} --tta flip"), "--eval"),
        (&format!("{data} --freeze backbone --cache-features --mixup 0.2"), "same pictures"),
        (&format!("{data} --freeze backbone --cache-features --augment rand"), "same pictures"),
    ] {
        let error = failure(args, here.path());
        assert!(error.contains(told), "{args}: {error}");
    }
}

#[test]

fn the_precision_of_a_run_is_a_flag_a_line_and_a_setting() {
    let here = tempfile::tempdir().unwrap();
    let toml = "model = \"lenet5-relu\"\ndataset = \"cats-dogs-drawn\"\nlimit = 12\nepochs = 1\n\
                precision = \"bf16\"\n";
    std::fs::write(here.path().join("run.toml"), toml).unwrap();
    let text = succeed("train --config run.toml --out half", here.path());
    for said in ["activations in bf16", "bf16 on a CPU is for checking"] {
        assert!(text.contains(said), "{said} is not in {text}");
    }
    let config = |run: &str| std::fs::read_to_string(here.path().join(run).join("config.json"));
    assert_eq!(json(&config("half").unwrap())["train"]["precision"], "bf16");
    // Runs in f32 say nothing of it, as before there was a choice.
    succeed("train --config half/config.json --precision f32 --out whole", here.path());
    assert!(json(&config("whole").unwrap())["train"].get("precision").is_none());
    succeed("train --config whole/config.json --precision f16 --out scaled", here.path());
    let summary = std::fs::read_to_string(here.path().join("scaled/summary.json")).unwrap();
    assert!(json(&summary)["loss_scale"]["factor"].as_f64().unwrap() >= 1.0);
    assert!(failure("train --config run.toml --precision f8", here.path()).contains("--precision"));
}

#[test]
fn a_resumed_run_keeps_its_settings_and_its_weights_are_measured_on_its_pictures() {
    let here = tempfile::tempdir().unwrap();
    let begin =
        "train lenet5-relu --dataset cats-dogs-drawn --limit 24 --epochs 1 --seed 5 --out one";
    succeed(begin, here.path());
    // No flag is passed over in silence.
    for (flags, said) in [
        ("--lr 0.5", "train.lr was 0.05 and is now 0.5"),
        ("--optimizer adamw", "train.optimizer.name was"),
        ("--ema 0.9", "train.ema was"),
        ("--augment trivial", "data.train_pipeline was"),
        ("--limit 12", "12 for training and 12 for validation, before 24 and 24"),
    ] {
        let line = failure(&format!("train --resume one --epochs 2 {flags}"), here.path());
        assert!(line.contains(said), "{flags}: {line}");
    }
    succeed("train --resume one --epochs 2 --workers 1 --limit 24 --seed 5", here.path());
    let line = failure("train resnet18 --resume one", here.path());
    assert!(line.contains("that is a run of lenet5-relu"), "{line}");

    let summary = json(&std::fs::read_to_string(here.path().join("one/summary.json")).unwrap());
    let found = json(&succeed("eval --weights one/best.safetensors --json", here.path()));
    assert_eq!(found["val"]["images"], 24);
    assert_eq!(found["val"]["top1"], summary["best_val_top1"]);
    let others = "eval --weights one/best.safetensors --dataset cats-dogs-drawn --limit 10 --json";
    assert_eq!(json(&succeed(others, here.path()))["val"]["images"], 10);
}

/// A setting in the environment that there is not would be computed in another way than was asked for.
#[test]
fn unknown_values_in_the_environment_are_errors_before_work_begins() {
    let run = |arguments: &[&str], name: &str, value: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_convzoo"));
        command.args(arguments).env(name, value).output().expect("the program runs")
    };
    for (name, value) in [
        ("CONVZOO_ISA", "avx1024"),
        ("CONVZOO_WINOGRAD", "maybe"),
        ("CONVZOO_CUDA_OPS", "fast"),
        ("CONVZOO_TEST_FILES", "fail"),
    ] {
        for arguments in [&["list"][..], &["eval", "--weights", "none.safetensors"]] {
            let output = run(arguments, name, value);
            let line = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{line}");
            let wanted = format!("error: {name}={value}: ");
            assert!(line.starts_with(&wanted) && line.lines().count() == 1, "{line}");
        }
        assert!(run(&["list"], name, "").status.success(), "an empty {name} is none");
    }
}
