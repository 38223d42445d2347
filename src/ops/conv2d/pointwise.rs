//! Kernels of 1×1 at stride 1: products of matrices that lie in memory as they are needed.
//!
//! ```text
//! y[n]  = W · x[n]                 (O, P) = (O, C) · (C, P), P the pixels
//! dx[n] = Wᵀ · dy[n]               (C, P) = (C, O) · (O, P)
//! dW    = Σ_n dy[n] · x[n]ᵀ        (O, C) = (O, P) · (P, C)
//! ```

use rayon::prelude::*;

use super::Conv2dShape;
use super::kernel::{WEIGHT_PARTS, sum_in_order};
use crate::ops::fresh::Fresh;
use crate::ops::gemm::gemm_on_threads;
use crate::ops::{Mat, MatMut, Real, gemm};

/// The fewest pictures that keep a few threads busy with one each.
const LEAST_PICTURES: usize = 4;

/// Whether the shape is one for this kernel.
pub(super) fn suits(shape: &Conv2dShape) -> bool {
    let window = &shape.window;
    let plain = (window.kernel, window.stride, window.padding) == ((1, 1), (1, 1), (0, 0));
    plain && shape.groups == 1
}

/// Outputs, inputs, pixels.
fn sizes(shape: &Conv2dShape) -> (usize, usize, usize) {
    (shape.group_out, shape.window.channels, shape.window.cols())
}

/// y without bias, [N, O, P].
pub(super) fn forward<T: Real>(shape: &Conv2dShape, x: &[T], w: &[T]) -> Vec<T> {
    let (o, c, _) = sizes(shape);
    each_picture(shape, Mat::new(w, o, c), x)
}

/// dx, [N, C, P].
pub(super) fn input_gradient<T: Real>(shape: &Conv2dShape, w: &[T], dy: &[T]) -> Vec<T> {
    let (o, c, _) = sizes(shape);
    each_picture(shape, Mat::new(w, o, c).t(), dy)
}

/// `to[n] = matrix · from[n]`, for each picture n.
fn each_picture<T: Real>(shape: &Conv2dShape, matrix: Mat<'_, T>, from: &[T]) -> Vec<T> {
    let ((rows, cols), (_, _, pixels)) = (matrix.shape(), sizes(shape));
    if shape.batch < LEAST_PICTURES {
        let mut to = vec![T::zero(); shape.batch * rows * pixels];
        for (to, from) in to.chunks_mut(rows * pixels).zip(from.chunks(cols * pixels)) {
            let to = MatMut::new(to, rows, pixels);
            gemm_on_threads(matrix, Mat::new(from, cols, pixels), to, false);
        }
        return to;
    }
    let mut to = Fresh::new(shape.batch * rows * pixels);
    let pictures = to.par_parts(rows * pixels).zip(from.par_chunks(cols * pixels));
    pictures.for_each(|(to, from)| {
        let to = MatMut::new(to.zeros(), rows, pixels);
        gemm(matrix, Mat::new(from, cols, pixels), to, false);
    });
    to.whole()
}

/// dW, [O, C]: the pictures in a few parts, whose sums are added in order.
pub(super) fn weight_gradient<T: Real>(shape: &Conv2dShape, x: &[T], dy: &[T]) -> Vec<T> {
    let (o, c, pixels) = sizes(shape);
    let part = shape.batch.div_ceil(WEIGHT_PARTS);
    let parts = x.par_chunks(part * c * pixels).zip(dy.par_chunks(part * o * pixels));
    let sum = |(x, dy): (&[T], &[T])| {
        let mut dw = vec![T::zero(); o * c];
        for (x, dy) in x.chunks(c * pixels).zip(dy.chunks(o * pixels)) {
            let x = Mat::new(x, c, pixels).t();
            gemm(Mat::new(dy, o, pixels), x, MatMut::new(&mut dw, o, c), true);
        }
        dw
    };
    sum_in_order(parts.map(sum).collect(), o * c)
}
