//! The library's one error type: it says where, what was found, and what to do.

use std::path::PathBuf;

use crate::visible::visible_line;

/// `Result` with convzoo's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, each variant naming the thing it concerns.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An op was given shapes, sizes or types that it cannot work on.
    #[error("{op}: got {found}; {needed}")]
    Op {
        /// The op, as in `ops::conv2d`.
        op: &'static str,
        /// What it was given.
        found: String,
        /// What it needs instead.
        needed: String,
    },

    /// A layer of a network does not fit what reaches it.
    #[error("layer {layer}: {cause}")]
    Layer {
        /// The layer's full name, as in `layer1.0.conv2`.
        layer: String,
        /// What went wrong there.
        cause: Box<Error>,
    },

    /// An input picture is smaller than the network can take.
    #[error(
        "{model} cannot take {channels}x{height}x{width} pictures; the smallest it takes is \
         {channels}x{smallest}x{smallest}"
    )]
    InputTooSmall {
        /// The architecture's name.
        model: String,
        /// Channels of the input.
        channels: usize,
        /// Height of the input in pixels.
        height: usize,
        /// Width of the input in pixels.
        width: usize,
        /// The smallest side of a square input that works.
        smallest: usize,
    },

    /// A file or folder that cannot be used.
    #[error("{}: {cause}", visible_line(&path.to_string_lossy()))]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        cause: String,
    },

    /// A data set that cannot be had or used.
    #[error("data set {dataset}: {cause}")]
    Dataset {
        /// The data set's name.
        dataset: String,
        /// What is wrong, and what to do.
        cause: String,
    },

    /// Published weights that cannot be had or used.
    #[error("weights {name}: {cause}")]
    Weights {
        /// What they are called.
        name: String,
        /// What is wrong, and what to do.
        cause: String,
    },

    /// A setting (flag, model name, number) that makes no sense.
    #[error("{0}")]
    Setting(String),

    /// Training cannot go on: the loss is not finite, say.
    #[error("training: {0}")]
    Training(String),

    /// An error of candle's.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl Error {
    /// An op's complaint: what it got and what it needs.
    pub(crate) fn op(
        op: &'static str,
        found: impl Into<String>,
        needed: impl Into<String>,
    ) -> Self {
        Error::Op { op, found: found.into(), needed: needed.into() }
    }

    /// A file's complaint; `cause` may be an `io::Error`.
    pub(crate) fn file(path: impl Into<PathBuf>, cause: impl std::fmt::Display) -> Self {
        Error::File { path: path.into(), cause: cause.to_string() }
    }

    /// A complaint about published weights.
    pub(crate) fn weights(name: impl Into<String>, cause: impl std::fmt::Display) -> Self {
        Error::Weights { name: name.into(), cause: cause.to_string() }
    }

    /// A data set's complaint.
    pub(crate) fn dataset(dataset: impl Into<String>, cause: impl std::fmt::Display) -> Self {
        Error::Dataset { dataset: dataset.into(), cause: cause.to_string() }
    }
}

/// So that `?` works in a plain candle program that uses our ops.
impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(inner) => inner,
            other => candle_core::Error::wrap(other),
        }
    }
}
