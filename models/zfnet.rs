//! ZFNet (Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2013): AlexNet
//! with a finer first layer, in one tower.

use super::alexnet::response_norm;
use super::{Architecture, Config};
use crate::Result;
use crate::nn::{Distribution, Init, Layer, conv, max_pool, numbered, sequential};

/// The net of figure 3.
pub const ZFNET: Architecture = Architecture {
    name: "zfnet",
    paper: "Zeiler and Fergus, Visualizing and Understanding Convolutional Networks",
    year: 2013,
    input: (3, 224, 224),
    classes: 1000,
    params: 62_357_608,
    // The paper's deviation of 0.01 needs 70 epochs of ImageNet to get going; see `alexnet`.
    init: Init { conv: Distribution::KaimingNormal, linear: Distribution::Xavier, zero_bias: true },
    build: zfnet,
};

/// The tree (figure 3); sizes are those of a 224x224 input.
///
/// # Errors
/// Where the input is too small.
pub fn zfnet(config: &Config) -> Result<Layer> {
    // The paper's contrast normalisation has AlexNet's numbers here.
    let features = numbered([
        conv(config.channels(), 96, 7).stride(2).padding(1).into(), // N x 96 x 110 x 110
        Layer::Relu,
        max_pool(3, 2).ceil().into(), // N x 96 x 55 x 55
        response_norm(),
        conv(96, 256, 5).stride(2).into(), // N x 256 x 26 x 26
        Layer::Relu,
        max_pool(3, 2).ceil().into(), // N x 256 x 13 x 13
        response_norm(),
        conv(256, 384, 3).padding(1).into(), // N x 384 x 13 x 13
        Layer::Relu,
        conv(384, 384, 3).padding(1).into(),
        Layer::Relu,
        conv(384, 256, 3).padding(1).into(), // N x 256 x 13 x 13
        Layer::Relu,
        max_pool(3, 2).into(), // N x 256 x 6 x 6
    ]);
    let classifier = config.classifier(config.features_after(&features)?);
    Ok(sequential([
        ("features", features),
        ("flatten", Layer::Flatten),
        ("classifier", classifier),
    ]))
}
