//! An architecture as textbooks draw it: solids that shrink and thicken, branches, shortcuts.
//!
//! The tree becomes parts (`block`), those get their places (`layout`, `figure`), and a [`Drawing`] or a
//! [`Page`](super::Page) comes out.

mod block;
mod caption;
mod cuboid;
mod figure;
mod insides;
mod layout;
mod page;

use block::{Place, Row};
pub use page::page;

use super::check_depth;
use super::drawing::{Drawing, Hue};
use crate::Result;
use crate::nn::{Layer, Shape};

/// A figure may have this many blocks, unless a depth is asked for.
const MOST: usize = 27;

/// The figure of a network called `name`, on one input shape. Containers deeper than `depth` (1 being
/// the outermost layers, as in a summary) are one block, and what is in them is shown once for each kind
/// of residual block, branching or plain block; without a depth, as deep as a page allows.
///
/// # Errors
/// A depth of 0; an input that does not fit.
pub fn diagram(name: &str, layers: &Layer, input: Shape, depth: Option<usize>) -> Result<Drawing> {
    let row = match depth {
        Some(depth) => rows(layers, input, check_depth(depth)?)?,
        None => fitting(layers, input)?,
    };
    figure::figure(name, layers, input, &row)
}

/// The tree's outermost row, looked into down to `depth`.
fn rows(layers: &Layer, input: Shape, depth: usize) -> Result<Row> {
    let at = Place { path: "", name: "", input, depth: depth - 1 };
    match layers {
        Layer::Sequential(inner) => block::row(inner, at),
        other => Ok(Row { name: String::new(), items: vec![block::node(other, at)?] }),
    }
}

/// The colours of all blocks there are, at whatever depth.
fn hues(layers: &Layer, input: Shape) -> Result<Vec<Hue>> {
    let (mut found, mut before) = (Vec::new(), None);
    for depth in 1..16 {
        let row = rows(layers, input, depth)?;
        if before.as_ref() == Some(&row) {
            break;
        }
        figure::note_row(&row, &mut found);
        before = Some(row);
    }
    Ok(found)
}

/// As deep as leaves no more than [`MOST`] blocks.
fn fitting(layers: &Layer, input: Shape) -> Result<Row> {
    let mut best = rows(layers, input, 1)?;
    for depth in 2..16 {
        let deeper = rows(layers, input, depth)?;
        if deeper.count() > MOST || deeper == best {
            break;
        }
        best = deeper;
    }
    Ok(best)
}
