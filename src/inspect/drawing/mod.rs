//! Drawings made of polygons, lines, text and pictures; written as SVG, or as PNG.

mod font;
mod ink;
mod raster;
mod svg;

use std::path::Path;

pub use font::text_width;
pub use ink::{Hue, Ink, Side};
pub(crate) use svg::{dark_style, data_url, escaped};

use crate::data::Picture;
use crate::{Error, Result, files};

/// A point, in pixels; y points down.
pub type Point = [f64; 2];

/// Which part of a text is at its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// Its beginning.
    Start,
    /// Its middle.
    Middle,
    /// Its end.
    End,
}

/// A piece of a drawing.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A filled area.
    Polygon {
        /// Its corners.
        points: Vec<Point>,
        /// What fills it; nothing where `None`.
        fill: Option<Ink>,
        /// What its border is drawn with.
        edge: Option<Ink>,
    },
    /// A line with rounded corners.
    Line {
        /// Its corners.
        points: Vec<Point>,
        /// Its colour.
        ink: Ink,
        /// How thick it is.
        width: f64,
        /// Whether it is broken.
        dashed: bool,
        /// Whether it ends in an arrow.
        arrow: bool,
    },
    /// A circle.
    Circle {
        /// Its centre.
        at: Point,
        /// Its radius.
        radius: f64,
        /// What fills it.
        fill: Ink,
        /// What its border is drawn with.
        edge: Ink,
    },
    /// A line of text.
    Text {
        /// A point on its baseline.
        at: Point,
        /// What it says.
        text: String,
        /// Font size.
        size: f64,
        /// Which part of it is at the point.
        anchor: Anchor,
        /// Its colour.
        ink: Ink,
        /// Whether it is bold.
        bold: bool,
    },
    /// A picture.
    Image {
        /// Its upper left corner.
        at: Point,
        /// Width and height it is drawn at.
        size: [f64; 2],
        /// Its pixels; enlarged as squares.
        picture: Picture,
    },
    /// Items that belong together.
    Group {
        /// Shown where a pointer rests on them.
        title: String,
        /// In a page: the id of the element that a click leads to.
        target: Option<String>,
        /// The items.
        items: Vec<Item>,
    },
}

/// A drawing of a fixed size.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drawing {
    /// Width in pixels.
    pub width: f64,
    /// Height in pixels.
    pub height: f64,
    /// What it shows, for those who cannot see it.
    pub title: String,
    /// What is on it, the first at the bottom.
    pub items: Vec<Item>,
}

impl Item {
    /// The same elsewhere.
    pub fn moved(self, dx: f64, dy: f64) -> Self {
        let shift = |[x, y]: Point| [x + dx, y + dy];
        let all = |points: Vec<Point>| points.into_iter().map(shift).collect();
        match self {
            Item::Polygon { points, fill, edge } => {
                Item::Polygon { points: all(points), fill, edge }
            }
            Item::Line { points, ink, width, dashed, arrow } => {
                Item::Line { points: all(points), ink, width, dashed, arrow }
            }
            Item::Circle { at, radius, fill, edge } => {
                Item::Circle { at: shift(at), radius, fill, edge }
            }
            Item::Text { at, text, size, anchor, ink, bold } => {
                Item::Text { at: shift(at), text, size, anchor, ink, bold }
            }
            Item::Image { at, size, picture } => Item::Image { at: shift(at), size, picture },
            Item::Group { title, target, items } => {
                let items = items.into_iter().map(|item| item.moved(dx, dy)).collect();
                Item::Group { title, target, items }
            }
        }
    }

    /// A thin line.
    pub fn line(points: impl Into<Vec<Point>>) -> Self {
        let (ink, width) = (Ink::Line, 1.2);
        Item::Line { points: points.into(), ink, width, dashed: false, arrow: false }
    }

    /// A thin line with an arrow at its end.
    pub fn arrow(points: impl Into<Vec<Point>>) -> Self {
        let (ink, width) = (Ink::Line, 1.2);
        Item::Line { points: points.into(), ink, width, dashed: false, arrow: true }
    }

    /// Text with its middle at `at`.
    pub fn label(at: Point, text: impl Into<String>, size: f64, ink: Ink) -> Self {
        Item::Text { at, text: text.into(), size, anchor: Anchor::Middle, ink, bold: false }
    }

    /// Text that begins at `at`.
    pub fn text(at: Point, text: impl Into<String>, size: f64, ink: Ink) -> Self {
        Item::Text { at, text: text.into(), size, anchor: Anchor::Start, ink, bold: false }
    }

    /// Bold text that begins at `at`.
    pub fn heading(at: Point, text: impl Into<String>, size: f64) -> Self {
        let (anchor, ink) = (Anchor::Start, Ink::Text);
        Item::Text { at, text: text.into(), size, anchor, ink, bold: true }
    }
}

/// The corners of a rectangle.
pub fn rectangle(x: f64, y: f64, width: f64, height: f64) -> Vec<Point> {
    vec![[x, y], [x + width, y], [x + width, y + height], [x, y + height]]
}

impl Drawing {
    /// An SVG file: light or dark as the reader's system is.
    pub fn svg(&self) -> String {
        svg::file(self)
    }

    /// An `<svg>` element for a page.
    pub fn svg_element(&self) -> String {
        svg::element(self)
    }

    /// A PNG file with `scale` pixels for one of the drawing's, light.
    ///
    /// # Errors
    /// A drawing of no size, or one that is too large.
    pub fn png(&self, scale: f64) -> Result<Vec<u8>> {
        png(&raster::picture(self, scale)?)
    }

    /// Writes `.svg`, `.png` or `.jpg` (`.jpeg`), as the path says; the last two with `scale` pixels
    /// for one of the drawing's.
    ///
    /// # Errors
    /// Another ending, or a file that cannot be written.
    pub fn write(&self, path: &Path, scale: f64) -> Result<()> {
        match ending(path).as_str() {
            "svg" => files::write_bytes(path, self.svg().as_bytes()),
            "png" => files::write_bytes(path, &self.png(scale)?),
            "jpg" | "jpeg" => files::write_bytes(path, &jpeg(&raster::picture(self, scale)?)?),
            _ => Err(Error::file(path, "a drawing can be written as .svg, .png or .jpg")),
        }
    }
}

/// A path's ending in small letters; empty where it has none.
pub(crate) fn ending(path: &Path) -> String {
    path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase()
}

/// A picture as a PNG file.
///
/// # Errors
/// Never, for a picture that [`Picture::new`] made.
pub fn png(picture: &Picture) -> Result<Vec<u8>> {
    use image::codecs::png::{CompressionType, FilterType, PngEncoder};
    use image::{ExtendedColorType, ImageEncoder};
    let mut bytes = Vec::new();
    let colour =
        if picture.channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let (width, height) = (picture.width as u32, picture.height as u32);
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Best, FilterType::Adaptive)
        .write_image(&picture.pixels, width, height, colour)
        .map_err(|error| Error::Setting(format!("a picture cannot be written as PNG: {error}")))?;
    Ok(bytes)
}

/// A picture as a JPEG file.
fn jpeg(picture: &Picture) -> Result<Vec<u8>> {
    use image::ExtendedColorType;
    let mut bytes = Vec::new();
    let colour =
        if picture.channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let (width, height) = (picture.width as u32, picture.height as u32);
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 88)
        .encode(&picture.pixels, width, height, colour)
        .map_err(|error| Error::Setting(format!("a picture cannot be written as JPEG: {error}")))?;
    Ok(bytes)
}
