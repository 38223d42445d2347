//! What stands under a block, and what it looks like.

use super::super::drawing::Hue;
use super::block::Mark;
use crate::nn::{Layer, Shape};

/// Colour and mark of a block.
pub(super) fn look(layer: &Layer) -> (Hue, Mark) {
    match layer {
        Layer::Conv2d(_) => (Hue::Conv, Mark::None),
        Layer::Linear { .. } => (Hue::Dense, Mark::None),
        Layer::MaxPool2d(_) | Layer::AvgPool2d(_) | Layer::AdaptiveAvgPool2d(_) => {
            (Hue::Pool, Mark::None)
        }
        Layer::BatchNorm2d { .. } | Layer::LocalResponseNorm(_) => (Hue::Norm, Mark::None),
        Layer::Residual { .. } => (Hue::Residual, Mark::Shortcuts(1)),
        Layer::Branches(layers) => (Hue::Branches, Mark::Lanes(layers.len())),
        Layer::Sequential(layers) => match layers.first() {
            Some((_, Layer::Residual { .. })) => (Hue::Residual, Mark::Shortcuts(blocks(layers))),
            Some((_, first)) if layers.len() == 1 => look(first),
            _ if is_module(layer) => (Hue::Branches, Mark::Lanes(lanes(layers))),
            _ if convolutions(layer) > 0 => (Hue::Conv, Mark::None),
            _ if layers.iter().any(|(_, layer)| matches!(layer, Layer::Linear { .. })) => {
                (Hue::Dense, Mark::None)
            }
            _ => (Hue::Plain, Mark::None),
        },
        _ => (Hue::Plain, Mark::None),
    }
}

/// What a block does, in a few letters.
pub(super) fn what(layer: &Layer, input: Shape) -> String {
    let strided = |stride: (usize, usize)| match stride {
        (1, 1) => String::new(),
        (down, across) if down == across => format!(" /{down}"),
        (down, across) => format!(" /{down}×{across}"),
    };
    match layer {
        Layer::Conv2d(conv) => {
            let (h, w) = conv.kernel;
            format!("{h}×{w} conv{}", strided(conv.params.stride))
        }
        Layer::MaxPool2d(p) => {
            format!("{}×{} max{}", p.kernel.0, p.kernel.1, strided(p.stride))
        }
        Layer::AvgPool2d(p) => {
            format!("{}×{} avg{}", p.kernel.0, p.kernel.1, strided(p.stride))
        }
        Layer::AdaptiveAvgPool2d((h, w)) => match input {
            Shape::Map(_, ih, iw) if (ih, iw) == (*h, *w) => "avg, as it is".to_owned(),
            _ if (*h, *w) == (1, 1) => "global avg".to_owned(),
            _ => format!("avg to {h}×{w}"),
        },
        Layer::Linear { .. } => "linear".to_owned(),
        Layer::LocalResponseNorm(_) => "LRN".to_owned(),
        Layer::BatchNorm2d { .. } => "batch norm".to_owned(),
        Layer::PaddedIdentity { stride, .. } => format!("pad{}", strided((*stride, *stride))),
        Layer::Branches(layers) => format!("{} branches", layers.len()),
        Layer::Residual { body, .. } => kernels(body),
        Layer::Sequential(layers) if is_module(layer) => format!("{} branches", lanes(layers)),
        Layer::Sequential(layers) => match (blocks(layers), convolutions(layer)) {
            (0, 0) => format!("{} layers", layers.len()),
            (0, n) => format!("{n} conv"),
            (1, _) => "1 block".to_owned(),
            (n, _) => format!("{n} blocks"),
        },
        other => other.kind().to_lowercase(),
    }
}

/// How many residual blocks there are among layers.
fn blocks(layers: &[(String, Layer)]) -> usize {
    layers.iter().filter(|(_, layer)| matches!(layer, Layer::Residual { .. })).count()
}

/// How many convolutions there are in a layer.
fn convolutions(layer: &Layer) -> usize {
    let mut count = 0;
    layer.walk("", &mut |_, layer| count += usize::from(matches!(layer, Layer::Conv2d(_))));
    count
}

/// How many branches the first branching among layers has.
fn lanes(layers: &[(String, Layer)]) -> usize {
    let lanes = |(_, layer): &(String, Layer)| match layer {
        Layer::Branches(lanes) => Some(lanes.len()),
        _ => None,
    };
    layers.iter().find_map(lanes).unwrap_or(0)
}

/// Whether it is a few layers in turn with branches among them, as SqueezeNet's modules are.
pub(super) fn is_module(layer: &Layer) -> bool {
    matches!(layer, Layer::Sequential(layers) if layers.len() <= 6 && lanes(layers) > 0)
}

/// Whether it is a few layers in turn with two convolutions or more, as the plain nets' blocks are.
pub(super) fn is_plain_block(layer: &Layer) -> bool {
    let Layer::Sequential(layers) = layer else { return false };
    let convolutions = layers.iter().filter(|(_, layer)| matches!(layer, Layer::Conv2d(_)));
    layers.len() <= 6 && convolutions.count() > 1
}

/// The kernels of a residual block's body, as in `1×1 3×3 1×1`.
fn kernels(body: &Layer) -> String {
    let mut found = Vec::new();
    body.walk("", &mut |_, layer| {
        if let Layer::Conv2d(conv) = layer {
            found.push(format!("{}×{}", conv.kernel.0, conv.kernel.1));
        }
    });
    found.truncate(3);
    found.join(" ")
}
