//! What the ops run on CUDA: their kernels, one `.cu` file in the folder of each op, and what
//! launches them.
//!
//! The host side (which kernels, in what order, on how many threads, with which arguments) is
//! written over a [`Launcher`]. A GPU is one, with the feature `cuda`. The tests have another: the
//! same `.cu` files compiled as C++ for the CPU. So all but the GPU itself is tested without one.
//!
//! The sources are compiled when they are first needed, by NVRTC, for the GPU at hand: no kernel is
//! built with the crate, and none can be too new for the GPU. Every kernel computes one value a
//! thread and makes its sums in one order, so the same inputs give the same bits.

#[cfg(feature = "cuda")]
pub(crate) mod gpu;

use candle_core::{DType, Result};

use super::pooling::Side;
use super::{Im2col, adaptive_avg_pool2d, avg_pool2d, batch_norm, conv2d};
use super::{dropout, local_response_norm, max_pool2d, relu};
use crate::Error;

/// The text that stands before every kernel's.
pub const HEADER: &str = include_str!("common.cuh");

/// All files of kernels.
pub const SOURCES: [&Source; 8] = [
    &conv2d::cuda::SOURCE,
    &max_pool2d::cuda::SOURCE,
    &avg_pool2d::cuda::SOURCE,
    &adaptive_avg_pool2d::cuda::SOURCE,
    &batch_norm::cuda::SOURCE,
    &local_response_norm::cuda::SOURCE,
    &relu::cuda::SOURCE,
    &dropout::cuda::SOURCE,
];

/// A file of kernels.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// The op's name.
    pub name: &'static str,
    /// The file in the package, from `src/ops/` on.
    pub path: &'static str,
    /// Its text, which [`HEADER`] goes before.
    pub text: &'static str,
}

impl Source {
    /// The kernels in it, in order.
    pub fn kernels(&self) -> impl Iterator<Item = &'static str> {
        let text: &'static str = self.text;
        text.lines().filter_map(|line| line.strip_prefix("KERNEL ")?.split('(').next())
    }
}

/// A kernel, and the type that it is compiled for.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// The file that it is in.
    pub source: &'static Source,
    /// Its name.
    pub name: &'static str,
    /// f32 or f64.
    pub dtype: DType,
}

/// Something that runs kernels.
///
/// Calls are made in order: a launch sees what the launches before it have written.
pub trait Launcher {
    /// Its memory: values of one type.
    type Buffer;

    /// Memory for `len` values, with nothing defined in it.
    ///
    /// # Errors
    /// Where there is not so much.
    fn alloc(&self, dtype: DType, len: usize) -> Result<Self::Buffer>;

    /// Runs `threads` threads, at least one, of a kernel. It gets their number as an u64, then
    /// `args`.
    ///
    /// # Errors
    /// Where it cannot be compiled or run.
    fn launch(
        &self,
        kernel: Kernel,
        threads: usize,
        args: &mut [Arg<'_, Self::Buffer>],
    ) -> Result<()>;

    /// `c[i] = a[i] · b[i]` for each i of a batch.
    ///
    /// # Errors
    /// Where it cannot be run.
    fn matmul(&self, a: &Self::Buffer, b: &Self::Buffer, sizes: Product) -> Result<Self::Buffer>;
}

/// An argument of a kernel.
#[derive(Debug)]
pub enum Arg<'a, B> {
    /// Values to read.
    Read(&'a B),
    /// Values to write; those that are not written stay as they are.
    Write(&'a mut B),
    /// A number, or a struct of numbers, as it lies in little-endian memory.
    Words(Vec<u64>),
}

impl<B> Arg<'_, B> {
    /// A `u32`, or a struct of them.
    pub fn u32s(values: &[u32]) -> Self {
        let word = |pair: &[u32]| {
            let high = pair.get(1).copied().unwrap_or(0);
            u64::from(pair[0]) | u64::from(high) << 32
        };
        Arg::Words(values.chunks(2).map(word).collect())
    }

    /// A `double`.
    pub fn f64(value: f64) -> Self {
        Arg::Words(vec![value.to_bits()])
    }
}

/// The sizes of a batch of products: a [batch, m, k] times b [batch, k, n] is [batch, m, n], all
/// row-major.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// How many products.
    pub batch: usize,
    /// Rows of a.
    pub m: usize,
    /// Columns of b.
    pub n: usize,
    /// What is summed over.
    pub k: usize,
    /// Whether a lies in memory as [batch, k, m].
    pub a_transposed: bool,
    /// Whether b lies in memory as [batch, n, k].
    pub b_transposed: bool,
}

/// One op's kernels for one type, on a launcher.
pub(super) struct Kernels<'a, L> {
    pub on: &'a L,
    pub source: &'static Source,
    pub dtype: DType,
}

impl<L: Launcher> Kernels<'_, L> {
    /// Memory for values of the op's type.
    pub fn alloc(&self, len: usize) -> Result<L::Buffer> {
        self.on.alloc(self.dtype, len)
    }

    /// Runs a kernel that writes one value a thread, and nothing where there are no values.
    pub fn run(
        &self,
        kernel: &'static str,
        threads: usize,
        mut args: Vec<Arg<'_, L::Buffer>>,
    ) -> Result<()> {
        match threads {
            0 => Ok(()),
            _ => {
                let kernel = Kernel { source: self.source, name: kernel, dtype: self.dtype };
                self.on.launch(kernel, threads, &mut args)
            }
        }
    }
}

/// How many threads share the sum over a channel.
pub(super) const LANES: u32 = 512;

/// A size as the kernels have it.
pub(super) fn word(op: &'static str, size: usize) -> crate::Result<u32> {
    let too_large = |_| Error::op(op, format!("size {size}"), "kernels count in 32 bits");
    u32::try_from(size).map_err(too_large)
}

/// N, C and the pixels of a plane, as `struct Maps`.
pub(super) fn maps<'a, B>(op: &'static str, sizes: [usize; 3]) -> crate::Result<Arg<'a, B>> {
    let [n, c, p] = sizes.map(|size| word(op, size));
    Ok(Arg::u32s(&[n?, c?, p?]))
}

/// Sliding windows, as `struct Window`.
pub(super) fn window<'a, B>(op: &'static str, window: &Im2col) -> crate::Result<Arg<'a, B>> {
    let mut words = Vec::with_capacity(12);
    for side in [Side::vertical(window), Side::horizontal(window)] {
        // The last tap of the last window: the largest number that a kernel computes.
        word(op, side.reach())?;
        for size in side.sizes() {
            words.push(word(op, size)?);
        }
    }
    word(op, window.input.0.saturating_mul(window.input.1))?;
    word(op, window.output.0.saturating_mul(window.output.1))?;
    Ok(Arg::u32s(&words))
}
