//! Inception-v4 (Szegedy, Ioffe, Vanhoucke and Alemi, "Inception-v4, Inception-ResNet and the Impact
//! of Residual Connections on Learning", 2016). torchvision has none: names are timm's.

use super::inception_v3::unit;
use super::{Architecture, Config};
use crate::nn::{
    Conv2d, Layer, adaptive_avg_pool, branches, conv, linear, max_pool, numbered, sequential,
};
use crate::ops::AvgPool2dParams;

/// Figure 9 of the paper.
pub const INCEPTION_V4: Architecture = Architecture {
    name: "inception_v4",
    paper: "Szegedy et al., Inception-v4, Inception-ResNet and the Impact of Residual Connections",
    year: 2016,
    params: 42_679_816,
    build: |config| Ok(inception_v4(config)),
    ..super::inception_v3::INCEPTION_V3
};

/// The tree; sizes are those of a 299x299 input.
pub fn inception_v4(config: &Config) -> Layer {
    let mut features = vec![
        unit(conv(config.channels(), 32, 3).stride(2)), // N x 32 x 149 x 149
        unit(conv(32, 32, 3)),                          // N x 32 x 147 x 147
        unit(conv(32, 64, 3).same()),                   // N x 64 x 147 x 147
        stem_a(),                                       // N x 160 x 73 x 73
        stem_b(),                                       // N x 192 x 71 x 71
        stem_c(),                                       // N x 384 x 35 x 35
    ];
    features.extend((0..4).map(|_| inception_a())); // N x 384 x 35 x 35
    features.push(reduction_a()); // N x 1024 x 17 x 17
    features.extend((0..7).map(|_| inception_b())); // N x 1024 x 17 x 17
    features.push(reduction_b()); // N x 1536 x 8 x 8
    features.extend((0..3).map(|_| inception_c())); // N x 1536 x 8 x 8
    sequential([
        ("features", numbered(features)),
        ("global_pool", adaptive_avg_pool(1)),
        ("flatten", Layer::Flatten),
        ("dropout", config.dropout(0.2)), // the paper keeps 0.8
        ("last_linear", linear(1536, config.classes)),
    ])
}

fn one(inputs: usize, outputs: usize) -> Layer {
    unit(conv(inputs, outputs, 1))
}

fn three(inputs: usize, outputs: usize) -> Layer {
    unit(conv(inputs, outputs, 3).same())
}

/// 3x3 without padding.
fn valid(inputs: usize, outputs: usize) -> Conv2d {
    conv(inputs, outputs, 3)
}

fn wide(inputs: usize, outputs: usize, width: usize) -> Layer {
    unit(conv(inputs, outputs, 1).rectangular(1, width).same())
}

fn high(inputs: usize, outputs: usize, height: usize) -> Layer {
    unit(conv(inputs, outputs, 1).rectangular(height, 1).same())
}

/// 3x3 average pooling that keeps the size and does not count the padding, then 1x1.
fn pooled(inputs: usize, outputs: usize) -> Layer {
    let pool =
        AvgPool2dParams { padding: (1, 1), count_include_pad: false, ..AvgPool2dParams::new(3, 1) };
    numbered([pool.into(), one(inputs, outputs)])
}

/// Figure 3, first fork.
fn stem_a() -> Layer {
    branches([("maxpool", max_pool(3, 2).into()), ("conv", unit(valid(64, 96).stride(2)))])
}

/// Figure 3, second fork.
fn stem_b() -> Layer {
    let square = numbered([one(160, 64), unit(valid(64, 96))]);
    let crossed = numbered([one(160, 64), wide(64, 64, 7), high(64, 64, 7), unit(valid(64, 96))]);
    branches([("branch0", square), ("branch1", crossed)])
}

/// Figure 3, third fork.
fn stem_c() -> Layer {
    branches([("conv", unit(valid(192, 192).stride(2))), ("maxpool", max_pool(3, 2).into())])
}

/// Figure 4: the module for 35x35.
fn inception_a() -> Layer {
    branches([
        ("branch0", one(384, 96)),
        ("branch1", numbered([one(384, 64), three(64, 96)])),
        ("branch2", numbered([one(384, 64), three(64, 96), three(96, 96)])),
        ("branch3", pooled(384, 96)),
    ])
}

/// Figure 7: 35x35 to 17x17.
fn reduction_a() -> Layer {
    let double = [one(384, 192), three(192, 224), unit(valid(224, 256).stride(2))];
    branches([
        ("branch0", unit(valid(384, 384).stride(2))),
        ("branch1", numbered(double)),
        ("branch2", max_pool(3, 2).into()),
    ])
}

/// Figure 5: the module for 17x17.
fn inception_b() -> Layer {
    let double = [
        one(1024, 192),
        high(192, 192, 7),
        wide(192, 224, 7),
        high(224, 224, 7),
        wide(224, 256, 7),
    ];
    branches([
        ("branch0", one(1024, 384)),
        ("branch1", numbered([one(1024, 192), wide(192, 224, 7), high(224, 256, 7)])),
        ("branch2", numbered(double)),
        ("branch3", pooled(1024, 128)),
    ])
}

/// Figure 8: 17x17 to 8x8.
fn reduction_b() -> Layer {
    let square = [one(1024, 192), unit(valid(192, 192).stride(2))];
    let crossed =
        [one(1024, 256), wide(256, 256, 7), high(256, 320, 7), unit(valid(320, 320).stride(2))];
    branches([
        ("branch0", numbered(square)),
        ("branch1", numbered(crossed)),
        ("branch2", max_pool(3, 2).into()),
    ])
}

/// Figure 6: the module for 8x8.
fn inception_c() -> Layer {
    let ends = |inputs, names: [&'static str; 2]| {
        branches([(names[0], wide(inputs, 256, 3)), (names[1], high(inputs, 256, 3))])
    };
    let short =
        sequential([("branch1_0", one(1536, 384)), ("", ends(384, ["branch1_1a", "branch1_1b"]))]);
    let long = sequential([
        ("branch2_0", one(1536, 384)),
        ("branch2_1", high(384, 448, 3)),
        ("branch2_2", wide(448, 512, 3)),
        ("", ends(512, ["branch2_3a", "branch2_3b"])),
    ]);
    branches([("branch0", one(1536, 256)), ("", short), ("", long), ("branch3", pooled(1536, 256))])
}
