//! Local response normalisation as its equations say it, pixel by pixel.
//!
//! ```text
//! forward    s[c]  = k + α/size · Σ over j in window(c) of x[j]²
//!            y[c]  = x[c] · s[c]^-β
//! backward   dx[c] = dy[c] · s[c]^-β
//!                    - 2αβ/size · x[c] · Σ over j with c in window(j) of dy[j] · x[j] · s[j]^(-β-1)
//! ```

use super::LrnShape;
use crate::ops::Real;

/// y, [N, C, H, W].
pub fn forward<T: Real>(shape: &LrnShape, x: &[T]) -> Vec<T> {
    let s = scales(shape, x);
    let beta = T::of(shape.params.beta);
    x.iter().zip(s).map(|(&x, s)| x / s.powf(beta)).collect()
}

/// The gradient of x, from `dy`; both [N, C, H, W].
pub fn backward<T: Real>(shape: &LrnShape, x: &[T], dy: &[T]) -> Vec<T> {
    let s = scales(shape, x);
    let beta = shape.params.beta;
    let factor = T::of(2.0 * shape.params.alpha * beta / shape.params.size as f64);
    let mut dx = vec![T::zero(); x.len()];
    for_each_pixel(shape, |c, at| {
        let here = at(c);
        let sum: T = shape
            .adjoint_window(c)
            .map(|j| dy[at(j)] * x[at(j)] / s[at(j)].powf(T::of(beta + 1.0)))
            .sum();
        dx[here] = dy[here] / s[here].powf(T::of(beta)) - factor * x[here] * sum;
    });
    dx
}

/// s, [N, C, H, W].
fn scales<T: Real>(shape: &LrnShape, x: &[T]) -> Vec<T> {
    let (k, alpha) = (T::of(shape.params.k), T::of(shape.params.alpha));
    let size = T::of(shape.params.size as f64);
    let mut s = vec![T::zero(); x.len()];
    for_each_pixel(shape, |c, at| {
        let sum: T = shape.window(c).map(|j| x[at(j)] * x[at(j)]).sum();
        s[at(c)] = k + alpha / size * sum;
    });
    s
}

/// Calls `visit(c, at)` for every channel of every pixel, where `at(j)` is the position of channel j
/// of that pixel.
fn for_each_pixel(shape: &LrnShape, mut visit: impl FnMut(usize, &dyn Fn(usize) -> usize)) {
    let (channels, pixels) = (shape.dims[1], shape.pixels());
    for n in 0..shape.dims[0] {
        for pixel in 0..pixels {
            let at = |c: usize| (n * channels + c) * pixels + pixel;
            for c in 0..channels {
                visit(c, &at);
            }
        }
    }
}
