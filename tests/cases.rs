//! Inputs on which the program once gave wrong numbers without a word, where they lie beside the
//! checkout. Tests by topic make inputs of the same kinds themselves and run everywhere.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::{Device, Tensor};
use common::program::{failure, succeed};
use convzoo::data::{Limits, decode_file};
use convzoo::weights;
use serde_json::Value;

/// The folder of inputs; where there is none, that is said and nothing is tested.
fn cases() -> Option<PathBuf> {
    let found = common::shared().map(|shared| shared.join("cases")).filter(|dir| dir.is_dir());
    if found.is_none() {
        println!("skipped: no folder of inputs beside this checkout");
    }
    found
}

fn convzoo(words: &[&str], paths: &[&Path]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_convzoo"));
    command.args(words).args(paths);
    command
}

/// ResNet-18's weights for cats and dogs, which come with the source.
fn cats_dogs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/resnet18-cats-dogs.safetensors")
}

#[test]
fn an_evaluation_names_what_it_leaves_out() {
    let Some(cases) = cases() else { return };
    for (folder, part, read, all) in [("bad_val", "val", 12, 16), ("bad_test", "test", 4, 6)] {
        let data = cases.join(folder);
        let mut command =
            convzoo(&["eval", "--json", "--split", part, "--weights"], &[&cats_dogs()]);
        command.arg("--data-dir").arg(&data);
        let found: Value = serde_json::from_str(&succeed(command)).expect("JSON");
        assert_eq!(found[part]["images"], read, "{folder}: {found}");
        let left_out = found[part]["left_out"].as_array().expect("a list");
        assert_eq!(left_out.len(), all - read, "{folder}: {left_out:?}");
        let named = |one: &Value| one.to_string().contains(".jpg");
        assert!(left_out.iter().all(named), "{folder}: {left_out:?}");
    }
}

#[test]
fn no_image_makes_a_run_impossible_to_finish() {
    let Some(cases) = cases() else { return };
    let runs = tempfile::tempdir().expect("a folder");
    let mut command = convzoo(&["train", "resnet18", "--json", "--image-size", "32"], &[]);
    command.args(["--batch-size", "16", "--epochs", "40", "--data-dir"]).arg(cases.join("shrink2"));
    command.arg("--out").arg(runs.path().join("run"));
    let summary: Value = serde_json::from_str(&succeed(command)).expect("JSON");
    assert_eq!((&summary["epochs"], &summary["skipped_images"]), (&40.into(), &1.into()));
}

#[test]
fn one_network_saved_in_many_ways_is_one_network() {
    let Some(cases) = cases() else { return };
    let logits = |name: &str| {
        let file = weights::load(&cases.join("weights").join(name), &Device::Cpu).expect(name);
        let model = file.described(Some("resnet20")).expect(name).model(&Device::Cpu).expect(name);
        let x = Tensor::ones((1, 3, 32, 32), candle_core::DType::F32, &Device::Cpu).expect("ones");
        model.network.logits(&x).and_then(|logits| Ok(logits.to_vec2::<f32>()?)).expect(name)
    };
    let plain = logits("plain.pth");
    for name in [
        "best_acc1_tensor.pth.tar",
        "args_namespace.pth.tar",
        "averaged_model.pth",
        "lightning_criterion.ckpt",
    ] {
        assert_eq!(logits(name), plain, "{name}");
    }
    let line = failure(convzoo(&["weights", "inspect"], &[&cases.join("weights/torchscript.pt")]));
    assert!(line.contains("TorchScript") && line.contains("state_dict"), "{line}");
}

#[test]
fn turned_images_are_turned_alike() {
    let Some(cases) = cases() else { return };
    let read = |ending: &str| {
        let name = format!("webp_exif/hopper_orientation_6.{ending}");
        decode_file(&cases.join(name), Limits::default()).expect("an image")
    };
    let (webp, jpeg) = (read("webp"), read("jpg"));
    assert_eq!((webp.width, webp.height), (jpeg.width, jpeg.height));
    let pairs = webp.pixels.iter().zip(&jpeg.pixels);
    let far: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    assert!(far < 12 * webp.pixels.len() as u64, "{far}");
}

#[test]
fn hostile_files_are_answered_with_a_line() {
    let Some(cases) = cases() else { return };
    let attack = |name: &str| cases.join("attack").join(name);
    let image = cases.join("webp_exif/hopper_orientation_6.jpg");
    for (file, said) in [
        ("meta_classes_5.safetensors", "lists 5 classes"),
        ("pad_bomb.safetensors", "pixels"),
        ("w_nan.safetensors", "not finite"),
    ] {
        let line = failure(convzoo(&["predict", "--weights"], &[&attack(file), &image]));
        assert!(line.contains(file) && line.contains(said), "{line}");
    }
    let said = succeed(convzoo(&["predict", "--weights"], &[&attack("ansi.safetensors"), &image]));
    assert!(said.contains("\\x1b") && !said.contains('\x1b'), "{said}");
    for name in ["thin_1x20000.png", "thin_1x1e8.png"] {
        let output = convzoo(&["predict", "--weights"], &[&cats_dogs(), &attack(name)]).output();
        let output = output.expect("the program runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(name), "{text}");
    }
}
