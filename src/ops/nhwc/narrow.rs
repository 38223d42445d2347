//! Convolution of maps with few channels, the pictures in the lanes.
//!
//! A vector of channels is mostly padding where there are one, six or twelve of them. Here a vector
//! holds the same value of [`LANES`] pictures instead: maps are [blocks][C][H][W][BLOCK], and every
//! channel count fills the lanes. To the kernels that go pixel by pixel (pooling, activations) a block's
//! channel is a picture whose pixels have BLOCK channels, so they serve both layouts.
//!
//! ```text
//! y[o]       = b[o] + Σ_c Σ_kh Σ_kw  w[o][c][kh][kw] · x[c][oh·s + kh·d][ow·s + kw·d]
//! dx[c]      =        Σ_o Σ_kh Σ_kw  w[o][c][kh][kw] · dy[o][the places whose tap sees the pixel]
//! dw[o,c,kh] = Σ over blocks, places and lanes of  dy[o] · x[c]                    for each kw
//! ```
//!
//! There is no padding. Sums are made in a fixed order, block after block.

#![allow(clippy::needless_range_loop)] // indices are those of the equations

use std::ops::Range;

use rayon::prelude::*;

use super::lanes::{Isa, LANES, Lanes, for_each_isa};
use super::maps_len;
use super::order::transpose_each;
use super::pack::WeightShape;
use super::pool::windows;
use super::shared::Shared;
use super::tile::by_rows;
use crate::ops::Im2col;

/// Pictures side by side: two vectors, so that every weight that is read is used twice.
pub(crate) const BLOCK: usize = 2 * LANES;

/// Rows of `len` values, `step` apart, one a picture, to blocks [blocks][len][BLOCK]; the lanes behind
/// the last picture become 0.
///
/// # Panics
/// Here and below, if a slice is shorter than its shape: the caller has checked its shapes.
pub(crate) fn to_blocks(from: &[f32], pictures: usize, len: usize, step: usize, to: &mut [f32]) {
    let (whole, rest) = (pictures / BLOCK, pictures % BLOCK);
    let (from, last) = from.split_at(whole * BLOCK * step);
    let (to, partial) = to.split_at_mut(whole * len * BLOCK);
    transpose_each(whole, (BLOCK, len), (from, step), (to, BLOCK));
    if rest > 0 {
        partial.fill(0.0);
        transpose_each(1, (rest, len), (last, step), (partial, BLOCK));
    }
}

/// The other way round.
pub(crate) fn from_blocks(from: &[f32], pictures: usize, len: usize, step: usize, to: &mut [f32]) {
    let (whole, rest) = (pictures / BLOCK, pictures % BLOCK);
    let (from, last) = from.split_at(whole * len * BLOCK);
    let (to, partial) = to.split_at_mut(whole * BLOCK * step);
    transpose_each(whole, (len, BLOCK), (from, BLOCK), (to, step));
    if rest > 0 {
        transpose_each(1, (len, rest), (last, BLOCK), (partial, step));
    }
}

/// A convolution without padding on such maps.
#[derive(Clone, Debug)]
pub(crate) struct Narrow {
    shape: WeightShape,
    window: Im2col,
    /// For each output row, the input rows that it reads; all columns read the same way.
    rows_down: Vec<Vec<Tap>>,
    cols_down: Vec<Vec<Tap>>,
    /// For each input row, the output rows that read it.
    rows_up: Vec<Vec<Tap>>,
    cols_up: Vec<Vec<Tap>>,
}

/// Row or column of a source, and the row or column of the kernel under which it is read.
type Tap = (usize, usize);

impl Narrow {
    /// `None` where there is padding, or channels that fill vectors by themselves.
    pub(crate) fn new(shape: WeightShape, window: &Im2col) -> Option<Self> {
        if window.padding != (0, 0) || shape.inputs >= LANES {
            return None;
        }
        let (k, s, d) = (window.kernel, window.stride, window.dilation);
        let down = |places: usize, k: usize, s: usize, d: usize| {
            let taps = |place: usize| (0..k).map(move |k| (place * s + k * d, k)).collect();
            (0..places).map(taps).collect()
        };
        let up = |size: usize, k: usize, s: usize, d: usize, places: usize| {
            (0..size).map(|at| windows(at, k, s, 0, d, places)).collect()
        };
        Some(Narrow {
            shape,
            window: *window,
            rows_down: down(window.output.0, k.0, s.0, d.0),
            cols_down: down(window.output.1, k.1, s.1, d.1),
            rows_up: up(window.input.0, k.0, s.0, d.0, window.output.0),
            cols_up: up(window.input.1, k.1, s.1, d.1, window.output.1),
        })
    }

    /// Values of a block's input.
    pub(crate) fn x_len(&self) -> usize {
        self.shape.inputs * self.window.input.0 * self.window.input.1 * BLOCK
    }

    /// Values of a block's output.
    pub(crate) fn y_len(&self) -> usize {
        self.shape.outputs * self.window.output.0 * self.window.output.1 * BLOCK
    }

    fn taps(&self) -> usize {
        self.shape.kernel.0 * self.shape.kernel.1
    }

    /// `y = relu?(w * x + b)`, w in the state dict's order.
    pub(crate) fn forward(
        &self,
        isa: Isa,
        x: &[f32],
        w: &[f32],
        bias: Option<&[f32]>,
        relu: bool,
        y: &mut [f32],
    ) {
        let WeightShape { outputs, inputs, .. } = self.shape;
        assert!(bias.is_none_or(|b| b.len() == outputs), "bias too short");
        let taps = self.taps();
        let pack =
            Pack::new(isa, outputs, inputs, taps, |o, c, tap| w[(o * inputs + c) * taps + tap]);
        let sides = (&self.rows_down[..], &self.cols_down[..]);
        let planes = (self.window.input, self.window.output);
        products(isa, &pack, sides, self.shape.kernel.1, planes, x, bias, relu, y);
    }

    /// The gradient of the input.
    pub(crate) fn input_gradient(&self, isa: Isa, dy: &[f32], w: &[f32], dx: &mut [f32]) {
        let WeightShape { outputs, inputs, .. } = self.shape;
        let taps = self.taps();
        let pack =
            Pack::new(isa, inputs, outputs, taps, |c, o, tap| w[(o * inputs + c) * taps + tap]);
        let sides = (&self.rows_up[..], &self.cols_up[..]);
        let planes = (self.window.output, self.window.input);
        products(isa, &pack, sides, self.shape.kernel.1, planes, dy, None, false, dx);
    }

    /// The gradient of the weight, in the state dict's order.
    pub(crate) fn weight_gradient(&self, isa: Isa, x: &[f32], dy: &[f32], dw: &mut [f32]) {
        let WeightShape { outputs, inputs, kernel } = self.shape;
        let (x_len, y_len) = (self.x_len(), self.y_len());
        let blocks = x.len() / x_len;
        assert!(dy.len() >= blocks * y_len && dw.len() == outputs * inputs * self.taps());
        let rows = inputs * kernel.0;
        // [blocks][C · KH][O][KW]
        let mut parts = vec![0.0; blocks * rows * outputs * kernel.1];
        parts.par_chunks_mut(outputs * kernel.1).enumerate().for_each(|(item, to)| {
            let (block, row) = (item / rows, item % rows);
            let (x, dy) = (&x[block * x_len..][..x_len], &dy[block * y_len..][..y_len]);
            self.weight_row(isa, x, dy, row, to);
        });
        for (o, dw) in dw.chunks_exact_mut(rows * kernel.1).enumerate() {
            for (i, dw) in dw.iter_mut().enumerate() {
                let at = (i / kernel.1 * outputs + o) * kernel.1 + i % kernel.1;
                *dw = (0..blocks).map(|b| parts[b * rows * outputs * kernel.1 + at]).sum();
            }
        }
    }

    /// The gradient of one row of the kernel for one channel of one block, [O][KW].
    fn weight_row(&self, isa: Isa, x: &[f32], dy: &[f32], row: usize, to: &mut [f32]) {
        let WeightShape { outputs, kernel, .. } = self.shape;
        let ((height, width), (rows, cols)) = (self.window.input, self.window.output);
        let (s, d) = (self.window.stride, self.window.dilation);
        let (c, kh) = (row / kernel.0, row % kernel.0);
        let (most_outputs, most_taps) = outer_tile(isa);
        for some in evenly(outputs, most_outputs) {
            for taps in evenly(kernel.1, most_taps) {
                let mut sums = [0.0; 4 * 5 * LANES];
                let tile = Outer {
                    x: x[((c * height + kh * d.0) * width + taps.start * d.1) * BLOCK..].as_ptr(),
                    x_row: s.0 * width * BLOCK,
                    x_col: s.1 * BLOCK,
                    x_tap: d.1 * BLOCK,
                    y: dy[some.start * rows * cols * BLOCK..].as_ptr(),
                    y_channel: rows * cols * BLOCK,
                    rows,
                    cols,
                    sums: sums.as_mut_ptr(),
                };
                // SAFETY: without padding every tap of every place is a pixel of x; a tile has 4
                // outputs and 5 taps at most.
                unsafe { outer(isa, some.len(), taps.len(), tile) };
                for (i, sums) in sums.chunks_exact(LANES).take(some.len() * taps.len()).enumerate()
                {
                    let (o, kw) = (some.start + i / taps.len(), taps.start + i % taps.len());
                    to[o * kernel.1 + kw] = sums.iter().sum();
                }
            }
        }
    }
}

/// The gradient of a bias: the sums of each channel, whose planes have `plane` values, block after block.
pub(crate) fn channel_sums(dy: &[f32], plane: usize, sums: &mut [f32]) {
    let isa = Isa::best();
    let planes = dy.par_chunks_exact(plane).map(|values| {
        let mut lanes = [0.0; LANES];
        // SAFETY: a plane is a whole number of vectors.
        unsafe { lane_sums(isa, values, &mut lanes) };
        lanes.iter().sum::<f32>()
    });
    let planes: Vec<f32> = planes.collect();
    let channels = sums.len();
    for (c, sum) in sums.iter_mut().enumerate() {
        *sum = planes[c..].iter().step_by(channels).sum();
    }
}

for_each_isa! {
    /// Four sums at a time hide the additions' latency.
    unsafe fn lane_sums<V>(values: &[f32], sums: &mut [f32; LANES]) {
        // SAFETY (whole function): only whole vectors inside the values are read.
        unsafe {
            let mut four = [V::splat(0.0); 4];
            for (i, values) in values.chunks_exact(LANES).enumerate() {
                four[i % 4] = four[i % 4].add(V::load(values.as_ptr()));
            }
            four[0].add(four[1]).add(four[2].add(four[3])).store(sums.as_mut_ptr());
        }
    }
}

/// `len` in parts of at most `most`, as even as can be.
fn evenly(len: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let parts = len.div_ceil(most);
    (0..parts).map(move |i| i * len / parts..(i + 1) * len / parts)
}

/// Weights as the tiles read them: for each tile of targets, [sources][taps][its targets].
struct Pack {
    values: Vec<f32>,
    tiles: Vec<Range<usize>>,
    sources: usize,
    taps: usize,
}

impl Pack {
    fn new(
        isa: Isa,
        targets: usize,
        sources: usize,
        taps: usize,
        weight: impl Fn(usize, usize, usize) -> f32,
    ) -> Self {
        let tiles: Vec<_> = evenly(targets, isa.tile().0).collect();
        let mut values = Vec::with_capacity(targets * sources * taps);
        for tile in &tiles {
            for at in 0..sources * taps {
                values.extend(tile.clone().map(|target| weight(target, at / taps, at % taps)));
            }
        }
        Pack { values, tiles, sources, taps }
    }

    /// The weights of a tile.
    fn tile(&self, tile: &Range<usize>) -> &[f32] {
        &self.values[tile.start * self.sources * self.taps..]
    }
}

/// Every row of every block's target planes: sums of products of the sources' pixels and weights.
#[allow(clippy::too_many_arguments)] // two maps, weights, and how they go together
fn products(
    isa: Isa,
    pack: &Pack,
    (rows, cols): (&[Vec<Tap>], &[Vec<Tap>]),
    kernel_width: usize,
    (from, to): ((usize, usize), (usize, usize)),
    x: &[f32],
    bias: Option<&[f32]>,
    relu: bool,
    y: &mut [f32],
) {
    let targets = pack.tiles.last().map_or(0, |tile| tile.end);
    let (x_plane, y_plane) = (from.0 * from.1 * BLOCK, to.0 * to.1 * BLOCK);
    let blocks = y.len() / (targets * y_plane);
    assert!(x.len() >= maps_len(&[blocks, pack.sources], x_plane, x_plane), "x too short");
    assert!(bias.is_none_or(|bias| bias.len() >= targets), "bias too short");
    let vectors = isa.tile().1;
    let y = Shared::new(y);
    (0..blocks * to.0).into_par_iter().for_each(|item| {
        let (block, row) = (item / to.0, item % to.0);
        let x = &x[block * pack.sources * x_plane..];
        for tile in &pack.tiles {
            let w = pack.tile(tile);
            let bias = bias.map_or(std::ptr::null(), |b| b[tile.start..].as_ptr());
            for (col, cols) in cols.iter().enumerate() {
                for lane in (0..BLOCK).step_by(vectors * LANES) {
                    let at = ((block * targets + tile.start) * to.0 + row) * to.1 + col;
                    let t = Place {
                        x: x[lane..].as_ptr(),
                        x_plane,
                        x_row: from.1 * BLOCK,
                        rows: &rows[row],
                        cols,
                        sources: pack.sources,
                        w: w.as_ptr(),
                        taps: pack.taps,
                        kernel_width,
                        y: y.at(at * BLOCK + lane),
                        y_plane,
                        bias,
                        relu,
                    };
                    // SAFETY: rows and columns are those of pixels of x, which has all its planes
                    // (asserted); the tile's planes of y begin inside it; no other item writes
                    // this row of them.
                    unsafe { place(isa, tile.len(), vectors, t) };
                }
            }
        }
    });
}

/// One place of a tile of target planes.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// The block's sources.
    x: *const f32,
    /// From source to source.
    x_plane: usize,
    /// From row to row.
    x_row: usize,
    /// The rows read, and under which rows of the kernel.
    rows: &'a [Tap],
    /// The columns.
    cols: &'a [Tap],
    sources: usize,
    /// [sources][taps][targets]
    w: *const f32,
    taps: usize,
    kernel_width: usize,
    /// The place in the first target.
    y: *mut f32,
    /// From target to target.
    y_plane: usize,
    /// [targets], or null.
    bias: *const f32,
    relu: bool,
}

#[inline(always)]
unsafe fn place_body<V: Lanes, const R: usize, const N: usize>(t: Place<'_>) {
    // SAFETY (whole function): the caller promises that every pointer holds what `Place` says.
    unsafe {
        let mut sums = [[V::splat(0.0); N]; R];
        for source in 0..t.sources {
            for &(row, kh) in t.rows {
                let x = t.x.add(source * t.x_plane + row * t.x_row);
                let w = t.w.add((source * t.taps + kh * t.kernel_width) * R);
                for &(col, kw) in t.cols {
                    let (x, w) = (x.add(col * BLOCK), w.add(kw * R));
                    let xs: [V; N] = std::array::from_fn(|v| V::load(x.add(v * LANES)));
                    for r in 0..R {
                        let w = V::splat(*w.add(r));
                        for v in 0..N {
                            sums[r][v] = w.fma(xs[v], sums[r][v]);
                        }
                    }
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (v, mut sum) in sums.into_iter().enumerate() {
                if !t.bias.is_null() {
                    sum = sum.add(V::splat(*t.bias.add(r)));
                }
                if t.relu {
                    sum = V::splat(0.0).max(sum); // in this order a NaN stays one
                }
                sum.store(t.y.add(r * t.y_plane + v * LANES));
            }
        }
    }
}

for_each_isa! {
    unsafe fn place1<V>(rows: usize, t: Place<'_>) {
        // SAFETY: the caller's.
        unsafe {
            by_rows!(rows, place_body, V, 1, t)
        }
    }
}

for_each_isa! {
    unsafe fn place2<V>(rows: usize, t: Place<'_>) {
        // SAFETY: the caller's.
        unsafe {
            by_rows!(rows, place_body, V, 2, t)
        }
    }
}

/// Computes a place of 1 to 14 targets and 1 or 2 vectors.
///
/// # Safety
/// All pointers of `t` hold what their docs say.
unsafe fn place(isa: Isa, targets: usize, vectors: usize, t: Place<'_>) {
    // SAFETY: the caller's.
    unsafe { if vectors == 2 { place2(isa, targets, t) } else { place1(isa, targets, t) } }
}

/// Outputs and taps of the largest tile of a weight gradient whose sums fit the registers.
fn outer_tile(isa: Isa) -> (usize, usize) {
    match isa {
        Isa::Avx512 => (4, 5), // 20 sums, 4 gradients, 1 value
        Isa::Avx2 => (2, 3),   // 12 sums, 2 values, 1 gradient in two halves
        Isa::Plain => (1, 4),
    }
}

/// A tile of the weight gradient: some outputs, some taps of one row of the kernel.
#[derive(Clone, Copy)]
struct Outer {
    /// Under the first tap of the first place.
    x: *const f32,
    /// From output row to output row, column to column, and tap to tap.
    x_row: usize,
    x_col: usize,
    x_tap: usize,
    /// The first place of the first output, and from output to output.
    y: *const f32,
    y_channel: usize,
    rows: usize,
    cols: usize,
    /// [outputs][taps][LANES]
    sums: *mut f32,
}

#[inline(always)]
unsafe fn outer_body<V: Lanes, const R: usize, const T: usize>(t: Outer) {
    // SAFETY (whole function): the caller promises that every pointer holds what `Outer` says.
    unsafe {
        let mut sums = [[V::splat(0.0); T]; R];
        for row in 0..t.rows {
            for col in 0..t.cols {
                for lane in (0..BLOCK).step_by(LANES) {
                    let x = t.x.add(row * t.x_row + col * t.x_col + lane);
                    let y = t.y.add((row * t.cols + col) * BLOCK + lane);
                    let ys: [V; R] = std::array::from_fn(|r| V::load(y.add(r * t.y_channel)));
                    for k in 0..T {
                        let x = V::load(x.add(k * t.x_tap));
                        for r in 0..R {
                            sums[r][k] = x.fma(ys[r], sums[r][k]);
                        }
                    }
                }
            }
        }
        for (i, sum) in sums.as_flattened().iter().enumerate() {
            sum.store(t.sums.add(i * LANES));
        }
    }
}

for_each_isa! {
    unsafe fn outer<V>(outputs: usize, taps: usize, t: Outer) {
        // SAFETY: the caller's.
        unsafe {
            match (outputs, taps) {
                (1, 1) => outer_body::<V, 1, 1>(t),
                (1, 2) => outer_body::<V, 1, 2>(t),
                (1, 3) => outer_body::<V, 1, 3>(t),
                (1, 4) => outer_body::<V, 1, 4>(t),
                (1, 5) => outer_body::<V, 1, 5>(t),
                (2, 1) => outer_body::<V, 2, 1>(t),
                (2, 2) => outer_body::<V, 2, 2>(t),
                (2, 3) => outer_body::<V, 2, 3>(t),
                (2, 4) => outer_body::<V, 2, 4>(t),
                (2, 5) => outer_body::<V, 2, 5>(t),
                (3, 1) => outer_body::<V, 3, 1>(t),
                (3, 2) => outer_body::<V, 3, 2>(t),
                (3, 3) => outer_body::<V, 3, 3>(t),
                (3, 4) => outer_body::<V, 3, 4>(t),
                (3, 5) => outer_body::<V, 3, 5>(t),
                (4, 1) => outer_body::<V, 4, 1>(t),
                (4, 2) => outer_body::<V, 4, 2>(t),
                (4, 3) => outer_body::<V, 4, 3>(t),
                (4, 4) => outer_body::<V, 4, 4>(t),
                (4, 5) => outer_body::<V, 4, 5>(t),
                tile => unreachable!("a tile of {tile:?}"),
            }
        }
    }
}
