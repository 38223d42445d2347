//! ReLU on CUDA; the kernels are in `relu.cu`.

use candle_core::{DType, Result};

use crate::ops::cuda::{Arg, Kernels, Launcher, Source};

/// The kernels.
pub const SOURCE: Source =
    Source { name: "relu", path: "relu/relu.cu", text: include_str!("relu.cu") };

/// y of `len` values of x.
///
/// # Errors
/// Where the kernels cannot be run.
pub fn forward<L: Launcher>(on: &L, dtype: DType, len: usize, x: &L::Buffer) -> Result<L::Buffer> {
    run(on, dtype, "relu_forward", len, vec![Arg::Read(x)])
}

/// relu(a + b) of `len` values each.
///
/// # Errors
/// Where the kernels cannot be run.
pub fn add_forward<L: Launcher>(
    on: &L,
    dtype: DType,
    len: usize,
    a: &L::Buffer,
    b: &L::Buffer,
) -> Result<L::Buffer> {
    run(on, dtype, "add_relu_forward", len, vec![Arg::Read(a), Arg::Read(b)])
}

/// The input's gradient, or that of either of two that were added, from output and its gradient.
///
/// # Errors
/// Where the kernels cannot be run.
pub fn backward<L: Launcher>(
    on: &L,
    dtype: DType,
    len: usize,
    y: &L::Buffer,
    dy: &L::Buffer,
) -> Result<L::Buffer> {
    run(on, dtype, "relu_backward", len, vec![Arg::Read(y), Arg::Read(dy)])
}

fn run<L: Launcher>(
    on: &L,
    dtype: DType,
    kernel: &'static str,
    len: usize,
    from: Vec<Arg<'_, L::Buffer>>,
) -> Result<L::Buffer> {
    let kernels = Kernels { on, source: &SOURCE, dtype };
    let mut to = kernels.alloc(len)?;
    kernels.run(kernel, len, from.into_iter().chain([Arg::Write(&mut to)]).collect())?;
    Ok(to)
}
