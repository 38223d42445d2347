//! A cat's face: broad, pointed ears, slit pupils, a small nose, whiskers.

use super::artist::Artist;
use super::face::{self, Eye, SIDES, triangle};
use super::raster::{Point, mix, shade};
use super::shapes::{ellipse, mirrored, open};

/// Draws a cat.
pub(super) fn draw(artist: &mut Artist) {
    if artist.rng.chance(0.75) {
        face::neck(artist);
    }
    ears(artist);
    let cheek = artist.rng.range(0.95, 1.08);
    let chin = artist.rng.range(0.72, 0.9);
    let crown = artist.rng.range(0.72, 0.85);
    let outline = mirrored(&[
        [0.0, -crown],
        [0.5, -0.94 * crown],
        [0.88, -0.3],
        [cheek, 0.22],
        [0.72, 0.66 * chin],
        [0.3, 0.97 * chin],
        [0.0, chin],
    ]);
    let coat = artist.palette.coat;
    let head = artist.body(&outline, coat);
    face::markings(artist, &head);
    artist.outline(&outline);
    muzzle(artist);
    let height = artist.rng.range(0.15, 0.22);
    let eye = Eye {
        at: [artist.rng.range(0.4, 0.5), artist.rng.range(-0.16, -0.02)],
        radii: [artist.rng.range(0.21, 0.28), height],
        slant: artist.rng.range(0.05, 0.4),
        almond: true,
        pupil: [artist.rng.range(0.16, 0.5), artist.rng.range(0.85, 1.1)],
        white: false,
    };
    face::eyes(artist, &eye);
}

/// Upright ears: each a triangle with a smaller one inside.
fn ears(artist: &mut Artist) {
    let reach = artist.rng.range(1.3, 1.65);
    let spread = artist.rng.range(0.62, 0.95);
    let wide = artist.rng.range(0.0, 0.12);
    let bulge = artist.rng.range(0.0, 0.09);
    let (coat, flesh) = (artist.palette.coat, artist.palette.flesh);
    let coloured = artist.rng.chance(0.2);
    let outer = if coloured { artist.palette.marking } else { shade(coat, 0.95) };
    let inner = mix(flesh, coat, artist.rng.range(0.0, 0.5) as f32);
    for side in SIDES {
        // Each ear listens its own way.
        let tip = [
            side * (spread + artist.rng.range(-0.08, 0.08)),
            -reach + artist.rng.range(-0.05, 0.1),
        ];
        let base = [[side * (0.18 - wide), -0.6], [side * (0.92 + wide), -0.18]];
        let ear = artist.turned(triangle([base[0], tip, base[1]], side * bulge), -0.25);
        artist.body(&ear, outer);
        let toward = |p: Point, t: f64| {
            let heart = [side * 0.6, -0.62];
            [p[0] + (heart[0] - p[0]) * t, p[1] + (heart[1] - p[1]) * t]
        };
        let small = [toward(base[0], 0.42), toward(tip, 0.26), toward(base[1], 0.42)];
        let small = artist.turned(triangle(small, side * bulge), -0.2);
        artist.fill(&small, inner);
    }
}

/// Whisker pads, nose, mouth and whiskers.
fn muzzle(artist: &mut Artist) {
    let y = artist.rng.range(0.26, 0.36);
    let [x, y] = [artist.turn[0] * 0.7, y + artist.turn[1] * 0.7];
    let stem = artist.rng.range(0.07, 0.13);
    if artist.rng.chance(0.6) {
        let pale = artist.palette.pale;
        for side in SIDES {
            let pad = ellipse([x + side * 0.17, y + 0.2], [0.24, 0.17], side * 0.15);
            artist.fill(&pad, pale);
        }
    }
    let width = artist.rng.range(0.2, 0.32);
    face::mouth(artist, [x, y + 0.08], stem, width, 0.1);
    if artist.rng.chance(0.06) {
        face::tongue(artist, [x, y + stem + 0.14], 0.07, 0.2);
    }
    let half = artist.rng.range(0.08, 0.13);
    let nose = triangle([[x - half, y - 0.05], [x + half, y - 0.05], [x, y + 0.1]], -0.12);
    let colour = artist.palette.nose;
    artist.body(&nose, colour);
    whiskers(artist, [x, y + 0.15]);
}

fn whiskers(artist: &mut Artist, [x, y]: Point) {
    let count = 2 + artist.rng.below(3);
    let length = artist.rng.range(0.65, 1.15);
    let droop = artist.rng.range(-0.15, 0.2);
    let light = super::palette::luma(artist.palette.coat) < 0.4 || artist.rng.chance(0.3);
    let colour = if light { [0.95, 0.95, 0.93] } else { [0.1, 0.1, 0.1] };
    for side in SIDES {
        for i in 0..count {
            let fan = i as f64 / (count - 1) as f64 - 0.5;
            let reach = length * artist.rng.range(0.85, 1.1);
            let from = [x + side * 0.24, y + 0.12 * fan];
            let path = [
                from,
                [from[0] + side * 0.5 * reach, from[1] + 0.22 * fan - 0.05],
                [from[0] + side * reach, from[1] + 0.55 * fan + droop],
            ];
            artist.stroke(&open(&path), 0.03, 0.012, colour);
        }
    }
}
