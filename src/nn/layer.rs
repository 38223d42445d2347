//! The tree that describes an architecture, and short functions to write it down with.

use crate::ops::{AvgPool2dParams, Conv2dParams, LrnParams, MaxPool2dParams, Pair};

/// One layer, or several joined; data only, the weights are elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub enum Layer {
    /// Convolution.
    Conv2d(Conv2d),
    /// Batch normalisation (Ioffe and Szegedy, 2015).
    BatchNorm2d {
        /// Channels.
        channels: usize,
        /// Added to the variance.
        eps: f64,
        /// Weight of a new batch in the running statistics.
        momentum: f64,
    },
    /// Fully connected layer on [N, inputs].
    Linear {
        /// Input features.
        inputs: usize,
        /// Output features.
        outputs: usize,
    },
    /// Local response normalisation (Krizhevsky et al., 2012, section 3.3).
    LocalResponseNorm(LrnParams),
    /// Max pooling.
    MaxPool2d(MaxPool2dParams),
    /// Average pooling.
    AvgPool2d(AvgPool2dParams),
    /// Average pooling to a given height and width.
    AdaptiveAvgPool2d(Pair),
    /// The parameter-free shortcut of He et al. (2016), section 4.2, "option A": every `stride`-th
    /// pixel, with channels of zeros before and after (one more after, where the number is odd).
    PaddedIdentity {
        /// Input channels.
        inputs: usize,
        /// Output channels, no fewer.
        outputs: usize,
        /// Rows, and columns, from one kept pixel to the next.
        stride: usize,
    },
    /// `max(x, 0)`
    Relu,
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// Zeroes values with this probability, in training only.
    Dropout(f64),
    /// [N, C, H, W] to [N, C·H·W]
    Flatten,
    /// Layers one after the other.
    Sequential(Vec<(String, Layer)>),
    /// Layers side by side on the same input, joined along the channels (an inception module).
    Branches(Vec<(String, Layer)>),
    /// `relu(body(x) + shortcut(x))` (He et al., 2016); the shortcut is the identity where `None`.
    Residual {
        /// A [`Layer::Sequential`], whose layers' names stand directly under the block's.
        body: Box<Layer>,
        /// A projection, under its own name.
        shortcut: Option<Box<(String, Layer)>>,
    },
    /// A side exit that is trained with the rest and not there in evaluation; passes its input on.
    AuxHead {
        /// The exit: layers that end in logits.
        head: Box<Layer>,
        /// Its loss's weight beside the main loss.
        weight: f64,
    },
}

/// The description of a convolution; made by [`conv`].
#[derive(Clone, Debug, PartialEq)]
pub struct Conv2d {
    /// Input channels.
    pub inputs: usize,
    /// Output channels (filters).
    pub outputs: usize,
    /// Height and width of the kernel.
    pub kernel: Pair,
    /// Stride, padding, dilation, groups.
    pub params: Conv2dParams,
    /// Whether there is a bias.
    pub bias: bool,
}

/// A convolution of `inputs` to `outputs` channels with a square kernel, stride 1, no padding, and a
/// bias; the methods change that.
pub fn conv(inputs: usize, outputs: usize, kernel: usize) -> Conv2d {
    let params = Conv2dParams::default();
    Conv2d { inputs, outputs, kernel: (kernel, kernel), params, bias: true }
}

impl Conv2d {
    /// The same with another stride.
    pub fn stride(mut self, stride: usize) -> Self {
        self.params.stride = (stride, stride);
        self
    }

    /// The same with zeros around the picture.
    pub fn padding(mut self, padding: usize) -> Self {
        self.params.padding = (padding, padding);
        self
    }

    /// The same with a kernel that is not square.
    pub fn rectangular(mut self, height: usize, width: usize) -> Self {
        self.kernel = (height, width);
        self
    }

    /// The same with as many zeros around as keep the size at stride 1, for odd kernels.
    pub fn same(mut self) -> Self {
        self.params.padding = (self.kernel.0 / 2, self.kernel.1 / 2);
        self
    }

    /// The same with its channels split into groups.
    pub fn groups(mut self, groups: usize) -> Self {
        self.params.groups = groups;
        self
    }

    /// The same without a bias, as before a batch norm.
    pub fn no_bias(mut self) -> Self {
        self.bias = false;
        self
    }
}

impl From<Conv2d> for Layer {
    fn from(conv: Conv2d) -> Self {
        Layer::Conv2d(conv)
    }
}

impl From<MaxPool2dParams> for Layer {
    fn from(params: MaxPool2dParams) -> Self {
        Layer::MaxPool2d(params)
    }
}

impl From<AvgPool2dParams> for Layer {
    fn from(params: AvgPool2dParams) -> Self {
        Layer::AvgPool2d(params)
    }
}

/// A batch norm with PyTorch's defaults, eps 1e-5 and momentum 0.1.
pub fn batch_norm(channels: usize) -> Layer {
    Layer::BatchNorm2d { channels, eps: 1e-5, momentum: 0.1 }
}

/// A fully connected layer.
pub fn linear(inputs: usize, outputs: usize) -> Layer {
    Layer::Linear { inputs, outputs }
}

/// Max pooling with a square window.
pub fn max_pool(kernel: usize, stride: usize) -> MaxPool2dParams {
    MaxPool2dParams {
        kernel: (kernel, kernel),
        stride: (stride, stride),
        padding: (0, 0),
        dilation: (1, 1),
        ceil_mode: false,
    }
}

impl MaxPool2dParams {
    /// The same with padding, which counts as minus infinity.
    pub fn padding(mut self, padding: usize) -> Self {
        self.padding = (padding, padding);
        self
    }

    /// The same with a last window that may stick out.
    pub fn ceil(mut self) -> Self {
        self.ceil_mode = true;
        self
    }
}

/// Average pooling with a square window, without padding.
pub fn avg_pool(kernel: usize, stride: usize) -> Layer {
    Layer::AvgPool2d(AvgPool2dParams {
        kernel: (kernel, kernel),
        stride: (stride, stride),
        padding: (0, 0),
        ceil_mode: false,
        count_include_pad: true,
        divisor_override: None,
    })
}

/// Average pooling to `size` by `size`; global average pooling where that is 1.
pub fn adaptive_avg_pool(size: usize) -> Layer {
    Layer::AdaptiveAvgPool2d((size, size))
}

/// Local response normalisation over `size` channels.
pub fn lrn(size: usize, alpha: f64, beta: f64, k: f64) -> Layer {
    Layer::LocalResponseNorm(LrnParams { size, alpha, beta, k })
}

/// Dropout with probability `p`.
pub fn dropout(p: f64) -> Layer {
    Layer::Dropout(p)
}

/// Named layers one after the other.
pub fn sequential<S: Into<String>>(layers: impl IntoIterator<Item = (S, Layer)>) -> Layer {
    Layer::Sequential(named(layers))
}

/// Layers one after the other, named 0, 1, 2 ... as PyTorch's `nn.Sequential` names them.
pub fn numbered(layers: impl IntoIterator<Item = Layer>) -> Layer {
    let numbers = (0..).map(|i: usize| i.to_string());
    Layer::Sequential(numbers.zip(layers).collect())
}

/// Named layers side by side, joined along the channels. Here and in [`sequential`] a group of layers
/// may have an empty name: the names of its layers then stand directly under the parent's.
pub fn branches<S: Into<String>>(layers: impl IntoIterator<Item = (S, Layer)>) -> Layer {
    Layer::Branches(named(layers))
}

/// A residual block: `relu(body(x) + shortcut(x))`.
pub fn residual<S: Into<String>>(
    body: impl IntoIterator<Item = (S, Layer)>,
    shortcut: Option<(&str, Layer)>,
) -> Layer {
    let shortcut = shortcut.map(|(name, layer)| Box::new((name.to_owned(), layer)));
    Layer::Residual { body: Box::new(sequential(body)), shortcut }
}

/// A side exit for training, its loss weighted.
pub fn aux_head(head: Layer, weight: f64) -> Layer {
    Layer::AuxHead { head: Box::new(head), weight }
}

fn named<S: Into<String>>(layers: impl IntoIterator<Item = (S, Layer)>) -> Vec<(String, Layer)> {
    layers.into_iter().map(|(name, layer)| (name.into(), layer)).collect()
}

/// `parent.name`; `name` at the root, and `parent` for a group without a name.
pub(crate) fn join(parent: &str, name: &str) -> String {
    match (parent, name) {
        ("", name) => name.to_owned(),
        (parent, "") => parent.to_owned(),
        (parent, name) => format!("{parent}.{name}"),
    }
}

impl Layer {
    /// The layer's kind, as in `Conv2d`.
    pub fn kind(&self) -> &'static str {
        match self {
            Layer::Conv2d(_) => "Conv2d",
            Layer::BatchNorm2d { .. } => "BatchNorm2d",
            Layer::Linear { .. } => "Linear",
            Layer::LocalResponseNorm(_) => "LocalResponseNorm",
            Layer::MaxPool2d(_) => "MaxPool2d",
            Layer::AvgPool2d(_) => "AvgPool2d",
            Layer::AdaptiveAvgPool2d(_) => "AdaptiveAvgPool2d",
            Layer::PaddedIdentity { .. } => "PaddedIdentity",
            Layer::Relu => "Relu",
            Layer::Sigmoid => "Sigmoid",
            Layer::Tanh => "Tanh",
            Layer::Dropout(_) => "Dropout",
            Layer::Flatten => "Flatten",
            Layer::Sequential(_) => "Sequential",
            Layer::Branches(_) => "Branches",
            Layer::Residual { .. } => "Residual",
            Layer::AuxHead { .. } => "AuxHead",
        }
    }

    /// Whether it maps each value by itself: ReLU, sigmoid, tanh.
    pub fn is_activation(&self) -> bool {
        matches!(self, Layer::Relu | Layer::Sigmoid | Layer::Tanh)
    }

    /// The layers directly below, each with its name; an empty name is that of the parent itself.
    pub fn children(&self) -> Vec<(&str, &Layer)> {
        match self {
            Layer::Sequential(layers) | Layer::Branches(layers) => {
                layers.iter().map(|(name, layer)| (name.as_str(), layer)).collect()
            }
            Layer::Residual { body, shortcut } => {
                let projection = shortcut.iter().map(|s| (s.0.as_str(), &s.1));
                std::iter::once(("", &**body)).chain(projection).collect()
            }
            Layer::AuxHead { head, .. } => vec![("", head)],
            _ => Vec::new(),
        }
    }

    /// The tree in two, to be run one after the other: what comes before the layer `path`, and that
    /// layer with all behind it. A dropout just before it goes with it. `None` where the layer is not
    /// in a plain sequence.
    pub fn split_at(&self, path: &str) -> Option<(Layer, Layer)> {
        let Layer::Sequential(layers) = self else { return None };
        let below = |name: &str| path.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
        let found = |(name, _): &(String, Layer)| name == path || below(name);
        let mut at = layers.iter().position(found)?;
        let (name, layer) = &layers[at];
        if name != path {
            let (before, after) = layer.split_at(&path[name.len() + 1..])?;
            let body = layers[..at].iter().cloned().chain([(name.clone(), before)]);
            let rest = layers[at + 1..].iter().cloned();
            return Some((
                sequential(body),
                sequential([(name.clone(), after)].into_iter().chain(rest)),
            ));
        }
        while at > 0 && matches!(layers[at - 1].1, Layer::Dropout(_)) {
            at -= 1;
        }
        let (body, head) = layers.split_at(at);
        Some((Layer::Sequential(body.to_vec()), Layer::Sequential(head.to_vec())))
    }

    /// Visits every layer of the tree with its full name, parents before children.
    pub fn walk<'a>(&'a self, path: &str, visit: &mut impl FnMut(&str, &'a Layer)) {
        visit(path, self);
        for (name, child) in self.children() {
            child.walk(&join(path, name), visit);
        }
    }
}
