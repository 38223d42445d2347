//! Pictures in rows with words under them.

use super::drawing::{Drawing, Ink, Item, rectangle, text_width};
use super::page::Page;
use crate::data::Picture;

/// How wide a sheet may be, but for a panel that is wider.
const WIDTH: f64 = 980.0;
const MARGIN: f64 = 16.0;
/// Between panels.
const GAP: f64 = 8.0;
const SMALL: f64 = 10.5;
const LINE: f64 = 13.0;

/// A picture with words under it.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// The picture.
    pub picture: Picture,
    /// Width and height it is drawn at.
    pub size: [f64; 2],
    /// Lines under it.
    pub lines: Vec<String>,
}

/// Panels under a heading.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Section {
    /// The heading.
    pub heading: String,
    /// A line under it.
    pub note: String,
    /// The panels, in reading order.
    pub panels: Vec<Panel>,
}

/// Sections one below the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sheet {
    /// What all of it is.
    pub title: String,
    /// The sections.
    pub sections: Vec<Section>,
}

impl Panel {
    /// A picture drawn so that its longer side takes `side`.
    pub fn new(picture: Picture, side: f64, lines: Vec<String>) -> Self {
        let (w, h) = (picture.width as f64, picture.height as f64);
        let scale = side / w.max(h);
        Panel { picture, size: [w * scale, h * scale], lines }
    }

    fn width(&self) -> f64 {
        let text = self.lines.iter().map(|line| text_width(line, SMALL)).fold(0.0, f64::max);
        text.max(self.size[0])
    }

    fn height(&self) -> f64 {
        let text = LINE * self.lines.len() as f64;
        self.size[1] + if text > 0.0 { text + 4.0 } else { 0.0 }
    }

    fn items(&self, x: f64, y: f64) -> Vec<Item> {
        let [w, h] = self.size;
        let picture = self.picture.clone();
        let edge = Some(Ink::Line);
        let mut items = vec![
            Item::Image { at: [x, y], size: [w, h], picture },
            Item::Polygon { points: rectangle(x, y, w, h), fill: None, edge },
        ];
        for (i, line) in self.lines.iter().enumerate() {
            let ink = if i == 0 { Ink::Text } else { Ink::Faint };
            items.push(Item::text([x, y + h + LINE * (i + 1) as f64], line, SMALL, ink));
        }
        items
    }
}

impl Section {
    /// The panels alone, as many side by side as fit.
    fn panels(&self, top: f64, items: &mut Vec<Item>) -> [f64; 2] {
        let (mut x, mut y, mut tallest, mut widest) = (MARGIN, top, 0f64, 0f64);
        for panel in &self.panels {
            if x + panel.width() > WIDTH - MARGIN && x > MARGIN {
                (x, y, tallest) = (MARGIN, y + tallest + GAP, 0.0);
            }
            items.extend(panel.items(x, y));
            tallest = tallest.max(panel.height());
            widest = widest.max(x + panel.width() + MARGIN);
            x += panel.width() + GAP;
        }
        [widest, y + tallest]
    }

    fn drawing(&self) -> Drawing {
        let mut items = Vec::new();
        let [width, height] = self.panels(2.0, &mut items);
        Drawing { width, height: height + 6.0, title: self.heading.clone(), items }
    }
}

impl Sheet {
    /// All of it as one drawing.
    pub fn drawing(&self) -> Drawing {
        let mut items = vec![Item::heading([MARGIN, MARGIN + 12.0], self.title.as_str(), 16.0)];
        let wide = |text: &str, size: f64| 1.08 * text_width(text, size) + 2.0 * MARGIN;
        let (mut width, mut y) = (wide(&self.title, 16.0), MARGIN + 22.0);
        for section in &self.sections {
            if !section.heading.is_empty() {
                y += 22.0;
                items.push(Item::heading([MARGIN, y], section.heading.as_str(), 12.5));
            }
            if !section.note.is_empty() {
                y += 15.0;
                items.push(Item::text([MARGIN, y], section.note.as_str(), SMALL, Ink::Faint));
            }
            width = width.max(wide(&section.heading, 12.5)).max(wide(&section.note, SMALL));
            let [right, bottom] = section.panels(y + 10.0, &mut items);
            (width, y) = (width.max(right), bottom);
        }
        Drawing { width, height: y + MARGIN, title: self.title.clone(), items }
    }

    /// All of it as a page.
    pub fn page(&self) -> Page {
        let mut page = Page::new(&self.title);
        for section in &self.sections {
            page.heading(&section.heading);
            if !section.note.is_empty() {
                page.text(&section.note);
            }
            page.drawing(&section.drawing());
        }
        page
    }
}
