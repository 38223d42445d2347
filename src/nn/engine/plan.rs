//! A layer tree as a list of steps on channels-last maps, with what can be done in one pass joined.

use super::narrow::Prefix;
use crate::Result;
use crate::machine::check_memory;
use crate::nn::layer::join;
use crate::nn::{Layer, Params, Shape, Step, Trace};
use crate::ops::adaptive_avg_pool2d::AdaptiveAvgPool2dShape;
use crate::ops::avg_pool2d::Means;
use crate::ops::conv2d::Conv2dShape;
use crate::ops::local_response_norm::LrnShape;
use crate::ops::nhwc::conv::{Gather, Runs};
use crate::ops::nhwc::identity::PaddedIdentity;
use crate::ops::nhwc::lanes::{LANES, padded};
use crate::ops::nhwc::pack::WeightShape;
use crate::ops::nhwc::pool::MOST_TAPS;
use crate::ops::nhwc::winograd::Winograd;
use crate::ops::{AvgPool2dShape, Im2col, MaxPool2dShape};

/// The place of a value in [`Plan::values`].
pub(super) type ValueId = usize;
/// The place of a tensor in [`Params::entries`].
pub(super) type EntryId = usize;

/// The activations after a step: a buffer of its own, or some channels of another value's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    /// Whose buffer holds it; itself, unless it is a branch of an inception module.
    pub root: ValueId,
    /// Its first channel there.
    pub at: usize,
    /// Values from pixel to pixel there.
    pub step: usize,
    /// Whether anything behind it is trained.
    pub needs_gradient: bool,
}

impl Value {
    pub(super) fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Channels with their padding.
    pub(super) fn wide(&self) -> usize {
        padded(self.channels)
    }
}

/// A convolution.
#[derive(Clone, Debug)]
pub(super) struct Conv {
    pub weight: EntryId,
    pub bias: Option<EntryId>,
    pub shape: WeightShape,
    /// Whether the input is the picture, unpadded channels in a frame of zeros: a kernel's row is then
    /// one tap.
    pub stem: bool,
    /// The windows, over the framed picture for a stem.
    pub window: Im2col,
    pub forward: Gather,
    pub backward: Gather,
    pub runs: Runs,
    /// For kernels of 3×3 at stride 1.
    pub tiles: Option<Winograd>,
    pub relu: bool,
    /// In evaluation, the norm that is folded into the weights.
    pub norm: Option<Norm>,
    /// What is added to the output, with a folded norm.
    pub residual: Option<ValueId>,
}

impl Conv {
    /// Values of a pixel's tap.
    pub(super) fn depth(&self) -> usize {
        if self.stem { self.shape.kernel.1 * self.shape.inputs } else { self.shape.inputs }
    }

    /// The tiles, where Winograd's way is the faster one for the forward pass.
    pub(super) fn forward_tiles(&self, pictures: usize) -> Option<&Winograd> {
        let WeightShape { inputs, outputs, .. } = self.shape;
        self.tiles.as_ref().filter(|tiles| tiles.pays(pictures, inputs, outputs))
    }

    /// The tiles, where Winograd's way is the faster one for the backward pass.
    pub(super) fn backward_tiles(&self, pictures: usize) -> Option<&Winograd> {
        let WeightShape { inputs, outputs, .. } = self.shape;
        self.tiles.as_ref().filter(|tiles| tiles.pays_backward(pictures, inputs, outputs))
    }

    /// Values of the weight gradient in the kernels' order.
    pub(super) fn gradient_len(&self) -> usize {
        let taps = self.shape.kernel.0 * self.shape.kernel.1;
        taps * self.shape.inputs * padded(self.shape.outputs)
    }
}

/// A batch norm.
#[derive(Clone, Copy, Debug)]
pub(super) struct Norm {
    pub weight: EntryId,
    pub bias: EntryId,
    pub mean: EntryId,
    pub var: EntryId,
    pub tracked: EntryId,
    pub eps: f64,
    pub momentum: f64,
    pub relu: bool,
    pub residual: Option<ValueId>,
}

impl Norm {
    /// Whether it is not trained, and so works as in evaluation, with the running statistics.
    pub(super) fn is_frozen(&self, params: &Params) -> bool {
        [self.weight, self.bias].iter().all(|&entry| !params.entries()[entry].trainable)
    }
}

/// A fully connected layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Linear {
    pub weight: EntryId,
    pub bias: EntryId,
    pub inputs: usize,
    pub outputs: usize,
    pub relu: bool,
}

/// What a step does.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Conv(Box<Conv>),
    Norm(Norm),
    Linear(Linear),
    MaxPool(Im2col),
    Means(Means),
    Response(LrnShape),
    PaddedIdentity(PaddedIdentity),
    Relu,
    Sigmoid,
    Tanh,
    Dropout { p: f64, path: String },
    Flatten,
    AddRelu(ValueId),
}

/// One step: `y = kind(x)`.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub kind: Kind,
    pub x: ValueId,
    pub y: ValueId,
}

/// The steps in the order of the forward pass.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub values: Vec<Value>,
    pub nodes: Vec<Node>,
    /// The picture.
    pub image: ValueId,
    /// Zeros around the picture.
    pub frame: (usize, usize),
    /// Values behind the last picture: a stem's taps are longer than a pixel.
    pub slack: usize,
    pub logits: ValueId,
    /// Name, logits and weight of each auxiliary head.
    pub heads: Vec<(String, ValueId, f64)>,
    /// The first steps, where they can be done with the pictures in the lanes.
    pub prefix: Option<Prefix>,
}

/// What a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Train,
    Eval,
}

/// The plan for a tree, or `None` where the tree has something that the engine does not do (grouped
/// convolutions, branches whose channels are no whole vectors): it then runs on the ops.
pub(super) fn plan(
    layers: &Layer,
    params: &Params,
    (channels, height, width): (usize, usize, usize),
    purpose: Purpose,
) -> Result<Option<Plan>> {
    let trace = layers.trace(Shape::Map(channels, height, width))?; // tells every error about sizes
    check_memory("the tables of its convolutions", tables(&trace))?;
    let mut builder =
        Builder { params, purpose, values: Vec::new(), nodes: Vec::new(), heads: Vec::new() };
    let image = builder.value(channels, height, width, false);
    let Some(logits) = builder.layer(layers, "", image) else { return Ok(None) };
    let Builder { values, nodes, heads, .. } = builder;
    if values[logits].pixels() != 1 || heads.iter().any(|h| values[h.1].pixels() != 1) {
        return Ok(None);
    }
    let mut plan =
        Plan { values, nodes, image, frame: (0, 0), slack: 0, logits, heads, prefix: None };
    if purpose == Purpose::Eval {
        plan.fold_norms();
    }
    plan.prefix = Prefix::of(&plan);
    plan.make_stem();
    Ok(Some(plan))
}

/// Bytes of what [`Gather`] keeps for the windows of all convolutions, forward and backward.
fn tables(trace: &Trace<'_>) -> u64 {
    let of = |step: &Step<'_>| match (step.layer, step.input, step.output) {
        (Layer::Conv2d(conv), Shape::Map(_, h, w), Shape::Map(_, rows, cols)) => {
            let pixels = (h * w + rows * cols) as u64;
            pixels.saturating_mul(4 * (conv.kernel.0 * conv.kernel.1 + 1) as u64)
        }
        _ => 0,
    };
    trace.steps.iter().map(of).fold(0, u64::saturating_add)
}

impl Plan {
    /// How many steps and heads read a value.
    pub(super) fn readers(&self, value: ValueId) -> usize {
        let reads = |node: &Node| {
            let side = match &node.kind {
                Kind::Norm(Norm { residual, .. }) => *residual,
                Kind::Conv(conv) => conv.residual,
                Kind::AddRelu(other) => Some(*other),
                _ => None,
            };
            usize::from(node.x == value) + usize::from(side == Some(value))
        };
        self.nodes.iter().map(reads).sum::<usize>() + usize::from(self.logits == value)
    }

    /// Joins each norm with the convolution before it.
    fn fold_norms(&mut self) {
        let mut at = 1;
        while at < self.nodes.len() {
            let [before, node] = &self.nodes[at - 1..=at] else { return };
            let (Kind::Conv(conv), Kind::Norm(norm)) = (&before.kind, &node.kind) else {
                at += 1;
                continue;
            };
            let same_step = |other: ValueId| {
                let (a, b) = (&self.values[other], &self.values[node.y]);
                a.step == b.step && a.root == other && b.root == node.y
            };
            let fits = before.y == node.x
                && self.readers(node.x) == 1
                && !conv.relu
                && norm.residual.is_none_or(same_step);
            if !fits {
                at += 1;
                continue;
            }
            let (norm, y) = (*norm, node.y);
            if let Kind::Conv(conv) = &mut self.nodes[at - 1].kind {
                (conv.norm, conv.residual, conv.relu) = (Some(norm), norm.residual, norm.relu);
            }
            self.nodes[at - 1].y = y;
            self.nodes.remove(at);
        }
    }

    /// Where one convolution alone reads the picture, its rows of three channels are read as they
    /// stand: padding them to whole vectors would take five times the memory.
    fn make_stem(&mut self) {
        if self.readers(self.image) != 1 || self.values[self.image].channels >= LANES {
            return;
        }
        let Some(node) = self.nodes.iter_mut().find(|node| node.x == self.image) else { return };
        let Kind::Conv(conv) = &mut node.kind else { return };
        let w = conv.window;
        let input = (w.input.0 + 2 * w.padding.0, w.input.1 + 2 * w.padding.1);
        let window = Im2col { input, kernel: (w.kernel.0, 1), padding: (0, 0), ..w };
        if w.dilation.1 != 1 || !Gather::counts(&window) {
            return;
        }
        (self.frame, self.slack) = (w.padding, w.kernel.1 * conv.shape.inputs);
        (conv.stem, conv.window, conv.tiles) = (true, window, None);
        (conv.forward, conv.runs) = (Gather::forward(&window), Runs::new(&window));
        let image = &mut self.values[self.image];
        image.step = image.channels;
        (image.height, image.width) = input;
    }

    /// The last step that reads each value's buffer, by root.
    pub(super) fn last_readers(&self) -> Vec<usize> {
        let mut last = vec![0; self.values.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            let side = match &node.kind {
                Kind::Norm(norm) => norm.residual,
                Kind::Conv(conv) => conv.residual,
                Kind::AddRelu(other) => Some(*other),
                _ => None,
            };
            for value in side.into_iter().chain([node.x, node.y]) {
                last[self.values[value].root] = i;
            }
        }
        let ends = self.heads.iter().map(|head| head.1).chain([self.logits]);
        ends.for_each(|value| last[self.values[value].root] = usize::MAX);
        last
    }

    /// The first step that writes into each value's buffer, by root.
    pub(super) fn first_writers(&self) -> Vec<usize> {
        let mut first = vec![usize::MAX; self.values.len()];
        for (i, node) in self.nodes.iter().enumerate().rev() {
            first[self.values[node.y].root] = i;
        }
        first
    }
}

/// A plan in the making.
struct Builder<'a> {
    params: &'a Params,
    purpose: Purpose,
    values: Vec<Value>,
    nodes: Vec<Node>,
    heads: Vec<(String, ValueId, f64)>,
}

impl Builder<'_> {
    fn value(
        &mut self,
        channels: usize,
        height: usize,
        width: usize,
        needs_gradient: bool,
    ) -> ValueId {
        let (root, step) = (self.values.len(), padded(channels));
        self.values.push(Value { channels, height, width, root, at: 0, step, needs_gradient });
        root
    }

    fn entry(&self, path: &str, name: &str) -> Option<EntryId> {
        self.params.position(&join(path, name))
    }

    fn trains(&self, entries: &[Option<EntryId>]) -> bool {
        entries.iter().flatten().any(|&e| self.params.entries()[e].trainable)
    }

    /// Adds a step whose output has this shape.
    fn step(
        &mut self,
        kind: Kind,
        x: ValueId,
        shape: (usize, usize, usize),
        trains: bool,
    ) -> ValueId {
        let needs_gradient = trains || self.values[x].needs_gradient;
        let y = self.value(shape.0, shape.1, shape.2, needs_gradient);
        self.nodes.push(Node { kind, x, y });
        y
    }

    /// A step that keeps its input's shape.
    fn same(&mut self, kind: Kind, x: ValueId) -> ValueId {
        let Value { channels, height, width, .. } = self.values[x];
        self.step(kind, x, (channels, height, width), false)
    }

    fn dims(&self, x: ValueId) -> [usize; 4] {
        let Value { channels, height, width, .. } = self.values[x];
        [1, channels, height, width]
    }

    /// The value after a layer; `None` where the engine does not know it.
    fn layer(&mut self, layer: &Layer, path: &str, x: ValueId) -> Option<ValueId> {
        match layer {
            Layer::Sequential(layers) => self.sequential(layers, path, x, None),
            Layer::Branches(layers) => self.branches(layers, path, x),
            Layer::Residual { body, shortcut } => {
                let shortcut = match shortcut.as_deref() {
                    Some((name, layer)) => self.layer(layer, &join(path, name), x)?,
                    None => x,
                };
                match &**body {
                    Layer::Sequential(layers) => self.sequential(layers, path, x, Some(shortcut)),
                    other => {
                        let y = self.layer(other, path, x)?;
                        Some(self.add_relu(y, shortcut))
                    }
                }
            }
            Layer::AuxHead { head, weight } => {
                if self.purpose == Purpose::Train {
                    let logits = self.layer(head, path, x)?;
                    self.heads.push((path.to_owned(), logits, *weight));
                }
                Some(x)
            }
            leaf => self.leaf(leaf, path, x, false, None),
        }
    }

    /// Layers in turn; a layer takes the ReLU behind it into its own pass, and a batch norm at the end
    /// of a residual block the sum.
    fn sequential(
        &mut self,
        layers: &[(String, Layer)],
        path: &str,
        mut x: ValueId,
        shortcut: Option<ValueId>,
    ) -> Option<ValueId> {
        let mut at = 0;
        while let Some((name, layer)) = layers.get(at) {
            let path = join(path, name);
            let last = at + 1 == layers.len();
            at += 1;
            let fuses = matches!(
                layer,
                Layer::Conv2d(_) | Layer::Linear { .. } | Layer::BatchNorm2d { .. }
            );
            let relu = fuses && matches!(layers.get(at), Some((_, Layer::Relu)));
            at += usize::from(relu);
            if last && matches!(layer, Layer::BatchNorm2d { .. }) && shortcut.is_some() {
                return self.leaf(layer, &path, x, true, shortcut);
            }
            x = match fuses {
                true => self.leaf(layer, &path, x, relu, None)?,
                false => self.layer(layer, &path, x)?,
            };
        }
        Some(match shortcut {
            Some(shortcut) => self.add_relu(x, shortcut),
            None => x,
        })
    }

    fn add_relu(&mut self, x: ValueId, other: ValueId) -> ValueId {
        let trains = self.values[other].needs_gradient;
        let Value { channels, height, width, .. } = self.values[x];
        self.step(Kind::AddRelu(other), x, (channels, height, width), trains)
    }

    /// Every branch writes its channels of the joined map.
    fn branches(&mut self, layers: &[(String, Layer)], path: &str, x: ValueId) -> Option<ValueId> {
        let mut ends = Vec::new();
        for (name, layer) in layers {
            let nodes = self.nodes.len();
            let y = self.layer(layer, &join(path, name), x)?;
            let whole = self.values[y].channels.is_multiple_of(LANES);
            // A branch must end in a step of its own, or there is nothing to redirect.
            if self.nodes.len() == nodes || !whole || self.values[y].root != y {
                return None;
            }
            ends.push(y);
        }
        let channels = ends.iter().map(|&y| self.values[y].channels).sum();
        let Value { height, width, .. } = self.values[*ends.first()?];
        let trains = ends.iter().any(|&y| self.values[y].needs_gradient);
        let joined = self.value(channels, height, width, trains);
        let mut offset = 0;
        for y in ends {
            // Its own branches, where it has any, move with it.
            for value in self.values.iter_mut().filter(|value| value.root == y) {
                (value.root, value.step) = (joined, channels);
                value.at += offset;
            }
            offset += self.values[y].channels;
        }
        Some(joined)
    }

    fn leaf(
        &mut self,
        layer: &Layer,
        path: &str,
        x: ValueId,
        relu: bool,
        residual: Option<ValueId>,
    ) -> Option<ValueId> {
        let dims = self.dims(x);
        let map = |[_, c, h, w]: [usize; 4]| (c, h, w);
        match layer {
            Layer::Conv2d(conv) => {
                if conv.params.groups != 1 {
                    return None;
                }
                let weight = [conv.outputs, conv.inputs, conv.kernel.0, conv.kernel.1];
                let shape = Conv2dShape::new(&dims, &weight, &conv.params).ok()?;
                let window = shape.window;
                if !Gather::counts(&window) {
                    return None;
                }
                let (weight, bias) = (self.entry(path, "weight")?, self.entry(path, "bias"));
                let trains = self.trains(&[Some(weight), bias]);
                let kind = Kind::Conv(Box::new(Conv {
                    weight,
                    bias,
                    shape: WeightShape {
                        outputs: conv.outputs,
                        inputs: conv.inputs,
                        kernel: conv.kernel,
                    },
                    stem: false,
                    window,
                    forward: Gather::forward(&window),
                    backward: Gather::backward(&window),
                    runs: Runs::new(&window),
                    tiles: Winograd::new(&window),
                    relu,
                    norm: None,
                    residual: None,
                }));
                Some(self.step(kind, x, map(shape.output()), trains))
            }
            Layer::BatchNorm2d { eps, momentum, .. } => {
                let norm = Norm {
                    weight: self.entry(path, "weight")?,
                    bias: self.entry(path, "bias")?,
                    mean: self.entry(path, "running_mean")?,
                    var: self.entry(path, "running_var")?,
                    tracked: self.entry(path, "num_batches_tracked")?,
                    eps: *eps,
                    momentum: *momentum,
                    relu,
                    residual,
                };
                let side = residual.is_some_and(|r| self.values[r].needs_gradient);
                let trains = self.trains(&[Some(norm.weight), Some(norm.bias)]) || side;
                Some(self.step(Kind::Norm(norm), x, map(dims), trains))
            }
            Layer::Linear { inputs, outputs } => {
                if dims[2] * dims[3] != 1 {
                    return None;
                }
                let (weight, bias) = (self.entry(path, "weight")?, self.entry(path, "bias")?);
                let trains = self.trains(&[Some(weight), Some(bias)]);
                let (inputs, outputs) = (*inputs, *outputs);
                let kind = Kind::Linear(Linear { weight, bias, inputs, outputs, relu });
                Some(self.step(kind, x, (outputs, 1, 1), trains))
            }
            Layer::MaxPool2d(params) => {
                let shape = MaxPool2dShape::new(&dims, params).ok()?;
                if params.kernel.0 * params.kernel.1 > MOST_TAPS {
                    return None;
                }
                Some(self.step(Kind::MaxPool(shape.window), x, map(shape.output()), false))
            }
            Layer::AvgPool2d(params) => {
                let shape = AvgPool2dShape::new(&dims, params).ok()?;
                Some(self.step(Kind::Means(Means::of(&shape)), x, map(shape.output()), false))
            }
            Layer::AdaptiveAvgPool2d(size) => {
                if (dims[2], dims[3]) == *size {
                    return Some(x);
                }
                let shape = AdaptiveAvgPool2dShape::new(&dims, *size).ok()?;
                Some(self.step(Kind::Means(shape.means()), x, map(shape.output()), false))
            }
            Layer::LocalResponseNorm(params) => {
                let shape = LrnShape::new(&dims, params).ok()?;
                Some(self.same(Kind::Response(shape), x))
            }
            Layer::PaddedIdentity { inputs, outputs, stride } => {
                let identity = PaddedIdentity {
                    input: (dims[2], dims[3]),
                    output: (dims[2].div_ceil(*stride), dims[3].div_ceil(*stride)),
                    stride: *stride,
                    channels: *inputs,
                    before: (outputs - inputs) / 2,
                };
                let shape = (*outputs, identity.output.0, identity.output.1);
                Some(self.step(Kind::PaddedIdentity(identity), x, shape, false))
            }
            Layer::Relu => Some(self.same(Kind::Relu, x)),
            Layer::Sigmoid => Some(self.same(Kind::Sigmoid, x)),
            Layer::Tanh => Some(self.same(Kind::Tanh, x)),
            Layer::Dropout(p) => match self.purpose {
                Purpose::Eval => Some(x),
                Purpose::Train if dims[2] * dims[3] == 1 => {
                    Some(self.same(Kind::Dropout { p: *p, path: path.to_owned() }, x))
                }
                Purpose::Train => None,
            },
            Layer::Flatten => {
                let features = dims[1] * dims[2] * dims[3];
                match dims[2] * dims[3] {
                    1 => Some(x),
                    _ => Some(self.step(Kind::Flatten, x, (features, 1, 1), false)),
                }
            }
            _ => None,
        }
    }
}
