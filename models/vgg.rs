//! VGG (Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
//! Recognition", 2014), with and without batch norm, as in torchvision.

use super::{Architecture, Config};
use crate::nn::{
    Distribution, Init, Layer, adaptive_avg_pool, batch_norm, conv, max_pool, numbered, sequential,
};

/// The paper's Table 1: channels of the 3x3 convolutions of each stage; a 2x2 max pooling ends one.
type Stages = [&'static [usize]; 5];

const A: Stages = [&[64], &[128], &[256; 2], &[512; 2], &[512; 2]];
const B: Stages = [&[64; 2], &[128; 2], &[256; 2], &[512; 2], &[512; 2]];
const D: Stages = [&[64; 2], &[128; 2], &[256; 3], &[512; 3], &[512; 3]];
const E: Stages = [&[64; 2], &[128; 2], &[256; 4], &[512; 4], &[512; 4]];

/// Configuration A.
pub const VGG11: Architecture = entry("vgg11", 132_863_336, |config| Ok(vgg(config, &A, false)));
/// Configuration A with batch norm.
pub const VGG11_BN: Architecture =
    entry("vgg11_bn", 132_868_840, |config| Ok(vgg(config, &A, true)));
/// Configuration B.
pub const VGG13: Architecture = entry("vgg13", 133_047_848, |config| Ok(vgg(config, &B, false)));
/// Configuration B with batch norm.
pub const VGG13_BN: Architecture =
    entry("vgg13_bn", 133_053_736, |config| Ok(vgg(config, &B, true)));
/// Configuration D.
pub const VGG16: Architecture = entry("vgg16", 138_357_544, |config| Ok(vgg(config, &D, false)));
/// Configuration D with batch norm.
pub const VGG16_BN: Architecture =
    entry("vgg16_bn", 138_365_992, |config| Ok(vgg(config, &D, true)));
/// Configuration E.
pub const VGG19: Architecture = entry("vgg19", 143_667_240, |config| Ok(vgg(config, &E, false)));
/// Configuration E with batch norm.
pub const VGG19_BN: Architecture =
    entry("vgg19_bn", 143_678_248, |config| Ok(vgg(config, &E, true)));

const fn entry(
    name: &'static str,
    params: usize,
    build: fn(&Config) -> crate::Result<Layer>,
) -> Architecture {
    Architecture {
        name,
        paper: "Simonyan and Zisserman, Very Deep Convolutional Networks",
        year: 2014,
        input: (3, 224, 224),
        classes: 1000,
        params,
        init: Init {
            conv: Distribution::KaimingNormal,
            linear: Distribution::Normal(0.01),
            zero_bias: true,
        },
        build,
    }
}

/// torchvision's tree for one column of Table 1.
pub fn vgg(config: &Config, stages: &Stages, norm: bool) -> Layer {
    let mut features = Vec::new();
    let mut inputs = config.channels();
    for stage in stages {
        for &outputs in *stage {
            features.push(conv(inputs, outputs, 3).padding(1).into());
            if norm {
                features.push(batch_norm(outputs));
            }
            features.push(Layer::Relu);
            inputs = outputs;
        }
        features.push(max_pool(2, 2).into()); // halves: 224, 112, 56, 28, 14, 7
    }
    let classifier = config.classifier(512 * 7 * 7);
    sequential([
        ("features", numbered(features)),
        ("avgpool", adaptive_avg_pool(7)),
        ("flatten", Layer::Flatten),
        ("classifier", classifier),
    ])
}
