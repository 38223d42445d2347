//! Adaptive average pooling on CUDA; the kernels are in `adaptive_avg_pool2d.cu`.

use candle_core::{DType, Result};

use super::{AdaptiveAvgPool2dShape, OP};
use crate::ops::cuda::{Arg, Kernels, Launcher, Source, word};

/// The kernels.
pub const SOURCE: Source = Source {
    name: OP,
    path: "adaptive_avg_pool2d/adaptive_avg_pool2d.cu",
    text: include_str!("adaptive_avg_pool2d.cu"),
};

/// The means, [N, C, OH, OW].
///
/// # Errors
/// Where the kernels cannot be run.
pub fn forward<L: Launcher>(
    on: &L,
    dtype: DType,
    shape: &AdaptiveAvgPool2dShape,
    x: &L::Buffer,
) -> Result<L::Buffer> {
    run(on, dtype, "adaptive_avg_pool2d_forward", shape, x, shape.output().iter().product())
}

/// The gradient of x, [N, C, H, W].
///
/// # Errors
/// Where the kernels cannot be run.
pub fn backward<L: Launcher>(
    on: &L,
    dtype: DType,
    shape: &AdaptiveAvgPool2dShape,
    dy: &L::Buffer,
) -> Result<L::Buffer> {
    let len = shape.batch * shape.channels * shape.input.0 * shape.input.1;
    run(on, dtype, "adaptive_avg_pool2d_backward", shape, dy, len)
}

fn run<L: Launcher>(
    on: &L,
    dtype: DType,
    kernel: &'static str,
    shape: &AdaptiveAvgPool2dShape,
    from: &L::Buffer,
    len: usize,
) -> Result<L::Buffer> {
    let kernels = Kernels { on, source: &SOURCE, dtype };
    let mut to = kernels.alloc(len)?;
    let ((h, w), (oh, ow)) = (shape.input, shape.output);
    let sizes = Arg::u32s(&[word(OP, h)?, word(OP, w)?, word(OP, oh)?, word(OP, ow)?]);
    kernels.run(kernel, len, vec![sizes, Arg::Read(from), Arg::Write(&mut to)])?;
    Ok(to)
}
