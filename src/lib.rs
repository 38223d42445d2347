//! The classic convolutional networks in Rust, on candle.

pub mod data;
pub mod error;
pub mod ops;
pub mod rng;

pub use error::{Error, Result};
