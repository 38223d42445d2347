//! Convolution out of candle tensor operations: gather the windows, one batched product.
//!
//! The gradients are candle's, but for that of the windows: see [`gather`](super::gather).

use candle_core::{Result, Tensor};

use super::Conv2dShape;
use super::gather::gather;
use crate::ops::{Im2col, half};

pub(super) fn conv2d(
    shape: &Conv2dShape,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let window = &shape.window;
    let (groups, rows, cols) = (shape.groups, window.rows(), window.cols());
    let [batch, out, oh, ow] = shape.output();
    // [N, C, PH·PW] -> [N, C, K·P] -> [N, G, C/G·K, P]
    let (padded, (_, padded_width)) = pad(x, window)?;
    let col = gather(&padded, taps(window, padded_width))?;
    let col = col.reshape((batch, groups, rows, cols))?;
    // (O/G, C/G·K) · (C/G·K, P)
    let weight = weight.reshape((1, groups, shape.group_out, rows))?;
    let weight = half::spread(&weight, (batch, groups, shape.group_out, rows))?.contiguous()?;
    let y = half::matmul(&weight, &col)?.reshape((batch, out, oh, ow))?;
    match bias {
        Some(bias) => &y + half::spread(&bias.reshape((1, out, 1, 1))?, y.shape())?,
        None => Ok(y),
    }
}

/// The zero-padded pictures as [N, C, PH·PW], and (PH, PW).
fn pad(x: &Tensor, window: &Im2col) -> Result<(Tensor, (usize, usize))> {
    let ((top, left), (h, w)) = (window.padding, window.input);
    let (batch, channels, ..) = x.dims4()?;
    let size = (h + 2 * top, w + 2 * left);
    let x = x.pad_with_zeros(2, top, top)?.pad_with_zeros(3, left, left)?;
    Ok((x.reshape((batch, channels, size.0 * size.1))?, size))
}

/// Where in a padded plane each element of the column matrix of one channel stands, [K·P].
fn taps(window: &Im2col, padded_width: usize) -> Vec<u32> {
    let ((kh, kw), (oh, ow)) = (window.kernel, window.output);
    let ((sy, sx), (dy, dx)) = (window.stride, window.dilation);
    let mut taps = Vec::with_capacity(kh * kw * oh * ow);
    for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
        for (oy, ox) in (0..oh).flat_map(|oy| (0..ow).map(move |ox| (oy, ox))) {
            taps.push(((oy * sy + ky * dy) * padded_width + ox * sx + kx * dx) as u32);
        }
    }
    taps
}
