//! What cats and dogs share: neck, markings of the coat, eyes, a collar.

use super::artist::Artist;
use super::palette;
use super::raster::{Mask, Point, Rgb, mix, shade};
use super::shapes::{closed, cornered, ellipse, mirrored, open};

/// Both sides of a face: left and right.
pub(super) const SIDES: [f64; 2] = [-1.0, 1.0];

/// How an eye looks.
pub(super) struct Eye {
    /// Its middle, on the right side of an unturned face.
    pub(super) at: Point,
    /// Half its width and half its height.
    pub(super) radii: Point,
    /// By how much its outer corner is raised, in radians.
    pub(super) slant: f64,
    /// Whether it has pointed corners.
    pub(super) almond: bool,
    /// Half the pupil's width and height, as shares of half the eye's height.
    pub(super) pupil: Point,
    /// Whether the white shows around the iris.
    pub(super) white: bool,
}

/// Neck and shoulders, sometimes with a pale chest and a collar.
pub(super) fn neck(artist: &mut Artist) {
    let width = artist.rng.range(0.55, 0.85);
    let spread = width + artist.rng.range(0.1, 0.6);
    let lean = artist.rng.range(-0.2, 0.2);
    let shoulders = [
        [-width, 0.2],
        [width, 0.2],
        [width + 0.03, 0.9],
        [spread + lean, 1.8],
        [spread + lean + 0.1, 5.0],
        [-spread + lean - 0.1, 5.0],
        [-spread + lean, 1.8],
        [-width - 0.03, 0.9],
    ];
    let coat = shade(artist.palette.coat, 0.88);
    let mask = artist.body(&closed(&shoulders), coat);
    if artist.rng.chance(0.4) {
        let chest = ellipse([lean * 0.5, 2.1], [width * 0.6, 1.0], 0.0);
        let pale = artist.palette.pale;
        artist.fill_within(&chest, &mask, pale, 0.9);
    }
    if artist.rng.chance(0.3) {
        collar(artist, width);
    }
}

fn collar(artist: &mut Artist, width: f64) {
    let colour = palette::any(artist.rng);
    let y = artist.rng.range(1.05, 1.25);
    let band = open(&[[-width - 0.08, y - 0.15], [0.0, y + 0.08], [width + 0.08, y - 0.15]]);
    artist.stroke(&band, 0.16, 0.16, colour);
    if artist.rng.chance(0.6) {
        let tag = palette::any(artist.rng);
        artist.body(&ellipse([0.0, y + 0.24], [0.13, 0.14], 0.0), tag);
    }
}

/// Stripes, patches, a blaze or nothing, within the head.
pub(super) fn markings(artist: &mut Artist, head: &Mask) {
    if artist.rng.chance(0.35) {
        stripes(artist, head);
    }
    if artist.rng.chance(0.3) {
        let side = SIDES[artist.rng.below(2)];
        let at = [side * artist.rng.range(0.35, 0.55), artist.rng.range(-0.35, 0.0)];
        let radii = [artist.rng.range(0.3, 0.5), artist.rng.range(0.3, 0.6)];
        let angle = artist.rng.range(-0.6, 0.6);
        let colour = artist.palette.marking;
        artist.fill_within(&ellipse(at, radii, angle), head, colour, 0.9);
    }
    if artist.rng.chance(0.3) {
        let (top, wide) = (artist.rng.range(0.04, 0.16), artist.rng.range(0.15, 0.4));
        let blaze = mirrored(&[[0.0, -1.3], [top, -0.8], [top, -0.3], [wide, 0.5], [0.0, 0.9]]);
        let blaze = artist.turned(blaze, 0.5);
        let pale = artist.palette.pale;
        artist.fill_within(&blaze, head, pale, 0.95);
    }
    if artist.rng.chance(0.5) {
        let count = 20 + artist.rng.below(50);
        artist.fur(head, count);
    }
}

/// Stripes on the forehead and the cheeks.
fn stripes(artist: &mut Artist, head: &Mask) {
    let colour = artist.palette.marking;
    let width = artist.rng.range(0.05, 0.12);
    let count = 1 + artist.rng.below(3);
    for i in 0..count {
        let x = 0.24 * (i as f64 - 0.5 * (count - 1) as f64);
        let line = open(&[[1.3 * x, -1.0], [x, -0.7], [0.7 * x, -0.42]]);
        let line = artist.turned(super::shapes::stroke(&line, width, 0.3 * width), 0.3);
        artist.fill_within(&line, head, colour, 0.9);
    }
    for side in SIDES {
        for i in 0..artist.rng.below(4) {
            let y = 0.05 + 0.22 * i as f64;
            let line = open(&[[side * 1.15, y - 0.08], [side * 0.85, y], [side * 0.6, y + 0.05]]);
            let line = super::shapes::stroke(&line, width, 0.2 * width);
            artist.fill_within(&line, head, colour, 0.9);
        }
    }
}

/// Both eyes; now and then one or both are closed.
pub(super) fn eyes(artist: &mut Artist, eye: &Eye) {
    let asleep = artist.rng.chance(0.06);
    let wink = if artist.rng.chance(0.05) { artist.rng.below(2) } else { 2 };
    let gaze = [artist.rng.range(-0.2, 0.2), artist.rng.range(-0.15, 0.15)];
    for (i, side) in SIDES.into_iter().enumerate() {
        // The far eye of a turned head is narrower and nearer to the middle.
        let narrow = 1.0 - 0.35 * (side * artist.turn[0]).max(0.0);
        let at =
            [side * eye.at[0] * narrow + artist.turn[0] * 0.45, eye.at[1] + artist.turn[1] * 0.45];
        let seen = Eye { radii: [eye.radii[0] * narrow, eye.radii[1]], at, ..*eye };
        if asleep || wink == i {
            shut(artist, &seen);
        } else {
            look(artist, &seen, side, gaze);
        }
    }
}

fn shut(artist: &mut Artist, eye: &Eye) {
    let ([x, y], [rx, ry]) = (eye.at, eye.radii);
    let lid = open(&[[x - rx, y - 0.1 * ry], [x, y + 0.5 * ry], [x + rx, y - 0.1 * ry]]);
    let ink = artist.palette.ink;
    artist.stroke(&lid, 0.06, 0.05, ink);
}

fn look(artist: &mut Artist, eye: &Eye, side: f64, gaze: Point) {
    let ([x, y], [rx, ry]) = (eye.at, eye.radii);
    let (sin, cos) = (-side * eye.slant).sin_cos();
    let place = |u: f64, v: f64| [x + u * cos - v * sin, y + u * sin + v * cos];
    let outline = if eye.almond {
        let lid = |v: f64| [place(0.55 * rx, v * 0.85), place(-0.55 * rx, v * 0.85)];
        let ([a, b], [d, c]) = (lid(-ry), lid(ry));
        closed(&[place(rx, 0.0), a, b, place(-rx, 0.0), c, d])
    } else {
        ellipse(eye.at, eye.radii, -side * eye.slant)
    };
    let (iris, ink) = (artist.palette.iris, artist.palette.ink);
    let mask = artist.mask(&outline);
    let ground: Rgb = if eye.white { [0.96, 0.95, 0.92] } else { iris };
    artist.canvas.blend(&mask, 1.0, |_, _| ground);
    let middle = place(gaze[0] * rx, gaze[1] * ry);
    if eye.white {
        artist.fill_within(&ellipse(middle, [0.72 * ry; 2], 0.0), &mask, iris, 1.0);
    }
    let pupil = ellipse(middle, [eye.pupil[0] * ry, eye.pupil[1] * ry], 0.0);
    artist.fill_within(&pupil, &mask, [0.04, 0.04, 0.05], 1.0);
    let rim = artist.line.max(0.035);
    let ring: Vec<Point> = outline.iter().chain(&outline[..2]).copied().collect();
    artist.stroke(&ring, rim, rim, ink);
    let glint = [middle[0] - 0.3 * ry, middle[1] - 0.35 * ry];
    artist.fill_within(&ellipse(glint, [0.2 * ry; 2], 0.0), &mask, [1.0; 3], 0.9);
}

/// A mouth: a stem below the nose and a smile to each side.
pub(super) fn mouth(artist: &mut Artist, nose: Point, stem: f64, width: f64, droop: f64) {
    let [x, y] = nose;
    let ink = mix(artist.palette.ink, [0.25, 0.1, 0.1], 0.3);
    let thick = artist.line.max(0.04);
    artist.stroke(&[[x, y], [x, y + stem]], thick, thick, ink);
    for side in SIDES {
        let smile = [
            [x, y + stem],
            [x + side * 0.35 * width, y + stem + droop],
            [x + side * 0.75 * width, y + stem + 0.8 * droop],
            [x + side * width, y + stem],
        ];
        artist.stroke(&open(&smile), thick, 0.5 * thick, ink);
    }
}

/// A tongue hanging from `at`.
pub(super) fn tongue(artist: &mut Artist, at: Point, width: f64, length: f64) {
    let [x, y] = at;
    let sway = artist.rng.range(-0.08, 0.08);
    let shape = [
        [x - width, y],
        [x + width, y],
        [x + width + sway, y + 0.6 * length],
        [x + sway, y + length],
        [x - width + sway, y + 0.6 * length],
    ];
    let flesh = artist.palette.flesh;
    artist.body(&closed(&shape), flesh);
    let crease = [[x, y + 0.1 * length], [x + 0.7 * sway, y + 0.65 * length]];
    artist.stroke(&crease, 0.03, 0.02, shade(flesh, 0.75));
}

/// A triangle from three corners with slightly curved sides.
pub(super) fn triangle(corners: [Point; 3], bulge: f64) -> Vec<Point> {
    cornered(&corners, bulge)
}
