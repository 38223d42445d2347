//! What surrounds the animal: background, things in front of it, light, noise and blur.

use super::palette::{any, jitter, luma};
use super::raster::{Canvas, Mask, Point, Rgb, mix, shade};
use super::shapes::{closed, cornered, ellipse, open, stroke};
use crate::rng::Rng;

/// A background: a gradient with some of blobs, stripes, tiles, a floor and clutter over it.
pub(super) fn background(rng: &mut Rng, side: usize) -> Canvas {
    let mut canvas = Canvas::new(side, [0.0; 3]);
    gradient(&mut canvas, rng);
    match rng.below(6) {
        0 => blobs(&mut canvas, rng),
        1 => stripes(&mut canvas, rng),
        2 => tiles(&mut canvas, rng),
        3 => floor(&mut canvas, rng),
        4 => scribble(&mut canvas, rng),
        _ => {}
    }
    if rng.chance(0.5) {
        clutter(&mut canvas, rng);
    }
    if rng.chance(0.4) {
        canvas.blur(rng.range(0.3, 1.0) as f32, 1 + rng.below(3));
    }
    canvas
}

/// Something at the edge that may hide a part of the animal: a bar, a leaf, blades of grass.
pub(super) fn foreground(canvas: &mut Canvas, rng: &mut Rng) {
    match rng.below(8) {
        0 => grass(canvas, rng),
        1 => bar(canvas, rng),
        2 => leaf(canvas, rng),
        _ => {}
    }
}

/// Light from a side, contrast and tint, blur, and the noise of a sensor.
pub(super) fn photograph(canvas: &mut Canvas, rng: &mut Rng) {
    let slope: [f32; 2] = std::array::from_fn(|_| rng.range(-0.45, 0.45) as f32);
    let vignette = if rng.chance(0.3) { rng.range(0.2, 0.9) as f32 } else { 0.0 };
    let tint: Rgb = std::array::from_fn(|_| rng.range(0.88, 1.12) as f32);
    let contrast = rng.range(0.75, 1.15) as f32;
    let bright = rng.range(-0.12, 0.12) as f32;
    let grey = if rng.chance(0.1) { 1.0 } else { rng.range(0.0, 0.3) as f32 };
    canvas.each(|x, y, pixel| {
        let (x, y) = (x - 0.5, y - 0.5);
        let light = 1.0 + slope[0] * x + slope[1] * y - vignette * (x * x + y * y);
        let pixel = mix(pixel, [luma(pixel); 3], grey);
        std::array::from_fn(|c| (pixel[c] * light * tint[c] - 0.5) * contrast + 0.5 + bright)
    });
    if rng.chance(0.5) {
        canvas.blur(rng.range(0.1, 0.6) as f32, 1 + rng.below(2));
    }
    let noise = rng.range(0.0, 0.06).powi(2) as f32 * 14.0;
    let colour_noise = rng.chance(0.5);
    canvas.each(|_, _, pixel| {
        let bits = rng.next_u64();
        // The sum of two uniform numbers of ten bits each: about normal, and cheap.
        let draw = |c: usize| {
            let c = if colour_noise { 20 * c } else { 0 };
            let sum = ((bits >> c) & 1023) + ((bits >> (c + 10)) & 1023);
            sum as f32 / 1023.0 - 1.0
        };
        std::array::from_fn(|c| pixel[c] + noise * draw(c))
    });
}

fn gradient(canvas: &mut Canvas, rng: &mut Rng) {
    let from = any(rng);
    let to = if rng.chance(0.3) { jitter(rng, from, 0.1) } else { any(rng) };
    let (sin, cos) = rng.range(0.0, std::f64::consts::TAU).sin_cos();
    let (sin, cos) = (sin as f32, cos as f32);
    canvas.each(|x, y, _| mix(from, to, 0.5 + 0.7 * ((x - 0.5) * cos + (y - 0.5) * sin)));
}

fn paint(canvas: &mut Canvas, path: &[Point], colour: Rgb, alpha: f32) {
    let mask = Mask::polygon(path, canvas.side);
    canvas.blend(&mask, alpha, |_, _| colour);
}

/// A point somewhere on the canvas or just off it.
fn anywhere(rng: &mut Rng, side: f64) -> Point {
    [rng.range(-0.1, 1.1) * side, rng.range(-0.1, 1.1) * side]
}

fn blobs(canvas: &mut Canvas, rng: &mut Rng) {
    let side = canvas.side as f64;
    for _ in 0..3 + rng.below(12) {
        let radii = [rng.range(0.03, 0.25) * side, rng.range(0.03, 0.25) * side];
        let path = ellipse(anywhere(rng, side), radii, rng.range(0.0, 3.0));
        let colour = any(rng);
        paint(canvas, &path, colour, rng.range(0.3, 1.0) as f32);
    }
}

fn stripes(canvas: &mut Canvas, rng: &mut Rng) {
    let side = canvas.side as f64;
    let (sin, cos) = rng.range(0.0, std::f64::consts::PI).sin_cos();
    let step = rng.range(0.06, 0.25) * side;
    let width = step * rng.range(0.2, 0.7);
    let (colour, alpha) = (any(rng), rng.range(0.3, 1.0) as f32);
    let reach = 0.8 * side;
    let count = (reach / step) as i32;
    for i in -count..=count {
        let (x, y) =
            (0.5 * side + sin * step * f64::from(i), 0.5 * side - cos * step * f64::from(i));
        let line = [[x - cos * reach, y - sin * reach], [x + cos * reach, y + sin * reach]];
        paint(canvas, &stroke(&line, width, width), colour, alpha);
    }
}

fn tiles(canvas: &mut Canvas, rng: &mut Rng) {
    let side = canvas.side as f64;
    let size = rng.range(0.08, 0.3) * side;
    let (colour, alpha) = (any(rng), rng.range(0.3, 0.9) as f32);
    let skew = rng.range(-0.3, 0.3);
    let count = (side / size) as i32 + 2;
    for row in -1..count {
        for column in (-1..count).filter(|column| (row + column) % 2 == 0) {
            let corner = |u: i32, v: i32| {
                let (x, y) = (f64::from(column + u) * size, f64::from(row + v) * size);
                [x + skew * y, y - skew * x]
            };
            let tile = [corner(0, 0), corner(1, 0), corner(1, 1), corner(0, 1)];
            paint(canvas, &tile, colour, alpha);
        }
    }
}

fn floor(canvas: &mut Canvas, rng: &mut Rng) {
    let side = canvas.side as f64;
    let (left, right) = (rng.range(0.45, 0.9) * side, rng.range(0.45, 0.9) * side);
    let ground = [[0.0, left], [side, right], [side, side], [0.0, side]];
    let colour = any(rng);
    paint(canvas, &ground, colour, 1.0);
    let line = shade(colour, rng.range(0.6, 1.3) as f32);
    for _ in 0..rng.below(7) {
        let (a, b) = (rng.range(0.0, side), rng.range(-0.5 * side, 1.5 * side));
        let mask = Mask::polygon(&stroke(&[[a, 0.4 * side], [b, side]], 1.0, 2.5), canvas.side);
        let mask = mask.within(&Mask::polygon(&ground, canvas.side));
        canvas.blend(&mask, 0.8, |_, _| line);
    }
}

fn scribble(canvas: &mut Canvas, rng: &mut Rng) {
    let side = canvas.side as f64;
    for _ in 0..2 + rng.below(8) {
        let knots: [Point; 4] = std::array::from_fn(|_| anywhere(rng, side));
        let width = rng.range(0.8, 5.0);
        let colour = any(rng);
        paint(canvas, &stroke(&open(&knots), width, width), colour, rng.range(0.4, 1.0) as f32);
    }
}

/// Loose triangles, boxes and discs: shapes such as ears and eyes are made of, meaning nothing.
fn clutter(canvas: &mut Canvas, rng: &mut Rng) {
    let side = canvas.side as f64;
    for _ in 0..1 + rng.below(6) {
        let [x, y] = anywhere(rng, side);
        let size = rng.range(0.05, 0.2) * side;
        let turn = rng.range(0.0, std::f64::consts::TAU);
        let corners = 3 + rng.below(3);
        let corner = |i: usize| {
            let (sin, cos) = (turn + std::f64::consts::TAU * i as f64 / corners as f64).sin_cos();
            [x + size * cos, y + size * sin]
        };
        let points: Vec<Point> = (0..corners).map(corner).collect();
        let path =
            if rng.chance(0.6) { cornered(&points, rng.range(-0.1, 0.1)) } else { closed(&points) };
        let colour = any(rng);
        paint(canvas, &path, colour, rng.range(0.5, 1.0) as f32);
        if rng.chance(0.4) {
            let ring: Vec<Point> = path.iter().chain(&path[..2]).copied().collect();
            paint(canvas, &stroke(&ring, 1.5, 1.5), shade(colour, 0.4), 1.0);
        }
    }
}

fn grass(canvas: &mut Canvas, rng: &mut Rng) {
    let side = canvas.side as f64;
    let colour = any(rng);
    let tall = rng.range(0.1, 0.3) * side;
    for _ in 0..12 + rng.below(25) {
        let x = rng.range(-0.05, 1.05) * side;
        let (lean, height) = (rng.range(-0.1, 0.1) * side, tall * rng.range(0.4, 1.2));
        let blade =
            [[x, side + 1.0], [x + 0.3 * lean, side - 0.6 * height], [x + lean, side - height]];
        let colour = shade(colour, rng.range(0.7, 1.25) as f32);
        paint(canvas, &stroke(&open(&blade), 3.5, 0.5), colour, 1.0);
    }
}

fn bar(canvas: &mut Canvas, rng: &mut Rng) {
    let side = canvas.side as f64;
    let (sin, cos) = rng.range(0.0, std::f64::consts::PI).sin_cos();
    let away = rng.range(-0.45, 0.45) * side;
    let (x, y) = (0.5 * side - sin * away, 0.5 * side + cos * away);
    let line = [[x - cos * side, y - sin * side], [x + cos * side, y + sin * side]];
    let width = rng.range(0.02, 0.08) * side;
    let colour = any(rng);
    paint(canvas, &stroke(&line, width, width), colour, 1.0);
}

fn leaf(canvas: &mut Canvas, rng: &mut Rng) {
    let side = canvas.side as f64;
    let edge = [rng.range(0.0, side), if rng.chance(0.5) { 0.0 } else { side }];
    let root = if rng.chance(0.5) { edge } else { [edge[1], edge[0]] };
    let tip = [rng.range(0.25, 0.75) * side, rng.range(0.25, 0.75) * side];
    let tip = [root[0] + (tip[0] - root[0]) * 0.6, root[1] + (tip[1] - root[1]) * 0.6];
    let colour = any(rng);
    paint(canvas, &cornered(&[root, tip], rng.range(0.15, 0.4)), colour, 1.0);
    paint(canvas, &stroke(&[root, tip], 2.0, 0.8), shade(colour, 0.7), 1.0);
}
