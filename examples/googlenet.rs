//! GoogLeNet (Szegedy et al., 2014) with batch norm and its two auxiliary heads, on cats and dogs.
//!
//! ```text
//! cargo run --example googlenet -- --dataset cats-dogs
//! ```
//!
//! `--help` lists what can be changed.

use std::process::ExitCode;

fn main() -> ExitCode {
    convzoo::cli::example("googlenet")
}
