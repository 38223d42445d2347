//! The same pictures seen by several networks: Grad-CAM of each.

use std::path::Path;

use candle_core::Device;

use super::rows::{Group, Row};
use crate::data::{Dataset, Filter, Limits, Picture, decode_file};
use crate::inspect::{Colours, Viewer, data_url, gradcam};
use crate::weights;
use crate::{Error, Result};

/// A picture to explain networks by.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What it is called.
    pub name: String,
    /// Its class, where that is known.
    pub truth: Option<String>,
    /// It itself.
    pub picture: Picture,
}

impl Sample {
    /// A picture of a file; nothing is known of its class.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let picture = decode_file(path, Limits::default())?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Sample { name, truth: None, picture })
    }

    /// Up to `count` validation pictures, the classes in turn.
    ///
    /// # Errors
    /// Where one of them cannot be read.
    pub fn of_validation(dataset: &Dataset, count: usize) -> Result<Vec<Self>> {
        let classes = dataset.classes.len().max(1);
        let with = |class: usize, nth: usize| {
            let mut of_class =
                (0..dataset.val.len()).filter(|&i| dataset.val.label(i) as usize == class);
            of_class.nth(nth)
        };
        let chosen = (0..count).filter_map(|i| with(i % classes, i / classes));
        let sample = |index: usize| {
            let truth = dataset.classes.get(dataset.val.label(index) as usize).cloned();
            let (name, picture) = (dataset.val.name(index), dataset.val.picture(index)?);
            Ok(Sample { name, truth, picture })
        };
        chosen.map(sample).collect()
    }
}

/// What a network made of a picture.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its likeliest class.
    pub class: String,
    /// What it gives that class, 0 to 1.
    pub probability: f32,
    /// The layer that was looked at.
    pub layer: String,
    /// The map over the picture, as an address that holds it.
    pub map: String,
}

/// Pictures, and what each row's first run made of them.
#[derive(Clone, Debug, Default)]
pub struct Views {
    /// The pictures, and themselves as addresses.
    pub samples: Vec<(Sample, String)>,
    /// By row, then by picture; none for a run whose folder has no weights.
    pub answers: Vec<Option<Vec<Answer>>>,
}

/// Pixels of a thumbnail's shorter side, at least.
const SIDE: usize = 144;

impl Views {
    /// Shows every sample to the best weights of every row's first run.
    ///
    /// # Errors
    /// Where weights cannot be read, or do not fit their network.
    pub fn of(group: &Group, samples: &[Sample]) -> Result<Self> {
        let thumbnail =
            |sample: &Sample| Ok((sample.clone(), data_url(&enlarged(&sample.picture)?)));
        let samples: Vec<(Sample, String)> =
            samples.iter().map(thumbnail).collect::<Result<_>>()?;
        let answers = group.rows.iter().map(|row| answers(row, &samples)).collect::<Result<_>>()?;
        Ok(Views { samples, answers })
    }
}

fn answers(row: &Row, samples: &[(Sample, String)]) -> Result<Option<Vec<Answer>>> {
    let path = row.first().folder.join("best.safetensors");
    if !path.exists() {
        return Ok(None);
    }
    let viewer = Viewer::new(&weights::load(&path, &Device::Cpu)?)?;
    samples.iter().map(|(sample, _)| answer(&viewer, sample)).collect::<Result<_>>().map(Some)
}

fn answer(viewer: &Viewer, sample: &Sample) -> Result<Answer> {
    let subject = viewer.see(&sample.picture).map_err(|cause| Error::file(&sample.name, cause))?;
    let cam = gradcam(&viewer.model.network, &subject.input, None, None)?;
    let map = cam.heat.over(&enlarged(&subject.picture)?, Colours::Rainbow, 0.45)?;
    let (class, probability, layer) = (viewer.class(cam.class), cam.probability, cam.layer);
    Ok(Answer { class, probability, layer, map: data_url(&map) })
}

/// A picture with a shorter side of [`SIDE`] pixels.
fn enlarged(picture: &Picture) -> Result<Picture> {
    let short = picture.width.min(picture.height);
    let scaled = |side: usize| (side * SIDE / short).max(1);
    picture.resized(scaled(picture.width), scaled(picture.height), Filter::Bicubic)
}
