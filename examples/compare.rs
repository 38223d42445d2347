//! Several architectures on one data set under one budget, and one report of what came out.
//!
//! ```text
//! cargo run --example compare -- --dataset cats-dogs --models alexnet,resnet18 --budget 3epochs
//! ```

use std::process::ExitCode;

fn main() -> ExitCode {
    convzoo::cli::compare_example()
}
