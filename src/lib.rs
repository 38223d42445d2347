//! The classic convolutional networks in Rust, on candle.

pub mod cli;
pub mod data;
pub mod error;
mod files;
#[path = "../models/mod.rs"]
pub mod models;
pub mod nn;
pub mod ops;
pub mod rng;
pub mod train;
pub mod weights;

pub use error::{Error, Result};
