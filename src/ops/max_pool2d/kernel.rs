//! Max pooling as the CPU runs it: planes spread over threads; in a plane, first the largest value
//! of every column of a band of rows, then the largest of those under each window.
//!
//! Both passes run along rows without a branch, so that the compiler makes vectors of them, and
//! columns that windows share are looked at once.

use rayon::prelude::*;

use super::MaxPool2dShape;
use crate::ops::Real;
use crate::ops::pooling::{Side, planes_per_task};

/// The maxima, and the pixels of the H×W plane where they stood; both [N, C, OH, OW].
///
/// # Panics
/// If `x` is shorter than `shape` says.
pub fn forward<T: Real>(shape: &MaxPool2dShape, x: &[T]) -> (Vec<T>, Vec<u32>) {
    let (pixels, places) = (shape.window.pixels(), shape.window.cols());
    let mut y = vec![T::zero(); shape.planes() * places];
    let mut indices = vec![0; y.len()];
    y.par_chunks_exact_mut(places)
        .zip(indices.par_chunks_exact_mut(places))
        .zip(x[..shape.planes() * pixels].par_chunks_exact(pixels))
        .with_min_len(planes_per_task(pixels))
        .for_each_init(
            || Plane::new(shape),
            |plane, ((y, indices), x)| plane.forward(x, y, indices),
        );
    (y, indices)
}

/// The gradient of x, [N, C, H, W], from `dy` [N, C, OH, OW] and where the maxima stood.
///
/// # Panics
/// If a slice is shorter than `shape` says.
pub fn backward<T: Real>(shape: &MaxPool2dShape, indices: &[u32], dy: &[T]) -> Vec<T> {
    let (pixels, places) = (shape.window.pixels(), shape.window.cols());
    let mut dx = vec![T::zero(); shape.planes() * pixels];
    dx.par_chunks_exact_mut(pixels)
        .zip(indices.par_chunks_exact(places))
        .zip(dy.par_chunks_exact(places))
        .with_min_len(planes_per_task(pixels))
        .for_each(|((dx, indices), dy)| {
            for (&index, &dy) in indices.iter().zip(dy) {
                let dx = &mut dx[index as usize];
                *dx = *dx + dy;
            }
        });
    dx
}

/// The windows over a plane, and what one thread reuses from plane to plane.
struct Plane<T> {
    rows: Side,
    cols: Side,
    kernel_width: usize,
    stride: usize,
    /// The largest value of each column of the band of rows, [W].
    value: Vec<T>,
    /// Where it stands.
    pixel: Vec<u32>,
}

impl<T: Real> Plane<T> {
    fn new(shape: &MaxPool2dShape) -> Self {
        let window = &shape.window;
        let width = window.input.1;
        Plane {
            rows: Side::vertical(window),
            cols: Side::horizontal(window),
            kernel_width: window.kernel.1,
            stride: window.stride.1,
            value: vec![T::zero(); width],
            pixel: vec![0; width],
        }
    }

    fn forward(&mut self, x: &[T], y: &mut [T], indices: &mut [u32]) {
        let width = self.value.len();
        let places = self.cols.places;
        let outputs = y.chunks_exact_mut(places).zip(indices.chunks_exact_mut(places));
        for (oy, (y, indices)) in outputs.enumerate() {
            let mut rows = self.rows.taps(oy).map(|tap| self.rows.pixel(oy, tap) * width);
            let Some(first) = rows.next() else { continue };
            self.value.copy_from_slice(&x[first..][..width]);
            for (column, pixel) in self.pixel.iter_mut().enumerate() {
                *pixel = (first + column) as u32;
            }
            for start in rows {
                down(&x[start..][..width], start as u32, &mut self.value, &mut self.pixel);
            }
            self.across(y, indices);
        }
    }

    /// The largest of the columns' values under each window of a row.
    fn across(&self, y: &mut [T], indices: &mut [u32]) {
        y.fill(T::neg_infinity());
        indices.fill(u32::MAX);
        for tap in 0..self.kernel_width {
            let places = self.cols.places_of(tap);
            if places.is_empty() {
                continue;
            }
            let first = self.cols.pixel(places.start, tap);
            let from = (&self.value[first..], &self.pixel[first..]);
            let to = (&mut y[places.clone()], &mut indices[places]);
            match self.stride {
                1 => take_larger(from, to, 1),
                2 => take_larger(from, to, 2),
                stride => take_larger(from, to, stride),
            }
        }
    }
}

/// Takes the values of a lower row where they are larger, or NaN.
fn down<T: Real>(row: &[T], start: u32, value: &mut [T], pixel: &mut [u32]) {
    let best = value.iter_mut().zip(pixel);
    for (column, (&v, (value, pixel))) in (start..).zip(row.iter().zip(best)) {
        let take = (v > *value) | v.is_nan();
        *value = if take { v } else { *value };
        *pixel = if take { column } else { *pixel };
    }
}

/// Takes every `stride`-th value that is larger, or as large and earlier in the plane; NaN above
/// all, the last one if several.
#[inline(always)]
fn take_larger<T: Real>(from: (&[T], &[u32]), to: (&mut [T], &mut [u32]), stride: usize) {
    let len = to.0.len();
    if len == 0 {
        return;
    }
    let reach = (len - 1) * stride + 1;
    let (values, pixels) = (&from.0[..reach], &from.1[..reach]);
    for (i, (best, at)) in to.0.iter_mut().zip(&mut to.1[..len]).enumerate() {
        let (v, p) = (values[i * stride], pixels[i * stride]);
        let larger = (v > *best) | ((v == *best) & (p < *at));
        let take = larger | (v.is_nan() & (!best.is_nan() | (p > *at)));
        *best = if take { v } else { *best };
        *at = if take { p } else { *at };
    }
}
