//! GoogLeNet (Szegedy et al., "Going Deeper with Convolutions", 2014): the paper's, and torchvision's
//! with batch norm.

use super::{Architecture, Config};
use crate::Result;
use crate::nn::{
    Distribution, Init, Layer, adaptive_avg_pool, aux_head, avg_pool, branches, conv, linear, lrn,
    max_pool, sequential,
};

const PAPER: &str = "Szegedy et al., Going Deeper with Convolutions";
/// Weight of an auxiliary head's loss (section 5).
const AUX_WEIGHT: f64 = 0.3;

/// torchvision's: batch norm, ceil-mode pooling, and 3x3 in the "5x5" branches.
pub const GOOGLENET: Architecture = Architecture {
    name: "googlenet",
    paper: PAPER,
    year: 2014,
    input: (3, 224, 224),
    classes: 1000,
    params: 6_624_904,
    init: Init {
        conv: Distribution::TruncatedNormal(0.01),
        linear: Distribution::TruncatedNormal(0.01),
        zero_bias: false,
    },
    build: |config| googlenet(config, Style::Torchvision),
};

/// The paper's: no batch norm, real 5x5, local response normalisation.
pub const GOOGLENET_PAPER: Architecture = Architecture {
    name: "googlenet-paper",
    params: 6_998_552,
    // The paper says nothing of it; Xavier's, which the published Caffe net begins with.
    init: Init::XAVIER,
    build: |config| googlenet(config, Style::Paper),
    ..GOOGLENET
};

/// Which of the two nets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Convolutions with a bias, 5x5 branches, local response normalisation.
    Paper,
    /// Batch norm after each convolution, 3x3 in place of 5x5.
    Torchvision,
}

/// The tree (the paper's Table 1); sizes are those of a 224x224 input.
///
/// # Errors
/// Where the input is too small for the paper's auxiliary heads.
pub fn googlenet(config: &Config, style: Style) -> Result<Layer> {
    let unit = |inputs, outputs, kernel| style.conv_unit(inputs, outputs, kernel, 1);
    let module = |widths| inception(style, widths);
    let pool = || max_pool(3, 2).ceil().into();
    let mut layers: Vec<(&str, Layer)> = vec![
        ("conv1", style.conv_unit(config.channels(), 64, 7, 2)), // N x 64 x 112 x 112
        ("maxpool1", pool()),                                    // N x 64 x 56 x 56
    ];
    style.normalise("norm1", &mut layers);
    layers.extend([
        ("conv2", unit(64, 64, 1)),
        ("conv3", unit(64, 192, 3)), // N x 192 x 56 x 56
    ]);
    style.normalise("norm2", &mut layers);
    layers.extend([
        ("maxpool2", pool()),                                      // N x 192 x 28 x 28
        ("inception3a", module([192, 64, 96, 128, 16, 32, 32])),   // N x 256 x 28 x 28
        ("inception3b", module([256, 128, 128, 192, 32, 96, 64])), // N x 480 x 28 x 28
        ("maxpool3", pool()),                                      // N x 480 x 14 x 14
        ("inception4a", module([480, 192, 96, 208, 16, 48, 64])),  // N x 512 x 14 x 14
    ]);
    auxiliary("aux1", 512, config, style, &mut layers)?;
    layers.extend([
        ("inception4b", module([512, 160, 112, 224, 24, 64, 64])), // N x 512 x 14 x 14
        ("inception4c", module([512, 128, 128, 256, 24, 64, 64])), // N x 512 x 14 x 14
        ("inception4d", module([512, 112, 144, 288, 32, 64, 64])), // N x 528 x 14 x 14
    ]);
    auxiliary("aux2", 528, config, style, &mut layers)?;
    let last_pool = if style == Style::Paper { pool() } else { max_pool(2, 2).ceil().into() };
    layers.extend([
        ("inception4e", module([528, 256, 160, 320, 32, 128, 128])), // N x 832 x 14 x 14
        ("maxpool4", last_pool),                                     // N x 832 x 7 x 7
        ("inception5a", module([832, 256, 160, 320, 32, 128, 128])), // N x 832 x 7 x 7
        ("inception5b", module([832, 384, 192, 384, 48, 128, 128])), // N x 1024 x 7 x 7
        ("avgpool", adaptive_avg_pool(1)),
        ("flatten", Layer::Flatten), // N x 1024
        ("dropout", config.dropout(if style == Style::Paper { 0.4 } else { 0.2 })),
        ("fc", linear(1024, config.classes)),
    ]);
    Ok(sequential(layers))
}

/// The naive inception module (figure 2a): windows of 1x1, 3x3 and 5x5 and a 3x3 pooling side by side.
/// Nothing narrows what they work on, and the pooling passes all channels on. Widths: input, #1x1,
/// #3x3, #5x5.
pub fn naive_inception(style: Style, widths: [usize; 4]) -> Layer {
    let [inputs, one, three, five] = widths;
    let unit = |outputs, kernel| style.conv_unit(inputs, outputs, kernel, 1);
    branches([
        ("branch1", unit(one, 1)),
        ("branch2", unit(three, 3)),
        ("branch3", unit(five, 5)),
        ("branch4", max_pool(3, 1).padding(1).into()),
    ])
}

/// An inception module (figure 2b). Widths as in Table 1: input, #1x1, #3x3 reduce, #3x3, #5x5
/// reduce, #5x5, pool proj.
pub fn inception(style: Style, widths: [usize; 7]) -> Layer {
    let [inputs, one, reduce3, three, reduce5, five, proj] = widths;
    let unit = |inputs, outputs, kernel| style.conv_unit(inputs, outputs, kernel, 1);
    let largest = if style == Style::Paper { 5 } else { 3 };
    let pool = max_pool(3, 1).padding(1).ceil().into();
    branches([
        ("branch1", unit(inputs, one, 1)),
        ("branch2", sequential([("0", unit(inputs, reduce3, 1)), ("1", unit(reduce3, three, 3))])),
        (
            "branch3",
            sequential([("0", unit(inputs, reduce5, 1)), ("1", unit(reduce5, five, largest))]),
        ),
        ("branch4", sequential([("0", pool), ("1", unit(inputs, proj, 1))])),
    ])
}

/// An auxiliary classifier (section 5), where the config asks for them.
fn auxiliary(
    name: &'static str,
    inputs: usize,
    config: &Config,
    style: Style,
    layers: &mut Vec<(&'static str, Layer)>,
) -> Result<()> {
    if !config.aux {
        return Ok(());
    }
    // The paper pools 5x5 with stride 3, which makes 4x4 of 14x14.
    let pool = if style == Style::Paper { avg_pool(5, 3) } else { adaptive_avg_pool(4) };
    let mut head = vec![
        ("pool", pool),
        ("conv", style.conv_unit(inputs, 128, 1, 1)),
        ("flatten", Layer::Flatten),
    ];
    let so_far = layers.iter().cloned().chain(head.iter().cloned());
    let features = config.features_after(&sequential(so_far))?;
    head.extend([
        ("fc1", linear(features, 1024)),
        ("relu", Layer::Relu),
        ("dropout", config.dropout(0.7)),
        ("fc2", linear(1024, config.classes)),
    ]);
    layers.push((name, aux_head(sequential(head), AUX_WEIGHT)));
    Ok(())
}

impl Style {
    /// A convolution that keeps the size (but for its stride), and its ReLU.
    fn conv_unit(self, inputs: usize, outputs: usize, kernel: usize, stride: usize) -> Layer {
        let conv = conv(inputs, outputs, kernel).stride(stride).padding(kernel / 2);
        match self {
            Style::Paper => sequential([("conv", conv.into()), ("relu", Layer::Relu)]),
            Style::Torchvision => sequential([
                ("conv", conv.no_bias().into()),
                ("bn", Layer::BatchNorm2d { channels: outputs, eps: 1e-3, momentum: 0.1 }),
                ("relu", Layer::Relu),
            ]),
        }
    }

    /// The paper's local response normalisation.
    fn normalise(self, name: &'static str, layers: &mut Vec<(&'static str, Layer)>) {
        if self == Style::Paper {
            layers.push((name, lrn(5, 1e-4, 0.75, 1.0)));
        }
    }
}
