//! AlexNet (Krizhevsky, 2014) on cats and dogs.
//!
//! ```text
//! cargo run --example alexnet -- --dataset cats-dogs
//! ```
//!
//! `--help` lists what can be changed.

use std::process::ExitCode;

fn main() -> ExitCode {
    convzoo::cli::example("alexnet")
}
