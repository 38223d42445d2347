//! Max pooling as its equations say it: the largest value of each column of the im2col matrix.
//!
//! For one plane, with `col = im2col(x)` of shape [KH·KW, OH·OW] and -∞ for the padding:
//!
//! ```text
//! forward    y[p]  = max over r of col[r, p],  i[p] = the pixel where it stood
//! backward   dx[i] = Σ of dy[p] over the columns p with i[p] = i
//! ```
//!
//! The backward pass is col2im of a matrix with `dy[p]` where column p had its maximum, else zeros.

use super::MaxPool2dShape;
use crate::ops::Real;

/// No pixel yet.
const NONE: u32 = u32::MAX;

/// The maxima, and the pixels of the H×W plane where they stood; both [N, C, OH, OW].
pub fn forward<T: Real>(shape: &MaxPool2dShape, x: &[T]) -> (Vec<T>, Vec<u32>) {
    let (pixels, places) = (shape.window.pixels(), shape.window.cols());
    let mut y = vec![T::neg_infinity(); shape.planes() * places];
    let mut indices = vec![NONE; y.len()];
    for plane in 0..shape.planes() {
        let x = &x[plane * pixels..][..pixels];
        let y = &mut y[plane * places..][..places];
        let indices = &mut indices[plane * places..][..places];
        // Each column's taps come from the top down: a later one must be larger to win.
        shape.window.for_each_tap(|pixel, _row, p| {
            if indices[p] == NONE || x[pixel] > y[p] || x[pixel].is_nan() {
                (y[p], indices[p]) = (x[pixel], pixel as u32);
            }
        });
    }
    (y, indices)
}

/// The gradient of x, [N, C, H, W], from `dy` [N, C, OH, OW] and where the maxima stood.
pub fn backward<T: Real>(shape: &MaxPool2dShape, indices: &[u32], dy: &[T]) -> Vec<T> {
    let (pixels, places) = (shape.window.pixels(), shape.window.cols());
    let mut dx = vec![T::zero(); shape.planes() * pixels];
    for (p, (&index, &dy)) in indices.iter().zip(dy).enumerate() {
        let pixel = p / places * pixels + index as usize;
        dx[pixel] += dy;
    }
    dx
}
