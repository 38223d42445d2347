//! What is in the blocks that a figure does not look into: each kind of residual block, branching or
//! plain block once.

use super::super::drawing::{Item, text_width};
use super::block::{self, Node, Place, Row};
use super::caption;
use super::cuboid::Scale;
use super::figure::{MARGIN, NAME, PAGE, largest};
use super::layout::{Laid, Style};
use crate::Result;
use crate::nn::{Layer, Shape, join};

/// Kinds that are shown.
const INSIDES: usize = 8;

/// A kind of block that the figure does not look into.
struct Inside<'a> {
    path: String,
    layer: &'a Layer,
    input: Shape,
    kind: String,
    /// How many more there are of its kind.
    more: usize,
}

/// One drawing for each kind of residual block, branching or plain block that the figure does not look
/// into.
pub(super) fn insides(layers: &Layer, input: Shape, row: &Row) -> Result<Vec<Laid>> {
    let mut hidden = Vec::new();
    row.items.iter().for_each(|node| note_hidden(node, &mut hidden));
    let mut found: Vec<Inside> = Vec::new();
    collect(layers, "", input, &hidden, &mut found)?;
    found.truncate(INSIDES);
    let mut lines = Vec::new();
    let mut waiting: Vec<Laid> = Vec::new();
    for inside in &found {
        let laid = draw_inside(inside)?;
        let used: f64 = waiting.iter().map(|laid| laid.width + 40.0).sum();
        if used + laid.width > PAGE - 2.0 * MARGIN && !waiting.is_empty() {
            lines.push(beside(std::mem::take(&mut waiting)));
        }
        waiting.push(laid);
    }
    if !waiting.is_empty() {
        lines.push(beside(waiting));
    }
    Ok(lines)
}

/// The paths of blocks that stand for containers.
fn note_hidden(node: &Node, hidden: &mut Vec<String>) {
    match node {
        Node::Op(op) => hidden.push(op.path.clone()),
        Node::Row(row) => row.items.iter().for_each(|node| note_hidden(node, hidden)),
        Node::Lanes { rows, .. } => {
            rows.iter().flat_map(|row| &row.items).for_each(|node| note_hidden(node, hidden));
        }
        Node::Sum(body, side) => {
            let side = side.iter().flat_map(|row| &row.items);
            body.items.iter().chain(side).for_each(|node| note_hidden(node, hidden));
        }
        Node::Exit(_) => {}
    }
}

/// The first of each kind below `layer`, where a block hides it.
fn collect<'a>(
    layer: &'a Layer,
    path: &str,
    input: Shape,
    hidden: &[String],
    found: &mut Vec<Inside<'a>>,
) -> Result<()> {
    let under = |block: &String| {
        !block.is_empty() && (path == block || path.starts_with(&format!("{block}.")))
    };
    if has_kind(layer) && hidden.iter().any(under) {
        let kind = kind(layer);
        match found.iter_mut().find(|inside| inside.kind == kind) {
            Some(known) => known.more += 1,
            None => {
                let path = path.to_owned();
                found.push(Inside { path, layer, input, kind, more: 0 });
            }
        }
        return Ok(());
    }
    let mut shape = input;
    for (name, child) in layer.children() {
        collect(child, &join(path, name), shape, hidden, found)?;
        if matches!(layer, Layer::Sequential(_)) {
            shape = child.trace(shape)?.output;
        }
    }
    Ok(())
}

/// Whether a layer is of those that are shown from inside.
fn has_kind(layer: &Layer) -> bool {
    matches!(layer, Layer::Residual { .. } | Layer::Branches(_))
        || caption::is_module(layer)
        || caption::is_plain_block(layer)
}

/// What two blocks have in common that look the same inside: all but the numbers of channels.
fn kind(layer: &Layer) -> String {
    match layer {
        Layer::Conv2d(conv) => {
            let (h, w) = conv.kernel;
            format!("conv {h}x{w} {:?}", conv.params.stride)
        }
        Layer::MaxPool2d(_) | Layer::AvgPool2d(_) => format!("{layer:?}"),
        _ => {
            let children = layer.children();
            let inside: Vec<_> = children.iter().map(|(_, child)| kind(child)).collect();
            format!("{}({})", layer.kind(), inside.join(" "))
        }
    }
}

fn draw_inside(inside: &Inside) -> Result<Laid> {
    let Inside { path, layer, input, more, .. } = inside;
    let at = Place { path, name: "", input: *input, depth: usize::MAX };
    // Branches stand one above the other: smaller, and without their names.
    let forks = matches!(layer, Layer::Branches(_)) || caption::is_module(layer);
    let (side, names) = if forks { (30.0, false) } else { (44.0, true) };
    let style = Style { scale: Scale { largest: largest(*input), side }, links: false, names };
    let mut laid = style.node(&block::node(layer, at)?);
    let others = match more {
        0 => String::new(),
        1 => ", and one more of its kind".to_owned(),
        n => format!(", and {n} more of its kind"),
    };
    let text = format!("inside {path}{others}");
    laid.items = laid.items.into_iter().map(|item| item.moved(14.0, 0.0)).collect();
    laid.items.push(Item::line([[0.0, 0.0], [14.0 + laid.enter, 0.0]]));
    let leave = 14.0 + laid.leave;
    laid.items.push(Item::arrow([[leave, 0.0], [leave + 22.0, 0.0]]));
    laid.items.push(Item::heading([0.0, -laid.up - 10.0], text.as_str(), 11.5));
    laid.up += NAME;
    laid.width = (laid.width + 14.0).max(leave + 22.0).max(text_width(&text, 11.5) * 1.08);
    Ok(laid)
}

/// Drawings side by side, their upper ends at one height.
fn beside(drawings: Vec<Laid>) -> Laid {
    let height = |laid: &Laid| laid.up + laid.down;
    let tallest = drawings.iter().map(height).fold(0.0, f64::max);
    let mut all =
        Laid { width: 0.0, up: 0.0, down: tallest, enter: 0.0, leave: 0.0, items: Vec::new() };
    for laid in drawings {
        let left = all.width;
        all.items.extend(laid.items.into_iter().map(|item| item.moved(left, laid.up)));
        all.width = left + laid.width + 40.0;
    }
    all.width -= 40.0;
    all
}
