//! Which of the zoo's networks a set of tensors is for.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::apply::{Heads, is_auxiliary};
use super::timm::TimmConfig;
use super::{Metadata, WeightFile, published};
use crate::data::{DataKind, Pipeline, imagenet};
use crate::models::{ARCHITECTURES, Architecture, Config, Stem};
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
            let found = &metadata.architecture;
            return match model.is_none_or(|model| model == found) {
                true => Ok(self),
                false => misfit(&self.path, found),
            };
        }
        let tensors = self.torchvision()?.into_owned();
        let all = fits(&tensors);
        let fitting: Vec<_> =
            all.iter().filter(|fit| model.is_none_or(|m| m == fit.architecture.name)).collect();
        let names: Vec<_> = all.iter().map(|fit| fit.architecture.name).collect();
        match fitting[..] {
            [fit] => self.metadata = Some(self.metadata_of(fit)?),
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
        }
        self.tensors = tensors;
        Ok(self)
    }
}

impl WeightFile {
    /// Where another program wrote the file: how it prepares pictures, as far as that is known.
    fn metadata_of(&self, fit: &Fit) -> Result<Metadata> {
        let metadata = fit.metadata()?;
        let timm = TimmConfig::beside(&self.path);
        let Some(timm) = timm.filter(|timm| timm.architecture == metadata.architecture) else {
            return Ok(metadata);
        };
        let pipeline = timm.preprocessing().map_err(|error| Error::file(&self.path, error))?;
        let pipeline = serde_json::to_value(pipeline);
        let preprocessing = pipeline.map_err(|error| Error::file(&self.path, error))?;
        Ok(Metadata { input: timm.input(), preprocessing, ..metadata })
    }
}

/// The networks that `tensors`, by torchvision's names, fit: several where they differ only in what
/// has no weights.
pub fn fits(tensors: &BTreeMap<String, Tensor>) -> Vec<Fit> {
    ARCHITECTURES.iter().filter_map(|architecture| fit(architecture, tensors)).collect()
}

fn fit(architecture: &'static Architecture, tensors: &BTreeMap<String, Tensor>) -> Option<Fit> {
    let plain = Config { aux: false, ..architecture.config() };
    let layers = architecture.layers(&plain).ok()?;
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
    (fits && tensors.keys().all(|name| known(name))).then_some(Fit { architecture, config })
}
