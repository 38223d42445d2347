//! From channels-first to channels-last maps and back, in blocks of 16 by 16 values.

use rayon::prelude::*;

use super::lanes::{Isa, LANES, padded};
use super::shared::Shared;

/// Pixels of a task.
const TASK: usize = 16 * LANES;

/// A block to be transposed: `to[c][r] = from[r][c]`, rows `from_step` and `to_step` apart.
#[derive(Clone, Copy)]
struct Block {
    from: *const f32,
    from_step: usize,
    to: *mut f32,
    to_step: usize,
    /// Rows to read, and columns; the others of the sixteen count as 0.
    rows: usize,
    cols: usize,
    /// How many values of a transposed row are written.
    width: usize,
}

/// [N, C, pixels] to maps, [N, pixels, padded(C)].
///
/// # Panics
/// If a slice is shorter than its shape: the caller has checked its shapes.
pub(crate) fn to_channels_last(
    from: &[f32],
    n: usize,
    channels: usize,
    pixels: usize,
    to: &mut [f32],
) {
    let (isa, step) = (Isa::best(), padded(channels));
    assert!(from.len() >= n * channels * pixels && to.len() >= n * pixels * step, "maps too short");
    let (to, tasks) = (Shared::new(to), pixels.div_ceil(TASK));
    (0..n * tasks).into_par_iter().for_each(|task| {
        let (n, task) = (task / tasks, task % tasks);
        for c in (0..channels).step_by(LANES) {
            for p in (task * TASK..((task + 1) * TASK).min(pixels)).step_by(LANES) {
                let block = Block {
                    from: from[(n * channels + c) * pixels + p..].as_ptr(),
                    from_step: pixels,
                    to: to.at((n * pixels + p) * step + c),
                    to_step: step,
                    rows: LANES.min(channels - c),
                    cols: LANES.min(pixels - p),
                    width: LANES,
                };
                // SAFETY: the block lies inside both maps (asserted), and no other task writes it.
                unsafe { transpose(isa, block) };
            }
        }
    });
}

/// Maps [N, pixels, padded(C)] to [N, C, pixels].
///
/// # Panics
/// If a slice is shorter than its shape: the caller has checked its shapes.
pub(crate) fn to_channels_first(
    from: &[f32],
    n: usize,
    channels: usize,
    pixels: usize,
    to: &mut [f32],
) {
    let (isa, step) = (Isa::best(), padded(channels));
    assert!(from.len() >= n * pixels * step && to.len() >= n * channels * pixels, "maps too short");
    let (to, tasks) = (Shared::new(to), pixels.div_ceil(TASK));
    (0..n * tasks).into_par_iter().for_each(|task| {
        let (n, task) = (task / tasks, task % tasks);
        for c in (0..channels).step_by(LANES) {
            for p in (task * TASK..((task + 1) * TASK).min(pixels)).step_by(LANES) {
                let rows = LANES.min(pixels - p);
                let block = Block {
                    from: from[(n * pixels + p) * step + c..].as_ptr(),
                    from_step: step,
                    to: to.at((n * channels + c) * pixels + p),
                    to_step: pixels,
                    rows,
                    cols: LANES.min(channels - c),
                    width: rows,
                };
                // SAFETY: the block lies inside both maps (asserted), and no other task writes it.
                unsafe { transpose(isa, block) };
            }
        }
    });
}

/// Transposes a block.
///
/// # Safety
/// `from` has `rows` rows of `cols` values, `to` `cols` rows of `width` values.
unsafe fn transpose(isa: Isa, block: Block) {
    #[cfg(target_arch = "x86_64")]
    if isa == Isa::Avx512 {
        // SAFETY: the caller's; an `Isa` is only made where the CPU has it.
        return unsafe { in_registers(block) };
    }
    let _ = isa;
    let Block { from, from_step, to, to_step, rows, cols, width } = block;
    for c in 0..cols {
        for r in 0..width {
            // SAFETY: the caller's.
            unsafe {
                let value = if r < rows { *from.add(r * from_step + c) } else { 0.0 };
                *to.add(c * to_step + r) = value;
            }
        }
    }
}

/// [`transpose`] by shuffles.
///
/// # Safety
/// AVX-512, and what [`transpose`] asks for.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn in_registers(block: Block) {
    use std::arch::x86_64::*;

    use crate::ops::gemm::avx512;

    let Block { from, from_step, to, to_step, rows, cols, width } = block;
    let (read, written) = (avx512::lanes(cols), avx512::lanes(width));
    let values: [__m512; LANES] = std::array::from_fn(|r| match r < rows {
        // SAFETY: the mask hides what is beyond the row.
        true => unsafe { _mm512_maskz_loadu_ps(read, from.add(r * from_step)) },
        false => _mm512_setzero_ps(),
    });
    for (c, column) in avx512::transpose(values).into_iter().enumerate().take(cols) {
        // SAFETY: the mask hides what is beyond the row.
        unsafe { _mm512_mask_storeu_ps(to.add(c * to_step), written, column) };
    }
}
