//! VGG-16 (Simonyan and Zisserman, 2014) on cats and dogs.
//!
//! ```text
//! cargo run --example vgg16 -- --dataset cats-dogs
//! ```
//!
//! `--help` lists what can be changed.

use std::process::ExitCode;

fn main() -> ExitCode {
    convzoo::cli::example("vgg16")
}
