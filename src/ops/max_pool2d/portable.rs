//! Max pooling out of candle tensor operations: lay the windows out, find each winner's pixel,
//! gather the winners.
//!
//! The search runs on detached values; the gather alone carries the gradient.

use candle_core::{Result, Tensor};

use super::MaxPool2dShape;
use crate::ops::Im2col;
use crate::ops::pooling::Side;

/// The maxima and where they stood, both [N, C, OH, OW].
pub(super) fn max_pool2d(shape: &MaxPool2dShape, x: &Tensor) -> Result<(Tensor, Tensor)> {
    let window = &shape.window;
    let (batch, channels) = (shape.batch, shape.channels);
    let planes = x.reshape((batch, channels, window.pixels()))?;
    let taps = Tensor::new(taps(window), x.device())?;
    // [N, C, H·W] -> [N, C, K·P] -> [N, C, K, P]
    let sizes = (batch, channels, window.rows(), window.cols());
    let col = planes.detach().index_select(&taps, 2)?.reshape(sizes)?;
    let winners = winners(&col, &taps.reshape((1, 1, window.rows(), window.cols()))?)?;
    let y = planes.gather(&winners, 2)?;
    let output = &shape.output()[..];
    Ok((y.reshape(output)?, winners.reshape(output)?))
}

/// The pixel of each window's maximum, [N, C, P], from values [N, C, K, P] and pixels [1, 1, K, P].
fn winners(col: &Tensor, pixels: &Tensor) -> Result<Tensor> {
    let full = |value: f32| Tensor::full(value, col.shape(), col.device());
    let pixels = pixels.broadcast_as(col.shape())?.contiguous()?;
    let nan = col.ne(col)?;
    let ordered = nan.where_cond(&full(f32::NEG_INFINITY)?.to_dtype(col.dtype())?, col)?;
    let largest = ordered.broadcast_eq(&ordered.max_keepdim(2)?)?;
    let nobody = Tensor::full(u32::MAX, col.shape(), col.device())?;
    let first_largest = largest.where_cond(&pixels, &nobody)?.min(2)?;
    let last_nan = nan.where_cond(&pixels, &pixels.zeros_like()?)?.max(2)?;
    nan.max(2)?.where_cond(&last_nan, &first_largest)
}

/// Which pixel each element of the column matrix shows, [K·P]. What lies in the padding shows a
/// pixel of its own window once more, which changes neither the maximum nor whose it is.
fn taps(window: &Im2col) -> Vec<u32> {
    let ((rows, cols), width) =
        ((Side::vertical(window), Side::horizontal(window)), window.input.1);
    let mut pixels = Vec::with_capacity(window.rows() * window.cols());
    for (ky, kx) in (0..window.kernel.0).flat_map(|y| (0..window.kernel.1).map(move |x| (y, x))) {
        for oy in 0..rows.places {
            let y = rows.pixel(oy, nearest(rows.taps(oy), ky));
            for ox in 0..cols.places {
                let x = cols.pixel(ox, nearest(cols.taps(ox), kx));
                pixels.push((y * width + x) as u32);
            }
        }
    }
    pixels
}

/// The tap of a range that is not empty nearest to `tap`.
fn nearest(inside: std::ops::Range<usize>, tap: usize) -> usize {
    tap.max(inside.start).min(inside.end - 1)
}
