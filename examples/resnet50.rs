//! ResNet-50 (He et al., 2015) on cats and dogs.
//!
//! ```text
//! cargo run --example resnet50 -- --dataset cats-dogs
//! ```
//!
//! `--help` lists what can be changed.

use std::process::ExitCode;

fn main() -> ExitCode {
    convzoo::cli::example("resnet50")
}
