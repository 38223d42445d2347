//! What units see, as a section of a [`Sheet`](super::Sheet).

use super::show::{LARGE, main_layers};
use super::{Colours, Heat, Panel, Section, Seen, Subject, Viewer, receptive_field};
use crate::Result;
use crate::data::{Filter, Picture};
use crate::nn::{Field, Shape};
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
    let (rows, cols) = seen.map;
    let name = format!("{}, unit {},{} of {rows}×{cols}", seen.layer, seen.unit.0, seen.unit.1);
    let mut lines = vec![name, size(seen.field, picture)];
    if seen.effective.values.iter().all(|&v| v == 0.0) {
        lines.push("no influence here: the gradient is 0".to_owned());
    }
    Ok(Panel::new(framed(&over, seen.area, scale), LARGE, lines))
}

/// How large a field is beside the picture.
fn size(field: Option<Field>, picture: &Picture) -> String {
    let (height, width) = (picture.height, picture.width);
    match field.map(|field| (field.rows.size, field.cols.size)) {
        None => "sees everything".to_owned(),
        Some((rows, cols)) if rows > height || cols > width => {
            format!("sees {rows}×{cols}; the picture is {height}×{width}")
        }
        Some((rows, cols)) if rows == cols => format!("sees {rows} of {width} pixels"),
        Some((rows, cols)) => format!("sees {rows}×{cols} of {width} pixels"),
    }
}

/// The picture with a frame around an area that is given in pixels before enlarging; with grey around
/// the picture where the frame goes beyond it, at most twice as much as the picture is wide. A frame
/// that goes beyond that too is drawn at the edge.
fn framed(picture: &Picture, area: [(isize, isize); 2], scale: usize) -> Picture {
    const COLOUR: [u8; 3] = [255, 40, 60];
    const GREY: [u8; 3] = [205, 208, 212];
    let scale = scale as isize;
    let (height, width) = (picture.height as isize, picture.width as isize);
    let [(top, bottom), (left, right)] = area.map(|(a, b)| (a * scale, (b + 1) * scale - 1));
    let beyond = [-top, -left, bottom + 1 - height, right + 1 - width];
    let border = beyond.into_iter().fold(0, isize::max).min(2 * width.max(height));
    let border = if border > 0 { border + 2 * scale } else { 0 };
    let (top, bottom) = (top.max(-border), bottom.min(height + border - 1));
    let (left, right) = (left.max(-border), right.min(width + border - 1));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::ReceptiveField;

    fn grey(height: usize, width: usize) -> Picture {
        Picture::new(width, height, 3, vec![9; 3 * height * width]).unwrap()
    }

    fn field(rows: usize, cols: usize) -> Option<Field> {
        let of = |size| ReceptiveField { size, ..ReceptiveField::INPUT };
        Some(Field { rows: of(rows), cols: of(cols) })
    }

    #[test]
    fn no_part_is_larger_than_the_whole() {
        let picture = grey(96, 96);
        assert_eq!(size(field(43, 43), &picture), "sees 43 of 96 pixels");
        assert_eq!(size(field(1, 7), &picture), "sees 1×7 of 96 pixels");
        assert_eq!(size(field(435, 435), &picture), "sees 435×435; the picture is 96×96");
        assert_eq!(size(field(9, 97), &picture), "sees 9×97; the picture is 96×96");
        assert_eq!(size(None, &picture), "sees everything");
    }

    #[test]
    fn a_frame_is_seen_however_large() {
        let framed = framed(&grey(8, 8), [(-100, 3), (-100, 3)], 1);
        let side = framed.width;
        let pixel = |x: usize, y: usize| &framed.pixels[3 * (y * side + x)..][..3];
        assert_eq!(side, 8 + 2 * 18);
        // Left, and above; what is beyond the field has no colour.
        assert_eq!((pixel(0, 10), pixel(10, 0)), (&[255, 40, 60][..], &[255, 40, 60][..]));
        assert_eq!(pixel(side - 1, side - 1), [205, 208, 212]);
    }

    #[test]
    fn a_gradient_of_zero_is_said() {
        let picture = grey(4, 4);
        let seen = |value: f32| Seen {
            layer: "conv1".to_owned(),
            unit: (0, 0),
            map: (4, 4),
            field: field(3, 3),
            area: [(-1, 1), (-1, 1)],
            effective: Heat::new(4, 4, vec![value; 16]).unwrap(),
        };
        let lines = |value: f32| field_panel(&seen(value), &picture).unwrap().lines;
        assert_eq!(lines(1.0), ["conv1, unit 0,0 of 4×4", "sees 3 of 4 pixels"]);
        assert_eq!(lines(0.0)[2], "no influence here: the gradient is 0");
    }
}
