//! The architectures, one file a paper, and the registry that lists them.
//!
//! ```
//! use convzoo::models::{self, Config};
//!
//! # fn main() -> convzoo::Result<()> {
//! let resnet = models::find("resnet18")?;
//! let layers = resnet.layers(&Config { classes: 2, ..resnet.config() })?;
//! assert_eq!(layers.parameter_count(), 11_177_538);
//! # Ok(())
//! # }
//! ```

pub mod alexnet;
pub mod googlenet;
pub mod lenet;
pub mod resnet;
pub mod simple;
pub mod vgg;

use candle_core::{DType, Device};

use crate::nn::{Init, Layer, Network, Shape};
use crate::{Error, Result};

/// What can be chosen when a network is built.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Outputs of the last layer.
    pub classes: usize,
    /// Channels, height and width of the input.
    pub input: (usize, usize, usize),
    /// Auxiliary heads, where the architecture has any.
    pub aux: bool,
    /// Every dropout's probability in place of the architecture's own.
    pub dropout: Option<f64>,
}

impl Config {
    /// The dropout to use where the paper says `p`.
    pub(crate) fn dropout(&self, p: f64) -> Layer {
        Layer::Dropout(self.dropout.unwrap_or(p))
    }

    /// Channels of the input.
    pub(crate) fn channels(&self) -> usize {
        self.input.0
    }

    /// How many features `layers` make of this input.
    pub(crate) fn features_after(&self, layers: &Layer) -> Result<usize> {
        let (c, h, w) = self.input;
        Ok(layers.trace(Shape::Map(c, h, w))?.output.len())
    }
}

/// An entry of the registry.
#[derive(Clone, Copy, Debug)]
pub struct Architecture {
    /// What the command line calls it.
    pub name: &'static str,
    /// Authors and title of the paper.
    pub paper: &'static str,
    /// Year of the paper.
    pub year: u16,
    /// Default channels, height and width.
    pub input: (usize, usize, usize),
    /// Default number of classes.
    pub classes: usize,
    /// Trainable values at these defaults, auxiliary heads not counted.
    pub params: usize,
    /// How its weights begin.
    pub init: Init,
    /// Its tree.
    pub build: fn(&Config) -> Result<Layer>,
}

/// Every architecture, in the order of their history.
pub const ARCHITECTURES: &[Architecture] = &[
    lenet::LENET5_1998,
    lenet::LENET5,
    lenet::LENET5_RELU,
    simple::SIMPLE_CONV_NET,
    alexnet::ALEXNET_PAPER,
    alexnet::ALEXNET,
    vgg::VGG11,
    vgg::VGG11_BN,
    vgg::VGG13,
    vgg::VGG13_BN,
    vgg::VGG16,
    vgg::VGG16_BN,
    vgg::VGG19,
    vgg::VGG19_BN,
    googlenet::GOOGLENET_PAPER,
    googlenet::GOOGLENET,
    resnet::RESNET18,
    resnet::RESNET34,
    resnet::RESNET50,
    resnet::RESNET101,
    resnet::RESNET152,
];

/// The architecture of this name.
///
/// # Errors
/// Lists the names where there is none.
pub fn find(name: &str) -> Result<&'static Architecture> {
    ARCHITECTURES.iter().find(|a| a.name == name).ok_or_else(|| {
        let names: Vec<_> = ARCHITECTURES.iter().map(|a| a.name).collect();
        Error::Setting(format!("there is no model {name}; there are {}", names.join(", ")))
    })
}

impl Architecture {
    /// The defaults of its paper.
    pub fn config(&self) -> Config {
        Config { classes: self.classes, input: self.input, aux: true, dropout: None }
    }

    /// Its tree for `config`, checked against the size of the input.
    ///
    /// # Errors
    /// [`Error::InputTooSmall`], with the smallest size it takes, where the input is too small.
    pub fn layers(&self, config: &Config) -> Result<Layer> {
        if config.classes == 0 || config.channels() == 0 {
            let (classes, channels) = (config.classes, config.channels());
            let found = format!("{}: {classes} classes, {channels} channels", self.name);
            return Err(Error::Setting(format!("{found}; both must be at least 1")));
        }
        self.fitting(config).map_err(|error| {
            let (channels, height, width) = config.input;
            match self.smallest(config) {
                Some(smallest) if height < smallest || width < smallest => {
                    let model = self.name.to_owned();
                    Error::InputTooSmall { model, channels, height, width, smallest }
                }
                _ => error,
            }
        })
    }

    /// The tree, if every layer fits what reaches it.
    fn fitting(&self, config: &Config) -> Result<Layer> {
        let layers = (self.build)(config)?;
        let (c, h, w) = config.input;
        layers.trace(Shape::Map(c, h, w))?;
        Ok(layers)
    }

    /// The smallest square input that works.
    fn smallest(&self, config: &Config) -> Option<usize> {
        (1..=512).find(|&side| {
            self.fitting(&Config { input: (config.channels(), side, side), ..config.clone() })
                .is_ok()
        })
    }
}

/// An architecture with weights: what is trained, saved and asked.
#[derive(Clone, Debug)]
pub struct Model {
    /// The registry's entry.
    pub architecture: &'static Architecture,
    /// What was chosen.
    pub config: Config,
    /// The tree and its weights.
    pub network: Network,
}

impl Model {
    /// A model with fresh weights drawn from `seed`.
    ///
    /// # Errors
    /// Where the name is unknown, the input too small, or the device cannot hold the weights.
    pub fn new(name: &str, config: Config, seed: u64, device: &Device) -> Result<Self> {
        Self::with_type(name, config, seed, DType::F32, device)
    }

    /// [`Model::new`] with another floating-point type.
    ///
    /// # Errors
    /// Where the name is unknown, the input too small, or the device cannot hold the weights.
    pub fn with_type(
        name: &str,
        config: Config,
        seed: u64,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let architecture = find(name)?;
        let layers = architecture.layers(&config)?;
        let network = Network::new(layers, &architecture.init, seed, dtype, device)?;
        Ok(Model { architecture, config, network })
    }

    /// Trainable values, without auxiliary heads: the number papers give.
    pub fn parameter_count(&self) -> usize {
        inference_parameters(self.network.layers())
    }

    /// Multiply-adds for one picture of the configured size.
    ///
    /// # Errors
    /// Never, for a model that was built: its input was checked.
    pub fn macs(&self) -> Result<u64> {
        let (c, h, w) = self.config.input;
        Ok(self.network.layers().trace(Shape::Map(c, h, w))?.macs())
    }
}

/// Trainable values of a tree, without auxiliary heads.
pub fn inference_parameters(layers: &Layer) -> usize {
    let mut auxiliary = 0;
    layers.walk("", &mut |_, layer| {
        if let Layer::AuxHead { head, .. } = layer {
            auxiliary += head.parameter_count();
        }
    });
    layers.parameter_count() - auxiliary
}
