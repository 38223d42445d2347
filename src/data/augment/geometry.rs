//! Affine maps, each pixel from the nearest place.

use crate::data::picture::Picture;

/// Fractions of a pixel, in bits: PIL computes with so many.
const BITS: u32 = 16;

/// The picture whose pixel (x, y) comes from (a·x + b·y + c, d·x + e·y + f), of pixel centres; black
/// where that is outside.
pub(super) fn warp(picture: &mut Picture, [a, b, c, d, e, f]: [f64; 6]) {
    let fixed = |value: f64| (value * f64::from(1 << BITS) + 0.5).floor() as i64;
    let (width, height) = (picture.width, picture.height);
    let mut row_x = fixed(c + 0.5 * a + 0.5 * b);
    let mut row_y = fixed(f + 0.5 * d + 0.5 * e);
    let (right_x, right_y, down_x, down_y) = (fixed(a), fixed(d), fixed(b), fixed(e));
    let mut out = Picture::black(width, height, picture.channels);
    for y in 0..height {
        let (mut at_x, mut at_y) = (row_x, row_y);
        let to = out.row_mut(y);
        for x in 0..width {
            let (from_x, from_y) = (at_x >> BITS, at_y >> BITS);
            // A negative place becomes a huge one.
            let (from_x, from_y) = (from_x as usize, from_y as usize);
            if from_x < width && from_y < height {
                copy_pixel(picture, from_x, from_y, to, x);
            }
            at_x += right_x;
            at_y += right_y;
        }
        row_x += down_x;
        row_y += down_y;
    }
    *picture = out;
}

fn copy_pixel(picture: &Picture, x: usize, y: usize, to: &mut [u8], at: usize) {
    match picture.channels {
        3 => {
            let from = (y * picture.width + x) * 3;
            to[at * 3..at * 3 + 3].copy_from_slice(&picture.pixels[from..from + 3]);
        }
        _ => to[at] = picture.pixels[y * picture.width + x],
    }
}

/// Turned about its middle, against the clock.
pub(super) fn rotate(picture: &mut Picture, degrees: f64) {
    // PIL turns by the angle's negative, and rounds to 15 digits so that right angles are exact.
    let (sin, cos) = (-degrees.rem_euclid(360.0).to_radians()).sin_cos();
    let rounded = |value: f64| (value * 1e15).round_ties_even() / 1e15;
    let (sin, cos) = (rounded(sin), rounded(cos));
    let (cx, cy) = (picture.width as f64 / 2.0, picture.height as f64 / 2.0);
    let c = cos * -cx + sin * -cy + cx;
    let f = -sin * -cx + cos * -cy + cy;
    warp(picture, [cos, sin, c, -sin, cos, f]);
}
