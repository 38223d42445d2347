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
pub mod cifar_resnet;
pub mod googlenet;
pub mod inception_v3;
pub mod inception_v4;
pub mod lenet;
pub mod resnet;
pub mod simple;
pub mod squeezenet;
pub mod vgg;
pub mod zfnet;

use candle_core::{DType, Device};
use serde::{Deserialize, Serialize};

use crate::nn::{Init, Layer, Network, Shape, linear, numbered};
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
    /// How a ResNet begins; the other architectures do not look at it.
    pub stem: Stem,
}

/// The first layers of a ResNet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stem {
    /// 7x7 with stride 2 and 3x3 max pooling with stride 2: for pictures of 64 pixels and more.
    #[default]
    Paper,
    /// 3x3 with stride 1 and no pooling: for small pictures, like CIFAR's 32x32.
    Cifar,
}

impl Stem {
    /// Whether this is [`Stem::Paper`], which goes without saying.
    pub(crate) fn is_paper(&self) -> bool {
        *self == Stem::Paper
    }
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

    /// The three fully connected layers that AlexNet ends in, and after it ZFNet and VGG.
    pub(crate) fn classifier(&self, inputs: usize) -> Layer {
        numbered([
            linear(inputs, 4096),
            Layer::Relu,
            self.dropout(0.5),
            linear(4096, 4096),
            Layer::Relu,
            self.dropout(0.5),
            linear(4096, self.classes),
        ])
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
    zfnet::ZFNET,
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
    inception_v3::INCEPTION_V3,
    resnet::RESNET18,
    resnet::RESNET34,
    resnet::RESNET50,
    resnet::RESNET101,
    resnet::RESNET152,
    cifar_resnet::OPTION_A[0],
    cifar_resnet::OPTION_A[1],
    cifar_resnet::OPTION_A[2],
    cifar_resnet::OPTION_A[3],
    cifar_resnet::OPTION_A[4],
    cifar_resnet::OPTION_A[5],
    cifar_resnet::OPTION_B[0],
    cifar_resnet::OPTION_B[1],
    cifar_resnet::OPTION_B[2],
    cifar_resnet::OPTION_B[3],
    cifar_resnet::OPTION_B[4],
    cifar_resnet::OPTION_B[5],
    cifar_resnet::PLAIN[0],
    cifar_resnet::PLAIN[1],
    cifar_resnet::PLAIN[2],
    cifar_resnet::PLAIN[3],
    cifar_resnet::PLAIN[4],
    inception_v4::INCEPTION_V4,
    squeezenet::SQUEEZENET1_0,
    squeezenet::SQUEEZENET1_1,
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
        let (classes, input, stem) = (self.classes, self.input, Stem::Paper);
        Config { classes, input, aux: true, dropout: None, stem }
    }

    /// Its tree for `config`, checked against the size of the input.
    ///
    /// # Errors
    /// [`Error::InputTooSmall`], with the smallest size it takes, where the input is too small.
    pub fn layers(&self, config: &Config) -> Result<Layer> {
        if config.stem != Stem::Paper && !self.takes_stems() {
            let message = format!("{} has no other stem: only ResNets for ImageNet do", self.name);
            return Err(Error::Setting(message));
        }
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

    /// Whether it is one of the ResNets that [`Stem`] is for.
    pub fn takes_stems(&self) -> bool {
        self.name.starts_with("resnet") && self.input == (3, 224, 224)
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
