//! A drawing as pixels.

use tiny_skia::{
    Color, FillRule, FilterQuality, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap,
    PixmapPaint, Stroke, StrokeDash, Transform,
};

use super::ink::Ink;
use super::{Anchor, Drawing, Item, Point, font, svg, text_width};
use crate::data::Picture;
use crate::{Error, Result};

const ROUND: f64 = 6.0;
/// More pixels a side are a mistake.
const LARGEST: f64 = 20_000.0;

/// The drawing at `scale` pixels for one of its own.
pub(super) fn picture(drawing: &Drawing, scale: f64) -> Result<Picture> {
    let (width, height) = ((drawing.width * scale).ceil(), (drawing.height * scale).ceil());
    let fits = |side: f64| (1.0..=LARGEST).contains(&side);
    let pixmap =
        (fits(width) && fits(height)).then(|| Pixmap::new(width as u32, height as u32)).flatten();
    let Some(mut pixmap) = pixmap else {
        let message = format!("a PNG of {width}x{height} pixels cannot be drawn; SVG has no limit");
        return Err(Error::Setting(message));
    };
    pixmap.fill(colour(Ink::Paper));
    let mut canvas = Canvas { pixmap, scale: scale as f32 };
    drawing.items.iter().for_each(|item| canvas.item(item));
    let pixels = canvas.pixmap.data().chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
    Picture::new(width as usize, height as usize, 3, pixels)
}

fn colour(ink: Ink) -> Color {
    let [r, g, b] = ink.light();
    Color::from_rgba8(r, g, b, 255)
}

fn paint(ink: Ink) -> Paint<'static> {
    let mut paint = Paint { anti_alias: true, ..Paint::default() };
    paint.set_color(colour(ink));
    paint
}

struct Canvas {
    pixmap: Pixmap,
    scale: f32,
}

impl Canvas {
    fn transform(&self) -> Transform {
        Transform::from_scale(self.scale, self.scale)
    }

    fn item(&mut self, item: &Item) {
        match item {
            Item::Polygon { points, fill, edge } => {
                let Some(path) = path(&segments(points, 0.0), true) else { return };
                self.fill(&path, *fill);
                self.stroke(&path, *edge, 0.8, false);
            }
            Item::Line { points, ink, width, dashed, arrow } => {
                if let Some(path) = path(&segments(points, ROUND), false) {
                    self.stroke(&path, Some(*ink), *width, *dashed);
                }
                let head = if *arrow { svg::arrow_head(points) } else { Vec::new() };
                if let Some(path) = path(&segments(&head, 0.0), true) {
                    self.fill(&path, Some(*ink));
                }
            }
            Item::Circle { at, radius, fill, edge } => {
                let circle = PathBuilder::from_circle(at[0] as f32, at[1] as f32, *radius as f32);
                if let Some(path) = circle {
                    self.fill(&path, Some(*fill));
                    self.stroke(&path, Some(*edge), 1.0, false);
                }
            }
            Item::Text { at, text, size, anchor, ink, bold } => {
                let shift = match anchor {
                    Anchor::Start => 0.0,
                    Anchor::Middle => -text_width(text, *size) / 2.0,
                    Anchor::End => -text_width(text, *size),
                };
                let width = size * if *bold { 0.115 } else { 0.075 };
                for stroke in font::strokes(text, *size) {
                    let points: Vec<_> =
                        stroke.iter().map(|[x, y]| [at[0] + shift + x, at[1] + y]).collect();
                    if let Some(path) = path(&segments(&points, 0.0), false) {
                        self.stroke(&path, Some(*ink), width, false);
                    }
                }
            }
            Item::Image { at, size, picture } => self.image(*at, *size, picture),
            Item::Group { items, .. } => items.iter().for_each(|item| self.item(item)),
        }
    }

    fn fill(&mut self, path: &Path, ink: Option<Ink>) {
        let Some(ink) = ink else { return };
        let transform = self.transform();
        self.pixmap.fill_path(path, &paint(ink), FillRule::Winding, transform, None);
    }

    fn stroke(&mut self, path: &Path, ink: Option<Ink>, width: f64, dashed: bool) {
        let Some(ink) = ink else { return };
        let dash = if dashed { StrokeDash::new(vec![4.0, 3.0], 0.0) } else { None };
        let (line_cap, line_join) = match dashed {
            true => (LineCap::Butt, LineJoin::Round),
            false => (LineCap::Round, LineJoin::Round),
        };
        let width = width as f32;
        let stroke = Stroke { width, line_cap, line_join, dash, ..Stroke::default() };
        let transform = self.transform();
        self.pixmap.stroke_path(path, &paint(ink), &stroke, transform, None);
    }

    fn image(&mut self, at: Point, size: [f64; 2], picture: &Picture) {
        let colour = picture.with_channels(3);
        let Some(mut pixels) = Pixmap::new(picture.width as u32, picture.height as u32) else {
            return; // a picture of no size
        };
        for (to, from) in pixels.data_mut().chunks_exact_mut(4).zip(colour.pixels.chunks_exact(3)) {
            to.copy_from_slice(&[from[0], from[1], from[2], 255]);
        }
        let across = (size[0] / picture.width as f64) as f32;
        let down = (size[1] / picture.height as f64) as f32;
        let shrinks = across * self.scale < 1.0;
        let quality = if shrinks { FilterQuality::Bilinear } else { FilterQuality::Nearest };
        let paint = PixmapPaint { quality, ..PixmapPaint::default() };
        let place = Transform::from_row(across, 0.0, 0.0, down, at[0] as f32, at[1] as f32);
        let transform = self.transform().pre_concat(place);
        self.pixmap.draw_pixmap(0, 0, pixels.as_ref(), &paint, transform, None);
    }
}

/// A path's commands: `M` and `L` with one point, `Q` with the corner and the end.
pub(super) fn segments(points: &[Point], round: f64) -> Vec<(char, Vec<Point>)> {
    let mut found = Vec::new();
    for (i, &at) in points.iter().enumerate() {
        let next = points.get(i + 1);
        match (i, next) {
            (0, _) => found.push(('M', vec![at])),
            (_, Some(&next)) if round > 0.0 => {
                let (from, to) = (towards(at, points[i - 1], round), towards(at, next, round));
                found.push(('L', vec![from]));
                found.push(('Q', vec![at, to]));
            }
            _ => found.push(('L', vec![at])),
        }
    }
    found
}

/// The point `distance` from `at` on the way to `goal`, at most half of it.
fn towards(at: Point, goal: Point, distance: f64) -> Point {
    let (dx, dy) = (goal[0] - at[0], goal[1] - at[1]);
    let length = dx.hypot(dy);
    let part = if length > 0.0 { (distance / length).min(0.5) } else { 0.0 };
    [at[0] + dx * part, at[1] + dy * part]
}

fn path(segments: &[(char, Vec<Point>)], closed: bool) -> Option<Path> {
    let mut builder = PathBuilder::new();
    for (kind, points) in segments {
        match (kind, &points[..]) {
            ('M', [p]) => builder.move_to(p[0] as f32, p[1] as f32),
            (_, [p]) => builder.line_to(p[0] as f32, p[1] as f32),
            (_, [c, p]) => {
                builder.quad_to(c[0] as f32, c[1] as f32, p[0] as f32, p[1] as f32);
            }
            _ => {}
        }
    }
    if closed {
        builder.close();
    }
    builder.finish()
}
