//! Max pooling as the CPU runs it: planes spread over threads; in a plane, first the largest value
//! of every column of a band of rows, then the largest of those under each window.
//!
//! Both passes run along rows without a branch, so that the compiler makes vectors of them, and
//! columns that windows share are looked at once.

use std::hint::select_unpredictable;
use std::ops::Range;

use rayon::prelude::*;

use super::MaxPool2dShape;
use crate::ops::Real;
use crate::ops::fresh::Fresh;
use crate::ops::pooling::{Side, planes_per_task};

/// The maxima, and the pixels of the H×W plane where they stood; both [N, C, OH, OW].
///
/// # Panics
/// If `x` is shorter than `shape` says.
pub fn forward<T: Real>(shape: &MaxPool2dShape, x: &[T]) -> (Vec<T>, Vec<u32>) {
    let (pixels, places) = (shape.window.pixels(), shape.window.cols());
    let len = shape.planes() * places;
    let (mut y, mut indices) = (Fresh::new(len), Fresh::new(len));
    let some = planes_per_task(pixels);
    y.par_parts(some * places)
        .zip(indices.par_parts(some * places))
        .zip(x[..shape.planes() * pixels].par_chunks(some * pixels))
        .for_each_init(
            || Plane::new(shape),
            |plane, ((y, indices), x)| {
                let (y, indices) = (y.zeros(), indices.zeros());
                let outputs = y.chunks_exact_mut(places).zip(indices.chunks_exact_mut(places));
                let planes = outputs.zip(x.chunks_exact(pixels));
                planes.for_each(|((y, indices), x)| plane.forward(x, y, indices));
            },
        );
    (y.whole(), indices.whole())
}

/// The gradient of x, [N, C, H, W], from `dy` [N, C, OH, OW] and where the maxima stood.
///
/// # Panics
/// If a slice is shorter than `shape` says.
pub fn backward<T: Real>(shape: &MaxPool2dShape, indices: &[u32], dy: &[T]) -> Vec<T> {
    let (pixels, places) = (shape.window.pixels(), shape.window.cols());
    let mut dx = Fresh::new(shape.planes() * pixels);
    let some = planes_per_task(pixels);
    dx.par_parts(some * pixels)
        .zip(indices.par_chunks(some * places))
        .zip(dy.par_chunks(some * places))
        .for_each(|((dx, indices), dy)| {
            let outputs = indices.chunks_exact(places).zip(dy.chunks_exact(places));
            for (dx, (indices, dy)) in dx.zeros().chunks_exact_mut(pixels).zip(outputs) {
                for (&index, &dy) in indices.iter().zip(dy) {
                    dx[index as usize] += dy;
                }
            }
        });
    dx.whole()
}

/// The windows over a plane, and what one thread reuses from plane to plane.
struct Plane<T> {
    rows: Side,
    /// Of each tap along a row: the places where it is inside the picture, and the first one's pixel.
    taps: Vec<(Range<usize>, usize)>,
    /// Places along a row.
    places: usize,
    /// The windows' step along a row; the width, where it is more than that.
    step: usize,
    /// W
    width: usize,
    /// The largest value of each column of the band of rows, [W], and a step's worth of room.
    value: Vec<T>,
    /// Where it stands.
    pixel: Vec<u32>,
}

impl<T: Real> Plane<T> {
    fn new(shape: &MaxPool2dShape) -> Self {
        let window = &shape.window;
        let cols = Side::horizontal(window);
        let taps = (0..window.kernel.1).filter_map(|tap| {
            let places = cols.places_of(tap);
            let first = places.clone().next().map(|place| cols.pixel(place, tap));
            first.map(|first| (places, first))
        });
        let (width, step) = (window.input.1, window.stride.1.min(window.input.1));
        Plane {
            rows: Side::vertical(window),
            taps: taps.collect(),
            places: cols.places,
            step,
            width,
            value: vec![T::zero(); width + step],
            pixel: vec![0; width + step],
        }
    }

    fn forward(&mut self, x: &[T], y: &mut [T], indices: &mut [u32]) {
        let (width, places) = (self.width, self.places);
        let outputs = y.chunks_exact_mut(places).zip(indices.chunks_exact_mut(places));
        for (oy, (y, indices)) in outputs.enumerate() {
            let mut rows = self.rows.taps(oy).map(|tap| self.rows.pixel(oy, tap) * width);
            let Some(first) = rows.next() else { continue };
            let (value, pixel) = (&mut self.value[..width], &mut self.pixel[..width]);
            value.copy_from_slice(&x[first..][..width]);
            pixel.iter_mut().zip(first as u32..).for_each(|(pixel, here)| *pixel = here);
            for start in rows {
                down(&x[start..][..width], start as u32, value, pixel);
            }
            self.across(y, indices);
        }
    }

    /// The largest of the columns' values under each window of a row.
    fn across(&self, y: &mut [T], indices: &mut [u32]) {
        match self.step {
            1 => self.across_by::<1>(y, indices),
            2 => self.across_by::<2>(y, indices),
            _ => self.across_by::<ANY>(y, indices),
        }
    }

    fn across_by<const STEP: usize>(&self, y: &mut [T], indices: &mut [u32]) {
        // A tap that is inside the picture at every place is what the others are compared with.
        let whole = self.taps.iter().position(|(places, _)| places.len() == self.places);
        match whole.map(|tap| self.taps[tap].1) {
            Some(first) => {
                let (value, pixel) = (&self.value[first..], &self.pixel[first..]);
                take_all::<T, STEP>(value, pixel, y, indices, self.step);
            }
            None => {
                y.fill(T::neg_infinity());
                indices.fill(u32::MAX);
            }
        }
        for (tap, (places, first)) in self.taps.iter().enumerate() {
            if Some(tap) != whole {
                let (value, pixel) = (&self.value[*first..], &self.pixel[*first..]);
                let (y, indices) = (&mut y[places.clone()], &mut indices[places.clone()]);
                take_larger::<T, STEP>(value, pixel, y, indices, self.step);
            }
        }
    }
}

// The compiler makes vectors of the loops below: in functions of their own, where it knows that
// the slices do not overlap, and of selections, which it must not turn into branches.

/// Takes the values of a lower row where they are larger, or NaN.
#[inline(never)]
fn down<T: Real>(row: &[T], start: u32, value: &mut [T], pixel: &mut [u32]) {
    let best = value.iter_mut().zip(pixel);
    for (here, (&v, (best, at))) in (start..).zip(row.iter().zip(best)) {
        let take = (v > *best) | v.is_nan();
        *best = select_unpredictable(take, v, *best);
        *at = select_unpredictable(take, here, *at);
    }
}

/// A step that is known only when the program runs.
const ANY: usize = 0;

/// Takes every `step`-th value.
#[inline(never)]
fn take_all<T: Real, const STEP: usize>(
    value: &[T],
    pixel: &[u32],
    y: &mut [T],
    indices: &mut [u32],
    step: usize,
) {
    let step = if STEP == ANY { step } else { STEP };
    let from = value.chunks_exact(step).zip(pixel.chunks_exact(step));
    for ((y, index), (v, p)) in y.iter_mut().zip(indices).zip(from) {
        (*y, *index) = (v[0], p[0]);
    }
}

/// Takes every `step`-th value that is larger, or as large and earlier in the plane; NaN above all,
/// the last one if several.
#[inline(never)]
fn take_larger<T: Real, const STEP: usize>(
    value: &[T],
    pixel: &[u32],
    y: &mut [T],
    indices: &mut [u32],
    step: usize,
) {
    let step = if STEP == ANY { step } else { STEP };
    let from = value.chunks_exact(step).zip(pixel.chunks_exact(step));
    for ((best, at), (v, p)) in y.iter_mut().zip(indices).zip(from) {
        let (v, p) = (v[0], p[0]);
        let larger = (v > *best) | ((v == *best) & (p < *at));
        let take = larger | (v.is_nan() & (!best.is_nan() | (p > *at)));
        *best = select_unpredictable(take, v, *best);
        *at = select_unpredictable(take, p, *at);
    }
}
