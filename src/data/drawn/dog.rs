//! A dog's face: longer, hanging, folded or rounded ears, round pupils, a long muzzle with a big
//! nose, sometimes the tongue out.

use super::artist::Artist;
use super::face::{self, Eye, SIDES};
use super::raster::{Point, Rgb, shade};
use super::shapes::{closed, ellipse, mirrored};

/// How a dog carries its ears.
#[derive(Clone, Copy, PartialEq)]
enum Ears {
    /// Hanging beside the head, as a spaniel's.
    Hanging,
    /// Upright with the tip folded over, as a terrier's.
    Folded,
    /// Upright and rounded, as a corgi's.
    Rounded,
}

/// Draws a dog.
pub(super) fn draw(artist: &mut Artist) {
    if artist.rng.chance(0.75) {
        face::neck(artist);
    }
    let ears = match artist.rng.below(10) {
        0..6 => Ears::Hanging,
        6..9 => Ears::Folded,
        _ => Ears::Rounded,
    };
    let colour = if artist.rng.chance(0.45) {
        artist.palette.marking
    } else {
        shade(artist.palette.coat, 0.82)
    };
    // Hanging ears may lie behind the cheeks or over them.
    let behind = ears == Ears::Rounded || artist.rng.chance(0.3);
    if behind {
        draw_ears(artist, ears, colour);
    }
    let outline = head(artist);
    let coat = artist.palette.coat;
    let mask = artist.body(&outline, coat);
    face::markings(artist, &mask);
    artist.outline(&outline);
    if !behind {
        draw_ears(artist, ears, colour);
    }
    muzzle(artist);
    let radius = artist.rng.range(0.12, 0.19);
    let eye = Eye {
        at: [artist.rng.range(0.3, 0.42), artist.rng.range(-0.26, -0.1)],
        radii: [radius * artist.rng.range(0.95, 1.25), radius],
        slant: artist.rng.range(-0.3, 0.2),
        almond: artist.rng.chance(0.25),
        pupil: [artist.rng.range(0.5, 0.68); 2],
        white: artist.rng.chance(0.4),
    };
    face::eyes(artist, &eye);
    if artist.rng.chance(0.35) {
        brows(artist, eye.at);
    }
}

fn head(artist: &mut Artist) -> Vec<Point> {
    let crown = artist.rng.range(0.75, 0.95);
    let cheek = artist.rng.range(0.75, 0.95);
    let jaw = artist.rng.range(0.45, 0.7);
    let chin = artist.rng.range(0.85, 1.15);
    mirrored(&[
        [0.0, -crown],
        [0.5, -0.92 * crown],
        [0.82, -0.42],
        [cheek, 0.1],
        [jaw, 0.65 * chin],
        [0.55 * jaw, 0.95 * chin],
        [0.0, chin],
    ])
}

fn draw_ears(artist: &mut Artist, ears: Ears, colour: Rgb) {
    let length = artist.rng.range(0.0, 1.0);
    let swing = artist.rng.range(-0.1, 0.2);
    for side in SIDES {
        let length = length + artist.rng.range(-0.1, 0.1);
        let swing = swing + artist.rng.range(-0.08, 0.08);
        match ears {
            Ears::Hanging => hanging(artist, side, length, swing, colour),
            Ears::Folded => folded(artist, side, length, swing, colour),
            Ears::Rounded => rounded(artist, side, length, swing, colour),
        }
    }
}

fn hanging(artist: &mut Artist, side: f64, length: f64, swing: f64, colour: Rgb) {
    let end = 0.35 + 0.6 * length;
    let knots = [
        [0.42, -0.82],
        [0.8, -0.82],
        [1.08 + 0.5 * swing, -0.35],
        [1.2 + swing, 0.6 * end],
        [1.08 + swing, end],
        [0.88 + swing, 0.85 * end],
        [0.8, 0.0],
        [0.66, -0.45],
    ];
    let ear = closed(&knots.map(|[x, y]| [side * x, y]));
    let ear = artist.turned(ear, -0.1);
    artist.body(&ear, colour);
}

fn folded(artist: &mut Artist, side: f64, length: f64, swing: f64, colour: Rgb) {
    let top = -1.0 - 0.2 * length;
    let back = closed(
        &[[0.25, -0.7], [0.45, top], [0.78 + swing, top - 0.02], [0.98, -0.55], [0.85, -0.3]]
            .map(|[x, y]| [side * x, y]),
    );
    let back = artist.turned(back, -0.2);
    artist.body(&back, shade(colour, 0.8));
    let flap = [
        [0.38, top + 0.06],
        [0.6, top - 0.06],
        [0.86 + swing, top + 0.02],
        [1.08 + swing, top + 0.42],
        [1.0 + swing, top + 0.68],
        [0.78 + swing, top + 0.5],
    ];
    let flap = artist.turned(closed(&flap.map(|[x, y]| [side * x, y])), -0.15);
    artist.body(&flap, colour);
}

fn rounded(artist: &mut Artist, side: f64, length: f64, swing: f64, colour: Rgb) {
    let top = -1.15 - 0.25 * length;
    let tip = 0.85 + 0.8 * swing;
    let ear = |grow: f64| {
        let heart = [0.68 + 0.4 * swing, -0.75];
        let knots = [
            [0.3, -0.62],
            [0.5, -0.95],
            [tip - 0.16, top + 0.04],
            [tip + 0.06, top],
            [tip + 0.2, top + 0.14],
            [1.02 + 0.3 * swing, -0.75],
            [0.88, -0.3],
        ];
        closed(&knots.map(|[x, y]| {
            [side * (heart[0] + grow * (x - heart[0])), heart[1] + grow * (y - heart[1])]
        }))
    };
    let (outside, inside) = (artist.turned(ear(1.0), -0.2), artist.turned(ear(0.6), -0.15));
    artist.body(&outside, colour);
    let flesh = artist.palette.flesh;
    artist.fill(&inside, shade(flesh, 0.9));
}

/// The muzzle with mouth, tongue and nose.
fn muzzle(artist: &mut Artist) {
    let width = artist.rng.range(0.36, 0.52);
    let length = artist.rng.range(0.42, 0.62);
    let flare = artist.rng.range(0.9, 1.2);
    let [x, y] = [artist.turn[0] * 0.9, 0.5 + artist.turn[1] * 0.9];
    let [x, y] = [x, y + artist.rng.range(-0.03, 0.12)];
    let mut shape = mirrored(&[
        [0.0, -0.75 * length],
        [0.5 * width, -0.6 * length],
        [0.85 * width, 0.0],
        [flare * width, 0.5 * length],
        [0.6 * width, 0.92 * length],
        [0.0, length],
    ]);
    for point in &mut shape {
        // The bridge stays on the face, the tip follows the turn.
        let follow = 0.65 + 0.35 * ((point[1] / length + 0.75) / 1.75);
        point[0] += x * follow;
        point[1] += y;
    }
    let colour =
        if artist.rng.chance(0.7) { artist.palette.pale } else { shade(artist.palette.coat, 1.08) };
    let nose = [x, y - 0.08 * length];
    let size = artist.rng.range(0.17, 0.27);
    let stem = artist.rng.range(0.14, 0.24);
    if artist.rng.chance(0.4) {
        let reach = artist.rng.range(0.3, 0.6);
        face::tongue(artist, [x, y + 0.75 * length], 0.16, 0.25 * length + reach);
    }
    artist.body(&shape, colour);
    face::mouth(artist, [nose[0], nose[1] + 0.6 * size], stem, 0.8 * width, 0.12);
    nose_tip(artist, nose, size);
    if artist.rng.chance(0.4) {
        freckles(artist, [x, y + 0.3 * length], width);
    }
}

fn nose_tip(artist: &mut Artist, [x, y]: Point, size: f64) {
    let shape = [
        [x - 0.55 * size, y - 0.6 * size],
        [x + 0.55 * size, y - 0.6 * size],
        [x + size, y - 0.05 * size],
        [x + 0.4 * size, y + 0.62 * size],
        [x - 0.4 * size, y + 0.62 * size],
        [x - size, y - 0.05 * size],
    ];
    let colour = artist.palette.nose;
    artist.body(&closed(&shape), colour);
    let shine = ellipse([x - 0.3 * size, y - 0.3 * size], [0.28 * size, 0.14 * size], -0.2);
    artist.fill(&shine, super::raster::mix(colour, [1.0; 3], 0.55));
}

fn freckles(artist: &mut Artist, [x, y]: Point, width: f64) {
    let ink = artist.palette.ink;
    for side in SIDES {
        for i in 0..3 {
            let at = [x + side * width * (0.45 + 0.15 * i as f64), y + 0.06 * (i % 2) as f64];
            artist.fill(&ellipse(at, [0.022; 2], 0.0), ink);
        }
    }
}

fn brows(artist: &mut Artist, eye: Point) {
    let colour = artist.palette.pale;
    for side in SIDES {
        let at = [side * eye[0] * 0.9 + artist.turn[0] * 0.4, eye[1] - 0.27];
        artist.fill(&ellipse(at, [0.1, 0.06], -0.3 * side), colour);
    }
}
