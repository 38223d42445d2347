//! ResNet (He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", 2015), as in
//! torchvision: a bottleneck's stride is in its 3x3 convolution ("v1.5").

use super::{Architecture, Config, Stem};
use crate::nn::{
    Conv2d, Distribution, Init, Layer, adaptive_avg_pool, batch_norm, conv, linear, max_pool,
    numbered, residual, sequential,
};

/// The paper's Table 1: 18 layers.
pub const RESNET18: Architecture =
    entry("resnet18", 11_689_512, |config| Ok(resnet(config, Block::Basic, [2, 2, 2, 2])));
/// 34 layers.
pub const RESNET34: Architecture =
    entry("resnet34", 21_797_672, |config| Ok(resnet(config, Block::Basic, [3, 4, 6, 3])));
/// 50 layers.
pub const RESNET50: Architecture =
    entry("resnet50", 25_557_032, |config| Ok(resnet(config, Block::Bottleneck, [3, 4, 6, 3])));
/// 101 layers.
pub const RESNET101: Architecture =
    entry("resnet101", 44_549_160, |config| Ok(resnet(config, Block::Bottleneck, [3, 4, 23, 3])));
/// 152 layers.
pub const RESNET152: Architecture =
    entry("resnet152", 60_192_808, |config| Ok(resnet(config, Block::Bottleneck, [3, 8, 36, 3])));

const fn entry(
    name: &'static str,
    params: usize,
    build: fn(&Config) -> crate::Result<Layer>,
) -> Architecture {
    Architecture {
        name,
        paper: "He et al., Deep Residual Learning for Image Recognition",
        year: 2015,
        input: (3, 224, 224),
        classes: 1000,
        params,
        init: Init {
            conv: Distribution::KaimingNormal,
            linear: Distribution::PyTorch,
            zero_bias: false,
        },
        build,
    }
}

/// The two residual blocks (figure 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Two 3x3 convolutions.
    Basic,
    /// 1x1 down to a quarter, 3x3, 1x1 up again.
    Bottleneck,
}

/// The tree, with `blocks` residual blocks in each stage; sizes are those of a 224x224 input.
pub fn resnet(config: &Config, block: Block, blocks: [usize; 4]) -> Layer {
    let mut inputs = 64;
    let mut stage = |width: usize, count: usize, stride: usize| {
        numbered((0..count).map(|i| {
            let layer = block.layer(inputs, width, if i == 0 { stride } else { 1 });
            inputs = width * block.expansion();
            layer
        }))
    };
    let stages = [
        ("layer1", stage(64, blocks[0], 1)), // N x 64 x 56 x 56, times the expansion
        ("layer2", stage(128, blocks[1], 2)), // N x 128 x 28 x 28
        ("layer3", stage(256, blocks[2], 2)), // N x 256 x 14 x 14
        ("layer4", stage(512, blocks[3], 2)), // N x 512 x 7 x 7
    ];
    let first = match config.stem {
        Stem::Paper => conv(config.channels(), 64, 7).stride(2).padding(3).no_bias(),
        Stem::Cifar => conv3x3(config.channels(), 64, 1), // N x 64 x 32 x 32, of a 32x32 input
    };
    let mut stem = vec![
        ("conv1", first.into()),
        ("bn1", batch_norm(64)), // N x 64 x 112 x 112
        ("relu", Layer::Relu),
    ];
    if config.stem == Stem::Paper {
        stem.push(("maxpool", max_pool(3, 2).padding(1).into())); // N x 64 x 56 x 56
    }
    let head = [
        ("avgpool", adaptive_avg_pool(1)),
        ("flatten", Layer::Flatten),
        ("fc", linear(inputs, config.classes)),
    ];
    sequential(stem.into_iter().chain(stages).chain(head))
}

/// 3x3 that keeps the size, but for its stride.
pub(super) fn conv3x3(inputs: usize, outputs: usize, stride: usize) -> Conv2d {
    conv(inputs, outputs, 3).stride(stride).padding(1).no_bias()
}

fn conv1x1(inputs: usize, outputs: usize, stride: usize) -> Conv2d {
    conv(inputs, outputs, 1).stride(stride).no_bias()
}

impl Block {
    /// Output channels over width.
    fn expansion(self) -> usize {
        match self {
            Block::Basic => 1,
            Block::Bottleneck => 4,
        }
    }

    /// One block; the shortcut is a projection where shapes change (option B of section 3.3).
    fn layer(self, inputs: usize, width: usize, stride: usize) -> Layer {
        let outputs = width * self.expansion();
        let projection =
            || numbered([conv1x1(inputs, outputs, stride).into(), batch_norm(outputs)]);
        let shortcut = (stride != 1 || inputs != outputs).then(|| ("downsample", projection()));
        match self {
            Block::Basic => residual(
                [
                    ("conv1", conv3x3(inputs, width, stride).into()),
                    ("bn1", batch_norm(width)),
                    ("relu", Layer::Relu),
                    ("conv2", conv3x3(width, width, 1).into()),
                    ("bn2", batch_norm(width)),
                ],
                shortcut,
            ),
            Block::Bottleneck => residual(
                [
                    ("conv1", conv1x1(inputs, width, 1).into()),
                    ("bn1", batch_norm(width)),
                    ("relu", Layer::Relu),
                    ("conv2", conv3x3(width, width, stride).into()),
                    ("bn2", batch_norm(width)),
                    ("relu2", Layer::Relu),
                    ("conv3", conv1x1(width, outputs, 1).into()),
                    ("bn3", batch_norm(outputs)),
                ],
                shortcut,
            ),
        }
    }
}
