//! Max pooling on CUDA; the kernels are in `max_pool2d.cu`.

use candle_core::{DType, Result};

use super::{MaxPool2dShape, OP};
use crate::ops::cuda::{Arg, Kernels, Launcher, Source, window};

/// The kernels.
pub const SOURCE: Source =
    Source { name: OP, path: "max_pool2d/max_pool2d.cu", text: include_str!("max_pool2d.cu") };

/// The maxima, and the pixels of the H×W plane where they stood, u32; both [N, C, OH, OW].
///
/// # Errors
/// Where the kernels cannot be run.
pub fn forward<L: Launcher>(
    on: &L,
    dtype: DType,
    shape: &MaxPool2dShape,
    x: &L::Buffer,
) -> Result<(L::Buffer, L::Buffer)> {
    let kernels = Kernels { on, source: &SOURCE, dtype };
    let len = shape.output().iter().product();
    let (mut y, mut indices) = (kernels.alloc(len)?, on.alloc(DType::U32, len)?);
    let args = vec![
        window(OP, &shape.window)?,
        Arg::Read(x),
        Arg::Write(&mut y),
        Arg::Write(&mut indices),
    ];
    kernels.run("max_pool2d_forward", len, args)?;
    Ok((y, indices))
}

/// The gradient of x, [N, C, H, W].
///
/// # Errors
/// Where the kernels cannot be run.
pub fn backward<L: Launcher>(
    on: &L,
    dtype: DType,
    shape: &MaxPool2dShape,
    indices: &L::Buffer,
    dy: &L::Buffer,
) -> Result<L::Buffer> {
    let kernels = Kernels { on, source: &SOURCE, dtype };
    let len = shape.planes() * shape.window.pixels();
    let mut dx = kernels.alloc(len)?;
    let args =
        vec![window(OP, &shape.window)?, Arg::Read(indices), Arg::Read(dy), Arg::Write(&mut dx)];
    kernels.run("max_pool2d_backward", len, args)?;
    Ok(dx)
}
