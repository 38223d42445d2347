//! Training on from other weights: what stays frozen, for how long, and how fast each layer learns.

use serde::{Deserialize, Serialize};

use super::optim::check;
use crate::nn::{Entry, Network};
use crate::weights::{Heads, inside};
use crate::{Error, Result};

/// Stands for every layer but the last.
const BACKBONE: &str = "backbone";

/// Which layers of a network are trained, and how fast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FineTune {
    /// Names of layers that keep their weights, each with all that is below it; `backbone` is every
    /// layer but the last (and the last of each auxiliary head).
    pub freeze: Vec<String>,
    /// Learning rate of the last layer, where it is not the common one.
    pub head_lr: Option<f64>,
    /// A layer's rate over that of the layer behind it (Howard and Ruder, "Universal Language Model
    /// Fine-tuning", 2018, section 3.2): below 1, early layers change least.
    pub lr_decay: f64,
    /// After every so many epochs one more layer thaws, from the last to the first (section 3.3
    /// there).
    pub unfreeze_every: Option<usize>,
    /// Compute a frozen backbone's features once for each picture, without augmentation: see
    /// [`CachedFeatures`](super::CachedFeatures).
    pub cache_features: bool,
}

impl Default for FineTune {
    /// All layers, all at the same rate.
    fn default() -> Self {
        FineTune {
            freeze: Vec::new(),
            head_lr: None,
            lr_decay: 1.0,
            unfreeze_every: None,
            cache_features: false,
        }
    }
}

impl FineTune {
    /// Whether every layer is trained alike.
    pub fn is_default(&self) -> bool {
        *self == FineTune::default()
    }

    /// What it does otherwise than to train every layer alike, a phrase each.
    pub fn in_words(&self) -> Vec<String> {
        let mut words = Vec::new();
        if !self.freeze.is_empty() {
            words.push(format!("{} frozen", self.freeze.join(", ")));
        }
        if let Some(epochs) = self.unfreeze_every {
            words.push(format!("a layer thawing every {epochs} epochs"));
        }
        if let Some(lr) = self.head_lr {
            words.push(format!("the last layer at rate {lr}"));
        }
        if self.lr_decay != 1.0 {
            words.push(format!("each layer at {} of the rate of the next", self.lr_decay));
        }
        if self.cache_features {
            words.push("features kept".to_owned());
        }
        words
    }

    /// Whether every layer but the last stays as it is to the end.
    pub fn freezes_backbone(&self) -> bool {
        self.freeze.iter().any(|name| name == BACKBONE) && self.unfreeze_every.is_none()
    }

    /// Refuses numbers that make no sense.
    ///
    /// # Errors
    /// Names the setting, what it is and what it must be.
    pub fn check(&self) -> Result<()> {
        let lr = self.head_lr.unwrap_or(1.0);
        check("the learning rate of the head", lr, lr > 0.0, "above 0")?;
        let decay = self.lr_decay;
        check("the decay by depth", decay, decay > 0.0 && decay <= 1.0, "above 0 and at most 1")?;
        if self.cache_features && !self.freezes_backbone() {
            let message = "--cache-features goes with --freeze backbone alone: the features of layers \
                           that are trained change";
            return Err(Error::Setting(message.to_owned()));
        }
        match self.unfreeze_every {
            Some(0) => Err(Error::Setting("epochs to thaw a layer: got 0; at least 1".to_owned())),
            _ => Ok(()),
        }
    }

    /// Makes a network follow these settings, in a run with the common rate `lr`.
    ///
    /// # Errors
    /// A layer that the network does not have, or nothing left to train.
    pub fn apply(&self, network: &mut Network, lr: f64) -> Result<()> {
        let heads = Heads::of(network.layers());
        self.check_names(network)?;
        let depths = depths(network.params().entries(), &heads);
        let backbone = self.freezes_backbone();
        let prefixes: Vec<_> = self.freeze.iter().filter(|name| *name != BACKBONE).collect();
        for (entry, depth) in network.params_mut().entries_mut().iter_mut().zip(depths) {
            let name = &entry.spec.name;
            let head = heads.last.iter().any(|layer| inside(layer, name));
            let frozen = (backbone && !head) || prefixes.iter().any(|layer| inside(layer, name));
            entry.trainable = !entry.spec.role.is_buffer() && !frozen;
            entry.thaw = if head { 0 } else { depth * self.unfreeze_every.unwrap_or(0) };
            entry.rate = match self.head_lr {
                Some(head_lr) if head => head_lr / lr,
                _ => self.lr_decay.powi(depth as i32),
            };
        }
        match network.params().trainable().next() {
            Some(_) => Ok(()),
            None => {
                Err(Error::Setting("every layer is frozen; nothing is left to train".to_owned()))
            }
        }
    }

    fn check_names(&self, network: &Network) -> Result<()> {
        let names = || network.params().entries().iter().map(|entry| entry.spec.name.as_str());
        let known = |layer: &String| layer == BACKBONE || names().any(|name| inside(layer, name));
        let Some(unknown) = self.freeze.iter().find(|layer| !known(layer)) else { return Ok(()) };
        let mut first: Vec<_> = names().filter_map(|name| name.split('.').next()).collect();
        first.dedup();
        let first = first.join(", ");
        let message = format!("no layer called {unknown} to freeze; there are backbone, {first}");
        Err(Error::Setting(message))
    }
}

/// How many layers lie between each tensor and the end of the net. A block of a numbered stage counts
/// as a layer, a batch norm as a part of the convolution before it; auxiliary heads are at the end.
fn depths(entries: &[Entry], heads: &Heads) -> Vec<usize> {
    let mut layers: Vec<&str> = Vec::new();
    let mut of_entry = Vec::new();
    for entry in entries {
        let name = entry.spec.name.as_str();
        if heads.auxiliary.iter().any(|head| inside(head, name)) {
            of_entry.push(None);
            continue;
        }
        let layer = layer_of(name);
        let known = layers.contains(&layer);
        let weighted =
            |e: &Entry| layer_of(&e.spec.name) == layer && e.spec.role == crate::nn::Role::Weight;
        if layers.is_empty() || (!known && entries.iter().any(weighted)) {
            layers.push(layer);
        }
        let place = layers.iter().position(|known| *known == layer);
        of_entry.push(Some(place.unwrap_or(layers.len() - 1)));
    }
    let last = layers.len().saturating_sub(1);
    of_entry.into_iter().map(|place| place.map_or(0, |place| last - place)).collect()
}

/// `layer1.0` of `layer1.0.conv1.weight`, `fc` of `fc.weight`.
fn layer_of(name: &str) -> &str {
    let mut dots = name.match_indices('.').map(|(at, _)| at);
    let first = dots.next().unwrap_or(name.len());
    let second = dots.next().unwrap_or(first);
    let between = name.get(first + 1..second).unwrap_or_default();
    let numbered = !between.is_empty() && between.bytes().all(|byte| byte.is_ascii_digit());
    &name[..if numbered { second } else { first }]
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::*;
    use crate::models;
    use crate::nn::{Init, Mode};

    fn network(name: &str) -> Network {
        let architecture = models::find(name).unwrap();
        let layers = architecture.layers(&architecture.config()).unwrap();
        Network::new(layers, &Init::PYTORCH, 0, DType::F32, &Device::Cpu).unwrap()
    }

    fn entry<'a>(network: &'a Network, name: &str) -> &'a Entry {
        network.params().get(name).unwrap()
    }

    #[test]
    fn depth_is_counted_from_the_end() {
        let mut resnet = network("resnet20");
        let settings = FineTune { lr_decay: 0.5, head_lr: Some(0.3), ..Default::default() };
        settings.apply(&mut resnet, 0.1).unwrap();
        let rate = |name: &str| entry(&resnet, name).rate;
        assert!((rate("fc.weight") - 3.0).abs() < 1e-12);
        assert_eq!(rate("layer3.2.conv1.weight"), 0.5);
        assert_eq!(rate("layer3.2.bn2.bias"), 0.5);
        assert_eq!(rate("layer1.0.conv1.weight"), 0.5f64.powi(9));
        assert_eq!(rate("conv1.weight"), 0.5f64.powi(10));
        assert_eq!(rate("bn1.weight"), rate("conv1.weight"));
    }

    #[test]
    fn layers_are_frozen_and_thaw() {
        let mut net = network("resnet20");
        let backbone = vec!["backbone".to_owned()];
        FineTune { freeze: backbone.clone(), ..Default::default() }.apply(&mut net, 0.1).unwrap();
        let trained: Vec<_> = net.params().trainable().map(|e| e.spec.name.as_str()).collect();
        assert_eq!(trained, ["fc.weight", "fc.bias"]);

        let thawing = FineTune { freeze: backbone, unfreeze_every: Some(2), ..Default::default() };
        thawing.apply(&mut net, 0.1).unwrap();
        let trains = |epoch, name: &str| {
            net.params().begin_epoch(epoch);
            net.params().trains(entry(&net, name))
        };
        assert!(trains(0, "fc.weight") && !trains(1, "layer3.2.conv1.weight"));
        assert!(trains(2, "layer3.2.conv1.weight") && !trains(3, "layer3.1.conv1.weight"));
        assert!(trains(20, "conv1.weight"));

        let stages = vec!["layer1".to_owned(), "layer2.0".to_owned()];
        FineTune { freeze: stages, ..Default::default() }.apply(&mut net, 0.1).unwrap();
        assert!(!entry(&net, "layer1.2.bn1.weight").trainable);
        assert!(entry(&net, "layer2.1.bn1.weight").trainable);
        assert!(!entry(&net, "layer2.1.bn1.running_mean").trainable);

        let unknown = FineTune { freeze: vec!["layer9".to_owned()], ..Default::default() };
        let message = unknown.apply(&mut net, 0.1).unwrap_err().to_string();
        assert!(message.contains("layer9") && message.contains("layer3"), "{message}");
    }

    #[test]
    fn what_is_frozen_has_no_gradient_and_keeps_its_statistics() {
        let mut net = network("resnet20");
        let freeze = vec!["backbone".to_owned()];
        FineTune { freeze, ..Default::default() }.apply(&mut net, 0.1).unwrap();
        let x = Tensor::ones((2, 3, 32, 32), DType::F32, &Device::Cpu).unwrap();
        let logits = net.forward(&x, Mode::Train { seed: 1 }).unwrap().logits;
        let grads = logits.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        for entry in net.params().entries() {
            let name = &entry.spec.name;
            assert_eq!(grads.get(&entry.var).is_some(), name.starts_with("fc."), "{name}");
        }
        let mean = entry(&net, "bn1.running_mean").var.abs().unwrap().sum_all().unwrap();
        assert_eq!(mean.to_scalar::<f32>().unwrap(), 0.0);
        assert_eq!(
            logits.to_vec2::<f32>().unwrap(),
            net.logits(&x).unwrap().to_vec2::<f32>().unwrap()
        );
    }
}
