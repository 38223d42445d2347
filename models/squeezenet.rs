//! SqueezeNet (Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", 2016),
//! as in torchvision.

use super::{Architecture, Config};
use crate::nn::{
    Distribution, Init, Layer, adaptive_avg_pool, branches, conv, max_pool, numbered, sequential,
};

/// The paper's Table 1.
pub const SQUEEZENET1_0: Architecture = Architecture {
    name: "squeezenet1_0",
    paper: "Iandola et al., SqueezeNet: AlexNet-level accuracy with 50x fewer parameters",
    year: 2016,
    input: (3, 224, 224),
    classes: 1000,
    params: 1_248_424,
    init: Init {
        conv: Distribution::KaimingNormal,
        linear: Distribution::PyTorch,
        zero_bias: true,
    },
    build: |config| Ok(squeezenet(config, squeezenet1_0(config))),
};

/// Its authors' second version: as accurate with 2.4 times fewer multiply-adds.
pub const SQUEEZENET1_1: Architecture = Architecture {
    name: "squeezenet1_1",
    params: 1_235_496,
    build: |config| Ok(squeezenet(config, squeezenet1_1(config))),
    ..SQUEEZENET1_0
};

fn squeezenet1_0(config: &Config) -> Vec<Layer> {
    vec![
        conv(config.channels(), 96, 7).stride(2).into(), // N x 96 x 109 x 109
        Layer::Relu,
        max_pool(3, 2).ceil().into(), // N x 96 x 54 x 54
        fire(96, 16, 64),             // N x 128 x 54 x 54
        fire(128, 16, 64),
        fire(128, 32, 128),           // N x 256 x 54 x 54
        max_pool(3, 2).ceil().into(), // N x 256 x 27 x 27
        fire(256, 32, 128),
        fire(256, 48, 192), // N x 384 x 27 x 27
        fire(384, 48, 192),
        fire(384, 64, 256),           // N x 512 x 27 x 27
        max_pool(3, 2).ceil().into(), // N x 512 x 13 x 13
        fire(512, 64, 256),
    ]
}

fn squeezenet1_1(config: &Config) -> Vec<Layer> {
    vec![
        conv(config.channels(), 64, 3).stride(2).into(), // N x 64 x 111 x 111
        Layer::Relu,
        max_pool(3, 2).ceil().into(), // N x 64 x 55 x 55
        fire(64, 16, 64),             // N x 128 x 55 x 55
        fire(128, 16, 64),
        max_pool(3, 2).ceil().into(), // N x 128 x 27 x 27
        fire(128, 32, 128),           // N x 256 x 27 x 27
        fire(256, 32, 128),
        max_pool(3, 2).ceil().into(), // N x 256 x 13 x 13
        fire(256, 48, 192),           // N x 384 x 13 x 13
        fire(384, 48, 192),
        fire(384, 64, 256), // N x 512 x 13 x 13
        fire(512, 64, 256),
    ]
}

/// A fire module (figure 1): few 1x1 filters, then as many 1x1 as 3x3 ones side by side.
pub fn fire(inputs: usize, squeeze: usize, expand: usize) -> Layer {
    let expand1x1 = conv(squeeze, expand, 1).into();
    let expand3x3 = conv(squeeze, expand, 3).padding(1).into();
    sequential([
        ("squeeze", conv(inputs, squeeze, 1).into()),
        ("squeeze_activation", Layer::Relu),
        ("", branches([("expand1x1", expand1x1), ("expand3x3", expand3x3)])),
        ("expand_activation", Layer::Relu),
    ])
}

/// The whole tree: the last convolution makes one map a class, and their means are the logits.
fn squeezenet(config: &Config, features: Vec<Layer>) -> Layer {
    let classifier = numbered([
        config.dropout(0.5),
        conv(512, config.classes, 1).into(),
        Layer::Relu,
        adaptive_avg_pool(1),
    ]);
    sequential([
        ("features", numbered(features)),
        ("classifier", classifier),
        ("flatten", Layer::Flatten),
    ])
}
