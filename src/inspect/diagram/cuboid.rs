//! Maps as solids: as high and as deep as the map has rows and columns, as thick as it has channels.

use super::super::drawing::{Hue, Ink, Item, Side};
use super::block::Mark;
use crate::nn::Shape;

/// How far back a unit of depth goes, to the right and upwards.
const OBLIQUE: f64 = 0.3;

/// How large things are: sides by the square root, so that 224 pixels and 7 go into one figure.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    /// Pixels of the largest map's side, and what that is drawn as.
    pub(super) largest: usize,
    pub(super) side: f64,
}

/// A solid around the axis, its left side at x = 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cuboid {
    pub(super) thickness: f64,
    pub(super) height: f64,
    pub(super) depth: f64,
}

impl Scale {
    pub(super) fn cuboid(&self, shape: Shape) -> Cuboid {
        let side = |pixels: usize| {
            let share = pixels as f64 / self.largest.max(1) as f64;
            (self.side * share.sqrt()).clamp(6.0, 2.0 * self.side)
        };
        match shape {
            Shape::Map(c, h, w) => {
                let thickness = 3.0 + 1.1 * (c as f64).sqrt();
                Cuboid { thickness, height: side(h), depth: side(w) }
            }
            Shape::Flat(n) => {
                let height = self.side * (0.2 + 0.2 * (n as f64).log10());
                Cuboid { thickness: 7.0, height, depth: 7.0 }
            }
        }
    }
}

impl Cuboid {
    fn back(&self) -> f64 {
        self.depth * OBLIQUE
    }

    pub(super) fn width(&self) -> f64 {
        self.thickness + self.back()
    }

    /// From the axis to the top, and to the bottom.
    pub(super) fn half_height(&self) -> f64 {
        (self.height + self.back()) / 2.0
    }

    /// Where a line goes out: the middle of the side that shows the map.
    pub(super) fn leave(&self) -> f64 {
        self.thickness + self.back() / 2.0
    }

    /// How high the arc of a shortcut is above it.
    pub(super) fn arc_height(&self) -> f64 {
        12.0
    }

    /// The three faces that are seen.
    pub(super) fn faces(&self, hue: Hue) -> [Item; 3] {
        let (t, b) = (self.thickness, self.back());
        let (top, bottom) = (-self.height / 2.0 + b / 2.0, self.height / 2.0 + b / 2.0);
        let face = |side, points: [[f64; 2]; 4]| Item::Polygon {
            points: points.to_vec(),
            fill: Some(Ink::Block(hue, side)),
            edge: Some(Ink::Line),
        };
        [
            face(Side::Top, [[0.0, top], [b, top - b], [t + b, top - b], [t, top]]),
            face(Side::Right, [[t, top], [t + b, top - b], [t + b, bottom - b], [t, bottom]]),
            face(Side::Front, [[0.0, top], [t, top], [t, bottom], [0.0, bottom]]),
        ]
    }

    /// What shows of its inside.
    pub(super) fn marks(&self, mark: Mark) -> Vec<Item> {
        let (t, b) = (self.thickness, self.back());
        match mark {
            Mark::None => Vec::new(),
            Mark::Shortcuts(n) if n > 1 => {
                let low = -self.half_height() - 2.0;
                let n = n.min(6);
                let from = |i: usize| b / 2.0 + self.thickness.max(b) * i as f64 / n as f64;
                let arc = |i: usize| {
                    let (left, right) = (from(i), from(i + 1));
                    Item::line([[left, low], [left, low - 6.0], [right, low - 6.0], [right, low]])
                };
                (0..n).map(arc).collect()
            }
            Mark::Shortcuts(_) => {
                let top = -self.half_height() - 8.0;
                let (from, to) = (-5.0, self.width() + 5.0);
                let points = [[from, 0.0], [from, top], [to, top], [to, -1.0]];
                vec![Item::arrow(points)]
            }
            Mark::Lanes(n) => {
                let (top, bottom) = (-self.height / 2.0 + b / 2.0, self.height / 2.0 + b / 2.0);
                let cut = |i: usize| {
                    let y = top + (bottom - top) * i as f64 / n as f64;
                    [Item::line([[0.0, y], [t, y]]), Item::line([[t, y], [t + b, y - b]])]
                };
                (1..n).flat_map(cut).collect()
            }
        }
    }
}
