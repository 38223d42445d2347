//! The shortcut without parameters of He et al. (2016), section 4.2, "option A", on channels-last maps.

use super::conv::Maps;
use super::pixels::MapsMut;

/// Every `stride`-th pixel of every `stride`-th row, its channels between others that are 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PaddedIdentity {
    /// Height and width of the input.
    pub input: (usize, usize),
    /// Height and width of the output.
    pub output: (usize, usize),
    /// From one kept pixel to the next.
    pub stride: usize,
    /// Channels of the input.
    pub channels: usize,
    /// Channels of zeros before them.
    pub before: usize,
}

impl PaddedIdentity {
    /// `y[n, i, j, before + c] = x[n, s·i, s·j, c]`, and 0 elsewhere in the `wide` values of a pixel.
    pub(crate) fn forward(&self, pictures: usize, x: Maps<'_>, wide: usize, mut y: MapsMut<'_>) {
        let (rows, cols) = self.output;
        y.each(pictures * rows * cols, wide, |p, y| {
            let (n, i, j) = (p / (rows * cols), p / cols % rows, p % cols);
            let from = (n * self.input.0 + i * self.stride) * self.input.1 + j * self.stride;
            y.fill(0.0);
            y[self.before..][..self.channels].copy_from_slice(x.pixel(from, self.channels));
        });
    }

    /// `dx[n, s·i, s·j, c] = dy[n, i, j, before + c]`, and 0 elsewhere in the `wide` values of a pixel;
    /// added to `dx` where `add`.
    pub(crate) fn gradient(
        &self,
        pictures: usize,
        dy: Maps<'_>,
        wide: usize,
        mut dx: MapsMut<'_>,
        add: bool,
    ) {
        let (height, width) = self.input;
        dx.each(pictures * height * width, wide, |p, dx| {
            let (n, row, col) = (p / (height * width), p / width % height, p % width);
            if !add {
                dx.fill(0.0);
            }
            if !row.is_multiple_of(self.stride) || !col.is_multiple_of(self.stride) {
                return;
            }
            let from = (n * self.output.0 + row / self.stride) * self.output.1 + col / self.stride;
            let dy = &dy.pixel(from, self.before + self.channels)[self.before..];
            dx.iter_mut().zip(dy).for_each(|(dx, &dy)| *dx += dy);
        });
    }
}
