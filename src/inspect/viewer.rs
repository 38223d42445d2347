//! A network with what it needs to look at pictures: its pipeline and the names of its classes.

use candle_core::{Device, Tensor};

use crate::data::{Picture, Pipeline};
use crate::models::Model;
use crate::rng::Rng;
use crate::weights::WeightFile;
use crate::{Error, Result};

/// A model, its evaluation pipeline, and its classes.
#[derive(Clone, Debug)]
pub struct Viewer {
    /// The network with its weights, on the CPU.
    pub model: Model,
    /// What is done to a picture before the network sees it.
    pub pipeline: Pipeline,
    /// The classes' names, in the order of the logits.
    pub classes: Vec<String>,
}

/// A picture, and what the network gets of it.
#[derive(Clone, Debug)]
pub struct Subject {
    /// What is left after resizing and cropping, in 8 bits: maps are drawn over this.
    pub picture: Picture,
    /// The network's input, [1, C, H, W].
    pub input: Tensor,
}

impl Viewer {
    /// The model that a weight file describes; see [`WeightFile::described`] for files that other
    /// programs wrote.
    ///
    /// # Errors
    /// Where the file does not describe one, its tensors do not fit it, or its preprocessing is
    /// unknown.
    pub fn new(file: &WeightFile) -> Result<Self> {
        let metadata = file.metadata()?.clone();
        let unknown =
            |error| Error::file(&file.path, format!("its preprocessing cannot be read: {error}"));
        let model = file.model(&Device::Cpu)?;
        let pipeline = serde_json::from_value(metadata.preprocessing).map_err(unknown)?;
        Ok(Viewer { model, pipeline, classes: metadata.classes })
    }

    /// What the network sees of a picture.
    ///
    /// # Errors
    /// Where the picture cannot be resized.
    pub fn see(&self, picture: &Picture) -> Result<Subject> {
        Subject::new(picture, &self.pipeline)
    }

    /// A class's name, or its number where it has none.
    pub fn class(&self, class: usize) -> String {
        self.classes.get(class).cloned().unwrap_or_else(|| class.to_string())
    }

    /// The class of this name or number.
    ///
    /// # Errors
    /// Lists the classes where there is no such one.
    pub fn find_class(&self, name: &str) -> Result<usize> {
        let by_name = self.classes.iter().position(|class| class == name);
        let by_number = || name.parse().ok().filter(|&number| number < self.classes.len());
        by_name.or_else(by_number).ok_or_else(|| {
            let shown: Vec<_> = self.classes.iter().take(12).map(String::as_str).collect();
            let more = if self.classes.len() > shown.len() { " ..." } else { "" };
            Error::Setting(format!("no class {name}; there are {}{more}", shown.join(", ")))
        })
    }
}

impl Subject {
    /// What an evaluation pipeline makes of a picture.
    ///
    /// # Errors
    /// Where the picture cannot be resized.
    pub fn new(picture: &Picture, pipeline: &Pipeline) -> Result<Self> {
        let [c, h, w] = pipeline.output();
        let mut input = vec![0f32; c * h * w];
        // An evaluation pipeline draws nothing; the generator is never asked.
        pipeline.apply(picture, &mut Rng::new(0), &mut input)?;
        let input = Tensor::from_vec(input, (1, c, h, w), &Device::Cpu)?;
        Ok(Subject { picture: pipeline.before_normalising(picture)?, input })
    }
}
