//! Local response normalisation on CUDA; the kernels are in `local_response_norm.cu`.

use candle_core::{DType, Result};

use super::{LrnShape, OP};
use crate::ops::cuda::{Arg, Kernels, Launcher, Source, maps, word};

/// The kernels.
pub const SOURCE: Source = Source {
    name: OP,
    path: "local_response_norm/local_response_norm.cu",
    text: include_str!("local_response_norm.cu"),
};

/// y, [N, C, H, W].
///
/// # Errors
/// Where the kernels cannot be run.
pub fn forward<L: Launcher>(
    on: &L,
    dtype: DType,
    shape: &LrnShape,
    x: &L::Buffer,
) -> Result<L::Buffer> {
    let kernels = Kernels { on, source: &SOURCE, dtype };
    let len = shape.dims.iter().product();
    let mut y = kernels.alloc(len)?;
    let args = vec![sizes(shape)?, response(shape)?, Arg::Read(x), Arg::Write(&mut y)];
    kernels.run("local_response_norm_forward", len, args)?;
    Ok(y)
}

/// The gradient of x, [N, C, H, W].
///
/// # Errors
/// Where the kernels cannot be run.
pub fn backward<L: Launcher>(
    on: &L,
    dtype: DType,
    shape: &LrnShape,
    x: &L::Buffer,
    dy: &L::Buffer,
) -> Result<L::Buffer> {
    let kernels = Kernels { on, source: &SOURCE, dtype };
    let len = shape.dims.iter().product();
    let (mut s, mut dx) = (kernels.alloc(len)?, kernels.alloc(len)?);
    let args = vec![sizes(shape)?, response(shape)?, Arg::Read(x), Arg::Write(&mut s)];
    kernels.run("local_response_norm_scales", len, args)?;
    let args = vec![
        sizes(shape)?,
        response(shape)?,
        Arg::Read(x),
        Arg::Read(&s),
        Arg::Read(dy),
        Arg::Write(&mut dx),
    ];
    kernels.run("local_response_norm_backward", len, args)?;
    Ok(dx)
}

fn sizes<'a, B>(shape: &LrnShape) -> crate::Result<Arg<'a, B>> {
    maps(OP, [shape.dims[0], shape.dims[1], shape.pixels()])
}

/// `struct Response`.
fn response<'a, B>(shape: &LrnShape) -> crate::Result<Arg<'a, B>> {
    let params = &shape.params;
    // Channels further away than there are any add nothing.
    let near = |channels: usize| word(OP, channels.min(shape.dims[1])).map(u64::from);
    let (before, after) = (near(params.size / 2)?, near((params.size - 1) / 2)?);
    let factor = params.alpha / params.size as f64;
    let numbers = [factor, params.beta, params.k].map(f64::to_bits);
    Ok(Arg::Words([&[before | after << 32], &numbers[..]].concat()))
}
