//! LeNet-5 (LeCun et al., 1998) on handwritten digits.
//!
//! ```text
//! cargo run --example lenet5 -- --dataset mnist
//! ```
//!
//! `--help` lists what can be changed.

use std::process::ExitCode;

fn main() -> ExitCode {
    convzoo::cli::example("lenet5")
}
