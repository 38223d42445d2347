//! Weight files: safetensors and PyTorch's own, in; safetensors with torchvision's names, and with
//! what is needed to predict beside the tensors, out.
//!
//! A file is known by its content, not by its name. Reading one runs no code of it and takes no more
//! memory than its size justifies.

mod apply;
mod fit;
mod manifest;
mod mapped;
mod names;
mod pickle;
mod pth;
mod published;
mod source;
mod timm;
mod trained_on;
mod zip;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use ::safetensors::{Dtype, SafeTensors};
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::models::{Config, Model, Stem};
use crate::nn::{Entry, Params};
use crate::{Error, Result, files};
use mapped::Mapped;

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
/// # Errors
/// Names the file, and what is wrong with it.
pub fn load(path: &Path, device: &Device) -> Result<WeightFile> {
    let bytes = Mapped::open(path)?;
    let mut file = parse(path, &bytes)?;
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
    let pytorch = |format, tensors: pickle::Outcome<_>| {
        let refused =
            |cause| Error::file(path, format!("cannot be read as PyTorch weights: {cause}"));
        let tensors = tensors.map_err(refused)?;
        let (path, notes) = (path.to_owned(), BTreeMap::new());
        Ok(WeightFile { path, format, metadata: None, notes, tensors })
    };
    // First: the length that such a file begins with may look like the beginning of the others.
    if is_safetensors(bytes) {
        return safetensors_file(path, bytes);
    }
    if pth::is_zip(bytes) {
        return pytorch(Format::PytorchZip, pth::read_zip(bytes));
    }
    if pth::is_pickle(bytes) {
        return pytorch(Format::PytorchLegacy, pth::read_legacy(bytes));
    }
    safetensors_file(path, bytes)
}

/// Whether `bytes` begin with the length of a JSON object, and that object.
fn is_safetensors(bytes: &[u8]) -> bool {
    let length = bytes.first_chunk().map(|chunk| u64::from_le_bytes(*chunk));
    bytes.get(8) == Some(&b'{') && length.is_some_and(|length| length < bytes.len() as u64)
}

fn safetensors_file(path: &Path, bytes: &[u8]) -> Result<WeightFile> {
    let broken = |error: &dyn std::fmt::Display| {
        Error::file(
            path,
            format!("is no safetensors file that can be read: {error}{}", hint(bytes)),
        )
    };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| broken(&error))?;
    let mut notes: BTreeMap<_, _> =
        header.metadata().clone().unwrap_or_default().into_iter().collect();
    let metadata = notes.remove(KEY).map(|json| serde_json::from_str(&json)).transpose();
    let metadata = metadata
        .map_err(|error| Error::file(path, format!("its metadata cannot be read: {error}")))?;
    let parsed = SafeTensors::deserialize(bytes).map_err(|error| broken(&error))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in parsed.iter() {
        let dtype = dtype(view.dtype()).ok_or_else(|| {
            Error::file(path, format!("tensor {name} is of type {:?}, unknown here", view.dtype()))
        })?;
        let tensor = Tensor::from_raw_buffer(view.data(), dtype, view.shape(), &Device::Cpu)?;
        tensors.insert(name.to_owned(), tensor);
    }
    let (path, format) = (path.to_owned(), Format::Safetensors);
    Ok(WeightFile { path, format, metadata, notes, tensors })
}

fn dtype(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::BOOL | Dtype::U8 => DType::U8,
        Dtype::U32 => DType::U32,
        Dtype::I16 => DType::I16,
        Dtype::I32 => DType::I32,
        Dtype::I64 => DType::I64,
        Dtype::BF16 => DType::BF16,
        Dtype::F16 => DType::F16,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        _ => return None,
    })
}

/// What a file may be that is no weight file.
fn hint(bytes: &[u8]) -> &'static str {
    if bytes.starts_with(b"version https://git-lfs") {
        "; it is a Git LFS pointer, fetch the file itself"
    } else if bytes.starts_with(b"<") {
        "; it is a web page, as a failed download leaves it"
    } else {
        ""
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
            None => Ok(Cow::Owned(torchvision(&self.tensors)?)),
        }
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
