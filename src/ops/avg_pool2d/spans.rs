use super::AvgPool2dShape;
use crate::ops::Pair;
use crate::ops::pooling::Side;

/// Pixels `start..end` along one side that one output averages, and how many its mean counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first pixel.
    pub start: usize,
    /// One past the last pixel.
    pub end: usize,
    /// This side's factor of the divisor: more than `end - start` where padding counts.
    pub count: usize,
}

/// Any pooling by means: output (i, j) of a plane is the sum over a span of rows times a span of
/// columns, divided by both counts. Average and adaptive pooling differ in their spans alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Means {
    /// Height and width of a plane.
    pub input: Pair,
    /// The span of each output row.
    pub rows: Vec<Span>,
    /// The span of each output column.
    pub cols: Vec<Span>,
    /// A divisor to use instead of the counts.
    pub divisor: Option<usize>,
}

impl Means {
    /// Those of a sliding window.
    pub fn of(shape: &AvgPool2dShape) -> Self {
        let window = &shape.window;
        let spans = |side: Side, size: usize, kernel: usize, stride: usize, padding: usize| {
            let span = |place: usize| {
                let taps = side.taps(place);
                let start = side.pixel(place, taps.start);
                let end = start + taps.len();
                // Up to the end of the padding, which a ceil mode window may stick out of.
                let covered = kernel.min(size + 2 * padding - place * stride);
                Span {
                    start,
                    end,
                    count: if shape.count_include_pad { covered } else { end - start },
                }
            };
            (0..side.places).map(span).collect()
        };
        let ((h, w), k, s, p) = (window.input, window.kernel, window.stride, window.padding);
        Means {
            input: window.input,
            rows: spans(Side::vertical(window), h, k.0, s.0, p.0),
            cols: spans(Side::horizontal(window), w, k.1, s.1, p.1),
            divisor: shape.divisor_override,
        }
    }

    /// What the sum under these two spans is divided by.
    pub fn divisor(&self, row: &Span, col: &Span) -> usize {
        self.divisor.unwrap_or(row.count * col.count)
    }

    /// Values of an input plane, H·W.
    pub fn pixels(&self) -> usize {
        self.input.0 * self.input.1
    }

    /// Values of an output plane, OH·OW.
    pub fn places(&self) -> usize {
        self.rows.len() * self.cols.len()
    }
}
