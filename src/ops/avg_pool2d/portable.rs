//! Pooling by means out of candle tensor operations: rows gathered and added, then columns, then
//! one division.

use candle_core::{Result, Tensor};

use super::{Means, Span};
use crate::ops::half;

/// The means of x [N, C, H, W].
pub(crate) fn means(means: &Means, x: &Tensor) -> Result<Tensor> {
    let rows = means.rows.iter();
    let divisors = rows.flat_map(|row| means.cols.iter().map(|col| means.divisor(row, col) as f64));
    let sizes = (means.rows.len(), means.cols.len());
    let divisors = Tensor::from_vec(divisors.collect(), sizes, &candle_core::Device::Cpu)?;
    let divisors = divisors.to_dtype(half::working(x.dtype()))?.to_device(x.device())?;
    half::in_working(x, |x| {
        sums(&sums(x, 2, &means.rows)?, 3, &means.cols)?.broadcast_div(&divisors)
    })
}

/// The sums of spans along one dimension: a gather to [.., K, O, ..], then K is added up.
fn sums(x: &Tensor, dim: usize, spans: &[Span]) -> Result<Tensor> {
    let longest = spans.iter().map(|span| span.end - span.start).max().unwrap_or(0);
    // One more element, 0, for what shorter spans lack.
    let zero = x.dim(dim)?;
    let element = |k: usize, span: &Span| Some(span.start + k).filter(|&i| i < span.end);
    let picks: Vec<u32> = (0..longest)
        .flat_map(|k| spans.iter().map(move |span| element(k, span).unwrap_or(zero) as u32))
        .collect();
    let padded = x.pad_with_zeros(dim, 0, 1)?.contiguous()?;
    let gathered = padded.index_select(&Tensor::new(picks, x.device())?, dim)?;
    let mut dims = x.dims().to_vec();
    dims.splice(dim..=dim, [longest, spans.len()]);
    gathered.reshape(dims)?.sum(dim)
}
