//! Batch normalisation on CUDA; the kernels are in `batch_norm.cu`.

use candle_core::{DType, Result};

use super::{BatchNorm2dShape, Norm, OP, Wants};
use crate::ops::cuda::{Arg, Kernels, LANES, Launcher, Source, maps};

/// The kernels.
pub const SOURCE: Source =
    Source { name: OP, path: "batch_norm/batch_norm.cu", text: include_str!("batch_norm.cu") };

/// Mean, biased variance and 1/√(σ² + ε) of each channel of x [N, C, H, W]: [3, C].
///
/// # Errors
/// Where the kernels cannot be run.
pub fn batch_statistics<L: Launcher>(
    on: &L,
    dtype: DType,
    norm: &Norm,
    x: &L::Buffer,
) -> Result<L::Buffer> {
    let kernels = Kernels { on, source: &SOURCE, dtype };
    let channels = norm.shape.channels;
    let threads = LANES as usize * channels;
    let mut partial = kernels.alloc(threads)?;
    let (mut mean, mut statistics) = (kernels.alloc(channels)?, kernels.alloc(3 * channels)?);
    let (sizes, lanes) = (|| sizes(&norm.shape), || Arg::u32s(&[LANES]));
    let args = vec![sizes()?, lanes(), Arg::Read(x), Arg::Write(&mut partial)];
    kernels.run("batch_norm_sums", threads, args)?;
    let args = vec![sizes()?, lanes(), Arg::Read(&partial), Arg::Write(&mut mean)];
    kernels.run("batch_norm_mean", channels, args)?;
    let args = vec![sizes()?, lanes(), Arg::Read(x), Arg::Read(&mean), Arg::Write(&mut partial)];
    kernels.run("batch_norm_squares", threads, args)?;
    let args = vec![
        sizes()?,
        lanes(),
        Arg::f64(norm.eps),
        Arg::Read(&mean),
        Arg::Read(&partial),
        Arg::Write(&mut statistics),
    ];
    kernels.run("batch_norm_statistics", channels, args)?;
    Ok(statistics)
}

/// The same of a given mean and variance, \[C\] each.
///
/// # Errors
/// Where the kernels cannot be run.
pub fn given_statistics<L: Launcher>(
    on: &L,
    dtype: DType,
    norm: &Norm,
    mean: &L::Buffer,
    var: &L::Buffer,
) -> Result<L::Buffer> {
    let kernels = Kernels { on, source: &SOURCE, dtype };
    let channels = norm.shape.channels;
    let mut statistics = kernels.alloc(3 * channels)?;
    let args = vec![
        sizes(&norm.shape)?,
        Arg::f64(norm.eps),
        Arg::Read(mean),
        Arg::Read(var),
        Arg::Write(&mut statistics),
    ];
    kernels.run("batch_norm_given", channels, args)?;
    Ok(statistics)
}

/// The output, [N, C, H, W], by statistics [3, C]; `affine` is γ, then β, [2, C].
///
/// # Errors
/// Where the kernels cannot be run.
pub fn forward<L: Launcher>(
    on: &L,
    dtype: DType,
    norm: &Norm,
    x: &L::Buffer,
    affine: &L::Buffer,
    statistics: &L::Buffer,
    residual: Option<&L::Buffer>,
) -> Result<L::Buffer> {
    let kernels = Kernels { on, source: &SOURCE, dtype };
    let len = values(&norm.shape);
    let mut y = kernels.alloc(len)?;
    let args = vec![
        sizes(&norm.shape)?,
        Arg::u32s(&[u32::from(residual.is_some()), u32::from(norm.relu)]),
        Arg::Read(x),
        Arg::Read(affine),
        Arg::Read(statistics),
        Arg::Read(residual.unwrap_or(x)), // not read where there is none
        Arg::Write(&mut y),
    ];
    kernels.run("batch_norm_forward", len, args)?;
    Ok(y)
}

/// What the backward pass needs of the forward pass, and the gradient that comes back.
#[derive(Debug)]
pub struct Saved<'a, B> {
    /// The input, [N, C, H, W].
    pub x: &'a B,
    /// γ, then β, [2, C].
    pub affine: &'a B,
    /// The output, [N, C, H, W].
    pub y: &'a B,
    /// What it was normalised by, [3, C].
    pub statistics: &'a B,
    /// The output's gradient, [N, C, H, W].
    pub dy: &'a B,
}

/// The gradients that are wanted: of x, of γ and β [2, C], and of the residual behind a ReLU.
///
/// # Errors
/// Where the kernels cannot be run.
pub fn backward<L: Launcher>(
    on: &L,
    dtype: DType,
    norm: &Norm,
    saved: &Saved<'_, L::Buffer>,
    wants: Wants,
) -> Result<[Option<L::Buffer>; 3]> {
    let kernels = Kernels { on, source: &SOURCE, dtype };
    let needs_sums = wants.affine || (wants.input && norm.training);
    let daffine = needs_sums.then(|| affine_gradient(&kernels, norm, saved)).transpose()?;
    let dx = wants.input.then(|| {
        // Of given statistics it needs no sums, and reads none.
        input_gradient(&kernels, norm, saved, daffine.as_ref().unwrap_or(saved.affine))
    });
    let dresidual = wants.residual.then(|| {
        let len = values(&norm.shape);
        let mut g = kernels.alloc(len)?;
        let args = vec![Arg::Read(saved.y), Arg::Read(saved.dy), Arg::Write(&mut g)];
        kernels.run("batch_norm_relu_backward", len, args)?;
        Ok::<_, candle_core::Error>(g)
    });
    Ok([dx.transpose()?, daffine.filter(|_| wants.affine), dresidual.transpose()?])
}

/// dγ, then dβ, [2, C].
fn affine_gradient<L: Launcher>(
    kernels: &Kernels<'_, L>,
    norm: &Norm,
    saved: &Saved<'_, L::Buffer>,
) -> Result<L::Buffer> {
    let channels = norm.shape.channels;
    let threads = LANES as usize * channels;
    let (mut partial, mut daffine) = (kernels.alloc(2 * threads)?, kernels.alloc(2 * channels)?);
    let args = vec![
        sizes(&norm.shape)?,
        Arg::u32s(&[LANES]),
        Arg::u32s(&[u32::from(norm.relu)]),
        Arg::Read(saved.x),
        Arg::Read(saved.y),
        Arg::Read(saved.dy),
        Arg::Read(saved.statistics),
        Arg::Write(&mut partial),
    ];
    kernels.run("batch_norm_backward_sums", threads, args)?;
    let args = vec![
        sizes(&norm.shape)?,
        Arg::u32s(&[LANES]),
        Arg::Read(&partial),
        Arg::Write(&mut daffine),
    ];
    kernels.run("batch_norm_affine_gradient", 2 * channels, args)?;
    Ok(daffine)
}

fn input_gradient<L: Launcher>(
    kernels: &Kernels<'_, L>,
    norm: &Norm,
    saved: &Saved<'_, L::Buffer>,
    daffine: &L::Buffer,
) -> Result<L::Buffer> {
    let len = values(&norm.shape);
    let mut dx = kernels.alloc(len)?;
    let args = vec![
        sizes(&norm.shape)?,
        Arg::u32s(&[u32::from(norm.relu)]),
        Arg::u32s(&[u32::from(norm.training)]),
        Arg::Read(saved.x),
        Arg::Read(saved.y),
        Arg::Read(saved.dy),
        Arg::Read(saved.affine),
        Arg::Read(saved.statistics),
        Arg::Read(daffine),
        Arg::Write(&mut dx),
    ];
    kernels.run("batch_norm_backward", len, args)?;
    Ok(dx)
}

fn sizes<'a, B>(shape: &BatchNorm2dShape) -> crate::Result<Arg<'a, B>> {
    maps(OP, [shape.batch, shape.channels, shape.pixels])
}

/// N·C·H·W.
fn values(shape: &BatchNorm2dShape) -> usize {
    shape.count() * shape.channels
}
