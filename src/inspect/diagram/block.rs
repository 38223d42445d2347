//! The tree as a figure shows it: norms and activations belong to the layer before them, and what lies
//! too deep is one block.

use super::super::drawing::Hue;
use super::caption::{look, what};
use crate::Result;
use crate::digits::thousands;
use crate::nn::{Layer, Shape, join};

/// A part of the figure.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// A block.
    Op(Op),
    /// Parts in turn, with the name of the group they are.
    Row(Row),
    /// Rows side by side on the same input, joined along the channels, under one name.
    Lanes { name: String, rows: Vec<Row> },
    /// A row, and a shortcut around it: another row, or nothing at all.
    Sum(Row, Option<Row>),
    /// A side exit.
    Exit(Op),
}

/// Parts in turn.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) items: Vec<Node>,
}

/// A block: one layer, or a container that is not looked into.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Op {
    pub(super) path: String,
    /// What stands under it.
    pub(super) lines: Vec<String>,
    pub(super) hue: Hue,
    pub(super) output: Shape,
    pub(super) mark: Mark,
    /// Whether there is more in it than the figure shows.
    pub(super) closed: bool,
    /// All there is to know.
    pub(super) title: String,
}

/// What a block that is not looked into shows of its inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Nothing.
    None,
    /// So many shortcuts, one behind the other.
    Shortcuts(usize),
    /// So many branches.
    Lanes(usize),
}

/// Where a layer stands.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) path: &'a str,
    pub(super) name: &'a str,
    pub(super) input: Shape,
    /// Levels that may still be looked into.
    pub(super) depth: usize,
}

impl Node {
    /// How many blocks there are.
    pub(super) fn count(&self) -> usize {
        match self {
            Node::Op(_) | Node::Exit(_) => 1,
            Node::Row(row) => row.count(),
            Node::Lanes { rows, .. } => rows.iter().map(Row::count).sum(),
            Node::Sum(body, side) => body.count() + side.as_ref().map_or(0, Row::count),
        }
    }
}

impl Row {
    pub(super) fn count(&self) -> usize {
        self.items.iter().map(Node::count).sum()
    }
}

/// The parts of a layer and all below it.
pub(super) fn node(layer: &Layer, at: Place) -> Result<Node> {
    if let Some(inner) = unit(layer) {
        return Ok(Node::Op(op(inner, layer, at)?));
    }
    let below = Place { depth: at.depth - usize::from(!at.name.is_empty()).min(at.depth), ..at };
    match layer {
        Layer::AuxHead { .. } => Ok(Node::Exit(Op { hue: Hue::Dense, ..op(layer, layer, at)? })),
        _ if layer.children().is_empty() || (at.depth == 0 && !at.name.is_empty()) => {
            Ok(Node::Op(op(layer, layer, at)?))
        }
        Layer::Sequential(layers) => Ok(Node::Row(row(layers, below)?)),
        Layer::Branches(layers) => {
            let lane = |(name, layer): &(String, Layer)| {
                as_row(node(layer, child(below, name, &join(at.path, name)))?, name)
            };
            let rows = layers.iter().map(lane).collect::<Result<_>>()?;
            Ok(Node::Lanes { name: at.name.to_owned(), rows })
        }
        Layer::Residual { body, shortcut } => {
            let body = as_row(node(body, Place { name: "", ..below })?, "")?;
            let side = shortcut.as_deref().map(|(name, layer)| {
                as_row(node(layer, child(below, name, &join(at.path, name)))?, name)
            });
            Ok(Node::Sum(body, side.transpose()?))
        }
        leaf => Ok(Node::Op(op(leaf, leaf, at)?)),
    }
}

fn as_row(node: Node, name: &str) -> Result<Row> {
    Ok(match node {
        Node::Row(row) => row,
        other => Row { name: name.to_owned(), items: vec![other] },
    })
}

fn child<'a>(at: Place, name: &'a str, path: &'a str) -> Place<'a> {
    Place { path, name, input: at.input, depth: at.depth }
}

/// The parts of layers in turn.
pub(super) fn row(layers: &[(String, Layer)], at: Place) -> Result<Row> {
    let (mut items, mut input) = (Vec::new(), at.input);
    for (name, layer) in layers {
        let path = join(at.path, name);
        if !absorbed(layer, items.last()) {
            let place = Place { input, ..child(at, name, &path) };
            match node(layer, place)? {
                Node::Row(row) if name.is_empty() => items.extend(row.items),
                node => items.push(node),
            }
        }
        input = layer.trace(input)?.output;
    }
    Ok(Row { name: at.name.to_owned(), items })
}

/// Whether the figure shows nothing for a layer, or shows it with the block before.
fn absorbed(layer: &Layer, before: Option<&Node>) -> bool {
    match layer {
        Layer::Dropout(_) | Layer::Flatten => true,
        _ => goes_with_another(layer) && before.is_some(),
    }
}

fn goes_with_another(layer: &Layer) -> bool {
    layer.is_activation() || matches!(layer, Layer::BatchNorm2d { .. })
}

/// The one layer of a group that has nothing else but norms and activations.
fn unit(layer: &Layer) -> Option<&Layer> {
    let Layer::Sequential(layers) = layer else { return None };
    let hidden = |layer: &Layer| absorbed(layer, None) || goes_with_another(layer);
    let mut rest = layers.iter().filter(|(_, layer)| !hidden(layer));
    let (_, only) = rest.next()?;
    let plain = only.children().is_empty() || unit(only).is_some();
    (rest.next().is_none() && plain).then(|| unit(only).unwrap_or(only))
}

/// Whether a layer has an inside that a figure may show.
pub(super) fn is_closed(layer: &Layer) -> bool {
    !layer.children().is_empty() && unit(layer).is_none()
}

/// The layer; of a side exit its head, for the exit itself passes its input on.
pub(super) fn head_of(layer: &Layer) -> &Layer {
    match layer {
        Layer::AuxHead { head, .. } => head,
        other => other,
    }
}

/// A block for `layer`, which the figure shows as `shown`.
fn op(shown: &Layer, layer: &Layer, at: Place) -> Result<Op> {
    let trace = head_of(layer).trace(at.input)?;
    let output = trace.output;
    let mut lines = vec![what(shown, at.input), shape(output)];
    if !at.name.is_empty() && !at.name.chars().all(|c| c.is_ascii_digit()) {
        lines.insert(0, at.name.to_owned());
    }
    if let Layer::AuxHead { .. } = layer {
        lines = vec![at.name.to_owned(), "side exit".to_owned()];
    }
    let title = format!(
        "{}: {}, {} to {}, {} parameters, {} multiply-adds",
        if at.path.is_empty() { "network" } else { at.path },
        shown.kind(),
        shape(at.input),
        shape(output),
        thousands(layer.parameter_count() as u64),
        thousands(trace.macs()),
    );
    let (hue, mark) = look(shown);
    let (path, closed) = (at.path.to_owned(), is_closed(layer));
    Ok(Op { path, lines, hue, output, mark, closed, title })
}

/// `64×112×112`
pub(super) fn shape(shape: Shape) -> String {
    shape.to_string().replace('x', "×")
}
