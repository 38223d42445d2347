//! Which of the zoo's networks a set of tensors is for.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::apply::{Heads, is_auxiliary, is_beside, left_over};
use super::names::Renamed;
use super::timm::TimmConfig;
use super::{Metadata, WeightFile, published};
use crate::data::{DataKind, Pipeline, imagenet};
use crate::models::{ARCHITECTURES, Architecture, Config, Stem, find};
use crate::nn::Role;
use crate::{Error, Result};

/// A network that a file's tensors fit, all of them.
#[derive(Clone, Debug)]
pub struct Fit {
    /// The network.
    pub architecture: &'static Architecture,
    /// With how many classes and channels, and which stem.
    pub config: Config,
}

impl Fit {
    /// What such a file would say about itself, as far as that can be guessed: a thousand classes are
    /// ImageNet's, pictures are prepared as for the network's published weights.
    ///
    /// # Errors
    /// A number of channels that no picture has.
    pub fn metadata(&self) -> Result<Metadata> {
        let Config { classes, input, stem, .. } = self.config;
        let name = self.architecture.name;
        let pipeline = match published(name, None) {
            Ok(row) if input.0 == 3 => row.preprocessing()?,
            _ => {
                let (kind, size) = (DataKind::Photographs, input.1);
                Pipeline::eval(kind, size, input.0, &imagenet::MEAN, &imagenet::STD)?
            }
        };
        let pipeline = serde_json::to_value(pipeline);
        Ok(Metadata {
            architecture: name.to_owned(),
            stem,
            classes: match classes {
                1000 => imagenet::classes(),
                _ => (0..classes).map(|class| format!("class {class}")).collect(),
            },
            input,
            preprocessing: pipeline.map_err(|error| Error::Setting(error.to_string()))?,
            dataset: "unknown".to_owned(),
            data_kind: "unknown".to_owned(),
            val_top1: None,
            trained_on: None,
        })
    }
}

impl WeightFile {
    /// The same file with metadata: its own, or guessed from the network its tensors fit, and from
    /// timm's `config.json` where that lies beside it. `model` says which network that must be.
    ///
    /// # Errors
    /// The tensors fit another network, none, or several.
    pub fn described(mut self, model: Option<&str>) -> Result<Self> {
        let misfit = |path: &std::path::Path, found: &str| {
            let wanted = model.unwrap_or_default();
            Err(Error::file(path, format!("is for {found}, not for {wanted}")))
        };
        if let Some(metadata) = &self.metadata {
            metadata.check().map_err(|cause| Error::file(&self.path, cause))?;
            let found = &metadata.architecture;
            return match model.is_none_or(|model| model == found) {
                true => Ok(self),
                false => misfit(&self.path, found),
            };
        }
        let renamed = self.renamed()?;
        let all = fits_of(&renamed);
        let fitting: Vec<_> =
            all.iter().filter(|fit| model.is_none_or(|m| m == fit.architecture.name)).collect();
        let names: Vec<_> = all.iter().map(|fit| fit.architecture.name).collect();
        let fit = match fitting[..] {
            [fit] => fit,
            [] if !all.is_empty() => return misfit(&self.path, &names.join(" or ")),
            [] => {
                let cause = "its tensors fit no network here; convzoo weights inspect shows them";
                return Err(Error::file(&self.path, cause));
            }
            _ => {
                let names = names.join(", ");
                let cause = format!("fits several networks; say which with --model: {names}");
                return Err(Error::file(&self.path, cause));
            }
        };
        let (metadata, remark) = self.metadata_of(fit)?;
        self.take_what_fits(fit, renamed)?;
        self.remarks.extend(remark);
        self.metadata = Some(metadata);
        Ok(self)
    }

    /// Keeps the tensors of the network, and says which others there were.
    fn take_what_fits(&mut self, fit: &Fit, renamed: Renamed) -> Result<()> {
        let layers = fit.architecture.layers(&Config { aux: false, ..fit.config.clone() })?;
        let specs = layers.state_specs();
        let renamed = renamed.with(specs.first().map_or("", |spec| spec.name.as_str()))?;
        let ours = |name: &str| specs.iter().any(|spec| spec.name == name);
        let auxiliary = |name: &str| name.split('.').next().is_some_and(is_auxiliary);
        let (kept, beside): (BTreeMap<_, _>, BTreeMap<_, _>) =
            renamed.tensors.into_iter().partition(|(name, _)| ours(name) || auxiliary(name));
        let beside: Vec<_> = beside.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        self.remarks.extend(left_over(&beside));
        self.tensors = kept;
        Ok(())
    }
}

impl WeightFile {
    /// The networks that the tensors fit: several where they differ only in what has no weights.
    ///
    /// # Errors
    /// Where two tensors would have one name.
    pub fn fits(&self) -> Result<Vec<Fit>> {
        Ok(fits_of(&self.renamed()?))
    }

    /// What of the tensors stands beside those of a network that they fit, in words.
    ///
    /// # Errors
    /// Where two tensors would have one name.
    pub fn left_over(&self, fit: &Fit) -> Result<Option<String>> {
        let mut file = self.clone();
        let before = file.remarks.len();
        file.take_what_fits(fit, self.renamed()?)?;
        Ok(file.remarks.split_off(before).pop())
    }

    /// What of the metadata does not fit the tensors, if anything: why nothing can be measured with
    /// them.
    pub fn problem(&self) -> Option<String> {
        let metadata = self.metadata.as_ref()?;
        let config = metadata.config();
        let layers = find(&metadata.architecture).and_then(|found| found.layers(&config));
        let problem = match layers {
            Ok(layers) => self.check_fit(&layers).err()?,
            Err(error) => error,
        };
        Some(match problem {
            Error::File { cause, .. } => cause,
            other => other.to_string(),
        })
    }

    /// Where another program wrote the file: how it prepares pictures, as far as that is known.
    fn metadata_of(&self, fit: &Fit) -> Result<(Metadata, Option<String>)> {
        let metadata = fit.metadata()?;
        let Some(timm) = TimmConfig::beside(&self.path)? else { return Ok((metadata, None)) };
        if timm.architecture != metadata.architecture {
            let other = timm.architecture;
            let remark = format!("config.json beside the weights is for {other}, and is not used");
            return Ok((metadata, Some(remark)));
        }
        let pipeline = timm.preprocessing().map_err(|error| Error::file(&self.path, error))?;
        let pipeline = serde_json::to_value(pipeline);
        let preprocessing = pipeline.map_err(|error| Error::file(&self.path, error))?;
        Ok((Metadata { input: timm.input(), preprocessing, ..metadata }, None))
    }
}

/// The networks that `tensors`, by torchvision's names, fit: several where they differ only in what
/// has no weights.
pub fn fits(tensors: &BTreeMap<String, Tensor>) -> Vec<Fit> {
    fits_of(&Renamed::as_they_are(tensors))
}

/// [`fits`], with tensors that stood outside the wrapper of the others.
pub(super) fn fits_of(renamed: &Renamed) -> Vec<Fit> {
    ARCHITECTURES.iter().filter_map(|architecture| fit(architecture, renamed)).collect()
}

fn fit(architecture: &'static Architecture, renamed: &Renamed) -> Option<Fit> {
    let plain = Config { aux: false, ..architecture.config() };
    let layers = architecture.layers(&plain).ok()?;
    let renamed = &renamed.clone().with(&layers.state_specs().first()?.name).ok()?;
    let tensors = &renamed.tensors;
    let size = |layer: &str, axis: usize| {
        tensors.get(&format!("{layer}.weight"))?.dims().get(axis).copied()
    };
    let first = layers.state_specs().into_iter().find(|spec| spec.role == Role::Weight)?;
    let first = first.name.strip_suffix(".weight")?.to_owned();
    let small_window = size(&first, 2)? == 3;
    let stem = match architecture.takes_stems() && small_window {
        true => Stem::Cifar,
        false => Stem::Paper,
    };
    let classes = size(Heads::of(&layers).last.last()?, 0)?;
    let (_, height, width) = plain.input;
    let config = Config { classes, stem, input: (size(&first, 1)?, height, width), ..plain };
    let specs = architecture.layers(&config).ok()?.state_specs();
    let fits = specs.iter().all(|spec| match tensors.get(&spec.name) {
        Some(tensor) => tensor.dims() == spec.shape,
        None => spec.role == Role::BatchesTracked,
    });
    let known = |name: &str| {
        name.split('.').next().is_some_and(is_auxiliary) || specs.iter().any(|s| s.name == name)
    };
    let all = tensors.iter().all(|(name, t)| known(name) || is_beside(name, t, renamed));
    (fits && all).then_some(Fit { architecture, config })
}
