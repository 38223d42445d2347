//! From channels-first to channels-last maps and back, in blocks of 16 by 16 values.

use rayon::prelude::*;

use super::lanes::{Isa, LANES, padded};
use super::maps_len;
use super::shared::Shared;

/// Rows and columns of a task.
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
    transpose_each(n, (channels, pixels), (from, pixels), (to, padded(channels)));
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
    transpose_each(n, (pixels, channels), (from, padded(channels)), (to, pixels));
}

/// Transposes n matrices of `rows` by `cols`, each given with the distance of its rows; what lies
/// behind a row of the result becomes 0.
pub(super) fn transpose_each(
    n: usize,
    (rows, cols): (usize, usize),
    (from, from_step): (&[f32], usize),
    (to, to_step): (&mut [f32], usize),
) {
    let isa = Isa::best();
    let (from_len, to_len) = (&[n, rows], &[n, cols]);
    let (from_len, to_len) =
        (maps_len(from_len, from_step, from_step), maps_len(to_len, to_step, to_step));
    assert!(from_step >= cols && from.len() >= from_len, "matrices too short");
    assert!(to_step >= rows && to.len() >= to_len, "result too short");
    let to = Shared::new(to);
    let (down, across) = (rows.div_ceil(TASK), cols.div_ceil(TASK));
    (0..n * down * across).into_par_iter().for_each(|task| {
        let (n, down, across) = (task / across / down, task / across % down, task % across);
        for r in (down * TASK..((down + 1) * TASK).min(rows)).step_by(LANES) {
            for c in (across * TASK..((across + 1) * TASK).min(cols)).step_by(LANES) {
                let block = Block {
                    from: from[(n * rows + r) * from_step + c..].as_ptr(),
                    from_step,
                    to: to.at((n * cols + c) * to_step + r),
                    to_step,
                    rows: LANES.min(rows - r),
                    cols: LANES.min(cols - c),
                    width: LANES.min(to_step - r),
                };
                // SAFETY: the block lies inside its matrix and its result (asserted), and no other
                // task writes it.
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
