//! Layers, and how they join into a network.
//!
//! An architecture is a tree of named [`Layer`]s: plain data, without weights. Whatever wants to know
//! something about the architecture reads that one tree: [`Network`] its forward pass and its
//! parameters' names, [`Layer::trace`] its output shapes, parameter counts and multiply-adds.

mod engine;
mod field;
mod forward;
mod init;
mod layer;
mod network;
mod params;
mod precision;
mod trace;

pub use engine::{Engine, TakeGradient};
pub use field::Field;
pub use forward::{AuxLogits, Mode, Output};
pub use init::{Distribution, Init};
pub(crate) use layer::join;
pub use layer::{
    Conv2d, Layer, adaptive_avg_pool, aux_head, avg_pool, batch_norm, branches, conv, dropout,
    linear, lrn, max_pool, numbered, residual, sequential,
};
pub use network::Network;
pub use params::{Entry, ParamSpec, Params, Role};
pub use precision::Precision;
pub use trace::{Shape, Step, Trace};
