//! A frozen backbone's features, computed once for each picture.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};
use sha2::{Digest, Sha256};

use super::evaluate::Trainable;
use crate::nn::{Layer, Mode, Network, Output, Params, Precision};
use crate::weights::Heads;
use crate::{Error, Result};

/// What a picture is known by.
type Key = [u8; 32];

/// A network whose layers but the last are frozen, and that remembers what they make of a picture.
///
/// It pays where the same pictures come again: without augmentation, from the second epoch on only the
/// last layer is computed. Pictures are known by their content.
#[derive(Debug)]
pub struct CachedFeatures<'a> {
    network: &'a Network,
    body: Layer,
    head: Layer,
    known: Mutex<HashMap<Key, Tensor>>,
}

impl<'a> CachedFeatures<'a> {
    /// A network of which nothing but the last layer may be trained.
    ///
    /// # Errors
    /// Another layer is trained, or the tree cannot be cut before the last one.
    pub fn new(network: &'a Network) -> Result<Self> {
        let last = Heads::of(network.layers()).last.pop().unwrap_or_default();
        let (body, head) = network.layers().split_at(&last).ok_or_else(|| {
            Error::Setting("features cannot be cached: the last layer is within a block".to_owned())
        })?;
        let in_body = body.state_specs();
        let trained = network.params().trainable().find(|entry| in_body.contains(&entry.spec));
        if let Some(entry) = trained {
            let name = &entry.spec.name;
            let message = format!("features cannot be cached while {name} is trained; freeze it");
            return Err(Error::Setting(message));
        }
        Ok(CachedFeatures { network, body, head, known: Mutex::default() })
    }

    /// How many pictures are known.
    pub fn len(&self) -> usize {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether no picture is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The features [N, ...] of pictures [N, C, H, W]; those not known are computed together.
    fn features(&self, x: &Tensor) -> Result<Tensor> {
        let keys = keys(x)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let new = (0..keys.len()).filter(|&i| !known.contains_key(&keys[i])).collect::<Vec<_>>();
        if !new.is_empty() {
            let rows: Vec<u32> = new.iter().map(|&i| i as u32).collect();
            let pictures = x.index_select(&Tensor::new(rows, x.device())?, 0)?;
            let features = self
                .network
                .forward_part(&self.body, &pictures, Mode::Eval, Precision::F32)?
                .logits;
            for (row, &i) in new.iter().enumerate() {
                known.insert(keys[i], features.get(row)?.copy()?);
            }
        }
        let rows: Vec<_> = keys.iter().filter_map(|key| known.get(key)).collect();
        Ok(Tensor::stack(&rows, 0)?)
    }
}

/// The hash of each picture's values.
fn keys(x: &Tensor) -> Result<Vec<Key>> {
    let rows: Vec<Vec<f32>> =
        x.flatten_from(1)?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.to_vec2()?;
    let key = |row: Vec<f32>| {
        let mut hasher = Sha256::new();
        row.iter().for_each(|value| hasher.update(value.to_le_bytes()));
        hasher.finalize().into()
    };
    Ok(rows.into_iter().map(key).collect())
}

impl Trainable for CachedFeatures<'_> {
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Output> {
        self.forward_in(x, mode, Precision::F32)
    }

    fn forward_in(&self, x: &Tensor, mode: Mode, precision: Precision) -> Result<Output> {
        self.network.forward_part(&self.head, &self.features(x)?, mode, precision)
    }

    fn params(&self) -> &Params {
        self.network.params()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models;
    use crate::nn::Init;
    use crate::train::FineTune;

    #[test]
    fn cached_features_give_the_same_logits() {
        for name in ["resnet20", "squeezenet1_1", "lenet5"] {
            let architecture = models::find(name).unwrap();
            let layers = architecture.layers(&architecture.config()).unwrap();
            let mut net =
                Network::new(layers, &Init::PYTORCH, 0, DType::F32, &Device::Cpu).unwrap();
            assert!(CachedFeatures::new(&net).is_err());
            let freeze = vec!["backbone".to_owned()];
            FineTune { freeze, ..Default::default() }.apply(&mut net, 0.1).unwrap();
            let cached = CachedFeatures::new(&net).unwrap();
            let (c, h, w) = architecture.input;
            let x = Tensor::randn(0f32, 1.0, (3, c, h, w), &Device::Cpu).unwrap();
            let expected = net.logits(&x).unwrap().to_vec2::<f32>().unwrap();
            for _ in 0..2 {
                let logits = cached.forward(&x, Mode::Eval).unwrap().logits;
                assert_eq!(logits.to_vec2::<f32>().unwrap(), expected, "{name}");
                assert_eq!(cached.len(), 3);
            }
        }
    }
}
