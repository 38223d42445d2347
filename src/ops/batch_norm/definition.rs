//! Batch normalisation as its equations say it.
//!
//! Per channel, over its M = N·H·W values, with σ' = √(σ² + ε) and x̂ = (x − μ) / σ':
//!
//! ```text
//! forward    μ = Σ x / M,  σ² = Σ (x − μ)² / M,  y = relu?(γ·x̂ + β + residual?)
//! backward   g = dy where y > 0, else 0 (without ReLU: g = dy)
//!            dβ = Σ g,  dγ = Σ g·x̂,  dresidual = g
//!            dx = γ/σ' · (g − dβ/M − x̂·dγ/M)      the batch's own statistics
//!            dx = γ/σ' · g                         given statistics
//! ```

use super::{BatchNorm2dShape, Grads, Norm, Saved, Statistics, Wants};
use crate::ops::Real;

/// Mean and biased variance of each channel of `x` [N, C, H, W].
pub fn statistics<T: Real>(shape: &BatchNorm2dShape, x: &[T]) -> Statistics {
    let count = shape.count() as f64;
    let channel = |c| (0..shape.batch).flat_map(move |n| shape.plane(x, n, c));
    let mean = |c| channel(c).map(|x| x.f64()).sum::<f64>() / count;
    let var = |(c, mean)| channel(c).map(|x| (x.f64() - mean) * (x.f64() - mean)).sum::<f64>();
    let mean: Vec<f64> = (0..shape.channels).map(mean).collect();
    let var = mean.iter().copied().enumerate().map(|c_mean| var(c_mean) / count).collect();
    Statistics { mean, var }
}

/// The output [N, C, H, W] and the statistics that it was normalised with: those given, or the
/// batch's own.
pub fn forward<T: Real>(
    norm: &Norm,
    x: &[T],
    affine: &[T],
    residual: Option<&[T]>,
    given: Option<&Statistics>,
) -> (Vec<T>, Statistics) {
    let statistics = given.cloned().unwrap_or_else(|| statistics(&norm.shape, x));
    let mut y = Vec::with_capacity(x.len());
    for (i, &x) in x.iter().enumerate() {
        let c = i / norm.shape.pixels % norm.shape.channels;
        let (gamma, beta) = (affine[c], affine[norm.shape.channels + c]);
        let mut value = gamma * normalised(norm, &statistics, c, x) + beta;
        if let Some(residual) = residual {
            value += residual[i];
        }
        let cut = norm.relu && value < T::zero(); // false for NaN, which passes
        y.push(if cut { T::zero() } else { value });
    }
    (y, statistics)
}

/// The gradients that are wanted, from `dy` [N, C, H, W].
pub fn backward<T: Real>(norm: &Norm, saved: Saved<'_, T>, dy: &[T], wants: Wants) -> Grads<T> {
    let Saved { x, affine, y, statistics } = saved;
    let (channels, pixels) = (norm.shape.channels, norm.shape.pixels);
    let channel_of = |i: usize| i / pixels % channels;
    let x_hat = |i: usize| normalised(norm, statistics, channel_of(i), x[i]);
    let cut = |y: T| norm.relu && y <= T::zero();
    let g: Vec<T> = dy.iter().zip(y).map(|(&dy, &y)| if cut(y) { T::zero() } else { dy }).collect();

    let mut daffine = vec![T::zero(); 2 * channels]; // dγ, then dβ
    for (i, &g) in g.iter().enumerate() {
        let c = channel_of(i);
        daffine[c] += g * x_hat(i);
        daffine[channels + c] += g;
    }
    let through_statistics = |i: usize| {
        let (c, count) = (channel_of(i), T::of(norm.shape.count() as f64));
        (daffine[channels + c] + x_hat(i) * daffine[c]) / count
    };
    let dx = |(i, &g): (usize, &T)| {
        let c = channel_of(i);
        let scale = affine[c] / deviation(norm, statistics, c);
        scale * (if norm.training { g - through_statistics(i) } else { g })
    };
    Grads {
        input: wants.input.then(|| g.iter().enumerate().map(dx).collect()),
        affine: wants.affine.then(|| daffine.clone()),
        residual: wants.residual.then(|| g.clone()),
    }
}

/// x̂, the normalised value of channel `c`.
fn normalised<T: Real>(norm: &Norm, statistics: &Statistics, c: usize, x: T) -> T {
    (x - T::of(statistics.mean[c])) / deviation(norm, statistics, c)
}

/// σ', the root of variance and ε.
fn deviation<T: Real>(norm: &Norm, statistics: &Statistics, c: usize) -> T {
    T::of((statistics.var[c] + norm.eps).sqrt())
}
