//! Pooling of channels-last maps. The backward passes go through the input's pixels and ask which
//! windows saw them, so that every gradient is written once.

use rayon::prelude::*;

use super::conv::Maps;
use super::lanes::{Isa, LANES, for_each_isa};
use super::maps_len;
use super::pixels::MapsMut;
use crate::ops::Im2col;
use crate::ops::avg_pool2d::{Means, Span};

/// Where a maximum stood: its tap, counted along the rows of the window. A byte, since there is one for
/// every value of the output.
pub(crate) type Tap = u8;

/// The taps that a [`Tap`] can tell apart.
pub(crate) const MOST_TAPS: usize = 1 << Tap::BITS;

/// Maxima over windows, [N, OH, OW, wide], and their taps, [N, OH, OW, wide] without gaps. The first
/// of equal values wins, and the last NaN.
///
/// # Panics
/// If a slice is shorter than its shape, or the window has more than [`MOST_TAPS`]: the caller has
/// checked its shapes.
pub(crate) fn max_pool(
    window: &Im2col,
    pictures: usize,
    x: Maps<'_>,
    wide: usize,
    y: MapsMut<'_>,
    taps: &mut [Tap],
) {
    let isa = Isa::best();
    let tap_count = window.kernel.0 * window.kernel.1;
    assert!(tap_count <= MOST_TAPS, "a window of {tap_count} taps");
    let ((rows, cols), (height, width)) = (window.output, window.input);
    let (s, p, d) = (window.stride, window.padding, window.dilation);
    let step = y.step;
    assert!(wide.is_multiple_of(LANES), "{wide} values are no whole vectors");
    let x_len = maps_len(&[pictures, height, width], x.step, wide);
    assert!(x.data.len() >= x_len && x.step >= wide, "x too short");
    let places = [pictures, rows, cols];
    assert!(y.data.len() >= maps_len(&places, step, wide) && step >= wide, "y too short");
    assert!(taps.len() >= maps_len(&places, wide, wide), "taps too short");
    let inside = |place: usize, stride, padding: usize, dilation: usize, kernel, size: usize| {
        let start = place * stride;
        let first = padding.saturating_sub(start).div_ceil(dilation).min(kernel);
        let end = (size + padding).saturating_sub(start).div_ceil(dilation).min(kernel);
        first..end.max(first)
    };
    let to = y.data.par_chunks_mut(cols * step).zip(taps.par_chunks_mut(cols * wide));
    to.take(pictures * rows).enumerate().for_each(|(row, (y, taps))| {
        let (n, oh) = (row / rows, row % rows);
        let kh = inside(oh, s.0, p.0, d.0, window.kernel.0, height);
        for ow in 0..cols {
            let kw = inside(ow, s.1, p.1, d.1, window.kernel.1, width);
            let first = (oh * s.0 + kh.start * d.0).wrapping_sub(p.0) * width
                + (ow * s.1 + kw.start * d.1).wrapping_sub(p.1);
            let seen = Seen {
                x: x.data[(n * height * width + first) * x.step..].as_ptr(),
                row_step: d.0 * width * x.step,
                col_step: d.1 * x.step,
                rows: kh.clone(),
                cols: kw,
                width: window.kernel.1,
            };
            let (y, taps) = (&mut y[ow * step..][..wide], &mut taps[ow * wide..][..wide]);
            // SAFETY: the taps of `seen` are pixels of the picture, and x holds all of these; y and
            // taps have `wide` values, a whole number of vectors.
            unsafe { max_of(isa, seen, y, taps) };
        }
    });
}

/// The taps of a window that lie inside the picture, and the pixel under the first of them.
struct Seen {
    x: *const f32,
    row_step: usize,
    col_step: usize,
    rows: std::ops::Range<usize>,
    cols: std::ops::Range<usize>,
    /// Taps in a row of the whole window.
    width: usize,
}

for_each_isa! {
    unsafe fn max_of<V>(seen: Seen, y: &mut [f32], taps: &mut [Tap]) {
        // SAFETY (whole function): the caller promises that all taps are pixels of x.
        unsafe {
            let first = (seen.rows.start * seen.width + seen.cols.start) as f32;
            for c in (0..y.len()).step_by(LANES) {
                let (mut best, mut tap) = (V::splat(f32::NEG_INFINITY), V::splat(first));
                for kh in seen.rows.clone() {
                    let row = seen.x.add((kh - seen.rows.start) * seen.row_step + c);
                    for kw in seen.cols.clone() {
                        let x = V::load(row.add((kw - seen.cols.start) * seen.col_step));
                        let number = V::splat((kh * seen.width + kw) as f32);
                        (best, tap) = x.or_better(number, best, tap);
                    }
                }
                best.store(y.as_mut_ptr().add(c));
                tap.store_bytes(taps.as_mut_ptr().add(c));
            }
        }
    }
}

/// The gradient of [`max_pool`]'s input, added where `add`.
pub(crate) fn max_pool_gradient(
    window: &Im2col,
    pictures: usize,
    dy: Maps<'_>,
    wide: usize,
    taps: &[Tap],
    dx: MapsMut<'_>,
    add: bool,
) {
    let isa = Isa::best();
    let (places, (height, width)) = (window.cols(), window.input);
    let (k, s, p, d, out) =
        (window.kernel, window.stride, window.padding, window.dilation, window.output);
    let vertical: Vec<_> = (0..height).map(|h| windows(h, k.0, s.0, p.0, d.0, out.0)).collect();
    let horizontal: Vec<_> = (0..width).map(|w| windows(w, k.1, s.1, p.1, d.1, out.1)).collect();
    let step = dx.step;
    let rows = dx.data.par_chunks_mut(width * step).take(pictures * height).enumerate();
    rows.for_each(|(row, dx)| {
        let (n, h) = (row / height, row % height);
        for (dx, horizontal) in dx.chunks_mut(step).zip(&horizontal) {
            let dx = &mut dx[..wide];
            if !add {
                dx.fill(0.0);
            }
            for &(oh, kh) in &vertical[h] {
                for &(ow, kw) in horizontal {
                    let place = n * places + oh * out.1 + ow;
                    let tap = (kh * k.1 + kw) as Tap;
                    let taps = &taps[place * wide..][..wide];
                    // SAFETY: all slices have `wide` values.
                    unsafe { add_where(isa, taps, tap, dy.pixel(place, wide), dx) };
                }
            }
        }
    });
}

/// The windows along one side that see pixel `at`, each with its tap.
pub(super) fn windows(
    at: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
    places: usize,
) -> Vec<(usize, usize)> {
    let place = |k: usize| {
        let start = (at + padding).checked_sub(k * dilation)?;
        (start.is_multiple_of(stride) && start / stride < places).then_some((start / stride, k))
    };
    (0..kernel).rev().filter_map(place).collect()
}

for_each_isa! {
    unsafe fn add_where<V>(taps: &[Tap], tap: Tap, dy: &[f32], dx: &mut [f32]) {
        for ((dx, &dy), &at) in dx.iter_mut().zip(dy).zip(taps) {
            *dx += if at == tap { dy } else { 0.0 };
        }
    }
}

/// Means over spans of rows and columns.
pub(crate) fn avg_pool(means: &Means, pictures: usize, x: Maps<'_>, wide: usize, y: MapsMut<'_>) {
    let isa = Isa::best();
    let (cols, step) = (means.cols.len(), y.step);
    let (rows, width) = (means.rows.len(), means.input.1);
    let to = y.data.par_chunks_mut(cols * step).take(pictures * rows).enumerate();
    to.for_each(|(at, y)| {
        let (n, row) = (at / rows, &means.rows[at % rows]);
        for (col, y) in means.cols.iter().zip(y.chunks_mut(step)) {
            let y = &mut y[..wide];
            y.fill(0.0);
            for h in row.start..row.end {
                for w in col.start..col.end {
                    let pixel = x.pixel(n * means.pixels() + h * width + w, wide);
                    // SAFETY: both have `wide` values.
                    unsafe { add_scaled(isa, pixel, 1.0, y) };
                }
            }
            let divisor = means.divisor(row, col) as f32;
            y.iter_mut().for_each(|y| *y /= divisor);
        }
    });
}

/// The gradient of [`avg_pool`]'s input, added where `add`.
pub(crate) fn avg_pool_gradient(
    means: &Means,
    pictures: usize,
    dy: Maps<'_>,
    wide: usize,
    dx: MapsMut<'_>,
    add: bool,
) {
    let isa = Isa::best();
    let (height, width) = means.input;
    let step = dx.step;
    let to = dx.data.par_chunks_mut(width * step).take(pictures * height).enumerate();
    to.for_each(|(at, dx)| {
        let (n, h) = (at / height, at % height);
        let vertical = covering(&means.rows, h);
        for (w, dx) in dx.chunks_mut(step).enumerate() {
            let dx = &mut dx[..wide];
            if !add {
                dx.fill(0.0);
            }
            for (oh, row) in vertical.clone() {
                for (ow, col) in covering(&means.cols, w) {
                    let place = n * means.places() + oh * means.cols.len() + ow;
                    let share = 1.0 / means.divisor(row, col) as f32;
                    // SAFETY: both have `wide` values.
                    unsafe { add_scaled(isa, dy.pixel(place, wide), share, dx) };
                }
            }
        }
    });
}

/// The spans that cover a pixel.
fn covering(spans: &[Span], at: usize) -> impl Iterator<Item = (usize, &Span)> + Clone {
    let first = spans.partition_point(|span| span.end <= at);
    spans.iter().enumerate().skip(first).take_while(move |(_, span)| span.start <= at)
}

for_each_isa! {
    unsafe fn add_scaled<V>(x: &[f32], factor: f32, y: &mut [f32]) {
        y.iter_mut().zip(x).for_each(|(y, &x)| *y += x * factor);
    }
}
