//! Convolution with 3×3 kernels at stride 1 by Winograd's minimal filtering, F(4×4, 3×3) (Lavin and
//! Gray, "Fast Algorithms for Convolutional Neural Networks", 2016): 36 products for 16 outputs that
//! take 144 by the definition.
//!
//! ```text
//! forward    V = Bᵀ d B,   U = G w Gᵀ,   M[ξ] = V[ξ]·U[ξ] for each of the 36 ξ,   y = Aᵀ M A
//! backward   dM = A dy Aᵀ,   dU[ξ] = V[ξ]ᵀ·dM[ξ],   dw = Gᵀ dU G
//!                            dV[ξ] = dM[ξ]·U[ξ]ᵀ,   dd = B dV Bᵀ, added where tiles overlap
//! ```
//!
//! d are tiles of 6×6 input pixels, four apart; V, U and M are 36 matrices, [tiles, C], [C, O] and
//! [tiles, O]. The backward pass is the adjoint of the forward pass, step by step.
//!
//! # How many digits it costs
//!
//! The transforms add and subtract values of a whole tile: what is rounded of its brightest pixel is
//! found again, as an error, in all of its outputs, dark ones too. Below are bounds on errors of sums over 64
//! channels on pictures of random values whose right half is darker by some decades. The largest error of
//! an output is given as a share of the sum of its products' magnitudes, which is its own scale; the
//! last column is that of the direct way. A test holds them.
//!
//! | darker by | all errors, in l2 | largest error | the direct way's |
//! | --- | --- | --- | --- |
//! | 1 | 1e-6 | 1e-6 | 6e-7 |
//! | 10 | 1e-6 | 4e-6 | 6e-7 |
//! | 100 | 1e-6 | 4e-5 | 6e-7 |
//! | 1,000 | 1e-6 | 4e-4 | 6e-7 |
//! | 10,000 | 1e-6 | 4e-3 | 6e-7 |
//!
//! In l2, over all outputs, it loses about twice what the direct way loses (5e-7), however the pixels
//! differ. A network's logits on photographs stay within what two runs of PyTorch on different machines
//! differ by. Who needs every digit of dark places sets `CONVZOO_WINOGRAD=off`: see
//! [`check_environment`](crate::ops::check_environment).

#![allow(clippy::needless_range_loop)] // indices are those of the equations

use rayon::prelude::*;

use super::conv::{Finish, Maps};
use super::lanes::{Isa, LANES, Lanes, for_each_isa, padded};
use super::pack::WeightShape;
use super::pixels::MapsMut;
use super::shared::Shared;
use super::tile::{self, Dot, Epilogue, Outer};
use super::{grown, maps_len};
use crate::ops::{Im2col, settings};

/// Values of a transformed tile.
const POINTS: usize = 36;
/// Outputs along a side of a tile.
const SIDE: usize = 4;
/// Inputs along a side of a tile.
const SEEN: usize = 6;
/// Tiles that a thread takes through the forward pass at a time: three register tiles of rows.
const BLOCK: usize = 42;
/// Rows of filters that are transformed together: in memory they stand next to each other, and would be
/// fetched again for each.
const ROWS: usize = 8;
/// Values of V and dM that the backward pass holds at a time.
const HELD: usize = 6 << 20;

thread_local! {
    /// V and M of a block of tiles, kept from call to call.
    static BLOCKS: std::cell::RefCell<(Vec<f32>, Vec<f32>)> = const {
        std::cell::RefCell::new((Vec::new(), Vec::new()))
    };
}

/// V, dM and dU of the backward pass, kept from call to call: fresh memory costs more than what is
/// computed in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scratch {
    v: Vec<f32>,
    m: Vec<f32>,
    du: Vec<f32>,
}

/// The tiles of a convolution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Winograd {
    input: (usize, usize),
    output: (usize, usize),
    padding: (usize, usize),
    /// Tiles downwards and to the right.
    tiles: (usize, usize),
}

/// The weights of a convolution, transformed: for each ξ the panels of a matrix.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filters {
    data: Vec<f32>,
    depth: usize,
    wide: usize,
}

impl Filters {
    /// Whether all matrices are there.
    fn are_whole(&self) -> bool {
        self.data.len() >= maps_len(&[POINTS, self.depth], self.wide, self.wide)
    }

    /// The panels of matrix ξ, from column `first` on.
    fn panel(&self, xi: usize, first: usize) -> &[f32] {
        &self.data[(xi * self.wide + first) * self.depth..]
    }
}

impl Winograd {
    /// The tiles of a window, if it is one of 3×3 at stride 1.
    pub(crate) fn new(window: &Im2col) -> Option<Self> {
        let fits = window.kernel == (3, 3) && window.stride == (1, 1) && window.dilation == (1, 1);
        let Im2col { input, output, padding, .. } = *window;
        let tiles = (output.0.div_ceil(SIDE), output.1.div_ceil(SIDE));
        fits.then_some(Winograd { input, output, padding, tiles })
    }

    fn tiles(&self) -> usize {
        self.tiles.0 * self.tiles.1
    }

    /// Whether this is faster than the direct way: it is where the products that it saves outweigh the
    /// transforms and the weights, which grow from 9 to 36 values a filter.
    pub(crate) fn pays(&self, pictures: usize, channels: usize, outputs: usize) -> bool {
        self.cost(pictures, channels, outputs, 12.0) < 0.9
    }

    /// [`Winograd::pays`] for the backward pass, where the weights are read and written more often.
    pub(crate) fn pays_backward(&self, pictures: usize, channels: usize, outputs: usize) -> bool {
        self.cost(pictures, channels, outputs, 30.0) < 0.75
    }

    /// An estimate of the time this takes as a share of the direct way's, `weight` being the time for
    /// one transformed weight over that for a product of a row with it (measured).
    fn cost(&self, pictures: usize, channels: usize, outputs: usize, weight: f64) -> f64 {
        if channels < 2 * LANES || outputs < 2 * LANES || !settings().winograd {
            return f64::INFINITY;
        }
        // Products along a side that do not fall on padding.
        let side = |size: usize, out: usize, padding: usize| {
            let inside = |o: usize| (0..3).filter(|k| (o + k).wrapping_sub(padding) < size).count();
            (0..out).map(inside).sum::<usize>()
        };
        let direct = side(self.input.0, self.output.0, self.padding.0)
            * side(self.input.1, self.output.1, self.padding.1)
            * pictures;
        let rows = (self.tiles() * pictures) as f64;
        let transforms = 1.0 + 25.0 / channels as f64 + 25.0 / outputs as f64;
        POINTS as f64 * (rows * transforms + weight) / direct as f64
    }

    /// Where tile `t` of a batch begins: picture, and row and column of its first output.
    fn place(&self, t: usize) -> (usize, usize, usize) {
        let (n, t) = (t / self.tiles(), t % self.tiles());
        (n, t / self.tiles.1 * SIDE, t % self.tiles.1 * SIDE)
    }

    /// `y = finish(conv(x, w))`, `filters` those of [`Filters::forward`].
    ///
    /// # Panics
    /// If a slice is shorter than its shape: the caller has checked its shapes.
    pub(crate) fn forward(
        &self,
        isa: Isa,
        pictures: usize,
        x: Maps<'_>,
        filters: &Filters,
        y: MapsMut<'_>,
        finish: Finish<'_>,
    ) {
        let (channels, wide) = (filters.depth, filters.wide);
        let wide_in = padded(channels);
        assert!(filters.are_whole(), "filters too short");
        check(pictures, self.input, (x.data.len(), x.step), wide_in);
        check(pictures, self.output, (y.data.len(), y.step), wide);
        let (step, len, y) = (y.step, y.data.len(), Shared::new(y.data));
        let total = pictures * self.tiles();
        let blocks = total.div_ceil(BLOCK);
        (0..blocks).into_par_iter().with_max_len(1).for_each(|block| {
            BLOCKS.with_borrow_mut(|(v, m)| {
                let first = block * total / blocks;
                let rows = (block + 1) * total / blocks - first;
                let (v_step, m_step) = (wide_in + LANES, wide + LANES);
                let v = grown(v, POINTS * rows * v_step);
                let m = grown(m, POINTS * rows * m_step);
                for row in 0..rows {
                    let source = self.source(x, first + row, wide_in);
                    let to = v[row * v_step..].as_mut_ptr();
                    // SAFETY: the pixels of `source` have `wide_in` values; v holds this row of every matrix.
                    unsafe { transform_input(isa, source, wide_in, to, rows * v_step) };
                }
                for xi in 0..POINTS {
                    let from = v[xi * rows * v_step..].as_ptr();
                    let to = m[xi * rows * m_step..].as_mut_ptr();
                    // SAFETY: v and m hold `rows` rows of this matrix.
                    unsafe { product(isa, rows, from, v_step, filters, xi, to, m_step) };
                }
                for row in 0..rows {
                    let (n, oh, ow) = self.place(first + row);
                    let target = Target {
                        at: y.at(((n * self.output.0 + oh) * self.output.1 + ow) * step),
                        rows: SIDE.min(self.output.0 - oh),
                        cols: SIDE.min(self.output.1 - ow),
                        row_step: self.output.1 * step,
                        step,
                    };
                    let epilogue = finish.epilogue(y.at(0), len, 0, wide);
                    let from = m[row * m_step..].as_ptr();
                    // SAFETY: m holds this row of every matrix, the target lies inside y, and no
                    // other thread writes these outputs.
                    unsafe { transform_output(isa, from, rows * m_step, wide, target, epilogue) };
                }
            });
        });
    }

    /// The gradients: of the weights into `dw` [9][C][padded(O)] if given, and of the input into `dx`
    /// if given, with `filters` those of [`Filters::backward`].
    ///
    /// # Panics
    /// If a slice is shorter than its shape: the caller has checked its shapes.
    #[allow(clippy::too_many_arguments)] // two maps, two results, and how they go together
    pub(crate) fn backward(
        &self,
        isa: Isa,
        scratch: &mut Scratch,
        pictures: usize,
        x: Maps<'_>,
        dy: Maps<'_>,
        shape: WeightShape,
        mut dw: Option<&mut [f32]>,
        mut dx: Option<(&Filters, MapsMut<'_>)>,
        add: bool,
    ) {
        let (wide_in, wide) = (padded(shape.inputs), padded(shape.outputs));
        let dw_len = maps_len(&[9, shape.inputs], wide, wide);
        assert!(dw.as_ref().is_none_or(|dw| dw.len() >= dw_len), "dw too short");
        let of_shape = |filters: &Filters| {
            filters.are_whole() && (filters.depth, filters.wide) == (shape.outputs, wide_in)
        };
        assert!(dx.as_ref().is_none_or(|dx| of_shape(dx.0)), "filters of another shape");
        check(pictures, self.input, (x.data.len(), x.step), wide_in);
        check(pictures, self.output, (dy.data.len(), dy.step), wide);
        let (v_step, m_step) = (wide_in + LANES, wide + LANES);
        let tiles = self.tiles();
        let some = (HELD / (POINTS * tiles * (v_step + m_step))).clamp(1, pictures.max(1));
        let Scratch { v, m, du } = scratch;
        let du = grown(du, if dw.is_some() { POINTS * shape.inputs * wide } else { 0 });
        if let Some((_, dx)) = &mut dx
            && !add
        {
            let len = pictures * self.input.0 * self.input.1;
            dx.each(len, wide_in, |_, pixel| pixel.fill(0.0));
        }
        for first in (0..pictures).step_by(some) {
            let count = some.min(pictures - first);
            let rows = count * tiles;
            let v = grown(v, POINTS * rows * v_step);
            let m = grown(m, POINTS * rows * m_step);
            self.transform_gradient(isa, first, rows, dy, wide, m);
            if dw.is_some() {
                self.transform_pictures(isa, first, rows, x, wide_in, v);
                weight_products(isa, rows, (v, v_step), (m, m_step), shape, du, first > 0);
            }
            if let Some((filters, dx)) = &mut dx {
                input_products(isa, rows, (m, m_step), filters, (v, v_step));
                self.add_pictures(isa, first, count, (v, v_step), wide_in, dx);
            }
        }
        if let Some(dw) = &mut dw {
            transform_weight_gradient(isa, du, shape, dw);
        }
    }

    /// The 6×6 pixels of a picture under the tile whose first output is (oh, ow); none in the padding.
    fn seen(&self, oh: usize, ow: usize) -> [Option<usize>; SEEN * SEEN] {
        std::array::from_fn(|i| {
            let h = (oh + i / SEEN).wrapping_sub(self.padding.0);
            let w = (ow + i % SEEN).wrapping_sub(self.padding.1);
            (h < self.input.0 && w < self.input.1).then_some(h * self.input.1 + w)
        })
    }

    /// The values of the pixels under tile `t` of a batch; null in the padding.
    fn source(&self, x: Maps<'_>, t: usize, wide_in: usize) -> [*const f32; SEEN * SEEN] {
        let (n, oh, ow) = self.place(t);
        let first = n * self.input.0 * self.input.1;
        let values = |p: Option<usize>| p.map(|p| x.pixel(first + p, wide_in).as_ptr());
        self.seen(oh, ow).map(|pixel| values(pixel).unwrap_or(std::ptr::null()))
    }

    /// V of some tiles, [36][rows][v_step].
    fn transform_pictures(
        &self,
        isa: Isa,
        first: usize,
        rows: usize,
        x: Maps<'_>,
        wide_in: usize,
        v: &mut [f32],
    ) {
        let step = wide_in + LANES;
        let v = Shared::new(v);
        (0..rows).into_par_iter().with_min_len(8).for_each(|row| {
            let source = self.source(x, first * self.tiles() + row, wide_in);
            // SAFETY: the pixels of `source` have `wide_in` values; v holds this row of every matrix, which no
            // other thread writes.
            unsafe { transform_input(isa, source, wide_in, v.at(row * step), rows * step) };
        });
    }

    /// dM of some tiles, [36][rows][m_step].
    fn transform_gradient(
        &self,
        isa: Isa,
        first: usize,
        rows: usize,
        dy: Maps<'_>,
        wide: usize,
        m: &mut [f32],
    ) {
        let step = wide + LANES;
        let m = Shared::new(m);
        (0..rows).into_par_iter().with_min_len(8).for_each(|row| {
            let (n, oh, ow) = self.place(first * self.tiles() + row);
            let mut pixels = [std::ptr::null(); SIDE * SIDE];
            for (i, pixel) in pixels.iter_mut().enumerate() {
                let (h, w) = (oh + i / SIDE, ow + i % SIDE);
                if h < self.output.0 && w < self.output.1 {
                    let at = (n * self.output.0 + h) * self.output.1 + w;
                    *pixel = dy.pixel(at, wide).as_ptr();
                }
            }
            // SAFETY: the pixels have `wide` values; m holds this row of every matrix, which no
            // other thread writes.
            unsafe { transform_output_adjoint(isa, pixels, wide, m.at(row * step), rows * step) };
        });
    }

    /// Adds B dV Bᵀ of each tile to the pixels it was made of, picture by picture.
    fn add_pictures(
        &self,
        isa: Isa,
        first: usize,
        count: usize,
        (dv, v_step): (&[f32], usize),
        wide_in: usize,
        dx: &mut MapsMut<'_>,
    ) {
        let (tiles, rows) = (self.tiles(), count * self.tiles());
        let step = dx.step;
        let picture = self.input.0 * self.input.1 * step;
        let pictures = dx.data.par_chunks_mut(picture).skip(first).take(count).enumerate();
        pictures.for_each(|(n, dx)| {
            for t in 0..tiles {
                let (_, oh, ow) = self.place(t);
                let mut values =
                    |p: Option<usize>| p.map(|p| dx[p * step..][..wide_in].as_mut_ptr());
                let pixels = self.seen(oh, ow).map(|p| values(p).unwrap_or(std::ptr::null_mut()));
                let from = dv[(n * tiles + t) * v_step..].as_ptr();
                // SAFETY: dv holds this row of every matrix; the pixels have `wide_in` values.
                unsafe { transform_input_adjoint(isa, from, rows * v_step, wide_in, pixels) };
            }
        });
    }
}

/// Refuses maps that are shorter than so many pictures of this size.
fn check(pictures: usize, size: (usize, usize), (len, step): (usize, usize), wide: usize) {
    assert!(len >= maps_len(&[pictures, size.0, size.1], step, wide), "maps too short");
}

/// Where a tile's outputs go.
#[derive(Clone, Copy)]
struct Target {
    at: *mut f32,
    rows: usize,
    cols: usize,
    row_step: usize,
    step: usize,
}

/// `y = x·U[ξ]` for `rows` rows.
///
/// # Safety
/// x holds `rows` rows of `filters.depth` values, y of `filters.wide`.
#[allow(clippy::too_many_arguments)] // two matrices and their strides
unsafe fn product(
    isa: Isa,
    rows: usize,
    x: *const f32,
    x_step: usize,
    filters: &Filters,
    xi: usize,
    y: *mut f32,
    y_step: usize,
) {
    let (most, vectors) = isa.tile();
    let tiles = rows.div_ceil(most);
    let epilogue = Epilogue { bias: std::ptr::null(), residual: None, relu: false };
    for first in (0..filters.wide).step_by(vectors * LANES) {
        let vectors = vectors.min((filters.wide - first) / LANES);
        for t in 0..tiles {
            let rows = t * rows / tiles..(t + 1) * rows / tiles;
            let mut xs = [std::ptr::null(); 14];
            let mut ys = [std::ptr::null_mut(); 14];
            for (i, row) in rows.clone().enumerate() {
                (xs[i], ys[i]) = (x.wrapping_add(row * x_step), y.wrapping_add(row * y_step));
            }
            let dot = Dot {
                x: xs.as_ptr(),
                next: std::ptr::null(),
                taps: &0,
                tap_count: 1,
                depth: filters.depth,
                w: filters.panel(xi, first).as_ptr(),
                y: ys.as_ptr(),
                column: first,
                epilogue,
            };
            // SAFETY: the caller's.
            unsafe { tile::dot(isa, rows.len(), vectors, dot) };
        }
    }
}

/// dV[ξ] = dM[ξ]·U[ξ]ᵀ
fn input_products(
    isa: Isa,
    rows: usize,
    (m, m_step): (&[f32], usize),
    filters: &Filters,
    (dv, v_step): (&mut [f32], usize),
) {
    let parts = rows.div_ceil(4 * BLOCK);
    let dv = Shared::new(dv);
    (0..POINTS * parts).into_par_iter().with_max_len(1).for_each(|item| {
        let (xi, part) = (item / parts, item % parts);
        let own = part * rows / parts..(part + 1) * rows / parts;
        let (from, to) = ((xi * rows + own.start) * m_step, (xi * rows + own.start) * v_step);
        // SAFETY: m and dv hold all rows of this matrix; no other item writes these.
        unsafe {
            product(isa, own.len(), m[from..].as_ptr(), m_step, filters, xi, dv.at(to), v_step);
        }
    });
}

/// dU[ξ] = V[ξ]ᵀ·dM[ξ], [36][C][padded(O)], added where `add`.
#[allow(clippy::too_many_arguments)] // two matrices, the result, and their strides
fn weight_products(
    isa: Isa,
    rows: usize,
    (v, v_step): (&[f32], usize),
    (m, m_step): (&[f32], usize),
    shape: WeightShape,
    du: &mut [f32],
    add: bool,
) {
    let (depth, wide) = (shape.inputs, padded(shape.outputs));
    let (most, vectors) = isa.tile();
    let tiles = depth.div_ceil(most);
    let du = Shared::new(du);
    (0..POINTS).into_par_iter().with_max_len(1).for_each(|xi| {
        for o in (0..wide).step_by(vectors * LANES) {
            let vectors = vectors.min((wide - o) / LANES);
            for t in 0..tiles {
                let c = t * depth / tiles..(t + 1) * depth / tiles;
                let outer = Outer {
                    x: v[xi * rows * v_step + c.start..].as_ptr(),
                    y: m[xi * rows * m_step + o..].as_ptr(),
                    x_picture: 0,
                    y_picture: 0,
                    x_step: v_step,
                    y_step: m_step,
                    pictures: 1,
                    runs: &(0, 0, rows),
                    run_count: 1,
                    sums: du.at((xi * depth + c.start) * wide + o),
                    sum_step: wide,
                    add,
                };
                // SAFETY: v, m and du hold all of this matrix, which no other item writes.
                unsafe { tile::outer(isa, c.len(), vectors, outer) };
            }
        }
    });
}

impl Filters {
    /// U = G w Gᵀ of weights [O, C, 3, 3], as the forward pass multiplies with it.
    pub(crate) fn forward(&mut self, isa: Isa, w: &[f32], shape: WeightShape) {
        let WeightShape { inputs, outputs, .. } = shape;
        self.fill(isa, inputs, outputs, |c, o| {
            w.get((o * inputs + c) * 9..(o * inputs + c) * 9 + 9)
        });
    }

    /// Uᵀ, as the backward pass multiplies with it.
    pub(crate) fn backward(&mut self, isa: Isa, w: &[f32], shape: WeightShape) {
        let WeightShape { inputs, outputs, .. } = shape;
        self.fill(isa, outputs, inputs, |o, c| match c < inputs {
            true => w.get((o * inputs + c) * 9..(o * inputs + c) * 9 + 9),
            false => None,
        });
    }

    /// Panels of [depth][columns], `taps(row, column)` being the nine weights there.
    fn fill<'w>(
        &mut self,
        isa: Isa,
        depth: usize,
        columns: usize,
        taps: impl Fn(usize, usize) -> Option<&'w [f32]> + Sync,
    ) {
        let (width, wide) = (isa.tile().1 * LANES, padded(columns));
        (self.depth, self.wide) = (depth, wide);
        self.data.resize(POINTS * depth * wide, 0.0);
        let data = Shared::new(&mut self.data);
        (0..depth.div_ceil(ROWS)).into_par_iter().for_each(|block| {
            for first in (0..wide).step_by(LANES) {
                let panel = first / width * width;
                let width = width.min(wide - panel);
                for d in block * ROWS..((block + 1) * ROWS).min(depth) {
                    let mut lanes = [0.0; 9 * LANES];
                    for j in 0..LANES {
                        let taps = taps(d, first + j).unwrap_or_default();
                        taps.iter().enumerate().for_each(|(tap, &w)| lanes[tap * LANES + j] = w);
                    }
                    let to = data.at(panel * depth + d * width + first - panel);
                    // SAFETY: the 36 matrices lie `depth · wide` apart, and no other thread writes
                    // the rows d of their panels.
                    unsafe { transform_weight(isa, &lanes, to, depth * wide) };
                }
            }
        });
    }
}

/// The points at which the polynomials are evaluated: 0, ±A, ±B, ∞. Of those whose powers are short
/// binary fractions, these lose fewest digits; 0, ±1, ±2, ∞ lose twice as many, at edges eight times.
const A: f64 = 5.0 / 8.0;
const B: f64 = 3.0 / 2.0;
/// The same as a run records them: other points give other bits.
pub(crate) const POINTS_USED: &str = "5/8 3/2";
/// A² and B², the sum of both, and their product.
const A2: f64 = A * A;
const B2: f64 = B * B;
const SUM: f64 = A2 + B2;
const PRODUCT: f64 = A2 * B2;
/// What the weights at ±A and at ±B are divided by.
const AT_A: f64 = 2.0 * A2 * (A2 - B2);
const AT_B: f64 = 2.0 * B2 * (B2 - A2);

/// The number nearest to `value`, in every lane.
#[inline(always)]
unsafe fn all<V: Lanes>(value: f64) -> V {
    // SAFETY: the caller has the instructions of V.
    unsafe { V::splat(value as f32) }
}

/// Bᵀ d.
#[inline(always)]
unsafe fn input_side<V: Lanes>(d: [V; 6]) -> [V; 6] {
    // SAFETY (whole function): the caller has the instructions of V.
    unsafe {
        let (sum, product) = (all::<V>(-SUM), all::<V>(PRODUCT));
        let (even_a, odd_a) = (d[2].fma(all(-B2), d[4]), d[1].fma(all(-B2), d[3]));
        let (even_b, odd_b) = (d[2].fma(all(-A2), d[4]), d[1].fma(all(-A2), d[3]));
        [
            d[0].fma(product, d[2].fma(sum, d[4])),
            odd_a.fma(all(A), even_a),
            odd_a.fma(all(-A), even_a),
            odd_b.fma(all(B), even_b),
            odd_b.fma(all(-B), even_b),
            d[1].fma(product, d[3].fma(sum, d[5])),
        ]
    }
}

/// B t, the adjoint of [`input_side`].
#[inline(always)]
unsafe fn input_side_adjoint<V: Lanes>(t: [V; 6]) -> [V; 6] {
    // SAFETY (whole function): the caller has the instructions of V.
    unsafe {
        let (sum, product) = (all::<V>(-SUM), all::<V>(PRODUCT));
        let (even_a, odd_a) = (t[1].add(t[2]), t[1].sub(t[2]));
        let (even_b, odd_b) = (t[3].add(t[4]), t[3].sub(t[4]));
        [
            t[0].mul(product),
            t[5].fma(product, odd_a.fma(all(-A * B2), odd_b.mul(all(-A2 * B)))),
            t[0].fma(sum, even_a.fma(all(-B2), even_b.mul(all(-A2)))),
            t[5].fma(sum, odd_a.fma(all(A), odd_b.mul(all(B)))),
            t[0].add(even_a).add(even_b),
            t[5],
        ]
    }
}

/// Aᵀ m.
#[inline(always)]
unsafe fn output_side<V: Lanes>(m: [V; 6]) -> [V; 4] {
    // SAFETY (whole function): the caller has the instructions of V.
    unsafe {
        let (even_a, odd_a) = (m[1].add(m[2]), m[1].sub(m[2]));
        let (even_b, odd_b) = (m[3].add(m[4]), m[3].sub(m[4]));
        [
            m[0].add(even_a).add(even_b),
            odd_a.fma(all(A), odd_b.mul(all(B))),
            even_a.fma(all(A2), even_b.mul(all(B2))),
            odd_a.fma(all(A * A2), odd_b.fma(all(B * B2), m[5])),
        ]
    }
}

/// A y, the adjoint of [`output_side`].
#[inline(always)]
unsafe fn output_side_adjoint<V: Lanes>(y: [V; 4]) -> [V; 6] {
    // SAFETY (whole function): the caller has the instructions of V.
    unsafe {
        let (even_a, odd_a) = (y[2].fma(all(A2), y[0]), y[3].fma(all(A2), y[1]));
        let (even_b, odd_b) = (y[2].fma(all(B2), y[0]), y[3].fma(all(B2), y[1]));
        [
            y[0],
            odd_a.fma(all(A), even_a),
            odd_a.fma(all(-A), even_a),
            odd_b.fma(all(B), even_b),
            odd_b.fma(all(-B), even_b),
            y[3],
        ]
    }
}

for_each_isa! {
    /// V = Bᵀ d B of one tile: row of each of the 36 matrices, which lie `matrix` apart.
    unsafe fn transform_input<V>(source: [*const f32; SEEN * SEEN], wide: usize, to: *mut f32, matrix: usize) {
        // SAFETY (whole function): the caller promises that pixels and rows have `wide` values.
        unsafe {
            for c in (0..wide).step_by(LANES) {
                let mut half = [[V::splat(0.0); 6]; 6];
                for col in 0..6 {
                    let d = std::array::from_fn(|row| {
                        let pixel = source[row * SEEN + col];
                        if pixel.is_null() { V::splat(0.0) } else { V::load(pixel.add(c)) }
                    });
                    half[col] = input_side::<V>(d);
                }
                for row in 0..6 {
                    let v = input_side::<V>(std::array::from_fn(|col| half[col][row]));
                    for col in 0..6 {
                        v[col].store(to.add((row * 6 + col) * matrix + c));
                    }
                }
            }
        }
    }
}

for_each_isa! {
    /// Adds B dV Bᵀ of one tile to its pixels.
    unsafe fn transform_input_adjoint<V>(
        from: *const f32,
        matrix: usize,
        wide: usize,
        pixels: [*mut f32; SEEN * SEEN],
    ) {
        // SAFETY (whole function): the caller promises that pixels and rows have `wide` values.
        unsafe {
            for c in (0..wide).step_by(LANES) {
                let mut half = [[V::splat(0.0); 6]; 6];
                for col in 0..6 {
                    let t = std::array::from_fn(|row| {
                        V::load(from.add((row * 6 + col) * matrix + c))
                    });
                    half[col] = input_side_adjoint::<V>(t);
                }
                for row in 0..6 {
                    let d = input_side_adjoint::<V>(std::array::from_fn(|col| half[col][row]));
                    for col in 0..6 {
                        let pixel = pixels[row * SEEN + col];
                        if !pixel.is_null() {
                            V::load(pixel.add(c)).add(d[col]).store(pixel.add(c));
                        }
                    }
                }
            }
        }
    }
}

for_each_isa! {
    /// y = finish(Aᵀ M A) of one tile.
    unsafe fn transform_output<V>(
        from: *const f32,
        matrix: usize,
        wide: usize,
        target: Target,
        epilogue: Epilogue,
    ) {
        // SAFETY (whole function): the caller promises that pixels and rows have `wide` values.
        unsafe {
            for c in (0..wide).step_by(LANES) {
                let mut half = [[V::splat(0.0); 4]; 6];
                for col in 0..6 {
                    let m = std::array::from_fn(|row| {
                        V::load(from.add((row * 6 + col) * matrix + c))
                    });
                    half[col] = output_side::<V>(m);
                }
                for row in 0..target.rows {
                    let y = output_side::<V>(std::array::from_fn(|col| half[col][row]));
                    for col in 0..target.cols {
                        let at = target.at.add(row * target.row_step + col * target.step + c);
                        let mut sum = y[col];
                        if !epilogue.bias.is_null() {
                            sum = sum.add(V::load(epilogue.bias.add(c)));
                        }
                        if let Some(bytes) = epilogue.residual {
                            sum = sum.add(V::load(at.byte_offset(bytes)));
                        }
                        if epilogue.relu {
                            sum = V::splat(0.0).max(sum); // in this order a NaN stays one
                        }
                        sum.store(at);
                    }
                }
            }
        }
    }
}

for_each_isa! {
    /// dM = A dy Aᵀ of one tile.
    unsafe fn transform_output_adjoint<V>(
        pixels: [*const f32; SIDE * SIDE],
        wide: usize,
        to: *mut f32,
        matrix: usize,
    ) {
        // SAFETY (whole function): the caller promises that pixels and rows have `wide` values.
        unsafe {
            for c in (0..wide).step_by(LANES) {
                let mut half = [[V::splat(0.0); 6]; 4];
                for col in 0..4 {
                    let y = std::array::from_fn(|row| {
                        let pixel = pixels[row * SIDE + col];
                        if pixel.is_null() { V::splat(0.0) } else { V::load(pixel.add(c)) }
                    });
                    half[col] = output_side_adjoint::<V>(y);
                }
                for row in 0..6 {
                    let m = output_side_adjoint::<V>(std::array::from_fn(|col| half[col][row]));
                    for col in 0..6 {
                        m[col].store(to.add((row * 6 + col) * matrix + c));
                    }
                }
            }
        }
    }
}

/// G g.
#[inline(always)]
unsafe fn weight_side<V: Lanes>(g: [V; 3]) -> [V; 6] {
    // SAFETY (whole function): the caller has the instructions of V.
    unsafe {
        let even_a = g[2].fma(all(A2 / AT_A), g[0].mul(all(1.0 / AT_A)));
        let even_b = g[2].fma(all(B2 / AT_B), g[0].mul(all(1.0 / AT_B)));
        let (odd_a, odd_b) = (g[1].mul(all(A / AT_A)), g[1].mul(all(B / AT_B)));
        [
            g[0].mul(all(1.0 / PRODUCT)),
            even_a.add(odd_a),
            even_a.sub(odd_a),
            even_b.add(odd_b),
            even_b.sub(odd_b),
            g[2],
        ]
    }
}

/// Gᵀ u, the adjoint of [`weight_side`].
#[inline(always)]
unsafe fn weight_side_adjoint<V: Lanes>(u: [V; 6]) -> [V; 3] {
    // SAFETY (whole function): the caller has the instructions of V.
    unsafe {
        let (even_a, odd_a) = (u[1].add(u[2]), u[1].sub(u[2]));
        let (even_b, odd_b) = (u[3].add(u[4]), u[3].sub(u[4]));
        let first = even_a.fma(all(1.0 / AT_A), even_b.mul(all(1.0 / AT_B)));
        [
            u[0].fma(all(1.0 / PRODUCT), first),
            odd_a.fma(all(A / AT_A), odd_b.mul(all(B / AT_B))),
            even_a.fma(all(A2 / AT_A), even_b.fma(all(B2 / AT_B), u[5])),
        ]
    }
}

for_each_isa! {
    /// U = G w Gᵀ of sixteen filters, [9][16], to 36 matrices that lie `matrix` apart.
    unsafe fn transform_weight<V>(w: &[f32; 9 * LANES], to: *mut f32, matrix: usize) {
        // SAFETY (whole function): the caller promises that each matrix has a vector there.
        unsafe {
            let mut half = [[V::splat(0.0); 6]; 3];
            for col in 0..3 {
                half[col] = weight_side::<V>(std::array::from_fn(|row| {
                    V::load(w.as_ptr().add((row * 3 + col) * LANES))
                }));
            }
            for row in 0..6 {
                let u = weight_side::<V>(std::array::from_fn(|col| half[col][row]));
                for col in 0..6 {
                    u[col].store(to.add((row * 6 + col) * matrix));
                }
            }
        }
    }
}

/// dw = Gᵀ dU G, [9][C][padded(O)] from [36][C][padded(O)].
fn transform_weight_gradient(isa: Isa, du: &[f32], shape: WeightShape, dw: &mut [f32]) {
    let wide = padded(shape.outputs);
    let matrix = shape.inputs * wide;
    let dw = Shared::new(dw);
    (0..matrix / LANES).into_par_iter().with_min_len(64).for_each(|i| {
        // SAFETY: both have all vectors of their matrices, and no other thread writes these.
        unsafe {
            transform_weight_adjoint(isa, du[i * LANES..].as_ptr(), dw.at(i * LANES), matrix);
        }
    });
}

for_each_isa! {
    /// dw = Gᵀ dU G of sixteen filters; the matrices lie `matrix` apart.
    unsafe fn transform_weight_adjoint<V>(from: *const f32, to: *mut f32, matrix: usize) {
        // SAFETY (whole function): the caller promises that each matrix has a vector there.
        unsafe {
            let mut half = [[V::splat(0.0); 3]; 6];
            for col in 0..6 {
                half[col] = weight_side_adjoint::<V>(std::array::from_fn(|row| {
                    V::load(from.add((row * 6 + col) * matrix))
                }));
            }
            for row in 0..3 {
                let w = weight_side_adjoint::<V>(std::array::from_fn(|col| half[col][row]));
                for col in 0..3 {
                    w[col].store(to.add((row * 3 + col) * matrix));
                }
            }
        }
    }
}
