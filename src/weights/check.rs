//! Whether a file's numbers and what it says about itself make sense, before anything is measured.

use std::collections::BTreeSet;

use candle_core::{CpuStorage, Device, Storage, Tensor};

use super::apply::Heads;
use super::{Metadata, WeightFile};
use crate::data::Pipeline;
use crate::models;
use crate::nn::Layer;
use crate::{Error, Result};

/// Largest side of an input, in pixels.
const MOST_SIDE: usize = 16_384;
/// Most channels of an input.
const MOST_CHANNELS: usize = 4096;

impl Metadata {
    /// Whether what is said fits together.
    ///
    /// # Errors
    /// What does not, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        let (channels, height, width) = self.input;
        if self.classes.is_empty() {
            return Err("its metadata lists no classes".to_owned());
        }
        let sides = [height, width];
        if !(1..=MOST_CHANNELS).contains(&channels)
            || sides.iter().any(|side| !(1..=MOST_SIDE).contains(side))
        {
            let wanted = format!("1 to {MOST_CHANNELS} channels and sides of 1 to {MOST_SIDE}");
            return Err(format!(
                "its metadata says an input of {channels}x{height}x{width}; {wanted} make sense"
            ));
        }
        if self.val_top1.is_some_and(|top1| !(0.0..=1.0).contains(&top1)) {
            return Err("its metadata says an accuracy that is not a share from 0 to 1".to_owned());
        }
        if self.preprocessing.is_null() {
            return Ok(()); // a program of its own knows
        }
        let pipeline: Pipeline = serde_json::from_value(self.preprocessing.clone())
            .map_err(|error| format!("its preprocessing cannot be used: {error}"))?;
        let [c, h, w] = pipeline.output();
        match (c, h, w) == self.input {
            true => Ok(()),
            false => Err(format!(
                "its metadata says an input of {channels}x{height}x{width}, and a preprocessing that \
                 makes {c}x{h}x{w}"
            )),
        }
    }

    /// What is odd about the classes, if anything is.
    pub(super) fn remark(&self) -> Option<String> {
        let mut seen = BTreeSet::new();
        let twice = self.classes.iter().find(|class| !seen.insert(class.as_str()))?;
        Some(format!("two of its classes are called {twice:?}"))
    }
}

impl WeightFile {
    /// Whether what the file says about itself fits these layers.
    ///
    /// # Errors
    /// Names the file, and what of its metadata is wrong.
    pub(super) fn check_metadata_for(&self, layers: &Layer) -> Result<()> {
        let Some(metadata) = &self.metadata else { return Ok(()) };
        let wrong = |cause: String| Err(Error::file(&self.path, cause));
        if models::find(&metadata.architecture).is_err() {
            return Ok(()); // a network of one's own, whose last layer may be anything
        }
        metadata.check().or_else(wrong)?;
        let heads = Heads::of(layers);
        let Some(last) = heads.last.last() else { return Ok(()) };
        let outputs = self.tensors.get(&format!("{last}.weight")).and_then(|t| t.dims().first());
        let listed = metadata.classes.len();
        match outputs {
            Some(&outputs) if outputs != listed => wrong(format!(
                "its metadata lists {listed} classes, and its last layer {last} has {outputs} outputs"
            )),
            _ => Ok(()),
        }
    }

    /// Names of the tensors with numbers that are not finite (or are not once they are of 32 bits), as
    /// training that has diverged leaves them.
    ///
    /// # Errors
    /// Where a tensor cannot be read back from its device.
    pub fn not_finite(&self) -> Result<Vec<&str>> {
        let mut found = Vec::new();
        for (name, tensor) in &self.tensors {
            if !is_finite(tensor)? {
                found.push(name.as_str());
            }
        }
        Ok(found)
    }

    /// Whether all numbers of these tensors are finite.
    ///
    /// # Errors
    /// Names the file, and the first tensor of which they are not.
    pub(super) fn check_finite(&self, tensors: &[(String, &Tensor)]) -> Result<()> {
        for (name, tensor) in tensors {
            if !is_finite(tensor)? {
                let cause = format!(
                    "tensor {name} has numbers that are not finite (NaN or infinite), as training that \
                     has diverged leaves them; nothing can be measured or trained with them"
                );
                return Err(Error::file(&self.path, cause));
            }
        }
        Ok(())
    }
}

fn is_finite(tensor: &Tensor) -> Result<bool> {
    let tensor = tensor.to_device(&Device::Cpu)?.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else { return Ok(true) }; // it was moved to the CPU
    let (start, end) = layout.contiguous_offsets().unwrap_or((0, 0));
    Ok(match storage {
        CpuStorage::F32(numbers) => numbers[start..end].iter().all(|x| x.is_finite()),
        CpuStorage::F64(numbers) => numbers[start..end].iter().all(|x| (*x as f32).is_finite()),
        CpuStorage::F16(numbers) => numbers[start..end].iter().all(|x| x.is_finite()),
        CpuStorage::BF16(numbers) => numbers[start..end].iter().all(|x| x.is_finite()),
        _ => true,
    })
}
