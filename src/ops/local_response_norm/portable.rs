//! Local response normalisation out of candle tensor operations: shifted views of the squares,
//! added up.

use candle_core::{Result, Tensor};

use super::LrnShape;
use crate::ops::half;

pub(super) fn local_response_norm(shape: &LrnShape, x: &Tensor) -> Result<Tensor> {
    match shape.dims[1] {
        0 => Ok(x.clone()),
        channels => half::in_working(x, |x| normalised(shape, channels, x)),
    }
}

fn normalised(shape: &LrnShape, channels: usize, x: &Tensor) -> Result<Tensor> {
    let params = &shape.params;
    // Channels further away than there are any add nothing.
    let before = (params.size / 2).min(channels - 1);
    let after = ((params.size - 1) / 2).min(channels - 1);
    let squares = x.sqr()?.pad_with_zeros(1, before, after)?;
    let mut sum = squares.narrow(1, 0, channels)?;
    for offset in 1..=before + after {
        sum = (sum + squares.narrow(1, offset, channels)?)?;
    }
    let scale = sum.affine(params.alpha / params.size as f64, params.k)?;
    x / scale.powf(params.beta)?
}
