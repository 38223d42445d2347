//! Adaptive average pooling as its equations say it.
//!
//! Its windows differ in size, so they make no im2col matrix, but the forward and backward pass
//! still read and add along one and the same loop over windows and the pixels in them:
//!
//! ```text
//! forward    y[p]  += x[i] / |window p|     for each p, for each pixel i in window p
//! backward   dx[i] += dy[p] / |window p|
//! ```

use super::{AdaptiveAvgPool2dShape, span};
use crate::ops::Real;

/// The means, [N, C, OH, OW].
pub fn forward<T: Real>(shape: &AdaptiveAvgPool2dShape, x: &[T]) -> Vec<T> {
    let mut y = vec![T::zero(); shape.output().iter().product()];
    for_each_tap(shape, |pixel, place, size| y[place] += x[pixel] / T::of(size as f64));
    y
}

/// The gradient of x, [N, C, H, W], from `dy` [N, C, OH, OW].
pub fn backward<T: Real>(shape: &AdaptiveAvgPool2dShape, dy: &[T]) -> Vec<T> {
    let pixels = shape.input.0 * shape.input.1;
    let mut dx = vec![T::zero(); shape.batch * shape.channels * pixels];
    for_each_tap(shape, |pixel, place, size| {
        dx[pixel] += dy[place] / T::of(size as f64);
    });
    dx
}

/// Calls `visit(pixel, place, window size)` for every pixel of every window.
fn for_each_tap(shape: &AdaptiveAvgPool2dShape, mut visit: impl FnMut(usize, usize, usize)) {
    let ((h, w), (oh, ow)) = (shape.input, shape.output);
    for plane in 0..shape.batch * shape.channels {
        for oy in 0..oh {
            for ox in 0..ow {
                let (rows, cols) = (span(oy, h, oh), span(ox, w, ow));
                let place = (plane * oh + oy) * ow + ox;
                for y in rows.start..rows.end {
                    for x in cols.start..cols.end {
                        visit((plane * h + y) * w + x, place, rows.count * cols.count);
                    }
                }
            }
        }
    }
}
