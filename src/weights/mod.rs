//! Weight files: safetensors and PyTorch's own, in; safetensors with torchvision's names, and with
//! what is needed to predict beside the tensors, out.
//!
//! A file is known by its content, not by its name. Reading one runs no code of it and takes no more
//! memory than its size justifies.

mod apply;
mod bytes;
mod check;
mod fit;
mod folder;
mod foreign;
mod header;
mod manifest;
mod names;
mod pickle;
mod pth;
mod published;
mod shards;
mod source;
mod state_dict;
mod timm;
mod trained_on;
mod zip;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::models::{Config, Model, Stem, find};
use crate::nn::{Entry, Params};
use crate::{Error, Result, files};
use bytes::Bytes;
use header::Header;
use names::Renamed;
use zip::Archive;

pub use apply::Applied;
pub(crate) use apply::{Heads, inside};
pub use fit::{Fit, fits};
pub use manifest::{Manifest, ManifestEntry, Measured, fingerprint, portable_command};
pub use names::torchvision;
pub use published::{PUBLISHED, Published, TORCHVISION, published};
pub use source::{WeightSource, fetch_from_hub, fetch_published};
pub use trained_on::{Overlap, Sketch, TrainedOn};

/// The one key in a safetensors header that holds our [`Metadata`] as JSON. One key, because several
/// would be written in random order and the same weights would give different files.
const KEY: &str = "convzoo";

/// What a weight file says about itself: enough to predict with the file alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// The architecture's name in the registry.
    pub architecture: String,
    /// How a ResNet begins.
    #[serde(default, skip_serializing_if = "Stem::is_paper")]
    pub stem: Stem,
    /// Names of the classes, in the order of the logits.
    pub classes: Vec<String>,
    /// Channels, height and width of the input.
    pub input: (usize, usize, usize),
    /// How a picture becomes an input: the evaluation pipeline.
    pub preprocessing: serde_json::Value,
    /// The data set trained on.
    pub dataset: String,
    /// Photographs, digits, drawn ...
    pub data_kind: String,
    /// Top-1 on the validation pictures, where it is known.
    #[serde(default)]
    pub val_top1: Option<f64>,
    /// The images trained on, where that was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained_on: Option<TrainedOn>,
}

/// The formats that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// A header in JSON, then raw numbers.
    Safetensors,
    /// What `torch.save` writes.
    PytorchZip,
    /// What `torch.save` wrote before PyTorch 1.6.
    PytorchLegacy,
}

/// The tensors of a file, and what it says about itself.
#[derive(Clone, Debug)]
pub struct WeightFile {
    /// Where it came from.
    pub path: PathBuf,
    /// What kind of file it is.
    pub format: Format,
    /// Missing in files that other programs wrote.
    pub metadata: Option<Metadata>,
    /// What a safetensors header says besides, in files that other programs wrote.
    pub notes: BTreeMap<String, String>,
    /// What is to be said where its weights are used: which of several were taken, what was left over.
    pub remarks: Vec<String>,
    /// By the names they have in the file.
    pub tensors: BTreeMap<String, Tensor>,
}

/// The type that numbers have in a weight file; all are read everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SaveType {
    /// 32 bits, as they are trained.
    #[default]
    F32,
    /// 16 bits, 11 of them significant.
    F16,
    /// 16 bits, 8 of them significant, with the range of 32.
    Bf16,
}

impl SaveType {
    /// Whether it is what files have by default.
    pub(crate) fn is_default(&self) -> bool {
        *self == SaveType::F32
    }

    /// A tensor as it is saved; whole numbers stay as they are.
    fn of(self, name: &str, tensor: &Tensor) -> Result<Tensor> {
        Ok(match (self, tensor.dtype().is_float()) {
            (SaveType::F16, true) => {
                let most = tensor.abs()?.max_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
                if most > 65504.0 {
                    let message = format!("{name} has {most}, too large for f16; save it as bf16");
                    return Err(Error::Setting(message));
                }
                tensor.to_dtype(DType::F16)?
            }
            (SaveType::Bf16, true) => tensor.to_dtype(DType::BF16)?,
            _ => tensor.clone(),
        })
    }
}

/// Writes all tensors of a network and `metadata` to a safetensors file, whole or not at all.
///
/// # Errors
/// Names the file that could not be written.
pub fn save(path: &Path, params: &Params, metadata: &Metadata) -> Result<()> {
    save_as(path, params, metadata, SaveType::F32)
}

/// [`save`] with numbers of this type; a tensor that is no f32 keeps its own with [`SaveType::F32`].
///
/// # Errors
/// Names the file that could not be written.
pub fn save_as(path: &Path, params: &Params, metadata: &Metadata, to: SaveType) -> Result<()> {
    let tensor = |entry: &Entry| -> Result<Tensor> {
        to.of(&entry.spec.name, &entry.var.as_detached_tensor().to_device(&Device::Cpu)?)
    };
    let entries = params.entries().iter();
    let tensors = entries
        .map(|entry| Ok((entry.spec.name.as_str(), tensor(entry)?)))
        .collect::<Result<Vec<_>>>()?;
    write(path, tensors.iter().map(|(name, tensor)| (*name, tensor)), Some(metadata))
}

/// Writes tensors on the CPU, and `metadata` where there is any, to a safetensors file, whole or not
/// at all.
///
/// # Errors
/// Names the file that could not be written.
pub fn write<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
    metadata: Option<&Metadata>,
) -> Result<()> {
    let json = metadata.map(serde_json::to_string).transpose();
    let json = json.map_err(|error| Error::file(path, error))?;
    let header = json.map(|json| HashMap::from([(KEY.to_owned(), json)]));
    let bytes =
        ::safetensors::serialize(tensors, header).map_err(|error| Error::file(path, error))?;
    files::write_bytes(path, &bytes)
}

/// Reads a safetensors file, or one that `torch.save` has written, onto `device`.
///
/// A run's folder stands for its best weights. `FILE#KEY` takes what a checkpoint keeps under that key;
/// `FILE#ema` any average.
///
/// # Errors
/// Names the file, and what is wrong with it.
pub fn load(path: &Path, device: &Device) -> Result<WeightFile> {
    let (path, key) = folder::with_key(path);
    let (path, remark) = folder::weights_in(&path)?;
    let mut file = open(&path, key.as_deref())?;
    file.remarks.splice(0..0, remark);
    if !device.is_cpu() {
        for tensor in file.tensors.values_mut() {
            *tensor = tensor.to_device(device)?;
        }
    }
    Ok(file)
}

/// [`load`] from bytes, onto the CPU; `path` is only a name for messages.
///
/// # Errors
/// Names the file, and what is wrong with it.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<WeightFile> {
    read(path, &Bytes::Memory(bytes), None)
}

/// The weights in a file, or in those that an index lists.
fn open(path: &Path, key: Option<&str>) -> Result<WeightFile> {
    let bytes = Bytes::open(path)?;
    let head = bytes.head(4096).map_err(|cause| Error::file(path, cause))?;
    match shards::is_index(&head) {
        true => shards::read(path),
        false => read(path, &bytes, key),
    }
}

fn read(path: &Path, bytes: &Bytes, key: Option<&str>) -> Result<WeightFile> {
    let head = bytes.head(4096).map_err(|cause| Error::file(path, cause))?;
    let refused = |cause| Error::file(path, format!("cannot be read as PyTorch weights: {cause}"));
    let mut file = if bytes.len() == 0 {
        return Err(Error::file(path, "is empty; it may be what a failed download left"));
    } else if header::is_safetensors(&head, bytes.len()) {
        // First: the length that such a file begins with may look like the beginning of the others.
        safetensors_file(path, bytes, key)?
    } else if pth::is_zip(&head) {
        let archive = Archive::open(bytes).map_err(refused)?;
        if pth::program(&archive).is_none() {
            return Err(Error::file(path, foreign::zip_explained(&archive)));
        }
        let found = pth::read_zip(&archive, bytes, key).map_err(refused)?;
        pytorch_file(path, Format::PytorchZip, found)
    } else if pth::is_pickle(&head) {
        let found = pth::read_legacy(bytes, key).map_err(refused)?;
        pytorch_file(path, Format::PytorchLegacy, found)
    } else {
        return Err(Error::file(path, foreign::explained(path, bytes)));
    };
    let wide = file.tensors.values().filter(|tensor| tensor.dtype() == DType::F64).count();
    if wide > 0 {
        file.remarks.push(format!("{wide} of its tensors have 64 bits; 32 of them are used"));
    }
    Ok(file)
}

fn pytorch_file(path: &Path, format: Format, found: pth::Found) -> WeightFile {
    let (path, notes) = (path.to_owned(), BTreeMap::new());
    let pth::Found { tensors, remarks } = found;
    WeightFile { path, format, metadata: None, notes, remarks, tensors }
}

fn safetensors_file(path: &Path, bytes: &Bytes, key: Option<&str>) -> Result<WeightFile> {
    let broken = |cause: String| {
        Error::file(path, format!("is not a safetensors file that can be read: {cause}"))
    };
    if let Some(key) = key {
        let cause =
            format!("is a safetensors file, which has one set of weights and none under {key:?}");
        return Err(Error::file(path, cause));
    }
    let Header { mut notes, tensors: places } = Header::read(bytes).map_err(broken)?;
    let metadata = notes.remove(KEY).map(|json| serde_json::from_str(&json)).transpose();
    let metadata: Option<Metadata> = metadata
        .map_err(|error| Error::file(path, format!("its metadata cannot be read: {error}")))?;
    let mut tensors = BTreeMap::new();
    for place in places {
        let tensor = bytes.tensor(place.start, place.dtype, &place.shape);
        let tensor = tensor.map_err(|cause| broken(format!("tensor {}: {cause}", place.name)))?;
        tensors.insert(place.name, tensor);
    }
    let (path, format) = (path.to_owned(), Format::Safetensors);
    let remarks = metadata.as_ref().and_then(Metadata::remark).into_iter().collect();
    Ok(WeightFile { path, format, metadata, notes, remarks, tensors })
}

impl Metadata {
    /// How the network is built that such a file is for, without auxiliary heads.
    fn config(&self) -> Config {
        let (classes, input, stem) = (self.classes.len(), self.input, self.stem);
        Config { classes, input, aux: false, dropout: None, stem }
    }
}

impl WeightFile {
    /// The tensors under torchvision's names: see [`torchvision`].
    ///
    /// # Errors
    /// Where two tensors would have one name.
    pub fn torchvision(&self) -> Result<Cow<'_, BTreeMap<String, Tensor>>> {
        match self.metadata {
            Some(_) => Ok(Cow::Borrowed(&self.tensors)),
            None => Ok(Cow::Owned(self.renamed()?.tensors)),
        }
    }

    /// The tensors under torchvision's names, and which of them stood outside.
    fn renamed(&self) -> Result<Renamed> {
        match self.metadata {
            Some(_) => Ok(Renamed::as_they_are(&self.tensors)),
            None => Renamed::of(&self.tensors),
        }
        .map_err(|error| Error::file(&self.path, error))
    }

    /// What the file says about itself.
    ///
    /// # Errors
    /// Where it says nothing: another program wrote it.
    pub fn metadata(&self) -> Result<&Metadata> {
        self.metadata.as_ref().ok_or_else(|| {
            let cause = "does not say which architecture it is for; convzoo's files do, and \
                         --model NAME says it for others";
            Error::file(&self.path, cause)
        })
    }

    /// The model that the file describes, with its weights, without auxiliary heads. Every tensor of it
    /// is the file's: none begins anew.
    ///
    /// # Errors
    /// Where the file does not describe one, its tensors do not fit it, or are not finite.
    pub fn model(&self, device: &Device) -> Result<Model> {
        let metadata = self.metadata()?;
        let config = metadata.config();
        metadata.check().map_err(|cause| Error::file(&self.path, cause))?;
        // Before it is built: no larger network than the file has numbers for.
        self.check_fit(&find(&metadata.architecture)?.layers(&config)?)?;
        let model = Model::new(&metadata.architecture, config, 0, device)?;
        self.apply(&model.network)?;
        Ok(model)
    }
}
