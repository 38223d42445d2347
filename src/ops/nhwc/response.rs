//! Local response normalisation of channels-last maps, a pixel at a time.

use super::conv::Maps;
use super::pixels::MapsMut;
use crate::ops::local_response_norm::LrnShape;

/// `y[c] = x[c] · s[c]^-β`, `s[c] = k + α/size · Σ over the window of x[j]²`
pub(crate) fn normalise(shape: &LrnShape, x: Maps<'_>, pixels: usize, mut y: MapsMut<'_>) {
    let channels = shape.dims[1];
    y.each(pixels, channels, |p, y| {
        let x = x.pixel(p, channels);
        let s = scales(shape, x);
        for ((y, &x), &s) in y.iter_mut().zip(x).zip(&s) {
            *y = x * power(s, shape.params.beta);
        }
    });
}

/// `dx[c] = dy[c]·s[c]^-β - 2αβ/size · x[c] · Σ over windows that see c of dy[j]·x[j]·s[j]^(-β-1)`
pub(crate) fn gradient(
    shape: &LrnShape,
    x: Maps<'_>,
    dy: Maps<'_>,
    pixels: usize,
    mut dx: MapsMut<'_>,
    add: bool,
) {
    let (channels, params) = (shape.dims[1], shape.params);
    let factor = (2.0 * params.alpha * params.beta / params.size as f64) as f32;
    dx.each(pixels, channels, |p, dx| {
        let (x, dy) = (x.pixel(p, channels), dy.pixel(p, channels));
        let s = scales(shape, x);
        let powers: Vec<f32> = s.iter().map(|&s| power(s, params.beta)).collect();
        let terms: Vec<f32> = (0..channels).map(|c| dy[c] * x[c] * powers[c] / s[c]).collect();
        for c in 0..channels {
            let sum: f32 = terms[shape.adjoint_window(c)].iter().sum();
            let value = dy[c] * powers[c] - factor * x[c] * sum;
            dx[c] = if add { dx[c] + value } else { value };
        }
    });
}

fn scales(shape: &LrnShape, x: &[f32]) -> Vec<f32> {
    let (k, share) =
        (shape.params.k as f32, (shape.params.alpha / shape.params.size as f64) as f32);
    let squares: Vec<f32> = x.iter().map(|x| x * x).collect();
    (0..x.len()).map(|c| k + share * squares[shape.window(c)].iter().sum::<f32>()).collect()
}

/// s^-β; AlexNet's and GoogLeNet's β of 0.75 takes two square roots.
fn power(s: f32, beta: f64) -> f32 {
    if beta == 0.75 { 1.0 / (s.sqrt() * s.sqrt().sqrt()) } else { s.powf(-beta as f32) }
}
