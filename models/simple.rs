//! The simplest network worth the name: conv, relu, pool, affine, relu, affine, softmax.
//!
//! The softmax is in the loss; the network ends in logits.

use super::{Architecture, Config};
use crate::Result;
use crate::nn::{Init, Layer, conv, linear, max_pool, sequential};

/// Its sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimpleConvNet {
    /// Filters of the convolution.
    pub filters: usize,
    /// Side of a filter.
    pub kernel: usize,
    /// Stride of the convolution.
    pub stride: usize,
    /// Padding of the convolution.
    pub padding: usize,
    /// Units of the hidden layer.
    pub hidden: usize,
}

impl Default for SimpleConvNet {
    fn default() -> Self {
        SimpleConvNet { filters: 30, kernel: 5, stride: 1, padding: 0, hidden: 100 }
    }
}

/// With the default sizes, for 28x28 digits: 433,890 parameters.
pub const SIMPLE_CONV_NET: Architecture = Architecture {
    name: "simpleconvnet",
    paper: "a textbook's first convolutional network",
    year: 2012,
    input: (1, 28, 28),
    classes: 10,
    params: 433_890,
    init: Init::PYTORCH,
    build: |config| SimpleConvNet::default().layers(config),
};

impl SimpleConvNet {
    /// Its tree, for any input.
    ///
    /// # Errors
    /// Where the input is smaller than the filter and the pooling take.
    pub fn layers(&self, config: &Config) -> Result<Layer> {
        let convolution = conv(config.channels(), self.filters, self.kernel);
        let mut layers = vec![
            ("conv1", convolution.stride(self.stride).padding(self.padding).into()),
            ("relu1", Layer::Relu),
            ("pool1", max_pool(2, 2).into()),
            ("flatten", Layer::Flatten),
        ];
        let features = config.features_after(&sequential(layers.clone()))?;
        layers.extend([
            ("fc1", linear(features, self.hidden)),
            ("relu2", Layer::Relu),
            ("fc2", linear(self.hidden, config.classes)),
        ]);
        Ok(sequential(layers))
    }
}
