//! AlexNet (Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional
//! Neural Networks", 2012), and its one-tower form (Krizhevsky, "One weird trick for parallelizing
//! convolutional neural networks", 2014), which is torchvision's.

use super::{Architecture, Config};
use crate::Result;
use crate::nn::{
    Distribution, Init, Layer, adaptive_avg_pool, conv, linear, lrn, max_pool, numbered, sequential,
};

/// The one-tower net.
pub const ALEXNET: Architecture = Architecture {
    name: "alexnet",
    paper: "Krizhevsky, One weird trick for parallelizing convolutional neural networks",
    year: 2014,
    input: (3, 224, 224),
    classes: 1000,
    params: 61_100_840,
    init: Init::PYTORCH,
    build: |config| Ok(alexnet(config)),
};

/// The net of the 2012 paper: two groups, local response normalisation.
pub const ALEXNET_PAPER: Architecture = Architecture {
    name: "alexnet-paper",
    paper: "Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks",
    year: 2012,
    input: (3, 227, 227),
    classes: 1000,
    params: 60_965_224,
    // The paper's deviation of 0.01 was made for 90 epochs of 1.2 million pictures; this one learns
    // from small sets too.
    init: Init { conv: Distribution::KaimingNormal, linear: Distribution::Xavier, zero_bias: true },
    build: alexnet_paper,
};

/// torchvision's tree; sizes are those of a 224x224 input.
pub fn alexnet(config: &Config) -> Layer {
    let features = numbered([
        conv(config.channels(), 64, 11).stride(4).padding(2).into(), // N x 64 x 55 x 55
        Layer::Relu,
        max_pool(3, 2).into(),              // N x 64 x 27 x 27
        conv(64, 192, 5).padding(2).into(), // N x 192 x 27 x 27
        Layer::Relu,
        max_pool(3, 2).into(),               // N x 192 x 13 x 13
        conv(192, 384, 3).padding(1).into(), // N x 384 x 13 x 13
        Layer::Relu,
        conv(384, 256, 3).padding(1).into(), // N x 256 x 13 x 13
        Layer::Relu,
        conv(256, 256, 3).padding(1).into(),
        Layer::Relu,
        max_pool(3, 2).into(), // N x 256 x 6 x 6
    ]);
    let classifier = numbered([
        config.dropout(0.5),
        linear(256 * 6 * 6, 4096),
        Layer::Relu,
        config.dropout(0.5),
        linear(4096, 4096),
        Layer::Relu,
        linear(4096, config.classes),
    ]);
    sequential([
        ("features", features),
        ("avgpool", adaptive_avg_pool(6)),
        ("flatten", Layer::Flatten),
        ("classifier", classifier),
    ])
}

/// Section 3.3: k = 2, n = 5, α = 1e-4, β = 0.75. There α multiplies the sum, here the mean over n.
pub(super) fn response_norm() -> Layer {
    lrn(5, 5.0 * 1e-4, 0.75, 2.0)
}

/// The paper's tree (figure 2); sizes are those of a 227x227 input, which is what its numbers need.
///
/// # Errors
/// Where the input is too small.
pub fn alexnet_paper(config: &Config) -> Result<Layer> {
    let features = numbered([
        conv(config.channels(), 96, 11).stride(4).into(), // N x 96 x 55 x 55
        Layer::Relu,
        response_norm(),
        max_pool(3, 2).into(),                        // N x 96 x 27 x 27
        conv(96, 256, 5).padding(2).groups(2).into(), // N x 256 x 27 x 27
        Layer::Relu,
        response_norm(),
        max_pool(3, 2).into(),               // N x 256 x 13 x 13
        conv(256, 384, 3).padding(1).into(), // N x 384 x 13 x 13
        Layer::Relu,
        conv(384, 384, 3).padding(1).groups(2).into(),
        Layer::Relu,
        conv(384, 256, 3).padding(1).groups(2).into(), // N x 256 x 13 x 13
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
