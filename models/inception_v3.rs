//! Inception-v3 (Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, "Rethinking the Inception Architecture
//! for Computer Vision", 2015), as in torchvision: large windows are made of small and of
//! one-dimensional ones.

use super::{Architecture, Config};
use crate::nn::{
    Conv2d, Distribution, Init, Layer, adaptive_avg_pool, aux_head, avg_pool, branches, conv,
    linear, max_pool, sequential,
};
use crate::ops::AvgPool2dParams;

/// Table 1 of the paper, with torchvision's padding.
pub const INCEPTION_V3: Architecture = Architecture {
    name: "inception_v3",
    paper: "Szegedy et al., Rethinking the Inception Architecture for Computer Vision",
    year: 2015,
    input: (3, 299, 299),
    classes: 1000,
    params: 23_834_568,
    init: Init {
        conv: Distribution::TruncatedNormal(0.1),
        linear: Distribution::TruncatedNormal(0.1),
        zero_bias: false,
    },
    build: |config| Ok(inception_v3(config)),
};

/// The tree; sizes are those of a 299x299 input.
pub fn inception_v3(config: &Config) -> Layer {
    let mut layers = vec![
        ("Conv2d_1a_3x3", unit(conv(config.channels(), 32, 3).stride(2))), // N x 32 x 149 x 149
        ("Conv2d_2a_3x3", unit(conv(32, 32, 3))),                          // N x 32 x 147 x 147
        ("Conv2d_2b_3x3", unit(conv(32, 64, 3).same())),                   // N x 64 x 147 x 147
        ("maxpool1", max_pool(3, 2).into()),                               // N x 64 x 73 x 73
        ("Conv2d_3b_1x1", unit(conv(64, 80, 1))),                          // N x 80 x 73 x 73
        ("Conv2d_4a_3x3", unit(conv(80, 192, 3))),                         // N x 192 x 71 x 71
        ("maxpool2", max_pool(3, 2).into()),                               // N x 192 x 35 x 35
        ("Mixed_5b", square(192, 32)),                                     // N x 256 x 35 x 35
        ("Mixed_5c", square(256, 64)),                                     // N x 288 x 35 x 35
        ("Mixed_5d", square(288, 64)),                                     // N x 288 x 35 x 35
        ("Mixed_6a", to_17(288)),                                          // N x 768 x 17 x 17
        ("Mixed_6b", one_dimensional(768, 128)),
        ("Mixed_6c", one_dimensional(768, 160)),
        ("Mixed_6d", one_dimensional(768, 160)),
        ("Mixed_6e", one_dimensional(768, 192)),
    ];
    if config.aux {
        layers.push(("AuxLogits", auxiliary(768, config.classes)));
    }
    layers.extend([
        ("Mixed_7a", to_8(768)),    // N x 1280 x 8 x 8
        ("Mixed_7b", spread(1280)), // N x 2048 x 8 x 8
        ("Mixed_7c", spread(2048)), // N x 2048 x 8 x 8
        ("avgpool", adaptive_avg_pool(1)),
        ("dropout", config.dropout(0.5)),
        ("flatten", Layer::Flatten),
        ("fc", linear(2048, config.classes)),
    ]);
    sequential(layers)
}

/// A convolution without bias, its batch norm and its ReLU.
pub(super) fn unit(conv: Conv2d) -> Layer {
    let channels = conv.outputs;
    sequential([
        ("conv", conv.no_bias().into()),
        ("bn", Layer::BatchNorm2d { channels, eps: 1e-3, momentum: 0.1 }),
        ("relu", Layer::Relu),
    ])
}

/// 3x3 average pooling that keeps the size, then 1x1.
fn pooled(inputs: usize, outputs: usize) -> Layer {
    let pool = AvgPool2dParams { padding: (1, 1), ..AvgPool2dParams::new(3, 1) };
    sequential([("pool", pool.into()), ("branch_pool", unit(conv(inputs, outputs, 1)))])
}

/// Figure 5: a 5x5 window made of two of 3x3.
fn square(inputs: usize, pool: usize) -> Layer {
    let five = sequential([
        ("branch5x5_1", unit(conv(inputs, 48, 1))),
        ("branch5x5_2", unit(conv(48, 64, 5).same())),
    ]);
    let double = sequential([
        ("branch3x3dbl_1", unit(conv(inputs, 64, 1))),
        ("branch3x3dbl_2", unit(conv(64, 96, 3).same())),
        ("branch3x3dbl_3", unit(conv(96, 96, 3).same())),
    ]);
    let one = unit(conv(inputs, 64, 1));
    branches([("branch1x1", one), ("", five), ("", double), ("", pooled(inputs, pool))])
}

/// Figure 10: fewer pixels without a bottleneck, 35x35 to 17x17.
fn to_17(inputs: usize) -> Layer {
    let double = sequential([
        ("branch3x3dbl_1", unit(conv(inputs, 64, 1))),
        ("branch3x3dbl_2", unit(conv(64, 96, 3).same())),
        ("branch3x3dbl_3", unit(conv(96, 96, 3).stride(2))),
    ]);
    let three = unit(conv(inputs, 384, 3).stride(2));
    branches([("branch3x3", three), ("", double), ("branch_pool", max_pool(3, 2).into())])
}

/// Figure 6: windows of 7x7 made of 1x7 and 7x1, `c` channels between them.
fn one_dimensional(inputs: usize, c: usize) -> Layer {
    let wide = |inputs, outputs| unit(conv(inputs, outputs, 1).rectangular(1, 7).same());
    let high = |inputs, outputs| unit(conv(inputs, outputs, 1).rectangular(7, 1).same());
    let seven = sequential([
        ("branch7x7_1", unit(conv(inputs, c, 1))),
        ("branch7x7_2", wide(c, c)),
        ("branch7x7_3", high(c, 192)),
    ]);
    let double = sequential([
        ("branch7x7dbl_1", unit(conv(inputs, c, 1))),
        ("branch7x7dbl_2", high(c, c)),
        ("branch7x7dbl_3", wide(c, c)),
        ("branch7x7dbl_4", high(c, c)),
        ("branch7x7dbl_5", wide(c, 192)),
    ]);
    let one = unit(conv(inputs, 192, 1));
    branches([("branch1x1", one), ("", seven), ("", double), ("", pooled(inputs, 192))])
}

/// 17x17 to 8x8.
fn to_8(inputs: usize) -> Layer {
    let three = sequential([
        ("branch3x3_1", unit(conv(inputs, 192, 1))),
        ("branch3x3_2", unit(conv(192, 320, 3).stride(2))),
    ]);
    let seven = sequential([
        ("branch7x7x3_1", unit(conv(inputs, 192, 1))),
        ("branch7x7x3_2", unit(conv(192, 192, 1).rectangular(1, 7).same())),
        ("branch7x7x3_3", unit(conv(192, 192, 1).rectangular(7, 1).same())),
        ("branch7x7x3_4", unit(conv(192, 192, 3).stride(2))),
    ]);
    branches([("", three), ("", seven), ("branch_pool", max_pool(3, 2).into())])
}

/// Figure 7: 1x3 and 3x1 side by side, for many channels on few pixels.
fn spread(inputs: usize) -> Layer {
    let wide = || unit(conv(384, 384, 1).rectangular(1, 3).same());
    let high = || unit(conv(384, 384, 1).rectangular(3, 1).same());
    let three = sequential([
        ("branch3x3_1", unit(conv(inputs, 384, 1))),
        ("", branches([("branch3x3_2a", wide()), ("branch3x3_2b", high())])),
    ]);
    let double = sequential([
        ("branch3x3dbl_1", unit(conv(inputs, 448, 1))),
        ("branch3x3dbl_2", unit(conv(448, 384, 3).same())),
        ("", branches([("branch3x3dbl_3a", wide()), ("branch3x3dbl_3b", high())])),
    ]);
    let one = unit(conv(inputs, 320, 1));
    branches([("branch1x1", one), ("", three), ("", double), ("", pooled(inputs, 192))])
}

/// The auxiliary classifier (section 4 and figure 8).
fn auxiliary(inputs: usize, classes: usize) -> Layer {
    let head = sequential([
        ("pool", avg_pool(5, 3)),              // N x 768 x 5 x 5
        ("conv0", unit(conv(inputs, 128, 1))), // N x 128 x 5 x 5
        ("conv1", unit(conv(128, 768, 5))),    // N x 768 x 1 x 1
        ("avgpool", adaptive_avg_pool(1)),
        ("flatten", Layer::Flatten),
        ("fc", linear(768, classes)),
    ]);
    aux_head(head, 0.4)
}
