//! What one unit of a layer sees of the input, followed through the tree.

use super::Layer;
use crate::ops::{Pair, ReceptiveField};

/// The receptive field of the units of a layer, downwards and to the right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Field {
    /// Downwards.
    pub rows: ReceptiveField,
    /// To the right.
    pub cols: ReceptiveField,
}

impl Field {
    /// A pixel sees itself.
    pub const INPUT: Self = Field { rows: ReceptiveField::INPUT, cols: ReceptiveField::INPUT };

    /// The field after a window layer.
    pub fn after(self, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Self {
        Field {
            rows: self.rows.after(kernel.0, stride.0, padding.0, dilation.0),
            cols: self.cols.after(kernel.1, stride.1, padding.1, dilation.1),
        }
    }

    /// The field of units that see what either of two sees.
    pub fn union(self, other: Self) -> Self {
        Field { rows: self.rows.union(other.rows), cols: self.cols.union(other.cols) }
    }

    /// First and last row, then first and last column, of what the unit at `(row, column)` sees;
    /// beyond the picture where it sees padding.
    pub fn of_unit(&self, unit: Pair) -> [(isize, isize); 2] {
        [self.rows.of_unit(unit.0), self.cols.of_unit(unit.1)]
    }

    /// The field behind a layer that is no container; `None` where its units see all of the input, or
    /// parts that differ in size.
    pub(super) fn through(self, layer: &Layer, input: Pair) -> Option<Self> {
        match layer {
            Layer::Conv2d(conv) => {
                let p = &conv.params;
                Some(self.after(conv.kernel, p.stride, p.padding, p.dilation))
            }
            Layer::MaxPool2d(p) => Some(self.after(p.kernel, p.stride, p.padding, p.dilation)),
            Layer::AvgPool2d(p) => Some(self.after(p.kernel, p.stride, p.padding, (1, 1))),
            Layer::PaddedIdentity { stride, .. } => {
                Some(self.after((1, 1), (*stride, *stride), (0, 0), (1, 1)))
            }
            Layer::AdaptiveAvgPool2d(size) => {
                let even = input.0.is_multiple_of(size.0) && input.1.is_multiple_of(size.1);
                let window = even.then(|| (input.0 / size.0, input.1 / size.1))?;
                Some(self.after(window, window, (0, 0), (1, 1)))
            }
            Layer::Linear { .. } | Layer::Flatten => None,
            _ => Some(self),
        }
    }
}

impl ReceptiveField {
    /// First and last input place that unit `index` sees; outside the input where it sees padding.
    pub fn of_unit(self, index: usize) -> (isize, isize) {
        let first = self.start - (self.size as f64 - 1.0) / 2.0;
        let signed = |size: usize| isize::try_from(size).unwrap_or(isize::MAX);
        let first = (first as isize).saturating_add(signed(index.saturating_mul(self.stride)));
        (first, first.saturating_add(signed(self.size) - 1))
    }

    /// The field of units that see what either of two sees; both have the same stride where their
    /// maps have the same size, but for maps of one unit.
    pub fn union(self, other: Self) -> Self {
        let ((a, b), (c, d)) = (self.of_unit(0), other.of_unit(0));
        let (first, last) = (a.min(c), b.max(d));
        ReceptiveField {
            size: last.abs_diff(first).saturating_add(1),
            stride: self.stride.max(other.stride),
            start: (first as f64 + last as f64) / 2.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_union_covers_both() {
        let three = ReceptiveField::INPUT.after(3, 2, 1, 1);
        let one = ReceptiveField::INPUT.after(1, 2, 0, 1);
        assert_eq!(three.union(one), three); // a residual block's projection
        let valid = ReceptiveField::INPUT.after(3, 2, 0, 1);
        assert_eq!((valid.of_unit(0), three.of_unit(1)), ((0, 2), (1, 3)));
        assert_eq!(valid.union(three), ReceptiveField { size: 4, stride: 2, start: 0.5 });
    }
}
