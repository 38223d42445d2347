//! LeNet-5 (LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document
//! Recognition", 1998, section II.B).

use super::{Architecture, Config};
use crate::Result;
use crate::nn::{Init, Layer, avg_pool, conv, linear, max_pool, sequential};

const PAPER: &str = "LeCun et al., Gradient-Based Learning Applied to Document Recognition";

/// The net as it is taught: 28x28 input, sigmoid, max pooling.
pub const LENET5: Architecture = Architecture {
    name: "lenet5",
    paper: PAPER,
    year: 1998,
    input: (1, 28, 28),
    classes: 10,
    params: 44_426,
    init: Init::XAVIER,
    build: |config| lenet5(config, Layer::Sigmoid, max_pool(2, 2).into()),
};

/// The same with ReLU.
pub const LENET5_RELU: Architecture = Architecture {
    name: "lenet5-relu",
    init: Init::PYTORCH,
    build: |config| lenet5(config, Layer::Relu, max_pool(2, 2).into()),
    ..LENET5
};

/// The net of 1998: 32x32 input, tanh, average pooling. C3 is connected fully (the paper's Table I
/// saves connections), pooling has no coefficients of its own, and the output is a linear layer
/// instead of radial basis functions.
pub const LENET5_1998: Architecture = Architecture {
    name: "lenet5-1998",
    input: (1, 32, 32),
    params: 61_706,
    build: |config| lenet5(config, Layer::Tanh, avg_pool(2, 2)),
    ..LENET5
};

/// The tree; sizes in the comments are those of a 28x28 (32x32) input.
///
/// # Errors
/// Where the input is too small.
pub fn lenet5(config: &Config, activation: Layer, pool: Layer) -> Result<Layer> {
    let mut layers = vec![
        ("conv1", conv(config.channels(), 6, 5).into()), // N x 6 x 24 x 24 (28 x 28)
        ("act1", activation.clone()),
        ("pool1", pool.clone()),          // N x 6 x 12 x 12 (14 x 14)
        ("conv2", conv(6, 16, 5).into()), // N x 16 x 8 x 8 (10 x 10)
        ("act2", activation.clone()),
        ("pool2", pool), // N x 16 x 4 x 4 (5 x 5)
        ("flatten", Layer::Flatten),
    ];
    let features = config.features_after(&sequential(layers.clone()))?; // 256 (400)
    layers.extend([
        ("fc1", linear(features, 120)),
        ("act3", activation.clone()),
        ("fc2", linear(120, 84)),
        ("act4", activation),
        ("fc3", linear(84, config.classes)),
    ]);
    Ok(sequential(layers))
}
