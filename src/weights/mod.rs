//! Weight files: safetensors with torchvision's names, and with what is needed to predict beside
//! the tensors.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::models::{Config, Model, Stem};
use crate::nn::{Layer, Network, Params};
use crate::{Error, Result, files};

/// The one key in a safetensors header that holds our [`Metadata`] as JSON. One key, because several
/// would be written in random order and the same weights would give different files.
const KEY: &str = "convzoo";

/// What a weight file says about itself: enough to predict with the file alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// The architecture's name in the registry.
    pub architecture: String,
    /// Names of the classes, in the order of the logits.
    pub classes: Vec<String>,
    /// Channels, height and width of the input.
    pub input: (usize, usize, usize),
    /// How a ResNet begins.
    #[serde(default, skip_serializing_if = "Stem::is_paper")]
    pub stem: Stem,
    /// How a picture becomes an input: the evaluation pipeline.
    pub preprocessing: serde_json::Value,
    /// The data set trained on.
    pub dataset: String,
    /// Photographs, digits, drawn ...
    pub data_kind: String,
    /// Top-1 on the validation pictures, where it is known.
    #[serde(default)]
    pub val_top1: Option<f64>,
}

/// The tensors of a file, and what it says about itself.
#[derive(Clone, Debug)]
pub struct WeightFile {
    /// Where it came from.
    pub path: PathBuf,
    /// Missing in files that other programs wrote.
    pub metadata: Option<Metadata>,
    /// By name.
    pub tensors: BTreeMap<String, Tensor>,
}

/// What [`WeightFile::apply`] did, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Tensors taken over.
    pub loaded: usize,
    /// Layers whose last layer has another size and so begins anew.
    pub replaced: Vec<String>,
    /// Auxiliary heads that one side has and the other has not.
    pub auxiliary: Vec<String>,
}

/// Writes all tensors of a network and `metadata` to a safetensors file, whole or not at all.
///
/// # Errors
/// Names the file that could not be written.
pub fn save(path: &Path, params: &Params, metadata: &Metadata) -> Result<()> {
    let json = serde_json::to_string(metadata).map_err(|error| Error::file(path, error))?;
    let header = HashMap::from([(KEY.to_owned(), json)]);
    let tensors = params
        .entries()
        .iter()
        .map(|e| Ok((e.spec.name.as_str(), e.var.as_detached_tensor().to_device(&Device::Cpu)?)))
        .collect::<Result<Vec<_>>>()?;
    let bytes = safetensors::serialize(tensors.iter().map(|(name, t)| (name, t)), Some(header))
        .map_err(|error| Error::file(path, error))?;
    files::write_bytes(path, &bytes)
}

/// Reads a safetensors file onto `device`.
///
/// # Errors
/// Names the file, and what is wrong with it.
pub fn load(path: &Path, device: &Device) -> Result<WeightFile> {
    let bytes = std::fs::read(path).map_err(|error| Error::file(path, error))?;
    let broken = |error: &dyn std::fmt::Display| {
        Error::file(path, format!("is no safetensors file that can be read: {error}"))
    };
    let (_, header) =
        safetensors::SafeTensors::read_metadata(&bytes).map_err(|error| broken(&error))?;
    let json = header.metadata().as_ref().and_then(|map| map.get(KEY));
    let metadata = json
        .map(|json| serde_json::from_str(json))
        .transpose()
        .map_err(|error| Error::file(path, format!("its metadata cannot be read: {error}")))?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, device)
        .map_err(|error| broken(&error))?
        .into_iter()
        .collect();
    Ok(WeightFile { path: path.to_owned(), metadata, tensors })
}

impl WeightFile {
    /// Takes the file's values over into a network of the same architecture.
    ///
    /// A last layer of another size keeps its fresh weights, and auxiliary heads may be missing on
    /// either side; both are reported. Anything else that does not fit is an error, and then nothing
    /// has changed.
    ///
    /// # Errors
    /// One message that lists missing, unexpected and wrongly shaped tensors.
    pub fn apply(&self, network: &Network) -> Result<Applied> {
        let heads = Heads::of(network.layers());
        let mut applied = Applied::default();
        let mut wrong = Vec::new();
        let mut fitting = Vec::new();
        for entry in network.params().entries() {
            let (name, shape) = (entry.spec.name.as_str(), &entry.spec.shape);
            match self.tensors.get(name) {
                Some(tensor) if tensor.dims() == shape => fitting.push((name, tensor)),
                Some(_) if heads.last.iter().any(|layer| inside(layer, name)) => {
                    note(&mut applied.replaced, parent(name));
                }
                Some(tensor) => {
                    wrong.push(format!("{name} is {:?}, needed {shape:?}", tensor.dims()));
                }
                None => match heads.auxiliary.iter().find(|head| inside(head, name)) {
                    Some(head) => note(&mut applied.auxiliary, head),
                    None if name.ends_with("num_batches_tracked") => {} // not in old files
                    None => wrong.push(format!("{name} is missing")),
                },
            }
        }
        for name in self.tensors.keys().filter(|name| network.params().get(name).is_err()) {
            match name.split('.').next() {
                Some(head) if head.starts_with("aux") => note(&mut applied.auxiliary, head),
                _ => wrong.push(format!("{name} is unexpected")),
            }
        }
        if !wrong.is_empty() {
            return Err(Error::file(&self.path, summary(&wrong)));
        }
        applied.loaded = fitting.len();
        network.params().set(fitting)?;
        Ok(applied)
    }
}

/// The layers that depend on the number of classes.
struct Heads {
    /// Full names of the last linear layers, of the net and of its auxiliary heads.
    last: Vec<String>,
    /// Full names of the auxiliary heads.
    auxiliary: Vec<String>,
}

impl Heads {
    fn of(layers: &Layer) -> Self {
        let mut heads = Heads { last: Vec::new(), auxiliary: Vec::new() };
        let mut linear = Vec::new();
        layers.walk("", &mut |path, layer| match layer {
            Layer::Linear { .. } => linear.push(path.to_owned()),
            Layer::AuxHead { .. } => heads.auxiliary.push(path.to_owned()),
            _ => {}
        });
        let last_in = |head: Option<&String>| {
            let belongs = |path: &&String| match head {
                Some(head) => inside(head, path),
                None => !heads.auxiliary.iter().any(|head| inside(head, path)),
            };
            linear.iter().rfind(belongs).cloned()
        };
        heads.last = heads.auxiliary.iter().filter_map(|head| last_in(Some(head))).collect();
        heads.last.extend(last_in(None));
        heads
    }
}

/// Whether `name` lies below `layer` in the tree.
fn inside(layer: &str, name: &str) -> bool {
    name.strip_prefix(layer).is_some_and(|rest| rest.starts_with('.'))
}

/// `fc` of `fc.weight`.
fn parent(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(parent, _)| parent)
}

fn note(names: &mut Vec<String>, name: &str) {
    if !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
    }
}

/// The first few complaints, and how many more there are.
fn summary(wrong: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown = wrong[..wrong.len().min(SHOWN)].join("; ");
    let more = wrong.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("does not fit this architecture: {shown}{more}")
}

impl WeightFile {
    /// What the file says about itself.
    ///
    /// # Errors
    /// Where it says nothing: another program wrote it.
    pub fn metadata(&self) -> Result<&Metadata> {
        self.metadata.as_ref().ok_or_else(|| {
            Error::file(&self.path, "does not say which architecture it is for; convzoo's files do")
        })
    }

    /// The model that the file describes, with its weights, without auxiliary heads.
    ///
    /// # Errors
    /// Where the file does not describe one, or its tensors do not fit it.
    pub fn model(&self, device: &Device) -> Result<Model> {
        let metadata = self.metadata()?;
        let classes = metadata.classes.len();
        let (input, stem) = (metadata.input, metadata.stem);
        let config = Config { classes, input, aux: false, dropout: None, stem };
        let model = Model::new(&metadata.architecture, config, 0, device)?;
        self.apply(&model.network)?;
        Ok(model)
    }
}
