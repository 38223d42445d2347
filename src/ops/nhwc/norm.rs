//! Batch normalisation of channels-last maps, with what surrounds it in one pass over memory each way:
//!
//! ```text
//! forward    y  = relu?((x - μ)·scale + β + residual?),   scale = γ / √(σ² + ε)
//! backward   g  = dy where y > 0;  dβ = Σ g;  dγ = Σ g·x̂;  x̂ = (x - μ) / √(σ² + ε)
//!            dx = scale·(g - dβ/M - x̂·dγ/M)               M values in each channel
//! ```

use rayon::prelude::*;

use super::conv::Maps;
use super::lanes::{Isa, for_each_isa};
use super::pixels::MapsMut;

/// Pixels whose statistics are taken in f32 before they enter those of the whole batch, in f64.
const PART: usize = 256;

/// Mean and biased variance of each channel.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moments {
    /// μ, [wide].
    pub mean: Vec<f64>,
    /// σ², [wide].
    pub var: Vec<f64>,
}

/// The moments of each of `wide` channels over all pixels; parts are joined in order by the formula of
/// Chan, Golub and LeVeque ("Updating Formulae and a Pairwise Algorithm for Computing Sample
/// Variances", 1979).
pub(crate) fn moments(x: Maps<'_>, wide: usize, pixels: usize) -> Moments {
    let isa = Isa::best();
    let parts: Vec<(usize, Vec<f32>)> = (0..pixels.div_ceil(PART))
        .into_par_iter()
        .map(|part| {
            let count = PART.min(pixels - part * PART);
            let mut sums = vec![0.0; 2 * wide];
            let x = Maps { data: &x.data[part * PART * x.step..], ..x };
            // SAFETY: the slices have the lengths that it asks for.
            unsafe { shifted_sums(isa, x, wide, count, &mut sums) };
            (count, sums)
        })
        .collect();
    let mut all = Moments { mean: vec![0.0; wide], var: vec![0.0; wide] };
    let mut seen = 0.0;
    for (part, (count, sums)) in parts.iter().enumerate() {
        let count = *count as f64;
        let shift = x.pixel(part * PART, wide);
        for c in 0..wide {
            let (sum, square) = (f64::from(sums[c]), f64::from(sums[wide + c]));
            let mean = f64::from(shift[c]) + sum / count;
            let delta = mean - all.mean[c];
            all.var[c] +=
                square - sum * sum / count + delta * delta * seen * count / (seen + count);
            all.mean[c] += delta * count / (seen + count);
        }
        seen += count;
    }
    all.var.iter_mut().for_each(|var| *var = (*var / seen).max(0.0));
    all
}

for_each_isa! {
    /// Sums of x - k and (x - k)², k being the first pixel: near the mean, so that nothing cancels.
    unsafe fn shifted_sums<V>(x: Maps<'_>, wide: usize, pixels: usize, sums: &mut [f32]) {
        let shift = x.pixel(0, wide);
        let (sum, square) = sums.split_at_mut(wide);
        let square = &mut square[..wide];
        for p in 1..pixels {
            let x = x.pixel(p, wide);
            for c in 0..wide {
                let d = x[c] - shift[c];
                sum[c] += d;
                square[c] += d * d;
            }
        }
    }
}

/// What the passes need of each channel, in f32.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scales {
    /// μ.
    pub mean: Vec<f32>,
    /// 1 / √(σ² + ε).
    pub inverse: Vec<f32>,
    /// γ / √(σ² + ε).
    pub scale: Vec<f32>,
    /// β.
    pub shift: Vec<f32>,
}

impl Scales {
    /// Those of a norm with weight γ and bias β; channels beyond them give 0.
    pub(crate) fn new(moments: &Moments, weight: &[f32], bias: &[f32], eps: f64) -> Self {
        let of = |values: &[f32], c: usize| values.get(c).copied().unwrap_or(0.0);
        let wide = moments.mean.len();
        let inverse: Vec<f32> =
            moments.var.iter().map(|var| (1.0 / (var + eps).sqrt()) as f32).collect();
        Scales {
            mean: moments.mean.iter().map(|&mean| mean as f32).collect(),
            scale: (0..wide).map(|c| of(weight, c) * inverse[c]).collect(),
            shift: (0..wide).map(|c| of(bias, c)).collect(),
            inverse,
        }
    }
}

/// `y = relu?((x - μ)·scale + β + residual?)`
pub(crate) fn normalise(
    x: Maps<'_>,
    s: &Scales,
    residual: Option<Maps<'_>>,
    relu: bool,
    pixels: usize,
    mut y: MapsMut<'_>,
) {
    let (isa, wide, step) = (Isa::best(), s.mean.len(), y.step);
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    y.tasks(pixels, |first, count, y| {
        for i in 0..count {
            let (x, y) = (x.pixel(first + i, wide), &mut y[i * step..][..wide]);
            let residual = residual.map(|r| r.pixel(first + i, wide));
            // SAFETY: all slices have `wide` values.
            unsafe { normalise_pixel(isa, x, s, residual, floor, y) };
        }
    });
}

for_each_isa! {
    unsafe fn normalise_pixel<V>(x: &[f32], s: &Scales, residual: Option<&[f32]>, floor: f32, y: &mut [f32]) {
        let wide = y.len();
        let (x, mean, scale, shift) =
            (&x[..wide], &s.mean[..wide], &s.scale[..wide], &s.shift[..wide]);
        // `if v > floor` and not `max`, so that a NaN stays one.
        match residual {
            Some(residual) => {
                let residual = &residual[..wide];
                for c in 0..wide {
                    let v = (x[c] - mean[c]) * scale[c] + shift[c] + residual[c];
                    y[c] = if v < floor { floor } else { v };
                }
            }
            None => {
                for c in 0..wide {
                    let v = (x[c] - mean[c]) * scale[c] + shift[c];
                    y[c] = if v < floor { floor } else { v };
                }
            }
        }
    }
}

/// Zeroes `dy` where `y` (if there was a ReLU) is not above 0, and gives the sums of what remains, g,
/// and of g·(x - μ), [2, wide].
pub(crate) fn reduce(
    x: Maps<'_>,
    y: Option<Maps<'_>>,
    s: &Scales,
    pixels: usize,
    dy: &mut MapsMut<'_>,
) -> Vec<f64> {
    let (isa, wide, step) = (Isa::best(), s.mean.len(), dy.step);
    let parts: Vec<Vec<f32>> = dy
        .data
        .par_chunks_mut(PART * step)
        .take(pixels.div_ceil(PART))
        .enumerate()
        .map(|(part, dy)| {
            let mut sums = vec![0.0; 2 * wide];
            for i in 0..PART.min(pixels - part * PART) {
                let p = part * PART + i;
                let y = y.map(|y| y.pixel(p, wide));
                let dy = &mut dy[i * step..][..wide];
                // SAFETY: all slices have `wide` values, the sums twice as many.
                unsafe { reduce_pixel(isa, x.pixel(p, wide), y, &s.mean, dy, &mut sums) };
            }
            sums
        })
        .collect();
    (0..2 * wide).map(|c| parts.iter().map(|part| f64::from(part[c])).sum()).collect()
}

for_each_isa! {
    unsafe fn reduce_pixel<V>(x: &[f32], y: Option<&[f32]>, mean: &[f32], dy: &mut [f32], sums: &mut [f32]) {
        let wide = dy.len();
        let (sum, product) = sums.split_at_mut(wide);
        let (x, mean, product) = (&x[..wide], &mean[..wide], &mut product[..wide]);
        if let Some(y) = y {
            let y = &y[..wide];
            for c in 0..wide {
                dy[c] = if y[c] > 0.0 { dy[c] } else { 0.0 };
            }
        }
        for c in 0..wide {
            sum[c] += dy[c];
            product[c] += dy[c] * (x[c] - mean[c]);
        }
    }
}

/// `dx = scale·(g - Σg/M - x̂·Σ(g·x̂)/M)` or, with the statistics held fixed, `scale·g`; added where
/// `add`. `sums` are those of [`reduce`].
#[allow(clippy::too_many_arguments)] // the letters of the formula
pub(crate) fn gradient(
    x: Maps<'_>,
    g: Maps<'_>,
    s: &Scales,
    sums: &[f64],
    fixed: bool,
    pixels: usize,
    mut dx: MapsMut<'_>,
    add: bool,
) {
    let (isa, wide, step) = (Isa::best(), s.mean.len(), dx.step);
    let count = pixels as f64;
    let of = |f: &dyn Fn(usize) -> f64| -> Vec<f32> {
        (0..wide).map(|c| if fixed { 0.0 } else { f(c) as f32 }).collect()
    };
    // dx = scale·g - a - (x - μ)·b
    let a = of(&|c| f64::from(s.scale[c]) * sums[c] / count);
    let b = of(&|c| {
        let inverse = f64::from(s.inverse[c]);
        f64::from(s.scale[c]) * inverse * inverse * sums[wide + c] / count
    });
    dx.tasks(pixels, |first, count, dx| {
        for i in 0..count {
            let (x, g) = (x.pixel(first + i, wide), g.pixel(first + i, wide));
            let dx = &mut dx[i * step..][..wide];
            // SAFETY: all slices have `wide` values.
            unsafe { gradient_pixel(isa, x, g, s, &a, &b, dx, add) };
        }
    });
}

for_each_isa! {
    unsafe fn gradient_pixel<V>(x: &[f32], g: &[f32], s: &Scales, a: &[f32], b: &[f32], dx: &mut [f32], add: bool) {
        let wide = dx.len();
        let (x, g, a, b) = (&x[..wide], &g[..wide], &a[..wide], &b[..wide]);
        let (mean, scale) = (&s.mean[..wide], &s.scale[..wide]);
        match add {
            true => {
                for c in 0..wide {
                    dx[c] += scale[c] * g[c] - a[c] - (x[c] - mean[c]) * b[c];
                }
            }
            false => {
                for c in 0..wide {
                    dx[c] = scale[c] * g[c] - a[c] - (x[c] - mean[c]) * b[c];
                }
            }
        }
    }
}
