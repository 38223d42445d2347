//! The same bits on 1, 2 and 4 threads, with as many loader threads: architectures, optimisers and
//! augmentation in turn. Three configurations here; all of them with `CONVZOO_ALL=1`.

mod common;

use common::folder::end_state;
use common::program::{Bench, FAULT, succeed};
use std::process::Command;

/// Architecture, side of the pictures, and what else is said.
const CONFIGURATIONS: &[(&str, &str, &[&str])] = &[
    ("resnet18", "32", &["--optimizer", "sgd", "--nesterov"]),
    ("googlenet", "64", &["--optimizer", "adamw", "--label-smoothing", "0.1"]),
    ("alexnet-paper", "96", &["--optimizer", "sgd"]),
    ("lenet5", "28", &["--optimizer", "sgd"]),
    ("lenet5-relu", "32", &["--optimizer", "adamw"]),
    ("simpleconvnet", "28", &["--optimizer", "sgd", "--momentum", "0"]),
    ("alexnet", "64", &["--optimizer", "adamw", "--schedule", "one-cycle"]),
    ("zfnet", "96", &["--optimizer", "sgd", "--schedule", "step"]),
    ("vgg11", "32", &["--optimizer", "adamw"]),
    ("vgg11_bn", "32", &["--optimizer", "sgd", "--weight-decay", "0.01"]),
    ("vgg16_bn", "32", &["--optimizer", "adamw", "--warmup", "1"]),
    ("inception_v3", "75", &["--optimizer", "sgd"]),
    ("inception_v4", "75", &["--optimizer", "adamw"]),
    ("squeezenet1_0", "64", &["--optimizer", "adamw"]),
    ("squeezenet1_1", "64", &["--optimizer", "sgd"]),
    ("resnet18", "64", &["--optimizer", "adamw", "--stem", "cifar"]),
    ("resnet34", "32", &["--optimizer", "sgd", "--schedule", "cosine"]),
    ("resnet50", "64", &["--optimizer", "adamw"]),
    ("resnet20", "32", &["--optimizer", "sgd", "--nesterov", "--schedule", "one-cycle"]),
    ("resnet56", "32", &["--optimizer", "adamw", "--schedule", "constant"]),
    ("plain20", "32", &["--optimizer", "sgd"]),
    ("plain56", "32", &["--optimizer", "adamw"]),
    ("resnet18", "32", &["--freeze", "layer1,layer2.0", "--lr-decay", "0.7"]),
    ("resnet20", "32", &["--unfreeze-every", "1"]),
    ("resnet18", "32", &["--freeze", "backbone", "--cache-features"]),
];

#[test]
fn threads_do_not_change_the_bits() {
    let bench = Bench::new();
    let count = if std::env::var_os("CONVZOO_ALL").is_some() { CONFIGURATIONS.len() } else { 3 };
    for (i, (model, side, flags)) in CONFIGURATIONS[..count].iter().enumerate() {
        let states = ["1", "2", "4"].map(|threads| {
            let run = bench.run(&format!("{i}-{threads}"));
            let mut command = Command::new(env!("CARGO_BIN_EXE_convzoo"));
            command.current_dir(bench.folder.path()).env_remove(FAULT);
            command.args(["train", model, "--image-size", side, "--threads", threads]);
            command.args(["--workers", threads, "--dataset", "folder", "--data-dir", "data"]);
            command.args(["--epochs", "2", "--batch-size", "7", "--seed", "3"]).args(*flags);
            succeed({
                command.arg("--out").arg(&run);
                command
            });
            let state = end_state(&run);
            std::fs::remove_dir_all(&run).expect("a folder");
            state
        });
        assert_eq!(states[0], states[1], "{model} {flags:?}: 1 and 2 threads");
        assert_eq!(states[0], states[2], "{model} {flags:?}: 1 and 4 threads");
        println!("{model} at {side}, {}: the same on 1, 2, 4 threads", flags.join(" "));
    }
}
