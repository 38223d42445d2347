//! Kernels for f32 maps in channels-last order, [N, H, W, C], the channels padded with zeros to whole
//! vectors of [`LANES`](lanes::LANES): what the engine of `nn` runs on a CPU.
//!
//! They compute what the ops next to this module define, and are tested against those definitions.

// `unsafe` is for vector instructions and for threads that write to parts of one slice; every function
// that this module gives out checks its slices first.
pub(crate) mod conv;
pub(crate) mod curves;
pub(crate) mod identity;
pub(crate) mod lanes;
pub(crate) mod narrow;
pub(crate) mod norm;
pub(crate) mod order;
pub(crate) mod pack;
pub(crate) mod pixels;
pub(crate) mod pool;
pub(crate) mod response;
mod shared;
mod tile;
pub(crate) mod winograd;

/// The first `len` values, of which there are made enough; whatever they are, they are overwritten.
pub(crate) fn grown(values: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if values.len() < len {
        values.resize(len, 0.0);
    }
    &mut values[..len]
}

/// How long a slice must be that holds maps of so many pixels, their product, `step` apart, of which
/// each has `wide` values: `usize::MAX`, which no slice has, where that cannot be counted.
pub(crate) fn maps_len(pixels: &[usize], step: usize, wide: usize) -> usize {
    let count = pixels.iter().try_fold(1usize, |count, &side| count.checked_mul(side));
    match count {
        Some(0) => Some(0),
        Some(count) => (count - 1).checked_mul(step).and_then(|last| last.checked_add(wide)),
        None => None,
    }
    .unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
