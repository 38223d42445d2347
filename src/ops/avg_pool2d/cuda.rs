//! Average pooling on CUDA; the kernels are in `avg_pool2d.cu`.

use candle_core::{DType, Result};

use super::{AvgPool2dShape, OP};
use crate::ops::cuda::{Arg, Kernels, Launcher, Source, window, word};

/// The kernels.
pub const SOURCE: Source =
    Source { name: OP, path: "avg_pool2d/avg_pool2d.cu", text: include_str!("avg_pool2d.cu") };

/// The means, [N, C, OH, OW].
///
/// # Errors
/// Where the kernels cannot be run.
pub fn forward<L: Launcher>(
    on: &L,
    dtype: DType,
    shape: &AvgPool2dShape,
    x: &L::Buffer,
) -> Result<L::Buffer> {
    run(on, dtype, "avg_pool2d_forward", shape, x, shape.output().iter().product())
}

/// The gradient of x, [N, C, H, W].
///
/// # Errors
/// Where the kernels cannot be run.
pub fn backward<L: Launcher>(
    on: &L,
    dtype: DType,
    shape: &AvgPool2dShape,
    dy: &L::Buffer,
) -> Result<L::Buffer> {
    let len = shape.batch * shape.channels * shape.window.pixels();
    run(on, dtype, "avg_pool2d_backward", shape, dy, len)
}

fn run<L: Launcher>(
    on: &L,
    dtype: DType,
    kernel: &'static str,
    shape: &AvgPool2dShape,
    from: &L::Buffer,
    len: usize,
) -> Result<L::Buffer> {
    let kernels = Kernels { on, source: &SOURCE, dtype };
    let mut to = kernels.alloc(len)?;
    let instead = word(OP, shape.divisor_override.unwrap_or(0))?;
    let divisor = Arg::u32s(&[u32::from(shape.count_include_pad), instead]);
    let window = window(OP, &shape.window)?;
    kernels.run(kernel, len, vec![window, divisor, Arg::Read(from), Arg::Write(&mut to)])?;
    Ok(to)
}
