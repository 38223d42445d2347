//! The residual nets for CIFAR-10 (He, Zhang, Ren and Sun, "Deep Residual Learning for Image
//! Recognition", 2015, section 4.2): 6n + 2 layers on 32x32 pictures, with both kinds of shortcuts,
//! and beside them the plain nets without any, which get worse as they get deeper.

use super::resnet::conv3x3;
use super::{Architecture, Config};
use crate::Result;
use crate::nn::{
    Distribution, Init, Layer, adaptive_avg_pool, batch_norm, conv, linear, numbered, residual,
    sequential,
};

/// What stands beside two convolutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortcut {
    /// Nothing: a plain net.
    None,
    /// The identity; zeros for the channels there are more of (option A, the paper's choice here).
    A,
    /// The identity; a 1x1 convolution where sizes change (option B).
    B,
}

/// The entry of a net with `n` blocks a stage.
macro_rules! entry {
    ($name:literal, $n:literal, $shortcut:ident, $params:literal) => {
        Architecture {
            name: $name,
            paper: "He et al., Deep Residual Learning for Image Recognition (section 4.2)",
            year: 2015,
            input: (3, 32, 32),
            classes: 10,
            params: $params,
            init: Init {
                conv: Distribution::KaimingNormal,
                linear: Distribution::PyTorch,
                zero_bias: false,
            },
            build: |config| Ok(cifar_resnet(config, $n, Shortcut::$shortcut)) as Result<Layer>,
        }
    };
}

/// The paper's Table 6, with shortcuts A.
pub const OPTION_A: [Architecture; 6] = [
    entry!("resnet20", 3, A, 269_722),
    entry!("resnet32", 5, A, 464_154),
    entry!("resnet44", 7, A, 658_586),
    entry!("resnet56", 9, A, 853_018),
    entry!("resnet110", 18, A, 1_727_962),
    entry!("resnet1202", 200, A, 19_421_274),
];

/// The same with shortcuts B.
pub const OPTION_B: [Architecture; 6] = [
    entry!("resnet20-b", 3, B, 272_474),
    entry!("resnet32-b", 5, B, 466_906),
    entry!("resnet44-b", 7, B, 661_338),
    entry!("resnet56-b", 9, B, 855_770),
    entry!("resnet110-b", 18, B, 1_730_714),
    entry!("resnet1202-b", 200, B, 19_424_026),
];

/// The plain nets of figure 6, left.
pub const PLAIN: [Architecture; 5] = [
    entry!("plain20", 3, None, 269_722),
    entry!("plain32", 5, None, 464_154),
    entry!("plain44", 7, None, 658_586),
    entry!("plain56", 9, None, 853_018),
    entry!("plain110", 18, None, 1_727_962),
];

/// The tree, with `n` blocks in each of the three stages; sizes are those of a 32x32 input.
pub fn cifar_resnet(config: &Config, n: usize, shortcut: Shortcut) -> Layer {
    let stage = |inputs: usize, width: usize| {
        numbered((0..n).map(|i| {
            let first = i == 0 && inputs != width;
            block(if first { inputs } else { width }, width, shortcut)
        }))
    };
    sequential([
        ("conv1", conv3x3(config.channels(), 16, 1).into()),
        ("bn1", batch_norm(16)),
        ("relu", Layer::Relu),
        ("layer1", stage(16, 16)), // N x 16 x 32 x 32
        ("layer2", stage(16, 32)), // N x 32 x 16 x 16
        ("layer3", stage(32, 64)), // N x 64 x 8 x 8
        ("avgpool", adaptive_avg_pool(1)),
        ("flatten", Layer::Flatten),
        ("fc", linear(64, config.classes)),
    ])
}

/// Two 3x3 convolutions; the first halves the picture where the width grows.
fn block(inputs: usize, width: usize, shortcut: Shortcut) -> Layer {
    let stride = if inputs == width { 1 } else { 2 };
    let body = [
        ("conv1", conv3x3(inputs, width, stride).into()),
        ("bn1", batch_norm(width)),
        ("relu", Layer::Relu),
        ("conv2", conv3x3(width, width, 1).into()),
        ("bn2", batch_norm(width)),
    ];
    let aside = || match shortcut {
        Shortcut::B => {
            numbered([conv(inputs, width, 1).stride(stride).no_bias().into(), batch_norm(width)])
        }
        _ => Layer::PaddedIdentity { inputs, outputs: width, stride },
    };
    match shortcut {
        Shortcut::None => sequential(body.into_iter().chain([("relu2", Layer::Relu)])),
        _ => residual(body, (stride != 1).then(|| ("downsample", aside()))),
    }
}
