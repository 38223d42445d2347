//! Fully connected layers, shared out over threads by blocks of outputs or inputs: batches are small,
//! weights are large.

use rayon::prelude::*;

use crate::ops::nhwc::conv::Maps;
use crate::ops::nhwc::pixels::{self, MapsMut};
use crate::ops::{Mat, MatMut, gemm};

/// Up to so many pictures it is reading the weights that takes the time: once, as they stand.
const FEW: usize = 4;

/// Columns of a block.
const BLOCK: usize = 192;

/// `y = relu?(x·Wᵀ + b)`, W [outputs, inputs].
pub(super) fn forward(
    x: Maps<'_>,
    (w, b): (&[f32], &[f32]),
    (pictures, inputs, outputs): (usize, usize, usize),
    relu: bool,
    y: MapsMut<'_>,
) {
    if pictures <= FEW {
        return pixels::few_products(x, (w, b), (pictures, inputs, outputs), relu, y);
    }
    let x = Mat::strided(x.data, pictures, inputs, x.step);
    let blocks = by_columns(pictures, outputs, |columns, block| {
        let w = Mat::new(&w[columns.start * inputs..], columns.len(), inputs);
        gemm(x, w.t(), MatMut::new(block, pictures, columns.len()), false);
        for row in block.chunks_exact_mut(columns.len()) {
            for (y, &b) in row.iter_mut().zip(&b[columns.clone()]) {
                let sum = *y + b;
                *y = if relu && sum < 0.0 { 0.0 } else { sum };
            }
        }
    });
    put(&blocks, pictures, outputs, y, false);
}

/// `dx = dy·W`, added where `add`.
pub(super) fn input_gradient(
    dy: Maps<'_>,
    w: &[f32],
    (pictures, inputs, outputs): (usize, usize, usize),
    dx: MapsMut<'_>,
    add: bool,
) {
    let dy = Mat::strided(dy.data, pictures, outputs, dy.step);
    let blocks = by_columns(pictures, inputs, |columns, block| {
        let w = Mat::new(w, outputs, inputs).block(0..outputs, columns.clone());
        gemm(dy, w, MatMut::new(block, pictures, columns.len()), false);
    });
    put(&blocks, pictures, inputs, dx, add);
}

/// Rows of a weight's gradient that are computed at a time where they are handed over: few enough to be
/// in the cache still when they are read.
pub(super) const PART: usize = 128;

/// `dW = dyᵀ·x`, these rows of [outputs, inputs].
pub(super) fn weight_gradient(
    x: Maps<'_>,
    dy: Maps<'_>,
    (pictures, inputs, outputs): (usize, usize, std::ops::Range<usize>),
    dw: &mut [f32],
) {
    const ROWS: usize = 32;
    let x = Mat::strided(x.data, pictures, inputs, x.step);
    let dy = Mat::strided(dy.data, pictures, outputs.end, dy.step).t();
    dw.par_chunks_mut(ROWS * inputs).enumerate().for_each(|(i, dw)| {
        let first = outputs.start + i * ROWS;
        let rows = first..(first + ROWS).min(outputs.end);
        let len = rows.len();
        gemm(dy.block(rows, 0..pictures), x, MatMut::new(dw, len, inputs), false);
    });
}

/// A result [rows, columns] block of columns by block of columns.
fn by_columns(
    rows: usize,
    columns: usize,
    fill: impl Fn(std::ops::Range<usize>, &mut [f32]) + Sync,
) -> Vec<Vec<f32>> {
    let block = |i: usize| {
        let columns = i * BLOCK..(i * BLOCK + BLOCK).min(columns);
        let mut values = vec![0.0; rows * columns.len()];
        fill(columns, &mut values);
        values
    };
    (0..columns.div_ceil(BLOCK)).into_par_iter().map(block).collect()
}

fn put(blocks: &[Vec<f32>], rows: usize, columns: usize, to: MapsMut<'_>, add: bool) {
    for (row, to) in to.data.chunks_mut(to.step).take(rows).enumerate() {
        for (block, to) in blocks.iter().zip(to[..columns].chunks_mut(BLOCK)) {
            let from = &block[row * to.len()..][..to.len()];
            match add {
                true => to.iter_mut().zip(from).for_each(|(to, &from)| *to += from),
                false => to.copy_from_slice(from),
            }
        }
    }
}
