//! How images are prepared: as a file says that convzoo wrote, else as their set usually is.

use super::MeasureRequest;
use super::images::Images;
use crate::data::{DataKind, Normalise, Pipeline};
use crate::models::{self, Config};
use crate::weights::{Metadata, WeightFile};
use crate::{Error, Result};

/// Sides of the input that are tried for images of 32 pixels and fewer.
const SIDES: [usize; 4] = [32, 64, 96, 128];

impl MeasureRequest {
    /// The pipeline; the input of `file` becomes what comes out of it.
    pub(super) fn pipeline(
        &self,
        file: &mut WeightFile,
        foreign: bool,
        images: &Images,
    ) -> Result<Pipeline> {
        let own = own_pipeline(file)?;
        let pipeline = match (self.image_size, foreign) {
            (None, false) => own,
            (Some(size), false) => images.pipeline(size, own.output()[0])?.normalised_like(&own)?,
            (size, true) => self.usual(size, &own, file, images)?,
        };
        let [channels, side, _] = pipeline.output();
        let preprocessing = serde_json::to_value(&pipeline);
        let preprocessing = preprocessing.map_err(|error| Error::file(&file.path, error))?;
        if let Some(metadata) = &mut file.metadata {
            metadata.input = (channels, side, side);
            metadata.preprocessing = preprocessing;
        }
        Ok(pipeline)
    }

    /// What suits weights of another program: the pipeline of MNIST and CIFAR at a size that the
    /// weights fit, or else what is usual for the network.
    fn usual(
        &self,
        size: Option<usize>,
        own: &Pipeline,
        file: &WeightFile,
        images: &Images,
    ) -> Result<Pipeline> {
        let small = matches!(images.kind, DataKind::Digits | DataKind::TinyPhotographs);
        let channels = own.output()[0];
        let size = match small {
            true => Some(size.map_or_else(|| small_side(file), Ok)?),
            false => size,
        };
        let normalise = match (&self.normalise, small) {
            (Some(normalise), _) => Some(normalise.clone()),
            (None, true) => Some(Normalise::Dataset),
            (None, false) => None,
        };
        let pipeline = match size {
            Some(size) => images.pipeline(size, channels)?,
            None => own.clone(),
        };
        match normalise {
            None => pipeline.normalised_like(own),
            Some(normalise) => {
                let (mean, std) = normalise.of(&images.mean, &images.std);
                let like =
                    Pipeline::eval(images.kind, pipeline.output()[1], channels, &mean, &std)?;
                pipeline.normalised_like(&like)
            }
        }
    }
}

impl Images {
    /// How images of this kind are usually measured at this size.
    fn pipeline(&self, size: usize, channels: usize) -> Result<Pipeline> {
        Pipeline::eval(self.kind, size, channels, &self.mean, &self.std)
    }
}

/// What a file says about how images are prepared, or what was guessed for it.
fn own_pipeline(file: &WeightFile) -> Result<Pipeline> {
    let Metadata { preprocessing, .. } = file.metadata()?;
    serde_json::from_value(preprocessing.clone()).map_err(|error| {
        Error::file(&file.path, format!("its preprocessing cannot be read: {error}"))
    })
}

/// The network's own side where that is small, or the first at which the file's tensors fit it.
fn small_side(file: &WeightFile) -> Result<usize> {
    let metadata = file.metadata()?;
    let architecture = models::find(&metadata.architecture)?;
    let (channels, own, _) = metadata.input;
    if own <= SIDES[0] {
        return Ok(own);
    }
    let tensors = file.torchvision()?;
    let fits = |side: usize| {
        let (classes, input) = (metadata.classes.len(), (channels, side, side));
        let config =
            Config { classes, input, aux: false, stem: metadata.stem, ..architecture.config() };
        architecture.layers(&config).is_ok_and(|layers| {
            let specs = layers.state_specs();
            specs.iter().all(|spec| tensors.get(&spec.name).is_none_or(|t| t.dims() == spec.shape))
        })
    };
    Ok(SIDES.into_iter().find(|&side| fits(side)).unwrap_or(own))
}
