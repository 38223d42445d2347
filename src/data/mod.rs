//! Data sets, decoding, transforms, and the loader.
//!
//! [`open`] finds a [`Dataset`]: two or three [`Source`]s of labelled pictures and what there is to
//! know about them; [`open_eval`] finds an [`EvalSet`], all images of a folder or of a part, to measure
//! on. A [`Pipeline`] says what is done to a picture before a network sees it. A
//! [`Loader`] reads a source through a pipeline, on threads of its own, and gives batches of
//! tensors.
//!
//! ```no_run
//! use convzoo::data::{self, DataRequest, Loader, LoaderOptions};
//! # fn main() -> convzoo::Result<()> {
//! let dataset = data::open(&DataRequest::new("cats-dogs"))?;
//! dataset.notes.iter().for_each(|note| println!("{note}"));
//! let pipeline = dataset.train_pipeline(96, 3)?;
//! let options = LoaderOptions { shuffle: true, seed: 42, ..Default::default() };
//! let loader = Loader::new(dataset.train.clone(), pipeline, options)?;
//! for batch in loader.epoch(0, 0) {
//!     println!("{:?}", batch?.images.shape()); // [32, 3, 96, 96]
//! }
//! # Ok(())
//! # }
//! ```

mod augment;
mod cats_dogs;
mod check;
mod cifar;
mod decode;
pub mod drawn;
mod folder;
pub mod hub;
pub mod imagenet;
mod in_memory;
mod inverted;
mod layout;
mod loader;
mod matched;
mod measure;
mod mix;
mod mnist;
mod names;
mod open;
mod part;
mod picture;
mod published;
mod resize;
mod source;
mod statistics;
mod transform;
mod unused;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use augment::Change;
pub use check::{BadFile, ClassReport, Duplicates, FolderReport, check_folder};
pub use decode::{Limits, decode, decode_file};
pub use folder::Files;
pub(crate) use folder::is_left_out;
pub use in_memory::InMemory;
pub use inverted::looks_inverted;
pub use loader::{Batch, Epoch, Loader, LoaderOptions, OnBad};
pub use matched::{Relabelled, are_synsets, matched};
pub use measure::{EvalSet, open_eval};
pub use mix::{Mixed, Mixing};
pub use names::{normal, same_name};
pub use open::{DATASETS, DEFAULT_VAL_SPLIT, DataRequest, dataset_in, open};
pub use part::Part;
pub use picture::Picture;
pub use resize::Filter;
pub(crate) use source::limited;
pub use source::{Source, Subset, identity, times};
pub use statistics::Normalise;
pub use transform::{Pipeline, Step};

use crate::error::Result;

/// What kind of pictures a data set has; every table and plot says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataKind {
    /// Photographs of cats and dogs.
    Photographs,
    /// Drawn by the program itself; never to pass for photographs.
    Drawn,
    /// Photographs of 32x32 pixels of ten classes.
    TinyPhotographs,
    /// Handwritten digits.
    Digits,
    /// Pictures of the user's, of whatever kind.
    Pictures,
}

impl fmt::Display for DataKind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(match self {
            DataKind::Photographs => "photographs",
            DataKind::Drawn => "drawn",
            DataKind::TinyPhotographs => "tiny photographs",
            DataKind::Digits => "digits",
            DataKind::Pictures => "pictures",
        })
    }
}

/// Labelled pictures, in parts, and what there is to know about them.
#[derive(Clone)]
pub struct Dataset {
    /// Its name, as in the run folder's name.
    pub name: String,
    /// What kind of pictures it has.
    pub kind: DataKind,
    /// The classes' names, by label.
    pub classes: Vec<String>,
    /// Channels its pictures have by nature: 1 or 3.
    pub channels: usize,
    /// Mean of each channel, of samples from 0 to 1.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel.
    pub std: Vec<f32>,
    /// Where it came from, for people.
    pub origin: String,
    /// A hash over names, sizes, labels and parts: it changes when the data does.
    pub identity: String,
    /// The pictures to train on.
    pub train: Arc<dyn Source>,
    /// The pictures to choose by.
    pub val: Arc<dyn Source>,
    /// Pictures to test on in the end, where there is a third part.
    pub test: Option<Arc<dyn Source>>,
    /// What the user should be told, before anything else.
    pub notes: Vec<String>,
}

impl Dataset {
    /// [`Pipeline::train`] for its pictures.
    ///
    /// # Errors
    /// A size or number of channels out of range.
    pub fn train_pipeline(&self, size: usize, channels: usize) -> Result<Pipeline> {
        Pipeline::train(self.kind, size, channels, &self.mean, &self.std)
    }

    /// [`Pipeline::eval`] for its pictures.
    ///
    /// # Errors
    /// A size or number of channels out of range.
    pub fn eval_pipeline(&self, size: usize, channels: usize) -> Result<Pipeline> {
        Pipeline::eval(self.kind, size, channels, &self.mean, &self.std)
    }
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Dataset")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("classes", &self.classes)
            .field("origin", &self.origin)
            .field("identity", &self.identity)
            .field("train", &self.train.len())
            .field("val", &self.val.len())
            .field("test", &self.test.as_ref().map(|test| test.len()))
            .finish_non_exhaustive()
    }
}
