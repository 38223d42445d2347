//! Output-size and receptive-field arithmetic (Dumoulin and Visin, "A guide to convolution
//! arithmetic for deep learning", 2016).

use candle_core::Tensor;

use crate::{Error, Result};

/// Most values of a tensor, 2⁴⁴ on 64 bits: more than any machine holds, and so few that neither its
/// bytes, nor what the kernels make of it (channels padded to whole vectors, transformed tiles), nor
/// sums over the layers of a network come near the end of the numbers.
pub(crate) const MOST_VALUES: usize =
    if usize::BITS >= 64 { 1 << (usize::BITS - 20) } else { isize::MAX as usize / 8 };

/// Values of a tensor of this shape, sides of 0 counted as 1: whatever part of the product is made, in
/// whatever order, does not overflow then.
///
/// # Errors
/// Where there are more than [`MOST_VALUES`].
pub(crate) fn checked_len(op: &'static str, shape: &[usize]) -> Result<usize> {
    let len = shape.iter().try_fold(1usize, |len, &side| len.checked_mul(side.max(1)));
    len.filter(|&len| len <= MOST_VALUES).ok_or_else(|| {
        let needed = format!("a tensor may have {MOST_VALUES} values, sides of 0 not counted");
        Error::op(op, format!("shape {shape:?}"), needed)
    })
}

/// Refuses what an op on a CPU is about to make where memory for it cannot be had: an allocation that
/// fails ends the program. Small results are not asked for.
///
/// # Errors
/// Says how large it is.
pub(crate) fn check_room(op: &'static str, x: &Tensor, shape: &[usize]) -> Result<()> {
    const SMALL: usize = 1 << 28;
    let len = checked_len(op, shape)?;
    if len < SMALL || !x.device().is_cpu() {
        return Ok(());
    }
    let bytes = len * x.dtype().size_in_bytes();
    Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| {
        let found = format!("sizes of which {shape:?} follow, {bytes} bytes");
        Error::op(op, found, "there is not so much memory")
    })
}

/// Height and width, in this order: of a kernel, a stride, a padding, a picture.
pub type Pair = (usize, usize);

/// How many places a window has along one side of `size` elements, or `None` where it has none:
/// when the stride is 0, the kernel is empty or wider than the padded input.
///
/// ```
/// # use convzoo::ops::conv_output_size;
/// assert_eq!(conv_output_size(224, 7, 2, 3, 1), Some(112)); // ResNet's stem
/// assert_eq!(conv_output_size(4, 5, 1, 0, 1), None);
/// ```
pub fn conv_output_size(
    size: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
) -> Option<usize> {
    if stride == 0 || kernel == 0 || dilation == 0 {
        return None;
    }
    let reach = dilation.checked_mul(kernel - 1)?.checked_add(1)?;
    let padded = padding.checked_mul(2)?.checked_add(size)?;
    Some(padded.checked_sub(reach)? / stride + 1)
}

/// The same for pooling, where `ceil_mode` lets a last window stick out at the right or bottom,
/// as long as it begins inside the input or its left padding. That window may be the only one: in
/// ceil mode a kernel can be wider than the padded input, by less than its stride.
///
/// ```
/// # use convzoo::ops::pool_output_size;
/// assert_eq!(pool_output_size(112, 3, 2, 0, 1, false), Some(55));
/// assert_eq!(pool_output_size(112, 3, 2, 0, 1, true), Some(56)); // GoogLeNet's pools
/// assert_eq!(pool_output_size(2, 3, 2, 0, 1, true), Some(1));
/// assert_eq!(pool_output_size(1, 3, 2, 0, 1, true), None);
/// ```
pub fn pool_output_size(
    size: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
    ceil_mode: bool,
) -> Option<usize> {
    if !ceil_mode || stride == 0 {
        return conv_output_size(size, kernel, stride, padding, dilation);
    }
    // As many places as with stride - 1 more padding on the right.
    let places =
        conv_output_size(size.checked_add(stride - 1)?, kernel, stride, padding, dilation)?;
    let begins_inside = (places - 1) * stride < size + padding;
    Some(if begins_inside { places } else { places - 1 }).filter(|&places| places > 0)
}

/// What one unit of a layer sees of the input, along one side.
///
/// ```
/// # use convzoo::ops::ReceptiveField;
/// let two_3x3 = ReceptiveField::INPUT.after(3, 1, 1, 1).after(3, 1, 1, 1);
/// assert_eq!(two_3x3.size, 5); // VGG's argument for small kernels
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReceptiveField {
    /// Input pixels seen by one unit.
    pub size: usize,
    /// Input pixels between neighbouring units.
    pub stride: usize,
    /// The centre of the first unit's field, in pixels; pixel 0 has its centre at 0.
    pub start: f64,
}

impl ReceptiveField {
    /// A pixel sees itself.
    pub const INPUT: Self = ReceptiveField { size: 1, stride: 1, start: 0.0 };

    /// The field after one more window layer.
    pub fn after(self, kernel: usize, stride: usize, padding: usize, dilation: usize) -> Self {
        let reach = dilation.saturating_mul(kernel.saturating_sub(1));
        ReceptiveField {
            size: self.size.saturating_add(reach.saturating_mul(self.stride)),
            stride: self.stride.saturating_mul(stride),
            start: self.start + (reach as f64 / 2.0 - padding as f64) * self.stride as f64,
        }
    }
}
