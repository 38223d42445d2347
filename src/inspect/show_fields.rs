//! What units see, as a section of a [`Sheet`](super::Sheet).

use super::show::{LARGE, main_layers};
use super::{Colours, Heat, Panel, Section, Seen, Subject, Viewer, receptive_field};
use crate::Result;
use crate::data::{Filter, Picture};
use crate::nn::Shape;
use crate::ops::Pair;

/// A picture enlarged smoothly, so that lines drawn on it are thin.
fn enlarged(picture: &Picture, least: usize) -> Result<Picture> {
    let scale = least.div_ceil(picture.width.min(picture.height)).max(1);
    picture.resized(picture.width * scale, picture.height * scale, Filter::Bicubic)
}

/// What the units of some layers see; without any, those of [`main_layers`].
///
/// # Errors
/// No such layer or unit.
pub fn show_receptive_fields(
    viewer: &Viewer,
    subject: &Subject,
    layers: &[String],
    unit: Option<Pair>,
) -> Result<Section> {
    let network = &viewer.model.network;
    let (c, h, w) = viewer.model.config.input;
    let layers = match layers {
        [] => main_layers(network.layers(), Shape::Map(c, h, w))?,
        named => named.to_vec(),
    };
    let mut panels = Vec::new();
    for layer in &layers {
        let seen = receptive_field(network, &subject.input, Some(layer), unit)?;
        panels.push(field_panel(&seen, &subject.picture)?);
    }
    let note = "Frame: the input that can have an influence on the unit, by arithmetic. Colour: how \
                much it has here, by gradient (square root).";
    Ok(Section { heading: String::new(), note: note.to_owned(), panels })
}

fn field_panel(seen: &Seen, picture: &Picture) -> Result<Panel> {
    let root = seen.effective.values.iter().map(|v| v.sqrt()).collect();
    let root = Heat { values: root, ..seen.effective.clone() };
    let over = root.over(&enlarged(picture, 300)?, Colours::Rainbow, 0.8)?;
    let scale = over.width / picture.width;
    let size = match seen.field {
        Some(field) if field.rows.size == field.cols.size => format!("sees {}", field.rows.size),
        Some(field) => format!("sees {}×{}", field.rows.size, field.cols.size),
        None => "sees everything".to_owned(),
    };
    let (rows, cols) = seen.map;
    let name = format!("{}, unit {},{} of {rows}×{cols}", seen.layer, seen.unit.0, seen.unit.1);
    let framed = framed(&over, seen.area, scale);
    Ok(Panel::new(framed, LARGE, vec![name, format!("{size} of {} pixels", picture.width)]))
}

/// The picture with a frame around an area that is given in pixels before enlarging; with grey around
/// the picture where the frame goes beyond it, at most twice as much as the picture is wide.
fn framed(picture: &Picture, area: [(isize, isize); 2], scale: usize) -> Picture {
    const COLOUR: [u8; 3] = [255, 40, 60];
    const GREY: [u8; 3] = [205, 208, 212];
    let scale = scale as isize;
    let (height, width) = (picture.height as isize, picture.width as isize);
    let [(top, bottom), (left, right)] = area.map(|(a, b)| (a * scale, (b + 1) * scale - 1));
    let beyond = [-top, -left, bottom + 1 - height, right + 1 - width];
    let border = beyond.into_iter().fold(0, isize::max).min(2 * width.max(height));
    let border = if border > 0 { border + 2 * scale } else { 0 };
    let thick = 3 * (width + 2 * border) / width;
    let mut pixels =
        Vec::with_capacity(3 * ((width + 2 * border) * (height + 2 * border)) as usize);
    for y in -border..height + border {
        for x in -border..width + border {
            let inside = |by: isize| {
                (top + by..=bottom - by).contains(&y) && (left + by..=right - by).contains(&x)
            };
            let colour = if inside(0) && !inside(thick) {
                COLOUR
            } else if (0..height).contains(&y) && (0..width).contains(&x) {
                let at = 3 * (y * width + x) as usize;
                [picture.pixels[at], picture.pixels[at + 1], picture.pixels[at + 2]]
            } else {
                GREY
            };
            pixels.extend(colour);
        }
    }
    let (width, height) = ((width + 2 * border) as usize, (height + 2 * border) as usize);
    Picture { width, height, channels: 3, pixels }
}
