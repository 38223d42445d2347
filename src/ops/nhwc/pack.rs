//! Weights between the state dict's order, [O, C, taps], and the one the tiles read.

use rayon::prelude::*;

use super::lanes::{Isa, LANES, padded};
use super::maps_len;

/// Weights in panels of as many outputs as a tile is wide: panel p is [taps][depth][its outputs], its
/// last outputs 0 where there are no more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Panels {
    pub(super) data: Vec<f32>,
    pub(super) taps: usize,
    pub(super) depth: usize,
    pub(super) outputs: usize,
    width: usize,
}

/// How the weight of a convolution is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WeightShape {
    /// Output channels.
    pub outputs: usize,
    /// Input channels.
    pub inputs: usize,
    /// Rows and columns of the kernel.
    pub kernel: (usize, usize),
}

impl Panels {
    /// Room for weights of this shape.
    fn reshape(&mut self, isa: Isa, taps: usize, depth: usize, outputs: usize) {
        self.width = isa.tile().1 * LANES;
        (self.taps, self.depth, self.outputs) = (taps, depth, outputs);
        self.data.resize(taps * depth * padded(outputs), 0.0);
    }

    /// Whether all panels are there, as wide as this instruction set's tiles.
    pub(super) fn fits(&self, isa: Isa) -> bool {
        let len = maps_len(&[self.taps, self.depth], padded(self.outputs), padded(self.outputs));
        self.width == isa.tile().1 * LANES && self.data.len() >= len
    }

    /// Panel `p`.
    pub(super) fn panel(&self, p: usize) -> &[f32] {
        &self.data[p * self.width * self.taps * self.depth..]
    }

    /// Calls `fill(first output, outputs, panel)` for every panel, on all threads.
    fn fill(&mut self, fill: impl Fn(usize, usize, &mut [f32]) + Sync) {
        let (width, wide) = (self.width, padded(self.outputs));
        let len = width * self.taps * self.depth;
        self.data.par_chunks_mut(len.max(1)).enumerate().for_each(|(p, panel)| {
            fill(p * width, width.min(wide - p * width), panel);
        });
    }

    /// For the forward pass: from each tap's input channels to the outputs.
    pub(crate) fn pack_forward(&mut self, isa: Isa, w: &[f32], shape: WeightShape) {
        let WeightShape { outputs, inputs, kernel } = shape;
        let taps = kernel.0 * kernel.1;
        self.reshape(isa, taps, inputs, outputs);
        self.fill(|first, width, panel| {
            // Some channels at a time, so that what is written stays in the first-level cache.
            for some in blocks(inputs) {
                for j in 0..width {
                    let row = w.get((first + j) * inputs * taps..(first + j + 1) * inputs * taps);
                    for c in some.clone() {
                        for tap in 0..taps {
                            let value = row.map_or(0.0, |row| row[c * taps + tap]);
                            panel[(tap * inputs + c) * width + j] = value;
                        }
                    }
                }
            }
        });
    }

    /// For the forward pass of a first layer, whose taps are the kernel's rows.
    pub(crate) fn pack_stem(&mut self, isa: Isa, w: &[f32], shape: WeightShape) {
        let WeightShape { outputs, inputs, kernel: (rows, cols) } = shape;
        let len = inputs * rows * cols;
        self.reshape(isa, rows, cols * inputs, outputs);
        self.fill(|first, width, panel| {
            for j in 0..width {
                let row = w.get((first + j) * len..(first + j + 1) * len);
                for (at, to) in panel.iter_mut().skip(j).step_by(width).enumerate() {
                    let (kh, kw, c) = (at / (cols * inputs), at / inputs % cols, at % inputs);
                    *to = row.map_or(0.0, |row| row[(c * rows + kh) * cols + kw]);
                }
            }
        });
    }

    /// For the gradient of the input: from each tap's outputs to the input channels.
    pub(crate) fn pack_backward(&mut self, isa: Isa, w: &[f32], shape: WeightShape) {
        let WeightShape { outputs, inputs, kernel } = shape;
        let taps = kernel.0 * kernel.1;
        self.reshape(isa, taps, outputs, inputs);
        self.fill(|first, width, panel| {
            let own = width.min(inputs - first);
            for o in 0..outputs {
                let row = &w[(o * inputs + first) * taps..][..own * taps];
                for tap in 0..taps {
                    let to = &mut panel[(tap * outputs + o) * width..][..width];
                    to.iter_mut().zip(row[tap..].iter().step_by(taps)).for_each(|(to, &w)| *to = w);
                }
            }
        });
    }
}

fn blocks(len: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..len).step_by(LANES).map(move |first| first..(first + LANES).min(len))
}

/// The gradient [taps][depth][padded(outputs)] of a weight in the state dict's order, [O, C, taps].
pub(crate) fn unpack_gradient(dw: &[f32], shape: WeightShape, grad: &mut [f32]) {
    let WeightShape { outputs, inputs, kernel } = shape;
    let (taps, wide) = (kernel.0 * kernel.1, padded(outputs));
    // Sixteen by sixteen channels at a time, by way of a block that stays in the first-level cache.
    grad.par_chunks_mut(LANES * inputs * taps).enumerate().for_each(|(i, rows)| {
        let mut block = vec![0.0; LANES * LANES * taps];
        for some in blocks(inputs) {
            let len = some.len() * taps;
            for (at, c) in some.clone().enumerate() {
                for tap in 0..taps {
                    let values = &dw[(tap * inputs + c) * wide + i * LANES..][..LANES];
                    let to = block.iter_mut().skip(at * taps + tap).step_by(len);
                    values.iter().zip(to).for_each(|(&value, to)| *to = value);
                }
            }
            for (row, from) in rows.chunks_exact_mut(inputs * taps).zip(block.chunks_exact(len)) {
                row[some.start * taps..][..len].copy_from_slice(from);
            }
        }
    });
}

/// [`unpack_gradient`] of a first layer, whose taps are the kernel's rows.
pub(crate) fn unpack_stem_gradient(dw: &[f32], shape: WeightShape, grad: &mut [f32]) {
    let WeightShape { outputs, inputs, kernel: (rows, cols) } = shape;
    let wide = padded(outputs);
    let len = inputs * rows * cols;
    grad.par_chunks_mut(len).enumerate().for_each(|(o, grad)| {
        for (at, grad) in grad.iter_mut().enumerate() {
            let (c, kh, kw) = (at / (rows * cols), at / cols % rows, at % cols);
            *grad = dw[(kh * cols * inputs + kw * inputs + c) * wide + o];
        }
    });
}
