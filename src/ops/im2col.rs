//! `im2col` and `col2im`: a sliding window as a matrix (Chellapilla, Puri and Simard, "High
//! Performance Convolutional Neural Networks for Document Processing", 2006).

use super::size::checked_len;
use super::{Pair, Real, conv_output_size};
use crate::{Error, Result};

/// The geometry of windows that slide over one picture of C channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Im2col {
    /// Channels C.
    pub channels: usize,
    /// Height and width of the picture, without padding.
    pub input: Pair,
    /// Height and width of the window.
    pub kernel: Pair,
    /// Steps of the window.
    pub stride: Pair,
    /// Zeros around the picture.
    pub padding: Pair,
    /// Distance between the window's taps.
    pub dilation: Pair,
    /// How many places the window has, downwards and to the right.
    pub output: Pair,
}

impl Im2col {
    /// The geometry, with the window's places counted.
    ///
    /// # Errors
    /// Where the window fits nowhere, or picture or matrix would be larger than memory can be.
    pub fn new(
        channels: usize,
        input: Pair,
        kernel: Pair,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
    ) -> Result<Self> {
        let rows = conv_output_size(input.0, kernel.0, stride.0, padding.0, dilation.0);
        let cols = conv_output_size(input.1, kernel.1, stride.1, padding.1, dilation.1);
        let (Some(rows), Some(cols)) = (rows, cols) else {
            let found = format!(
                "input {input:?}, kernel {kernel:?}, stride {stride:?}, padding {padding:?}, \
                 dilation {dilation:?}"
            );
            let needed = "the dilated kernel must fit into the padded input, and kernel, stride \
                          and dilation must not be 0";
            return Err(Error::op("im2col", found, needed));
        };
        checked_len("im2col", &[channels, input.0, input.1])?;
        checked_len("im2col", &[channels, kernel.0, kernel.1, rows, cols])?;
        Ok(Im2col { channels, input, kernel, stride, padding, dilation, output: (rows, cols) })
    }

    /// Rows of the matrix: C·KH·KW.
    pub fn rows(&self) -> usize {
        self.channels * self.kernel.0 * self.kernel.1
    }

    /// Columns of the matrix: OH·OW.
    pub fn cols(&self) -> usize {
        self.output.0 * self.output.1
    }

    /// Values of the picture: C·H·W.
    pub fn pixels(&self) -> usize {
        self.channels * self.input.0 * self.input.1
    }

    /// Calls `visit(pixel, row, col)` for every element of the matrix that lies inside the picture.
    ///
    /// `pixel` is an index into the picture [C, H, W]. This one loop is the whole definition: im2col
    /// reads along it, col2im adds along it, and so each is the other's adjoint.
    pub fn for_each_tap(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let (height, width) = self.input;
        for c in 0..self.channels {
            for ky in 0..self.kernel.0 {
                for kx in 0..self.kernel.1 {
                    let row = (c * self.kernel.0 + ky) * self.kernel.1 + kx;
                    for oy in 0..self.output.0 {
                        let y = oy * self.stride.0 + ky * self.dilation.0;
                        let Some(y) = y.checked_sub(self.padding.0).filter(|&y| y < height) else {
                            continue;
                        };
                        for ox in 0..self.output.1 {
                            let x = ox * self.stride.1 + kx * self.dilation.1;
                            let Some(x) = x.checked_sub(self.padding.1).filter(|&x| x < width)
                            else {
                                continue;
                            };
                            visit((c * height + y) * width + x, row, oy * self.output.1 + ox);
                        }
                    }
                }
            }
        }
    }
}

/// Lays every window of a picture [C, H, W] out as a column: the matrix [C·KH·KW, OH·OW].
///
/// A convolution is then one product, weight [O, C·KH·KW] times this matrix.
///
/// ```
/// # use convzoo::ops::{Im2col, im2col};
/// # fn main() -> convzoo::Result<()> {
/// let geometry = Im2col::new(1, (3, 3), (2, 2), (1, 1), (0, 0), (1, 1))?;
/// let picture = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
/// let columns = im2col(&geometry, &picture);
/// assert_eq!(columns[..4], [1.0, 2.0, 4.0, 5.0]); // what the window's top left tap sees
/// # Ok(())
/// # }
/// ```
///
/// # Panics
/// If `picture` is shorter than C·H·W.
pub fn im2col<T: Real>(geometry: &Im2col, picture: &[T]) -> Vec<T> {
    let cols = geometry.cols();
    let mut columns = vec![T::zero(); geometry.rows() * cols];
    geometry.for_each_tap(|pixel, row, col| columns[row * cols + col] = picture[pixel]);
    columns
}

/// Adds every column's values back to the pixels they came from: the adjoint of [`im2col`].
///
/// # Panics
/// If `columns` is shorter than C·KH·KW·OH·OW.
pub fn col2im<T: Real>(geometry: &Im2col, columns: &[T]) -> Vec<T> {
    let cols = geometry.cols();
    let mut picture = vec![T::zero(); geometry.pixels()];
    geometry.for_each_tap(|pixel, row, col| {
        picture[pixel] += columns[row * cols + col];
    });
    picture
}
