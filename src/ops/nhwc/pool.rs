//! Pooling of channels-last maps. The backward passes go through the input's pixels and ask which
//! windows saw them, so that every gradient is written once.

use rayon::prelude::*;

use super::conv::Maps;
use super::lanes::{Isa, LANES, for_each_isa};
use super::pixels::MapsMut;
use crate::ops::Im2col;
use crate::ops::avg_pool2d::{Means, Span};

/// Where a maximum stood: its tap, counted along the rows of the window.
pub(crate) type Tap = u8;

/// Maxima over windows, [N, OH, OW, wide], and their taps, [N, OH, OW, wide] without gaps. The first
/// of equal values wins, and the last NaN.
pub(crate) fn max_pool(
    window: &Im2col,
    pictures: usize,
    x: Maps<'_>,
    wide: usize,
    y: MapsMut<'_>,
    taps: &mut [Tap],
) {
    let isa = Isa::best();
    let (rows, cols) = window.output;
    let step = y.step;
    let to = y.data.par_chunks_mut(cols * step).zip(taps.par_chunks_mut(cols * wide));
    to.take(pictures * rows).enumerate().for_each(|(row, (y, taps))| {
        let (n, oh) = (row / rows, row % rows);
        let picture = n * window.input.0 * window.input.1;
        for ow in 0..cols {
            let seen = inside(window, oh, ow, |tap, pixel| (tap, x.pixel(picture + pixel, wide)));
            let (y, taps) = (&mut y[ow * step..][..wide], &mut taps[ow * wide..][..wide]);
            // SAFETY: all slices have `wide` values, a whole number of vectors.
            unsafe { max_of(isa, &seen, y, taps) };
        }
    });
}

/// `with(tap, pixel)` for the taps of a window that lie inside the picture.
fn inside<T>(window: &Im2col, oh: usize, ow: usize, with: impl Fn(Tap, usize) -> T) -> Vec<T> {
    let (s, p, d) = (window.stride, window.padding, window.dilation);
    let mut found = Vec::with_capacity(window.kernel.0 * window.kernel.1);
    for kh in 0..window.kernel.0 {
        let h = (oh * s.0 + kh * d.0).wrapping_sub(p.0);
        for kw in 0..window.kernel.1 {
            let w = (ow * s.1 + kw * d.1).wrapping_sub(p.1);
            if h < window.input.0 && w < window.input.1 {
                found.push(with((kh * window.kernel.1 + kw) as Tap, h * window.input.1 + w));
            }
        }
    }
    found
}

for_each_isa! {
    unsafe fn max_of<V>(seen: &[(Tap, &[f32])], y: &mut [f32], taps: &mut [Tap]) {
        for c in (0..y.len()).step_by(LANES) {
            let mut best = [f32::NEG_INFINITY; LANES];
            let mut tap = [u32::from(seen.first().map_or(0, |s| s.0)); LANES];
            for (number, x) in seen {
                let x = &x[c..c + LANES];
                for i in 0..LANES {
                    let wins = x[i] > best[i] || x[i].is_nan();
                    best[i] = if wins { x[i] } else { best[i] };
                    tap[i] = if wins { u32::from(*number) } else { tap[i] };
                }
            }
            y[c..c + LANES].copy_from_slice(&best);
            taps[c..c + LANES].iter_mut().zip(tap).for_each(|(to, tap)| *to = tap as Tap);
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
    let step = dx.step;
    let rows = dx.data.par_chunks_mut(width * step).take(pictures * height).enumerate();
    rows.for_each(|(row, dx)| {
        let (n, h) = (row / height, row % height);
        let vertical = windows(
            h,
            window.kernel.0,
            window.stride.0,
            window.padding.0,
            window.dilation.0,
            window.output.0,
        );
        for w in 0..width {
            let dx = &mut dx[w * step..][..wide];
            if !add {
                dx.fill(0.0);
            }
            let horizontal = windows(
                w,
                window.kernel.1,
                window.stride.1,
                window.padding.1,
                window.dilation.1,
                window.output.1,
            );
            for &(oh, kh) in &vertical {
                for &(ow, kw) in &horizontal {
                    let place = n * places + oh * window.output.1 + ow;
                    let tap = (kh * window.kernel.1 + kw) as Tap;
                    let taps = &taps[place * wide..][..wide];
                    // SAFETY: all slices have `wide` values.
                    unsafe { add_where(isa, taps, tap, dy.pixel(place, wide), dx) };
                }
            }
        }
    });
}

/// The windows along one side that see pixel `at`, each with its tap.
fn windows(
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
