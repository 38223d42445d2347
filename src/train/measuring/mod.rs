//! What weights are measured on, and how images are prepared for them: all images that are asked for,
//! and whatever is assumed is said.

mod images;
mod prepared;

use std::sync::Arc;

use candle_core::Device;

use crate::data::{
    DataKind, DataRequest, Normalise, Part, Pipeline, Relabelled, Source, are_synsets,
    looks_inverted, matched,
};
use crate::models::Model;
use crate::weights::{Overlap, TrainedOn, WeightFile};
use crate::{Error, Result};
use images::Images;

/// Names of a list that a message shows.
const SHOWN: usize = 20;

/// Images that are looked at to see whether they are inverted.
const LOOKED_AT: usize = 20;

/// What is to be measured, as far as neither the weights nor the images say it.
///
/// ```no_run
/// use candle_core::Device;
/// use convzoo::data::{DataRequest, Loader, LoaderOptions};
/// use convzoo::train::{MeasureRequest, Views, assess};
/// use convzoo::weights;
///
/// # fn main() -> convzoo::Result<()> {
/// let file = weights::load("resnet18.safetensors".as_ref(), &Device::Cpu)?;
/// let data = DataRequest { data_dir: Some("photographs".into()), ..DataRequest::new("folder") };
/// let found = MeasureRequest::new(data).open(file, None, &Device::Cpu)?;
/// found.notes.iter().chain(&found.warnings).for_each(|said| println!("{said}"));
/// for part in &found.parts {
///     let options = LoaderOptions::default();
///     let loader = Loader::new(part.source.clone(), found.pipeline.clone(), options)?;
///     let (_, assessment) = assess(&found.model, &loader, &Device::Cpu, Views::One)?;
///     println!("{}: {:.2} % of {}", part.what, 100.0 * assessment.top1, assessment.images);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct MeasureRequest {
    /// The images.
    pub data: DataRequest,
    /// Which part of them; what suits, if `None`.
    pub part: Option<Part>,
    /// What the weights were trained on, where the file does not say it.
    pub trained_on: Option<TrainedOn>,
    /// The names of the classes, by logit, for weights that do not know them.
    pub classes: Option<Vec<String>>,
    /// What weights of other programs were trained with.
    pub normalise: Option<Normalise>,
    /// Side of the input in pixels, where it is another than the weights or the images have.
    pub image_size: Option<usize>,
    /// Whether images are inverted first.
    pub invert: bool,
}

/// A network and images, ready to be measured.
#[derive(Clone)]
pub struct Measuring {
    /// The network with its weights.
    pub model: Model,
    /// What is done to an image.
    pub pipeline: Pipeline,
    /// The names of the network's classes, by logit.
    pub classes: Vec<String>,
    /// Whether the order of the classes is a guess.
    pub order_assumed: bool,
    /// The data set's name.
    pub dataset: String,
    /// What kind of images it has.
    pub kind: DataKind,
    /// Where it came from.
    pub origin: String,
    /// What is measured, in parts.
    pub parts: Vec<MeasuredPart>,
    /// What is to be said about images and weights.
    pub notes: Vec<String>,
    /// What makes the numbers say less than they seem to.
    pub warnings: Vec<String>,
}

/// Images that one set of numbers is for.
#[derive(Clone)]
pub struct MeasuredPart {
    /// Which part it is.
    pub part: Part,
    /// The same for people, as in `all images of DIR`.
    pub what: String,
    /// The images, with the network's labels.
    pub source: Arc<dyn Source>,
    /// How many of them were trained on; `None` where that is not known.
    pub overlap: Option<Overlap>,
}

/// Where a network's classes are among those of some images.
struct Labels {
    /// The names of the network's classes.
    names: Vec<String>,
    /// The network's label for each class of the images.
    of_images: Vec<u32>,
    /// What had to be assumed.
    assumed: Option<String>,
}

impl MeasureRequest {
    /// All that is usual, for these images.
    pub fn new(data: DataRequest) -> Self {
        MeasureRequest {
            data,
            part: None,
            trained_on: None,
            classes: None,
            normalise: None,
            image_size: None,
            invert: false,
        }
    }

    /// Opens images and network; `model` says which network a file is for that does not say it itself.
    ///
    /// # Errors
    /// Weights or images that cannot be had, classes that the network does not have, or a request that
    /// does not go with weights that know the answer themselves.
    pub fn open(
        &self,
        file: WeightFile,
        model: Option<&str>,
        device: &Device,
    ) -> Result<Measuring> {
        let foreign = is_foreign(&file);
        let mut file = file.described(model)?;
        self.check(&file, foreign)?;
        let about = file.metadata()?.trained_on.clone().or_else(|| self.trained_on.clone());
        let images = Images::open(&self.data, self.part, about.as_ref())?;
        let labels = self.labels(&file, foreign, &images)?;
        let pipeline = self.pipeline(&mut file, foreign, &images)?;
        let mut notes = [&file.remarks[..], &images.notes].concat();
        notes.extend(labels.assumed.clone());
        let mut found = Measuring {
            model: file.model(device)?,
            pipeline: if self.invert { pipeline.inverted()? } else { pipeline },
            classes: labels.names,
            order_assumed: labels.assumed.is_some(),
            dataset: images.name.clone(),
            kind: images.kind,
            origin: images.origin.clone(),
            parts: Vec::new(),
            notes,
            warnings: Vec::new(),
        };
        found.parts = images.parts(&labels.of_images, about.as_ref());
        found.look_for_known_images(&images, about.as_ref());
        found.look_for_inverted_images();
        Ok(found)
    }

    /// Refuses what the weight file says itself.
    fn check(&self, file: &WeightFile, foreign: bool) -> Result<()> {
        let refused = |flag: &str, what: &str| {
            let cause = format!("says itself {what}; {flag} is for weights of other programs");
            Err(Error::file(&file.path, cause))
        };
        match foreign {
            false if self.classes.is_some() => refused("--classes", "which classes it has"),
            false if self.normalise.is_some() => refused("--normalise", "how images are prepared"),
            _ => Ok(()),
        }
    }

    /// The network's classes, by name where the names are known.
    fn labels(&self, file: &WeightFile, foreign: bool, images: &Images) -> Result<Labels> {
        let metadata = file.metadata()?;
        let count = metadata.classes.len();
        let guessed = foreign && self.classes.is_none();
        let names = match &self.classes {
            Some(names) if names.len() != count => {
                return Err(Error::Setting(format!(
                    "--classes: {} names for a network of {count} classes",
                    names.len()
                )));
            }
            Some(names) => names,
            None => &metadata.classes,
        };
        if are_synsets(&images.classes) && !are_synsets(names) {
            return in_order(
                file,
                names.clone(),
                images,
                "n01440764 and the like have no names here",
            );
        }
        // A thousand classes are ImageNet's; those of other networks without names are numbers.
        if guessed && count != 1000 {
            return in_order(
                file,
                images.classes.clone(),
                images,
                "the file does not name its classes",
            );
        }
        let of_images = matched(&images.classes, names)
            .map_err(|strangers| unknown(file, names, images, &strangers))?;
        let assumed =
            guessed.then_some("the file does not name its 1000 classes: ImageNet's are assumed");
        Ok(Labels { names: names.clone(), of_images, assumed: assumed.map(str::to_owned) })
    }
}

/// Whether another program wrote the weights, so that classes and preprocessing are guesses.
fn is_foreign(file: &WeightFile) -> bool {
    file.metadata.as_ref().is_none_or(|metadata| metadata.dataset == "unknown")
}

/// The images' own order of classes, where there are as many as the network has.
fn in_order(file: &WeightFile, names: Vec<String>, images: &Images, why: &str) -> Result<Labels> {
    let (count, found) = (file.metadata()?.classes.len(), images.classes.len());
    if count != found {
        let cause = format!(
            "{why}, and the {found} classes of {} ({}) are not all {count}; name the folders as the \
             network's classes are, and say those with --classes FILE where the weights do not",
            images.origin,
            listed(&images.classes)
        );
        return Err(Error::file(&file.path, cause));
    }
    let assumed = format!(
        "{why}: the order {} of the images is assumed to be the network's (--classes FILE gives \
         another)",
        listed(&images.classes)
    );
    let of_images = (0..count as u32).collect();
    Ok(Labels { names, of_images, assumed: Some(assumed) })
}

/// Says which classes the network does not have.
fn unknown(file: &WeightFile, names: &[String], images: &Images, strangers: &[String]) -> Error {
    let cause = format!(
        "knows no class {}, which {} has; its {} classes are {}; rename the folders, or leave these out",
        listed(strangers),
        images.origin,
        names.len(),
        listed(names)
    );
    Error::file(&file.path, cause)
}

/// The first names of a list, and how many more there are.
fn listed(names: &[String]) -> String {
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

impl Measuring {
    /// Warns of images that the network was trained on.
    fn look_for_known_images(&mut self, images: &Images, about: Option<&TrainedOn>) {
        for part in &self.parts {
            let Some(Overlap { trained_on, images, exact }) = part.overlap else { continue };
            if trained_on == 0 {
                continue;
            }
            let about = if exact { "" } else { "about " };
            self.warnings.push(format!(
                "{about}{trained_on} of the {images} images measured ({}) were trained on, by their names \
                 and sizes: the accuracy flatters",
                part.part
            ));
        }
        let unknown = self.parts.iter().any(|part| part.overlap.is_none());
        if unknown && about.is_some_and(|about| about.dataset == images.name) {
            self.warnings.push(
                "these are not the images of the run as they were, and the weights do not record which \
                 ones they were trained on: some may be among them"
                    .to_owned(),
            );
        } else if unknown {
            self.notes.push(
                "the weights do not record which images they were trained on: whether some are among \
                 these is not known"
                    .to_owned(),
            );
        }
    }

    /// Says where most of the first images look like the negatives of what was trained on.
    fn look_for_inverted_images(&mut self) {
        let all = self.parts.iter().flat_map(|part| {
            let step = part.source.len().div_ceil(LOOKED_AT).max(1);
            (0..part.source.len()).step_by(step).map(|index| part.source.picture(index))
        });
        let looks: Vec<bool> =
            all.flatten().map(|image| looks_inverted(&image, &self.pipeline)).collect();
        let inverted = looks.iter().filter(|inverted| **inverted).count();
        if 2 * inverted > looks.len() {
            self.warnings.push(
                "most images look dark on light, and the network was trained on light on dark: \
                 --invert turns them round"
                    .to_owned(),
            );
        }
    }
}

/// The same images, with the network's labels.
fn relabelled(source: Arc<dyn Source>, labels: &[u32]) -> Arc<dyn Source> {
    let same = (0u32..).zip(labels).all(|(own, label)| own == *label);
    match same {
        true => source,
        false => Arc::new(Relabelled::new(source, labels.to_vec())),
    }
}
