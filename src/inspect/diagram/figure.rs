//! The whole figure: rows as wide as a page, groups named above them, insides below.

use super::super::drawing::{Drawing, Hue, Ink, Item, text_width};
use super::block::{Mark, Node, Op, Row, shape};
use super::cuboid::Scale;
use super::insides;
use super::layout::{Laid, Style, in_turn, legend, legend_width};
use crate::Result;
use crate::nn::{Layer, Shape};

/// How wide a figure is, but for a part that is wider.
pub(super) const PAGE: f64 = 980.0;
pub(super) const MARGIN: f64 = 16.0;
/// Height of a group's name and its line.
pub(super) const NAME: f64 = 26.0;

/// A part of the outermost row, with the group it is in.
struct Part {
    group: String,
    laid: Laid,
}

/// The figure of a network.
pub(super) fn figure(name: &str, layers: &Layer, input: Shape, row: &Row) -> Result<Drawing> {
    let style =
        Style { scale: Scale { largest: largest(input), side: 96.0 }, links: false, names: true };
    let mut hues = Vec::new();
    note_row(row, &mut hues);
    let mut items = title(name, input);
    items.extend(legend(&hues, 30.0).into_iter().map(|item| item.moved(MARGIN, MARGIN)));
    let mut bottom = 62.0;
    let mut width = legend_width(&hues).max(title_width(name, input)) + 2.0 * MARGIN;
    let mut place = |laid: Laid, items: &mut Vec<Item>, bottom: &mut f64| {
        *bottom += laid.up;
        items.extend(laid.items.into_iter().map(|item| item.moved(MARGIN, *bottom)));
        *bottom += laid.down + 18.0;
        width = width.max(laid.width + 2.0 * MARGIN);
    };
    for line in lines(parts(&style, row, input), PAGE - 2.0 * MARGIN) {
        place(line, &mut items, &mut bottom);
    }
    for line in insides::insides(layers, input, row)? {
        place(line, &mut items, &mut bottom);
    }
    let title = format!("{name} on {}", shape(input));
    Ok(Drawing { width, height: bottom, title, items })
}

/// One row of parts, for a page that shows level by level.
/// `side` is what its input's side is drawn as.
pub(super) fn strip(title: &str, row: &Row, input: Shape, side: f64) -> Drawing {
    let style = Style { scale: Scale { largest: largest(input), side }, links: true, names: true };
    let mut items = Vec::new();
    let (mut bottom, mut width) = (MARGIN, 0f64);
    for line in lines(parts(&style, row, input), PAGE - 2.0 * MARGIN) {
        bottom += line.up;
        items.extend(line.items.into_iter().map(|item| item.moved(MARGIN, bottom)));
        bottom += line.down + 14.0;
        width = width.max(line.width + 2.0 * MARGIN);
    }
    Drawing { width, height: bottom, title: title.to_owned(), items }
}

/// What the colours of a page's figures mean.
pub(super) fn key(hues: &[Hue]) -> Drawing {
    let items = legend(hues, MARGIN).into_iter().map(|item| item.moved(MARGIN, 0.0)).collect();
    let (width, title) = (legend_width(hues) + 2.0 * MARGIN, "what the colours mean".to_owned());
    Drawing { width, height: MARGIN + 8.0, title, items }
}

fn title(name: &str, input: Shape) -> Vec<Item> {
    let after = MARGIN + text_width(name, 17.0) * 1.08 + 12.0;
    vec![
        Item::heading([MARGIN, MARGIN + 12.0], name, 17.0),
        Item::text([after, MARGIN + 12.0], format!("on {}", shape(input)), 12.0, Ink::Faint),
    ]
}

fn title_width(name: &str, input: Shape) -> f64 {
    text_width(name, 17.0) * 1.08 + 12.0 + text_width(&format!("on {}", shape(input)), 12.0)
}

pub(super) fn largest(input: Shape) -> usize {
    match input {
        Shape::Map(_, h, w) => h.max(w),
        Shape::Flat(_) => 1,
    }
}

/// The input's block and all parts, groups dissolved but remembered.
fn parts(style: &Style, row: &Row, input: Shape) -> Vec<Part> {
    let lines = vec!["input".to_owned(), shape(input)];
    let title = format!("the input, {}", shape(input));
    let (path, hue, mark, closed) = (String::new(), Hue::Plain, Mark::None, false);
    let first = Op { path, lines, hue, output: input, mark, closed, title };
    let mut parts = vec![Part { group: String::new(), laid: style.op(&first, 0.0) }];
    flatten(style, row, "", &mut parts);
    parts
}

fn flatten(style: &Style, row: &Row, group: &str, parts: &mut Vec<Part>) {
    for node in &row.items {
        match node {
            Node::Row(inner) => {
                let named = inner.items.len() > 1 && group.is_empty();
                let group = if named { inner.name.as_str() } else { group };
                flatten(style, inner, group, parts);
            }
            other => {
                // Branches that are in no group are one.
                let group = match other {
                    Node::Lanes { name, .. } if group.is_empty() => name.as_str(),
                    _ => group,
                };
                parts.push(Part { group: group.to_owned(), laid: style.node(other) });
            }
        }
    }
}

/// Parts in as few lines as a page needs, all about as long, each with an arrow to the next.
fn lines(parts: Vec<Part>, width: f64) -> Vec<Laid> {
    let widths: Vec<_> = parts.iter().map(|part| part.laid.width + 14.0).collect();
    let widest = widths.iter().copied().fold(0.0, f64::max);
    let full = breaks(&widths, width - 50.0);
    let share = widths.iter().sum::<f64>() / (full.len() + 1) as f64 + widest / 2.0;
    let even = breaks(&widths, share.min(width - 50.0));
    let breaks = if even.len() == full.len() { even } else { full };
    let mut parts = parts.into_iter();
    let mut lines = Vec::new();
    let mut start = 0;
    for &end in breaks.iter().chain([&widths.len()]) {
        let line = parts.by_ref().take(end - start).collect();
        lines.push(line_of(line, start > 0, end < widths.len()));
        start = end;
    }
    lines
}

/// Where lines of at most `width` end, but for the last.
fn breaks(widths: &[f64], width: f64) -> Vec<usize> {
    let (mut found, mut used) = (Vec::new(), 0.0);
    for (i, needed) in widths.iter().enumerate() {
        if used + needed > width && used > 0.0 {
            found.push(i);
            used = 0.0;
        }
        used += needed;
    }
    found
}

/// One line; `comes` and `goes` say whether there is one before and one behind.
fn line_of(parts: Vec<Part>, comes: bool, goes: bool) -> Laid {
    let left = if comes { 24.0 } else { 0.0 };
    let mut x = left;
    let mut groups: Vec<(String, f64, f64)> = Vec::new();
    for part in &parts {
        let (from, to) = (x, x + part.laid.width);
        match groups.last_mut() {
            Some((name, _, end)) if *name == part.group => *end = to,
            _ => groups.push((part.group.clone(), from, to)),
        }
        x = to + 14.0;
    }
    let mut laid = in_turn(parts.into_iter().map(|part| part.laid).collect());
    laid.items = laid.items.into_iter().map(|item| item.moved(left, 0.0)).collect();
    if comes {
        laid.items.insert(0, Item::arrow([[0.0, 0.0], [left + laid.enter, 0.0]]));
    }
    laid.width += left;
    if goes {
        let from = left + laid.leave;
        laid.width = laid.width.max(from) + 20.0;
        laid.items.insert(0, Item::arrow([[from, 0.0], [laid.width, 0.0]]));
    }
    let named: Vec<_> = groups.into_iter().filter(|(name, ..)| !name.is_empty()).collect();
    if !named.is_empty() {
        let y = -laid.up - 9.0;
        for (name, from, to) in named {
            laid.items.push(Item::line([[from, y + 5.0], [from, y], [to, y], [to, y + 5.0]]));
            let at = [(from + to) / 2.0, y - 5.0];
            laid.items.push(Item::label(at, name, 11.5, Ink::Text));
        }
        laid.up += NAME;
    }
    laid
}

/// Adds the colours of a row's blocks, but for the one that says nothing.
pub(super) fn note_row(row: &Row, hues: &mut Vec<Hue>) {
    row.items.iter().for_each(|node| note_hues(node, hues));
}

fn note_hues(node: &Node, hues: &mut Vec<Hue>) {
    let mut note = |hue: Hue| {
        if !hues.contains(&hue) && hue != Hue::Plain {
            hues.push(hue);
        }
    };
    match node {
        Node::Op(op) | Node::Exit(op) => note(op.hue),
        Node::Row(row) => note_row(row, hues),
        Node::Lanes { rows, .. } => rows.iter().for_each(|row| note_row(row, hues)),
        Node::Sum(body, side) => [body].into_iter().chain(side).for_each(|row| note_row(row, hues)),
    }
}
