//! Convolution as its equations say it: im2col, a product, and their adjoints.
//!
//! For one picture and one group, with `col = im2col(x)` of shape [C/G·KH·KW, OH·OW]:
//!
//! ```text
//! forward    y  = w · col + b          (O/G, C/G·K) · (C/G·K, P)
//! backward   dw = dy · colᵀ            (O/G, P) · (P, C/G·K)
//!            dx = col2im(wᵀ · dy)      (C/G·K, O/G) · (O/G, P)
//!            db = Σ over P of dy
//! ```

use super::Conv2dShape;
use crate::ops::weighted::{Grads, Wants};
use crate::ops::{Real, col2im, im2col};

/// A convolution by nothing but its sliding window: seven loops, no matrix. For reading, and to
/// check im2col against.
pub fn sliding_window<T: Real>(shape: &Conv2dShape, x: &[T], w: &[T], b: Option<&[T]>) -> Vec<T> {
    let [batch, out, oh, ow] = shape.output();
    let window = &shape.window;
    let (channels, (h, width), (kh, kw)) = (window.channels, window.input, window.kernel);
    let mut y = Vec::with_capacity(batch * out * oh * ow);
    for n in 0..batch {
        for o in 0..out {
            let first_channel = (n * shape.groups + o / shape.group_out) * channels;
            for oy in 0..oh {
                for ox in 0..ow {
                    let mut sum = b.map_or(T::zero(), |b| b[o]);
                    for c in 0..channels {
                        for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
                            let iy = oy * window.stride.0 + ky * window.dilation.0;
                            let ix = ox * window.stride.1 + kx * window.dilation.1;
                            let (top, left) = window.padding;
                            if iy < top || ix < left || iy - top >= h || ix - left >= width {
                                continue; // in the padding, which is 0
                            }
                            let pixel = ((first_channel + c) * h + iy - top) * width + ix - left;
                            sum += w[((o * channels + c) * kh + ky) * kw + kx] * x[pixel];
                        }
                    }
                    y.push(sum);
                }
            }
        }
    }
    y
}

/// `y = w · im2col(x) + b`, [N, O, OH, OW].
pub fn forward<T: Real>(shape: &Conv2dShape, x: &[T], w: &[T], b: Option<&[T]>) -> Vec<T> {
    let sizes = Sizes::of(shape);
    let mut y = vec![T::zero(); shape.output().iter().product()];
    for (block, y) in y.chunks_exact_mut(sizes.y).enumerate() {
        let group = block % shape.groups;
        let col = im2col(&shape.window, &x[block * sizes.x..][..sizes.x]);
        let w = &w[group * sizes.w..][..sizes.w];
        if let Some(b) = b {
            for (row, &b) in y.chunks_exact_mut(sizes.cols).zip(&b[group * shape.group_out..]) {
                row.fill(b);
            }
        }
        // y[o, p] += Σ_r w[o, r] col[r, p]
        for o in 0..shape.group_out {
            for r in 0..sizes.rows {
                for p in 0..sizes.cols {
                    y[o * sizes.cols + p] += w[o * sizes.rows + r] * col[r * sizes.cols + p];
                }
            }
        }
    }
    y
}

/// The gradients that are wanted, from `dy` [N, O, OH, OW].
pub fn backward<T: Real>(
    shape: &Conv2dShape,
    x: &[T],
    w: &[T],
    dy: &[T],
    wants: Wants,
) -> Grads<T> {
    let sizes = Sizes::of(shape);
    let out = shape.groups * shape.group_out;
    let mut dx = Vec::with_capacity(if wants.input { x.len() } else { 0 });
    let mut dw = vec![T::zero(); w.len()];
    let mut db = vec![T::zero(); out];
    for (block, dy) in dy.chunks_exact(sizes.y).enumerate() {
        let group = block % shape.groups;
        let w = &w[group * sizes.w..][..sizes.w];
        for (o, row) in dy.chunks_exact(sizes.cols).enumerate() {
            let b = &mut db[group * shape.group_out + o];
            *b += row.iter().copied().sum();
        }
        if wants.weight {
            // dw[o, r] += Σ_p dy[o, p] col[r, p]
            let col = im2col(&shape.window, &x[block * sizes.x..][..sizes.x]);
            let dw = &mut dw[group * sizes.w..][..sizes.w];
            for (o, dy) in dy.chunks_exact(sizes.cols).enumerate() {
                for (r, col) in col.chunks_exact(sizes.cols).enumerate() {
                    let dot: T = dy.iter().zip(col).map(|(&a, &b)| a * b).sum();
                    dw[o * sizes.rows + r] += dot;
                }
            }
        }
        if wants.input {
            // dcol[r, p] = Σ_o w[o, r] dy[o, p]
            let mut dcol = vec![T::zero(); sizes.rows * sizes.cols];
            for (o, dy) in dy.chunks_exact(sizes.cols).enumerate() {
                for (r, dcol) in dcol.chunks_exact_mut(sizes.cols).enumerate() {
                    let w = w[o * sizes.rows + r];
                    dcol.iter_mut().zip(dy).for_each(|(d, &g)| *d += w * g);
                }
            }
            dx.extend(col2im(&shape.window, &dcol));
        }
    }
    Grads {
        input: wants.input.then_some(dx),
        weight: wants.weight.then_some(dw),
        bias: wants.bias.then_some(db),
    }
}

/// Lengths of one picture's part of one group.
struct Sizes {
    /// C/G·KH·KW
    rows: usize,
    /// OH·OW
    cols: usize,
    /// C/G·H·W
    x: usize,
    /// O/G·OH·OW
    y: usize,
    /// O/G·C/G·KH·KW
    w: usize,
}

impl Sizes {
    fn of(shape: &Conv2dShape) -> Self {
        let (rows, cols) = (shape.window.rows(), shape.window.cols());
        Sizes {
            rows,
            cols,
            x: shape.window.pixels(),
            y: shape.group_out * cols,
            w: shape.group_out * rows,
        }
    }
}
