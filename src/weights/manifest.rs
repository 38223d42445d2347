//! A folder of trained weights with a list of what they are: `manifest.json`.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{WeightFile, load, write};
use crate::files::plain::is_plain;
use crate::files::regular;
use crate::models;
use crate::{Error, Result, files};

/// The list's name in its folder.
const NAME: &str = "manifest.json";

/// The weight files of a folder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// By their names.
    pub files: Vec<ManifestEntry>,
}

/// One weight file, and how it came about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManifestEntry {
    /// Its name in the folder.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
    /// The architecture's name in the registry.
    pub architecture: String,
    /// Trainable values, without auxiliary heads.
    pub params: usize,
    /// The type of its weights: `f32`, `f16`.
    pub dtype: String,
    /// The data set that it was trained on.
    pub dataset: String,
    /// Photographs, digits, drawn ...
    pub data_kind: String,
    /// Changes when the data does.
    pub data_identity: String,
    /// What this very file gets right of the validation pictures.
    pub val: Measured,
    /// And of the test pictures, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Measured>,
    /// The command that trained it; DIR is the folder of the data.
    pub command: String,
    /// Passes over the training pictures.
    pub epochs: usize,
    /// When it was trained, in UTC.
    pub date: String,
    /// What it was trained on.
    pub machine: String,
    /// The convzoo that trained it.
    pub version: String,
}

/// An accuracy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Share of pictures whose class came first.
    pub top1: f64,
    /// How many pictures.
    pub images: u64,
}

impl Manifest {
    /// The list of a folder; an empty one where there is none yet.
    ///
    /// # Errors
    /// Where it cannot be read, or an entry makes no sense: a file that is not in the folder, an accuracy
    /// that is not a share.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(NAME);
        let bytes = match regular::read_up_to(&path, regular::MOST_TEXT) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(Error::file(path, error)),
        };
        let found: Self =
            serde_json::from_slice(&bytes).map_err(|error| Error::file(&path, error))?;
        found.sensible().map_err(|cause| Error::file(path, cause))?;
        Ok(found)
    }

    /// Whether the entries make sense, before a file is looked at.
    fn sensible(&self) -> Result<(), String> {
        let mut names = BTreeSet::new();
        for entry in &self.files {
            entry.sensible().map_err(|cause| format!("{:?}: {cause}", entry.file))?;
            if !names.insert(&entry.file) {
                return Err(format!("{:?} is listed twice", entry.file));
            }
        }
        Ok(())
    }

    /// Takes an entry in, in place of one for the same file, and writes the list.
    ///
    /// # Errors
    /// Where the entry makes no sense, or the list cannot be written.
    pub fn put(&mut self, entry: ManifestEntry, folder: &Path) -> Result<()> {
        let wrong = |cause| Error::file(folder.join(NAME), format!("{:?}: {cause}", entry.file));
        entry.sensible().map_err(wrong)?;
        self.files.retain(|other| other.file != entry.file);
        self.files.push(entry);
        self.files.sort_by(|a, b| a.file.cmp(&b.file));
        let path = folder.join(NAME);
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::file(&path, e))?;
        files::write_bytes(&path, (text + "\n").as_bytes())
    }

    /// Whether folder and list agree: every file is listed, and is what the list says.
    ///
    /// # Errors
    /// Names the first file of which that is not so, and in what.
    pub fn check(&self, folder: &Path) -> Result<()> {
        for path in weight_files(folder)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !self.files.iter().any(|entry| entry.file == name) {
                return Err(Error::file(path, format!("is not in {NAME}")));
            }
        }
        self.files.iter().try_for_each(|entry| entry.check(folder))
    }
}

/// The safetensors files of a folder, by name.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| Error::file(folder, error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

impl ManifestEntry {
    /// Whether the file is what this entry says: size, hash, architecture, parameters.
    ///
    /// # Errors
    /// Names the file, and in what it differs.
    pub fn check(&self, folder: &Path) -> Result<()> {
        let path = folder.join(&self.file);
        self.sensible()
            .map_err(|cause| Error::file(folder.join(NAME), format!("{:?}: {cause}", self.file)))?;
        let differs =
            |what: &str, found: &dyn std::fmt::Display, listed: &dyn std::fmt::Display| {
                Err(Error::file(&path, format!("{what} is {found}, and {listed} in {NAME}")))
            };
        let (bytes, sha256) = fingerprint(&path)?;
        if bytes != self.bytes {
            return differs("its size", &bytes, &self.bytes);
        }
        if sha256 != self.sha256 {
            return differs("its SHA-256", &sha256, &self.sha256);
        }
        let file = load(&path, &Device::Cpu)?;
        let dataset = &file.metadata()?.dataset;
        if *dataset != self.dataset {
            return differs("its data set", dataset, &self.dataset);
        }
        let model = file.model(&Device::Cpu)?;
        if model.architecture.name != self.architecture {
            return differs("its architecture", &model.architecture.name, &self.architecture);
        }
        match models::inference_parameters(model.network.layers()) {
            params if params == self.params => Ok(()),
            params => differs("its number of parameters", &params, &self.params),
        }
    }

    /// Whether what is stated can be so.
    fn sensible(&self) -> Result<(), String> {
        if !is_plain(&self.file) {
            return Err("is not the name of a file in the manifest's folder".to_owned());
        }
        let digits = self.sha256.len() == 64 && self.sha256.bytes().all(|b| b.is_ascii_hexdigit());
        if !digits {
            return Err("its sha256 is not one of 64 hexadecimal digits".to_owned());
        }
        if !["f32", "f16", "bf16"].contains(&self.dtype.as_str()) {
            return Err(format!("its dtype is {:?}; f32, f16 or bf16 is needed", self.dtype));
        }
        for (part, measured) in
            std::iter::once(("val", &self.val)).chain(self.test.iter().map(|t| ("test", t)))
        {
            measured.sensible().map_err(|cause| format!("{part}: {cause}"))?;
        }
        match self.bytes > 0 && self.params > 0 {
            true => Ok(()),
            false => Err("says a file of no bytes, or a network without parameters".to_owned()),
        }
    }
}

impl Measured {
    /// Whether it is a share of some images.
    fn sensible(&self) -> Result<(), String> {
        let Measured { top1, images } = *self;
        if !(0.0..=1.0).contains(&top1) {
            return Err(format!("top1 is {top1}; a share from 0 to 1 is needed"));
        }
        if images == 0 {
            return Err("is measured on no images".to_owned());
        }
        Ok(())
    }
}

/// A file's size and SHA-256.
///
/// # Errors
/// Where it cannot be read.
pub fn fingerprint(path: &Path) -> Result<(u64, String)> {
    let failed = |error| Error::file(path, error);
    let mut file = regular::open(path).map_err(failed)?;
    let mut hash = Sha256::new();
    let (mut buffer, mut length) = (vec![0; 1 << 20], 0);
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => break,
            read => {
                hash.update(&buffer[..read]);
                length += read as u64;
            }
        }
    }
    let hash = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((length, hash))
}

impl WeightFile {
    /// Writes the file's tensors under torchvision's names, its floating-point weights as `dtype`; a
    /// batch norm's statistics, whose range is not that of weights, keep theirs.
    ///
    /// # Errors
    /// Where a value is too large for the type, or the file cannot be written.
    pub fn write_as(&self, path: &Path, dtype: Option<DType>) -> Result<usize> {
        let mut tensors = Vec::new();
        for (name, tensor) in self.torchvision()?.iter() {
            tensors.push((name.clone(), self.as_type(name, tensor, dtype)?));
        }
        let views = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
        write(path, views, self.metadata.as_ref())?;
        Ok(tensors.len())
    }

    fn as_type(&self, name: &str, tensor: &Tensor, dtype: Option<DType>) -> Result<Tensor> {
        let statistics = name.ends_with("running_mean") || name.ends_with("running_var");
        let Some(dtype) = dtype.filter(|_| tensor.dtype().is_float() && !statistics) else {
            return Ok(tensor.clone());
        };
        let cast = tensor.to_dtype(dtype)?;
        let sum = |tensor: &Tensor| -> Result<f32> {
            Ok(tensor.to_dtype(DType::F32)?.abs()?.sum_all()?.to_scalar()?)
        };
        if sum(tensor)?.is_finite() && !sum(&cast)?.is_finite() {
            let cause = format!("{name} has values too large for {}", dtype.as_str());
            return Err(Error::file(&self.path, cause));
        }
        Ok(cast)
    }
}

/// A command line without what is one machine's own: the program's folder, where its output went; the
/// folder of the data becomes DIR.
pub fn portable_command(line: &[String]) -> String {
    let mut words = Vec::new();
    let mut rest = line.iter();
    if let Some(program) = rest.next() {
        words.push(program.rsplit(['/', '\\']).next().unwrap_or_default().to_owned());
    }
    while let Some(word) = rest.next() {
        let (flag, value) = match word.split_once('=') {
            Some((flag, value)) => (flag, Some(value)),
            None => (word.as_str(), None),
        };
        let own = match flag {
            "--out" | "--runs" | "--resume" => true,
            "--data-dir" => {
                words.push("--data-dir DIR".to_owned());
                true
            }
            _ => false,
        };
        match (own, value) {
            (true, None) => drop(rest.next()),
            (true, Some(_)) => {}
            (false, _) => words.push(word.clone()),
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_loses_what_is_one_machines_own() {
        let line = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let long = line("/a/b/convzoo train resnet18 --data-dir /x/y --out=z --epochs 3 --out q");
        assert_eq!(portable_command(&long), "convzoo train resnet18 --data-dir DIR --epochs 3");
    }
}
