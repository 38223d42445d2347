//! Batch normalisation out of candle tensor operations; their gradients are right.
//!
//! Half-precision tensors are worked on as f32, for a sum of many thousand halves means nothing.

use candle_core::{Result, Tensor};

use super::{Args, Norm};
use crate::ops::half::working;
use crate::ops::relu;

/// The output, and mean and biased variance \[C\] of the batch.
pub(super) fn training(norm: &Norm, args: &Args) -> Result<(Tensor, Tensor, Tensor)> {
    let x = args.x.to_dtype(working(args.x.dtype()))?;
    let count = norm.shape.count() as f64;
    let mean = (x.sum_keepdim((0, 2, 3))? / count)?;
    let centred = x.broadcast_sub(&mean)?;
    let var = (centred.sqr()?.sum_keepdim((0, 2, 3))? / count)?;
    let y = affine(norm, args, &centred, &var)?;
    Ok((y, mean.flatten_all()?, var.flatten_all()?))
}

/// The output by given statistics.
pub(super) fn evaluation(norm: &Norm, args: &Args, mean: &Tensor, var: &Tensor) -> Result<Tensor> {
    let x = args.x.to_dtype(working(args.x.dtype()))?;
    let across = |t: &Tensor| t.to_dtype(x.dtype())?.reshape((1, norm.shape.channels, 1, 1));
    affine(norm, args, &x.broadcast_sub(&across(mean)?)?, &across(var)?)
}

/// `relu?(γ·centred / √(var + ε) + β + residual?)`, in the type of `args.x`.
fn affine(norm: &Norm, args: &Args, centred: &Tensor, var: &Tensor) -> Result<Tensor> {
    let dtype = centred.dtype();
    let across = |t: Tensor| t.to_dtype(dtype)?.reshape((1, norm.shape.channels, 1, 1));
    let (gamma, beta) = (args.channels(args.weight, 1.0)?, args.channels(args.bias, 0.0)?);
    let scale = across(gamma)?.div(&(var + norm.eps)?.sqrt()?)?;
    let mut y = centred.broadcast_mul(&scale)?.broadcast_add(&across(beta)?)?;
    if let Some(residual) = args.residual {
        y = (y + residual.to_dtype(dtype)?)?;
    }
    if norm.relu {
        y = relu::portable(&y)?;
    }
    y.to_dtype(args.x.dtype())
}
