//! The hand that draws: it holds the canvas, the pose, the colours and the pen.

use super::palette::Palette;
use super::raster::{Canvas, Mask, Point, Rgb, mix, shade};
use super::shapes::{Pose, stroke};
use crate::rng::Rng;

/// Draws shapes given in face units: the head's half width is about 1, y points down.
pub(super) struct Artist<'a> {
    pub(super) canvas: &'a mut Canvas,
    pub(super) rng: &'a mut Rng,
    pub(super) pose: Pose,
    pub(super) palette: Palette,
    /// How far the face is turned to the side and up, as a shift of what stands out of it.
    pub(super) turn: Point,
    /// Width of outlines; 0 for a picture without.
    pub(super) line: f64,
    /// Where light comes from, in pixels, and how strongly it models round things.
    pub(super) light: Point,
}

impl<'a> Artist<'a> {
    /// An artist with a random pose, palette, pen and light.
    pub(super) fn random(canvas: &'a mut Canvas, rng: &'a mut Rng) -> Artist<'a> {
        let pose = Pose::random(rng, canvas.side as f64);
        let palette = Palette::random(rng);
        let turn = [rng.range(-0.3, 0.3), rng.range(-0.14, 0.14)];
        let line = if rng.chance(0.25) { 0.0 } else { rng.range(0.02, 0.075) };
        let light = [rng.range(-0.25, 0.25), rng.range(-0.3, 0.1)];
        Artist { canvas, rng, pose, palette, turn, line, light }
    }

    /// Moves points by the turn of the head; what stands out further moves further.
    pub(super) fn turned(&self, mut path: Vec<Point>, depth: f64) -> Vec<Point> {
        for point in &mut path {
            point[0] += self.turn[0] * depth;
            point[1] += self.turn[1] * depth;
        }
        path
    }

    /// The pixels of a closed outline.
    pub(super) fn mask(&self, path: &[Point]) -> Mask {
        Mask::polygon(&self.pose.place(path), self.canvas.side)
    }

    /// Fills a closed outline with one colour.
    pub(super) fn fill(&mut self, path: &[Point], colour: Rgb) {
        let mask = self.mask(path);
        self.canvas.blend(&mask, 1.0, |_, _| colour);
    }

    /// Fills a closed outline as far as it lies inside `clip`.
    pub(super) fn fill_within(&mut self, path: &[Point], clip: &Mask, colour: Rgb, alpha: f32) {
        let mask = self.mask(path).within(clip);
        self.canvas.blend(&mask, alpha, |_, _| colour);
    }

    /// Fills a closed outline with a colour modelled by the light, then draws the outline.
    pub(super) fn body(&mut self, path: &[Point], colour: Rgb) -> Mask {
        let placed = self.pose.place(path);
        let mask = Mask::polygon(&placed, self.canvas.side);
        let n = placed.len().max(1) as f64;
        let centre: Point =
            std::array::from_fn(|axis| placed.iter().map(|p| p[axis]).sum::<f64>() / n);
        let (light, reach) = (self.light, self.pose.scale);
        self.canvas.blend(&mask, 1.0, |x, y| {
            let toward = (light[0] * (x - centre[0]) + light[1] * (y - centre[1])) / reach;
            shade(colour, 1.0 + toward as f32)
        });
        self.outline(path);
        mask
    }

    /// Draws along a closed outline with the pen.
    pub(super) fn outline(&mut self, path: &[Point]) {
        if self.line > 0.0 {
            let mut ring = path.to_vec();
            ring.extend(path.iter().take(2));
            self.stroke(&ring, self.line, self.line, self.palette.ink);
        }
    }

    /// A pen stroke along an open path.
    pub(super) fn stroke(&mut self, path: &[Point], width: f64, end: f64, colour: Rgb) {
        // Thinner than about a pixel a stroke would fade away when the face is small.
        let least = 0.8 / self.pose.scale;
        let shape = stroke(path, width.max(least), end.max(0.4 * least));
        self.fill(&shape, colour);
    }

    /// Short hairs of nearly the coat's colour all over `clip`.
    pub(super) fn fur(&mut self, clip: &Mask, count: usize) {
        let lean = self.rng.range(-0.5, 0.5);
        for _ in 0..count {
            let (x, y) = (self.rng.range(-1.1, 1.1), self.rng.range(-1.0, 1.1));
            let length = self.rng.range(0.08, 0.22);
            let target = if self.rng.chance(0.5) { [1.0; 3] } else { [0.0; 3] };
            let colour = mix(self.palette.coat, target, self.rng.range(0.05, 0.25) as f32);
            let tip = [x + length * (0.6 * x + lean), y + length];
            let hair = stroke(&[[x, y], tip], 0.035, 0.01);
            self.fill_within(&hair, clip, colour, 0.8);
        }
    }
}
