//! Dropout on CUDA; the kernel is in `dropout.cu`.

use candle_core::{DType, Result};

use super::{Mask, OP};
use crate::ops::cuda::{Arg, Kernels, Launcher, Source};

/// The kernel.
pub const SOURCE: Source =
    Source { name: OP, path: "dropout/dropout.cu", text: include_str!("dropout.cu") };

/// The mask times `len` values: of the input, or of the output's gradient.
///
/// # Errors
/// Where the kernel cannot be run.
pub fn apply<L: Launcher>(
    on: &L,
    dtype: DType,
    len: usize,
    mask: &Mask,
    x: &L::Buffer,
) -> Result<L::Buffer> {
    let kernels = Kernels { on, source: &SOURCE, dtype };
    let mut y = kernels.alloc(len)?;
    let words = vec![mask.seed, mask.threshold, mask.scale.to_bits()];
    kernels.run("dropout", len, vec![Arg::Words(words), Arg::Read(x), Arg::Write(&mut y)])?;
    Ok(y)
}
