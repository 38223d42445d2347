//! Data sets.

use std::sync::Arc;

use crate::error::Result;

pub mod drawn;
pub mod hub;

/// A decoded picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Bytes a pixel: 1 is grey, 3 is RGB.
    pub channels: usize,
    /// Rows from the top, pixels from the left, channels innermost.
    pub pixels: Vec<u8>,
}

/// Where pictures come from, one by one.
pub trait Source: Send + Sync {
    /// Number of pictures.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The class of picture `index`.
    fn label(&self, index: usize) -> u32;
    /// What to call picture `index` in a message.
    fn name(&self, index: usize) -> String;
    /// Picture `index`, decoded.
    fn picture(&self, index: usize) -> Result<Picture>;
}

/// What kind of pictures a data set holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataKind {
    /// Photographs.
    Photographs,
    /// Drawn by the program itself.
    Drawn,
    /// Handwritten digits.
    Digits,
    /// Pictures of the user's own.
    Pictures,
}

/// Training and validation pictures with what is known of them.
#[derive(Clone)]
pub struct Dataset {
    /// As in `--dataset`.
    pub name: String,
    /// What kind of pictures.
    pub kind: DataKind,
    /// Class names by label.
    pub classes: Vec<String>,
    /// Channels of each picture.
    pub channels: usize,
    /// Mean of each channel, of values in 0..=1.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel.
    pub std: Vec<f32>,
    /// Where it was found.
    pub origin: String,
    /// What tells it from any other.
    pub identity: String,
    /// Pictures to train on.
    pub train: Arc<dyn Source>,
    /// Pictures to evaluate on.
    pub val: Arc<dyn Source>,
    /// Pictures to test on at the very end.
    pub test: Option<Arc<dyn Source>>,
    /// What a user should know.
    pub notes: Vec<String>,
}
