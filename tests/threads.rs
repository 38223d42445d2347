//! The same bits on 1, 2 and 4 threads, with as many loader threads: architectures, optimisers and
//! augmentation in turn. Four configurations here; all of them with `CONVZOO_ALL=1`.

mod common;

use common::folder::end_state;
use common::program::{Bench, FAULT, succeed};
use std::process::Command;

/// Architecture, side of the pictures, epochs, and what else is said. The large ones, whose files take
/// their time, have one epoch.
const CONFIGURATIONS: &[(&str, &str, &str, &[&str])] = &[
    ("resnet20", "32", "2", &["--optimizer", "sgd", "--nesterov", "--schedule", "one-cycle"]),
    ("squeezenet1_1", "64", "2", &["--optimizer", "adamw"]),
    ("resnet20", "32", "3", EVERYTHING),
    ("googlenet", "64", "2", &["--optimizer", "sgd", "--label-smoothing", "0.1"]),
    ("lenet5", "28", "3", &["--optimizer", "sgd"]),
    ("lenet5-relu", "32", "3", &["--optimizer", "adamw"]),
    ("simpleconvnet", "28", "3", &["--optimizer", "sgd", "--momentum", "0"]),
    ("resnet20", "32", "3", &["--optimizer", "adamw", "--unfreeze-every", "1"]),
    ("resnet32", "32", "2", &["--optimizer", "sgd", "--schedule", "step", "--warmup", "1"]),
    ("resnet56", "32", "2", &["--optimizer", "adamw", "--schedule", "constant"]),
    ("plain20", "32", "2", &["--optimizer", "sgd", "--weight-decay", "0.01"]),
    ("plain56", "32", "2", &["--optimizer", "adamw"]),
    ("squeezenet1_0", "64", "2", &["--optimizer", "sgd"]),
    ("googlenet", "96", "2", &["--optimizer", "adamw"]),
    ("resnet18", "32", "1", &["--optimizer", "sgd", "--nesterov"]),
    ("resnet18", "64", "1", &["--optimizer", "adamw", "--stem", "cifar"]),
    ("resnet18", "32", "2", &["--freeze", "layer1,layer2.0", "--lr-decay", "0.7"]),
    ("resnet18", "32", "2", &["--freeze", "backbone", "--cache-features"]),
    ("resnet34", "32", "1", &["--optimizer", "sgd", "--schedule", "cosine"]),
    ("resnet50", "64", "1", &["--optimizer", "adamw"]),
    ("inception_v4", "75", "1", &["--optimizer", "adamw"]),
    ("alexnet", "64", "1", &["--optimizer", "adamw", "--schedule", "one-cycle"]),
    ("alexnet-paper", "96", "1", &["--optimizer", "sgd"]),
    ("zfnet", "96", "1", &["--optimizer", "sgd", "--momentum", "0"]),
    ("inception_v3", "299", "1", &["--optimizer", "sgd"]),
    ("vgg11_bn", "32", "1", &["--optimizer", "sgd", "--momentum", "0"]),
    ("lenet5-relu", "32", "2", &["--augment", "trivial"]),
    ("lenet5-relu", "32", "2", &["--augment", "rand", "--optimizer", "rmsprop"]),
    ("lenet5-relu", "32", "2", &["--augment", "none", "--optimizer", "adam"]),
    ("resnet20", "32", "2", &["--erase", "0.9", "--mixup", "0.4"]),
    ("resnet20", "32", "2", &["--cutmix", "1", "--ema", "0.9"]),
    ("squeezenet1_1", "64", "2", &["--accumulate", "3", "--clip-norm", "0.5"]),
    ("squeezenet1_1", "64", "2", &["--class-weights", "balanced", "--clip-value", "0.01"]),
    ("googlenet", "64", "2", EVERYTHING),
    ("alexnet-paper", "96", "1", EVERYTHING), // on candle's graph, not the engine
];

/// All of augmentation, and gradients held back.
const EVERYTHING: &[&str] = &[
    "--augment",
    "trivial",
    "--erase",
    "0.5",
    "--mixup",
    "0.2",
    "--cutmix",
    "1",
    "--ema",
    "0.9",
    "--accumulate",
    "2",
    "--clip-norm",
    "1",
    "--no-norm-decay",
    "--schedule",
    "plateau",
    "--save-dtype",
    "bf16",
    "--optimizer",
    "adamw",
    "--lr",
    "1e-3",
];

#[test]
fn threads_do_not_change_the_bits() {
    let bench = Bench::new();
    let count = if std::env::var_os("CONVZOO_ALL").is_some() { CONFIGURATIONS.len() } else { 4 };
    for (i, (model, side, epochs, flags)) in CONFIGURATIONS[..count].iter().enumerate() {
        let states = ["1", "2", "4"].map(|threads| {
            let run = bench.run(&format!("{i}-{threads}"));
            let mut command = Command::new(env!("CARGO_BIN_EXE_convzoo"));
            command.current_dir(bench.folder.path()).env_remove(FAULT);
            command.args(["train", model, "--image-size", side, "--threads", threads]);
            command.args(["--workers", threads, "--dataset", "folder", "--data-dir", "data"]);
            command.args(["--epochs", epochs, "--batch-size", "7", "--seed", "3"]).args(*flags);
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
