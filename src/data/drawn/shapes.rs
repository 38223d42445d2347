//! Outlines as point lists, and the pose that puts them on the canvas.

use std::f64::consts::TAU;

use super::raster::Point;
use crate::rng::Rng;

/// An ellipse turned by `angle` radians.
pub(super) fn ellipse(centre: Point, radii: Point, angle: f64) -> Vec<Point> {
    let (sin, cos) = angle.sin_cos();
    let at = |i: usize| {
        let (v, u) = (TAU * i as f64 / 28.0).sin_cos();
        let (x, y) = (u * radii[0], v * radii[1]);
        [centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos]
    };
    (0..28).map(at).collect()
}

/// A smooth closed curve through `knots` (Catmull and Rom, 1974).
pub(super) fn closed(knots: &[Point]) -> Vec<Point> {
    let n = knots.len();
    let knot = |i: usize| knots[i % n];
    (0..n).flat_map(|i| segment([knot(i + n - 1), knot(i), knot(i + 1), knot(i + 2)])).collect()
}

/// A smooth open curve through `knots`.
pub(super) fn open(knots: &[Point]) -> Vec<Point> {
    let last = knots.len() - 1;
    let mut points: Vec<Point> = (0..last)
        .flat_map(|i| {
            segment([knots[i.saturating_sub(1)], knots[i], knots[i + 1], knots[(i + 2).min(last)]])
        })
        .collect();
    points.push(knots[last]);
    points
}

/// A closed outline with sharp corners, each side an arc that bulges by `bulge` of its length.
pub(super) fn cornered(corners: &[Point], bulge: f64) -> Vec<Point> {
    let n = corners.len();
    let side = |i: usize| {
        let (a, b) = (corners[i], corners[(i + 1) % n]);
        let normal = [b[1] - a[1], a[0] - b[0]];
        (0..6).map(move |step| {
            let t = step as f64 / 6.0;
            let out = 4.0 * t * (1.0 - t) * bulge;
            [a[0] + (b[0] - a[0]) * t + normal[0] * out, a[1] + (b[1] - a[1]) * t + normal[1] * out]
        })
    };
    (0..n).flat_map(side).collect()
}

/// A closed curve from its right half, top to bottom, mirrored at x = 0.
pub(super) fn mirrored(right: &[Point]) -> Vec<Point> {
    let left = right.iter().rev().filter(|p| p[0] > 1e-9).map(|p| [-p[0], p[1]]);
    closed(&right.iter().copied().chain(left).collect::<Vec<_>>())
}

/// The outline of a pen stroke along `path`, `width` at its start and `end_width` at its end.
pub(super) fn stroke(path: &[Point], width: f64, end_width: f64) -> Vec<Point> {
    let last = path.len() - 1;
    let offset = |i: usize, side: f64| {
        let (a, b) = (path[i.saturating_sub(1)], path[(i + 1).min(last)]);
        let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
        let half = 0.5 * (width + (end_width - width) * i as f64 / last.max(1) as f64);
        let scale = side * half / dx.hypot(dy).max(1e-9);
        [path[i][0] - dy * scale, path[i][1] + dx * scale]
    };
    let there = (0..=last).map(|i| offset(i, 1.0));
    let back = (0..=last).rev().map(|i| offset(i, -1.0));
    there.chain(back).collect()
}

/// The points between the inner two of four knots; the first included, the last not.
fn segment([a, b, c, d]: [Point; 4]) -> impl Iterator<Item = Point> {
    (0..5).map(move |step| {
        let t = step as f64 / 5.0;
        std::array::from_fn(|i| {
            let (p, q, r, s) = (a[i], b[i], c[i], d[i]);
            let cubic = (3.0 * (q - r) + s - p) * t;
            0.5 * (2.0 * q + t * (r - p + t * (2.0 * p - 5.0 * q + 4.0 * r - s + cubic)))
        })
    })
}

/// Where and how a face lies on the canvas: an affine map and a slight waver of the hand.
pub(super) struct Pose {
    /// Pixels a face unit (half a head's width).
    pub(super) scale: f64,
    centre: Point,
    x_axis: Point,
    y_axis: Point,
    waver: f64,
    phase: Point,
}

impl Pose {
    /// A random pose on a canvas of `side` pixels.
    pub(super) fn random(rng: &mut Rng, side: f64) -> Pose {
        let scale = side * rng.range(0.23, 0.35);
        let room = 0.5 * side - scale;
        let centre =
            [0.5 * side + room * rng.range(-0.75, 0.75), 0.53 * side + room * rng.range(-0.6, 0.6)];
        let (sin, cos) = (0.17 * rng.normal()).clamp(-0.45, 0.45).sin_cos();
        let stretch = rng.range(0.9, 1.12);
        let shear = rng.range(-0.12, 0.12);
        let x_axis = [scale * stretch * cos, scale * stretch * sin];
        let y_axis = [scale * (shear * cos - sin), scale * (cos + shear * sin)];
        let phase = [rng.range(0.0, TAU), rng.range(0.0, TAU)];
        Pose { scale, centre, x_axis, y_axis, waver: rng.range(0.0, 0.025), phase }
    }

    /// From face units to pixels.
    pub(super) fn place(&self, path: &[Point]) -> Vec<Point> {
        let at = |&[x, y]: &Point| {
            let u = x + self.waver * (5.0 * y + self.phase[0]).sin();
            let v = y + self.waver * (5.0 * x + self.phase[1]).sin();
            std::array::from_fn(|i| self.centre[i] + u * self.x_axis[i] + v * self.y_axis[i])
        };
        path.iter().map(at).collect()
    }
}
