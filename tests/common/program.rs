//! The program itself, on a small folder of pictures.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use convzoo::rng::Rng;

/// The point to fail or pause at: see `src/files/fault.rs`.
pub const FAULT: &str = "CONVZOO_TEST_FILES";

/// A folder of pictures in two classes, one file of which is no picture, and room for runs.
pub struct Bench {
    pub folder: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut rng = Rng::stream(1, "bench", &[]);
        for (part, count) in [("train", 14), ("val", 6)] {
            for class in ["dark", "light"] {
                let at = folder.path().join("data").join(part).join(class);
                std::fs::create_dir_all(&at).expect("a folder");
                for i in 0..count {
                    let base = if class == "dark" { 30 } else { 140 };
                    let picture = image::RgbImage::from_fn(30, 24, |_, _| {
                        image::Rgb([0; 3].map(|_: u8| (base + rng.below(80)) as u8))
                    });
                    picture.save(at.join(format!("{i:02}.png"))).expect("a picture");
                }
            }
        }
        std::fs::write(folder.path().join("data/train/dark/99.png"), "no picture").expect("a file");
        Bench { folder }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn run(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command that begins a run, or goes on with one that has begun.
    pub fn train(&self, run: &Path, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_convzoo"));
        command.current_dir(self.folder.path()).env_remove(FAULT);
        command.args(["train", "simpleconvnet"]);
        if run.join("config.json").exists() {
            command.arg("--resume").arg(run);
            return command;
        }
        command.args(["--dataset", "folder", "--data-dir", "data", "--batch-size", "6"]);
        if !flags.contains(&"--epochs") {
            command.args(["--epochs", "3"]);
        }
        command.args(["--seed", "5"]).args(flags).arg("--out").arg(run);
        command
    }
}

/// Standard output of a command that must succeed.
pub fn succeed(mut command: Command) -> String {
    let output = command.output().expect("the program runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The one line that a command fails with.
pub fn failure(mut command: Command) -> String {
    let output = command.output().expect("the program runs");
    error_line(&output)
}

/// The one line of an output that is one of a failure.
pub fn error_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it did not fail: {text}");
    assert!(!text.contains("panicked"), "{text}");
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{text}");
    errors[0].to_owned()
}
