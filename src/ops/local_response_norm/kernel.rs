//! Local response normalisation as the CPU runs it: pictures spread over threads, blocks of pixels
//! that stay in the cache, every step along a row of pixels.
//!
//! Each window's squares are added anew. A running sum would add and subtract fewer, but what it
//! leaves behind of a large value that has left the window is noise, and of an infinite one NaN.

use rayon::prelude::*;

use super::LrnShape;
use crate::ops::Real;

/// Pixels of a block.
const BLOCK: usize = 128;

/// y, [N, C, H, W].
///
/// # Panics
/// If `x` is shorter than `shape` says.
pub fn forward<T: Real>(shape: &LrnShape, x: &[T]) -> Vec<T> {
    let mut y = vec![T::zero(); x.len()];
    let picture = shape.dims[1] * shape.pixels();
    if picture == 0 {
        return y;
    }
    let power = Power::of(shape.params.beta);
    y.par_chunks_exact_mut(picture).zip(x.par_chunks_exact(picture)).for_each(|(y, x)| {
        let mut s = [T::zero(); BLOCK];
        for block in blocks(shape) {
            for c in 0..shape.dims[1] {
                let here = block.of(c);
                let s = &mut s[..block.len];
                block.scale(shape, c, x, s);
                power.invert(s);
                let row = y[here.clone()].iter_mut().zip(&x[here]).zip(s);
                row.for_each(|((y, &x), &mut s)| *y = x * s);
            }
        }
    });
    y
}

/// The gradient of x, from `dy`; both [N, C, H, W].
///
/// # Panics
/// If a slice is shorter than `shape` says.
pub fn backward<T: Real>(shape: &LrnShape, x: &[T], dy: &[T]) -> Vec<T> {
    let mut dx = vec![T::zero(); x.len()];
    let picture = shape.dims[1] * shape.pixels();
    if picture == 0 {
        return dx;
    }
    dx.par_chunks_exact_mut(picture)
        .zip(x.par_chunks_exact(picture))
        .zip(dy.par_chunks_exact(picture))
        .for_each_init(
            || vec![T::zero(); shape.dims[1] * BLOCK],
            |terms, ((dx, x), dy)| {
                blocks(shape).for_each(|block| block_gradient(shape, &block, terms, x, dy, dx));
            },
        );
    dx
}

/// The gradient of one block. `terms` is room for `dy · x · s^(-β-1)`, [C, BLOCK].
fn block_gradient<T: Real>(
    shape: &LrnShape,
    block: &Block,
    terms: &mut [T],
    x: &[T],
    dy: &[T],
    dx: &mut [T],
) {
    let power = Power::of(shape.params.beta);
    let (mut scale, mut inverse) = ([T::zero(); BLOCK], [T::zero(); BLOCK]);
    let (s, inverse) = (&mut scale[..block.len], &mut inverse[..block.len]);
    for (c, terms) in terms.chunks_exact_mut(BLOCK).enumerate() {
        let here = block.of(c);
        block.scale(shape, c, x, s);
        inverse.copy_from_slice(s);
        power.invert(inverse);
        let inputs = x[here.clone()].iter().zip(&dy[here.clone()]).zip(s.iter().zip(&*inverse));
        let outputs = dx[here].iter_mut().zip(terms);
        for ((dx, term), ((&x, &dy), (&s, &inverse))) in outputs.zip(inputs) {
            *dx = dy * inverse;
            *term = *dx * x / s;
        }
    }
    let factor = T::of(2.0 * shape.params.alpha * shape.params.beta / shape.params.size as f64);
    for c in 0..shape.dims[1] {
        let sum = &mut *s;
        sum.fill(T::zero());
        for terms in shape.adjoint_window(c).map(|j| &terms[j * BLOCK..][..block.len]) {
            sum.iter_mut().zip(terms).for_each(|(sum, &term)| *sum += term);
        }
        let here = block.of(c);
        let row = dx[here.clone()].iter_mut().zip(&x[here]).zip(sum);
        row.for_each(|((dx, &x), &mut sum)| *dx -= factor * x * sum);
    }
}

/// Some pixels next to each other, in all channels of a picture.
struct Block {
    start: usize,
    len: usize,
    /// H·W
    pixels: usize,
}

fn blocks(shape: &LrnShape) -> impl Iterator<Item = Block> {
    let pixels = shape.pixels();
    let starts = (0..pixels).step_by(BLOCK);
    starts.map(move |start| Block { start, len: BLOCK.min(pixels - start), pixels })
}

impl Block {
    /// Where a channel's pixels of this block are.
    fn of(&self, c: usize) -> std::ops::Range<usize> {
        let start = c * self.pixels + self.start;
        start..start + self.len
    }

    /// `s[c] = k + α/size · Σ x²` of each pixel.
    fn scale<T: Real>(&self, shape: &LrnShape, c: usize, x: &[T], s: &mut [T]) {
        s.fill(T::zero());
        for j in shape.window(c) {
            s.iter_mut().zip(&x[self.of(j)]).for_each(|(s, &x)| *s += x * x);
        }
        let (k, factor) =
            (T::of(shape.params.k), T::of(shape.params.alpha / shape.params.size as f64));
        s.iter_mut().for_each(|s| *s = k + factor * *s);
    }
}

/// `s^-β`, by roots where those do.
enum Power {
    Half,
    ThreeQuarters,
    One,
    Any(f64),
}

impl Power {
    fn of(beta: f64) -> Self {
        match beta {
            0.5 => Power::Half,
            0.75 => Power::ThreeQuarters,
            1.0 => Power::One,
            beta => Power::Any(beta),
        }
    }

    /// Turns each s into s^-β.
    fn invert<T: Real>(&self, values: &mut [T]) {
        match *self {
            Power::Half => values.iter_mut().for_each(|s| *s = s.sqrt().recip()),
            Power::ThreeQuarters => values.iter_mut().for_each(|s| {
                let root = s.sqrt();
                *s = (root * root.sqrt()).recip();
            }),
            Power::One => values.iter_mut().for_each(|s| *s = s.recip()),
            Power::Any(beta) => {
                let exponent = T::of(-beta);
                values.iter_mut().for_each(|s| *s = s.powf(exponent));
            }
        }
    }
}
