//! The figure as a page whose blocks open: level by level, down to the single layers.

use super::super::check_depth;
use super::super::page::Page;
use super::block::{self, Place, Row, shape};
use super::caption;
use super::layout::anchor;
use super::{figure, hues};
use crate::Result;
use crate::nn::{Layer, Shape, join};

/// The page of a network called `name`: its outermost layers, and each container's inside, folded,
/// below it; those above `depth` are open.
///
/// # Errors
/// A depth of 0; an input that does not fit.
pub fn page(name: &str, layers: &Layer, input: Shape, depth: Option<usize>) -> Result<Page> {
    let open = check_depth(depth.unwrap_or(1))?;
    let mut page = Page::new(&format!("{name} on {}", shape(input)));
    page.text(
        "Click on a block to look into it. Solids are as high and as deep as a map has rows and \
               columns (by the square root), and as thick as it has channels.",
    );
    page.drawing(&figure::key(&hues(layers, input)?));
    level(&mut page, layers, "", input, open)?;
    Ok(page)
}

/// A container's parts, then the inside of each part that has one. Of a residual block, of branches
/// and of side exits all is shown at once.
fn level(page: &mut Page, layer: &Layer, path: &str, input: Shape, open: usize) -> Result<()> {
    let (layer, whole) = match layer {
        Layer::AuxHead { head, .. } => (&**head, true),
        Layer::Residual { .. } | Layer::Branches(_) => (layer, true),
        _ => (layer, caption::is_module(layer)),
    };
    let depth = if whole { usize::MAX } else { 0 };
    let row = match block::node(layer, Place { path, name: "", input, depth })? {
        block::Node::Row(row) => row,
        other => Row { name: String::new(), items: vec![other] },
    };
    let title = if path.is_empty() { "the outermost layers" } else { path };
    page.drawing(&figure::strip(title, &row, input, if whole { 44.0 } else { 84.0 }));
    if whole { Ok(()) } else { inner(page, layer, path, input, open) }
}

fn inner(page: &mut Page, layer: &Layer, path: &str, input: Shape, open: usize) -> Result<()> {
    let mut shape_here = input;
    for (name, child) in layer.children() {
        let path = join(path, name);
        let output = child.trace(shape_here)?.output;
        if name.is_empty() {
            inner(page, child, &path, shape_here, open)?;
        } else if has_inside(child, &path, shape_here)? {
            let end = block::head_of(child).trace(shape_here)?.output;
            let title = format!("{path}: {} to {}", shape(shape_here), shape(end));
            page.open(&anchor(&path), &title, open > 1);
            level(page, child, &path, shape_here, open.saturating_sub(1))?;
            page.close();
        }
        if matches!(layer, Layer::Sequential(_)) {
            shape_here = output;
        }
    }
    Ok(())
}

/// Whether a layer is a block that may be looked into.
fn has_inside(layer: &Layer, path: &str, input: Shape) -> Result<bool> {
    let at = Place { path, name: "x", input, depth: 0 };
    Ok(match block::node(layer, at)? {
        block::Node::Op(_) => block::is_closed(layer),
        block::Node::Exit(_) => true,
        _ => false,
    })
}
