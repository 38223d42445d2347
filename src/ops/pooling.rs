//! What the pooling ops share: checked windows, and what one side of a window sees.

use std::ops::Range;

use rayon::prelude::*;

use super::fresh::Fresh;
use super::size::checked_len;
use super::widest::widest;
use super::{Im2col, Pair, Real, pool_output_size};
use crate::{Error, Result};

/// Settings of windows that slide over planes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sliding {
    pub kernel: Pair,
    pub stride: Pair,
    pub padding: Pair,
    pub dilation: Pair,
    pub ceil_mode: bool,
}

/// N and C of an input [N, C, H, W], and its planes' (H, W); N alone may be 0.
pub(super) fn planes(op: &'static str, x: &[usize]) -> Result<(usize, usize, Pair)> {
    let &[batch, channels, height, width] = x else {
        let found = format!("shape {x:?}");
        return Err(Error::op(op, found, "it needs four dimensions [N, C, H, W]"));
    };
    if channels == 0 || height == 0 || width == 0 {
        let found = format!("shape {x:?}");
        return Err(Error::op(op, found, "channels, height and width must not be 0"));
    }
    check_plane(op, (height, width))?;
    checked_len(op, x)?;
    Ok((batch, channels, (height, width)))
}

/// Refuses planes whose positions do not fit into 32 bits.
pub(super) fn check_plane(op: &'static str, (height, width): Pair) -> Result<()> {
    match height.checked_mul(width) {
        Some(size) if size < u32::MAX as usize => Ok(()),
        _ => {
            let found = format!("planes of {height}x{width}");
            Err(Error::op(op, found, "a plane must have less than 2^32 values"))
        }
    }
}

impl Sliding {
    /// The windows over one plane, with their places counted.
    pub fn over(&self, op: &'static str, input: Pair) -> Result<Im2col> {
        let Sliding { kernel, stride, padding, dilation, ceil_mode } = *self;
        let refuse = |needed: &str| {
            let found = format!(
                "input {input:?}, kernel {kernel:?}, stride {stride:?}, padding {padding:?}, \
                 dilation {dilation:?}, ceil_mode {ceil_mode}"
            );
            Err(Error::op(op, found, needed))
        };
        if [kernel, stride, dilation].iter().any(|&(a, b)| a == 0 || b == 0) {
            return refuse("kernel, stride and dilation must not be 0");
        }
        if padding.0 > kernel.0 / 2 || padding.1 > kernel.1 / 2 {
            return refuse("the padding must be at most half of the kernel");
        }
        let places = |size, kernel, stride, padding, dilation| {
            pool_output_size(size, kernel, stride, padding, dilation, ceil_mode)
        };
        let rows = places(input.0, kernel.0, stride.0, padding.0, dilation.0);
        let cols = places(input.1, kernel.1, stride.1, padding.1, dilation.1);
        let (Some(rows), Some(cols)) = (rows, cols) else {
            return refuse("the dilated kernel must fit into the padded input");
        };
        if kernel.0.checked_mul(kernel.1).is_none_or(|taps| taps >= u32::MAX as usize) {
            return refuse("a window must have less than 2^32 taps");
        }
        let output = (rows, cols);
        check_plane(op, output)?;
        let window = Im2col { channels: 1, input, kernel, stride, padding, dilation, output };
        let sides = [Side::vertical(&window), Side::horizontal(&window)];
        if sides.iter().any(|side| (0..side.places).any(|place| side.taps(place).is_empty())) {
            return refuse("every window must have a tap inside the input");
        }
        Ok(window)
    }
}

/// One side of the windows: tap `t` at place `o` is on pixel `o·stride + t·dilation - padding`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side {
    size: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
    /// How many places the window has.
    pub places: usize,
}

impl Side {
    /// Of rows.
    pub fn vertical(window: &Im2col) -> Self {
        Side {
            size: window.input.0,
            kernel: window.kernel.0,
            stride: window.stride.0,
            padding: window.padding.0,
            dilation: window.dilation.0,
            places: window.output.0,
        }
    }

    /// Of columns.
    pub fn horizontal(window: &Im2col) -> Self {
        Side {
            size: window.input.1,
            kernel: window.kernel.1,
            stride: window.stride.1,
            padding: window.padding.1,
            dilation: window.dilation.1,
            places: window.output.1,
        }
    }

    /// All sizes: pixels, taps, stride, padding, dilation, places.
    pub fn sizes(&self) -> [usize; 6] {
        [self.size, self.kernel, self.stride, self.padding, self.dilation, self.places]
    }

    /// Where the last tap of the last window is, counted from the first pixel of the padding; or the
    /// end of the padded input, if that is further.
    pub fn reach(&self) -> usize {
        let last = (self.places.saturating_sub(1)).saturating_mul(self.stride);
        let taps = (self.kernel - 1).saturating_mul(self.dilation);
        last.saturating_add(taps).max(self.size + 2 * self.padding)
    }

    /// The taps that are inside the input at this place.
    pub fn taps(&self, place: usize) -> Range<usize> {
        let start = place * self.stride;
        let first = self.padding.saturating_sub(start).div_ceil(self.dilation).min(self.kernel);
        let end = (self.size + self.padding).saturating_sub(start).div_ceil(self.dilation);
        first..end.clamp(first, self.kernel)
    }

    /// The places at which this tap is inside the input.
    pub fn places_of(&self, tap: usize) -> Range<usize> {
        let offset = tap * self.dilation;
        let first = self.padding.saturating_sub(offset).div_ceil(self.stride).min(self.places);
        let end = (self.size + self.padding).saturating_sub(offset).div_ceil(self.stride);
        first..end.clamp(first, self.places)
    }

    /// The pixel under a tap that is inside the input at this place.
    pub fn pixel(&self, place: usize, tap: usize) -> usize {
        place * self.stride + tap * self.dilation - self.padding
    }
}

/// How many planes of `size` values one task should take at least, for its work to outweigh the
/// handing out.
pub(super) fn planes_per_task(size: usize) -> usize {
    (16 * 1024 / size.max(1)).max(1)
}

/// Planes of `to_size` values made of those of `from_size` values by `work(scratch, to, from)`, in
/// parallel; `to` is all 0 at first, and [`widest`] calls `work`.
pub(super) fn each_plane<T: Real, S>(
    to_size: usize,
    (from, from_size): (&[T], usize),
    scratch: impl Fn() -> S + Send + Sync,
    work: impl Fn(&mut S, &mut [T], &[T]) + Send + Sync,
) -> Vec<T> {
    let mut to = Fresh::new(from.len() / from_size * to_size);
    let some = planes_per_task(to_size.max(from_size));
    let tasks = to.par_parts(some * to_size).zip(from.par_chunks(some * from_size));
    tasks.for_each_init(scratch, |scratch, (to, from)| {
        let planes = to.zeros().chunks_exact_mut(to_size).zip(from.chunks_exact(from_size));
        widest(
            #[inline(always)]
            || planes.for_each(|(to, from)| work(scratch, to, from)),
        );
    });
    to.whole()
}
