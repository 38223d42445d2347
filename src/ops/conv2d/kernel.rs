//! Convolution as the CPU runs it: im2col of a cache-sized tile, then a product, tiles spread over
//! threads.
//!
//! A tile is a band of output rows of one picture where maps are large, and several whole pictures
//! where they are small, so that every product has some hundreds of columns. Where the whole batch
//! makes but a tile or two, the product's rows are spread over threads instead. How the work is cut
//! depends on the shapes alone, and partial weight gradients are added in a fixed order: the bits do
//! not depend on the number of threads.

use std::ops::Range;

use rayon::prelude::*;

use super::{Conv2dShape, channels_last, pointwise};
use crate::ops::gemm::gemm_on_threads;
use crate::ops::nhwc::conv::Gather;
use crate::ops::weighted::{Grads, Wants};
use crate::ops::{Im2col, Mat, MatMut, Real, gemm};

/// Columns of a tile's matrix, near enough: its product then runs at full speed, and its columns
/// stay in the second-level cache.
const TILE_COLUMNS: usize = 576;
/// The fewest columns worth a tile of their own.
const LEAST_COLUMNS: usize = 192;
/// The fewest tiles that keep a few threads busy.
const LEAST_TILES: usize = 4;
/// Into how many parts the batch is cut for the weight gradient, at most.
pub(super) const WEIGHT_PARTS: usize = 8;

/// `y = w · im2col(x) + b`, [N, O, OH, OW].
///
/// # Panics
/// If a slice is shorter than `shape` says, or that is no shape that [`Conv2dShape::new`] gives.
pub fn forward<T: Real>(shape: &Conv2dShape, x: &[T], w: &[T], b: Option<&[T]>) -> Vec<T> {
    shape.assert_holds(x.len(), w.len(), b.map(<[T]>::len), None);
    let len = shape.output().iter().product();
    if pointwise::suits(shape) && len > 0 {
        let mut y = pointwise::forward(shape, x, w);
        if let Some(b) = b {
            add_bias(&mut y, b, shape.window.cols());
        }
        return y;
    }
    let mut y = vec![T::zero(); len];
    if len == 0 {
        return y;
    }
    if in_vectors(shape)
        && let (Some(x), Some(w)) = (T::as_f32(x), T::as_f32(w))
        && let Some(y) = T::as_f32_mut(&mut y)
    {
        channels_last::forward(shape, x, w, b.and_then(T::as_f32), y);
    } else {
        forward_by_columns(shape, x, w, b, &mut y);
    }
    y
}

/// Whether the kernel for f32 that works in vectors of channels suits this shape.
fn in_vectors(shape: &Conv2dShape) -> bool {
    // One tap reads every value once: to move the maps would take longer than what is gained.
    let one_tap = shape.window.kernel == (1, 1);
    let wide = shape.window.channels >= channels_last::LEAST_CHANNELS;
    shape.groups == 1 && wide && !one_tap && Gather::counts(&shape.window)
}

/// The forward pass by im2col and a product.
fn forward_by_columns<T: Real>(
    shape: &Conv2dShape,
    x: &[T],
    w: &[T],
    b: Option<&[T]>,
    y: &mut [T],
) {
    let plan = Plan::new(shape);
    let work = |scratch: &mut Scratch<T>, (y, x): (&mut [T], &[T])| {
        for group in 0..shape.groups {
            forward_group(&plan, scratch, group, x, w, y);
        }
        if let Some(b) = b {
            add_bias(y, b, shape.window.cols());
        }
    };
    let (y_len, x_len) = (plan.pictures * plan.y_len(), plan.pictures * plan.x_len());
    if plan.inner {
        let mut scratch = Scratch::new(&plan);
        y.chunks_mut(y_len).zip(x.chunks(x_len)).for_each(|chunk| work(&mut scratch, chunk));
    } else {
        let chunks = y.par_chunks_mut(y_len).zip(x.par_chunks(x_len));
        chunks.for_each_init(|| Scratch::new(&plan), work);
    }
}

/// The gradients that are wanted, from `dy` [N, O, OH, OW].
///
/// # Panics
/// If a slice is shorter than `shape` says, or that is no shape that [`Conv2dShape::new`] gives.
pub fn backward<T: Real>(
    shape: &Conv2dShape,
    x: &[T],
    w: &[T],
    dy: &[T],
    wants: Wants,
) -> Grads<T> {
    shape.assert_holds(x.len(), w.len(), None, Some(dy.len()));
    if let Some(grads) = backward_in_vectors(shape, x, w, dy, wants) {
        return grads;
    }
    if pointwise::suits(shape) && shape.batch > 0 {
        return backward_pointwise(shape, x, w, dy, wants);
    }
    let plan = Plan::new(shape);
    let chunks = shape.batch.div_ceil(plan.pictures).max(1);
    let parts = if plan.inner { 1 } else { WEIGHT_PARTS };
    let part = chunks.div_ceil(parts) * plan.pictures; // pictures of one part
    let mut dx = vec![T::zero(); if wants.input { x.len() } else { 0 }];
    let mut parts: Vec<&mut [T]> = dx.chunks_mut(part * plan.x_len()).collect();
    parts.resize_with(shape.batch.div_ceil(part), Default::default);
    let partial: Vec<Vec<T>> = parts
        .into_par_iter()
        .zip(x.par_chunks(part * plan.x_len()))
        .zip(dy.par_chunks(part * plan.y_len()))
        .map(|((dx, x), dy)| backward_part(&plan, x, w, dy, dx, wants))
        .collect();
    Grads {
        input: wants.input.then_some(dx),
        weight: wants.weight.then(|| sum_in_order(partial, w.len())),
        bias: wants.bias.then(|| bias_gradient(shape, dy)),
    }
}

/// The backward pass of the kernel for f32 that works in vectors of channels, where it suits.
fn backward_in_vectors<T: Real>(
    shape: &Conv2dShape,
    x: &[T],
    w: &[T],
    dy: &[T],
    wants: Wants,
) -> Option<Grads<T>> {
    if !in_vectors(shape) || shape.batch == 0 {
        return None;
    }
    let values = (T::as_f32(x)?, T::as_f32(w)?, T::as_f32(dy)?);
    let mut dx = vec![T::zero(); if wants.input { x.len() } else { 0 }];
    let mut dw = vec![T::zero(); if wants.weight { w.len() } else { 0 }];
    channels_last::backward(shape, values, wants, T::as_f32_mut(&mut dx)?, T::as_f32_mut(&mut dw)?);
    Some(Grads {
        input: wants.input.then_some(dx),
        weight: wants.weight.then_some(dw),
        bias: wants.bias.then(|| bias_gradient(shape, dy)),
    })
}

/// The backward pass of kernels of 1×1.
fn backward_pointwise<T: Real>(
    shape: &Conv2dShape,
    x: &[T],
    w: &[T],
    dy: &[T],
    wants: Wants,
) -> Grads<T> {
    Grads {
        input: wants.input.then(|| pointwise::input_gradient(shape, w, dy)),
        weight: wants.weight.then(|| pointwise::weight_gradient(shape, x, dy)),
        bias: wants.bias.then(|| bias_gradient(shape, dy)),
    }
}

/// The gradient of the weight over some pictures; that of their input is added to `dx`.
fn backward_part<T: Real>(
    plan: &Plan,
    x: &[T],
    w: &[T],
    dy: &[T],
    dx: &mut [T],
    wants: Wants,
) -> Vec<T> {
    let mut scratch = Scratch::new(plan);
    let mut dw = vec![T::zero(); if wants.weight { w.len() } else { 0 }];
    let step = plan.pictures;
    for (i, (x, dy)) in
        x.chunks(step * plan.x_len()).zip(dy.chunks(step * plan.y_len())).enumerate()
    {
        let start = i * step * plan.x_len();
        let dx = if wants.input { &mut dx[start..start + x.len()] } else { &mut [] };
        for group in 0..plan.shape.groups {
            let tensors = Tensors { x, w, dy };
            backward_group(plan, &mut scratch, group, &tensors, dx, &mut dw, wants);
        }
    }
    dw
}

/// What a backward pass reads: some pictures, the whole weight, and the pictures' gradients.
struct Tensors<'a, T> {
    x: &'a [T],
    w: &'a [T],
    dy: &'a [T],
}

/// How a convolution is cut into tiles.
struct Plan<'a> {
    shape: &'a Conv2dShape,
    /// Pictures that one tile spans; 1 where a tile is a band of rows.
    pictures: usize,
    /// Whether threads share a tile, for there are too few tiles to share out.
    inner: bool,
    /// The bands of output rows that a tile of these pictures is worked through in.
    bands: Vec<Band>,
}

/// A band of output rows.
struct Band {
    rows: Range<usize>,
    /// What each tap sees of it, tap after tap.
    runs: Vec<Run>,
}

/// One tap's view of one output row: a run of pixels between two stretches of padding.
struct Run {
    /// The tap's row in the column matrix of one channel.
    tap: usize,
    /// Where the output row begins among the band's columns.
    col: usize,
    /// Places that lie in the padding before the run.
    before: usize,
    /// Places inside the picture.
    len: usize,
    /// The run's first pixel in its channel.
    pixel: usize,
}

impl<'a> Plan<'a> {
    fn new(shape: &'a Conv2dShape) -> Self {
        let (oh, ow) = shape.window.output;
        let batch = shape.batch.max(1);
        let mut pictures = (TILE_COLUMNS / (oh * ow)).clamp(1, batch);
        if batch.div_ceil(pictures) < LEAST_TILES {
            let fewer = batch.div_ceil(LEAST_TILES);
            pictures = if fewer * oh * ow >= LEAST_COLUMNS { fewer } else { pictures };
        }
        let inner = batch.div_ceil(pictures) < LEAST_TILES;
        let rows = (TILE_COLUMNS / ow).clamp(1, oh);
        let band = |first| Band::new(&shape.window, first..(first + rows).min(oh));
        Plan { shape, pictures, inner, bands: (0..oh).step_by(rows).map(band).collect() }
    }

    /// Values of one picture, all groups.
    fn x_len(&self) -> usize {
        self.shape.groups * self.shape.window.pixels()
    }

    /// Values of one picture's output, all groups.
    fn y_len(&self) -> usize {
        self.shape.groups * self.shape.group_out * self.shape.window.cols()
    }

    /// Columns of the largest tile.
    fn columns(&self) -> usize {
        self.pictures * self.bands[0].rows.len() * self.shape.window.output.1
    }

    /// The weight of one group, [O/G, C/G·K].
    fn weight<'w, T: Real>(&self, w: &'w [T], group: usize) -> Mat<'w, T> {
        let (out, rows) = (self.shape.group_out, self.shape.window.rows());
        Mat::new(&w[group * out * rows..], out, rows)
    }

    /// The product, on this thread or on all.
    fn gemm<T: Real>(&self, a: Mat<'_, T>, b: Mat<'_, T>, c: MatMut<'_, T>, add: bool) {
        if self.inner { gemm_on_threads(a, b, c, add) } else { gemm(a, b, c, add) }
    }
}

impl Band {
    fn new(window: &Im2col, rows: Range<usize>) -> Self {
        let ((height, width), (kh, kw)) = (window.input, window.kernel);
        let mut runs = Vec::new();
        for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
            let (before, len, first_x) = inside(window, kx, width);
            for (i, oy) in rows.clone().enumerate() {
                let (tap, col) = (ky * kw + kx, i * window.output.1);
                let y = (oy * window.stride.0 + ky * window.dilation.0)
                    .checked_sub(window.padding.0)
                    .filter(|&y| y < height && len > 0);
                runs.push(match y {
                    Some(y) => Run { tap, col, before, len, pixel: y * width + first_x },
                    None => Run { tap, col, before: 0, len: 0, pixel: 0 },
                });
            }
        }
        Band { rows, runs }
    }
}

/// For tap `kx`: places before the picture, places inside, and the first pixel's x.
fn inside(window: &Im2col, kx: usize, width: usize) -> (usize, usize, usize) {
    let (stride, padding) = (window.stride.1, window.padding.1);
    let offset = kx * window.dilation.1; // x of place ox is ox * stride + offset - padding
    let before = padding.saturating_sub(offset).div_ceil(stride).min(window.output.1);
    let end = (width + padding).saturating_sub(offset).div_ceil(stride).min(window.output.1);
    let first_x = (before * stride + offset).saturating_sub(padding);
    (before, end.saturating_sub(before), first_x)
}

/// What one thread reuses from tile to tile.
struct Scratch<T> {
    /// The column matrix.
    col: Vec<T>,
    /// Outputs, or their gradients, of a tile of several pictures.
    out: Vec<T>,
}

impl<T: Real> Scratch<T> {
    fn new(plan: &Plan) -> Self {
        let columns = plan.columns();
        let out = if plan.pictures > 1 { plan.shape.group_out * columns } else { 0 };
        Scratch {
            col: vec![T::zero(); plan.shape.window.rows() * columns],
            out: vec![T::zero(); out],
        }
    }
}

/// y of one group of some pictures, without bias.
fn forward_group<T: Real>(
    plan: &Plan,
    scratch: &mut Scratch<T>,
    group: usize,
    x: &[T],
    w: &[T],
    y: &mut [T],
) {
    let (window, out) = (&plan.shape.window, plan.shape.group_out);
    let (cols, rows) = (window.cols(), window.rows());
    let w = plan.weight(w, group);
    if plan.pictures == 1 {
        for band in &plan.bands {
            let tile = band.rows.len() * window.output.1;
            gather(plan, band, group, x, &mut scratch.col[..rows * tile]);
            let y = &mut y[group * out * cols + band.rows.start * window.output.1..];
            let col = Mat::new(&scratch.col, rows, tile);
            plan.gemm(w, col, MatMut::strided(y, out, tile, cols), false);
        }
        return;
    }
    let tile = x.len() / plan.x_len() * cols;
    gather(plan, &plan.bands[0], group, x, &mut scratch.col[..rows * tile]);
    let product = MatMut::new(&mut scratch.out, out, tile);
    plan.gemm(w, Mat::new(&scratch.col, rows, tile), product, false);
    for (n, y) in y.chunks_exact_mut(plan.y_len()).enumerate() {
        for (o, y) in y[group * out * cols..][..out * cols].chunks_exact_mut(cols).enumerate() {
            y.copy_from_slice(&scratch.out[o * tile + n * cols..][..cols]);
        }
    }
}

/// Adds the gradients of one group of some pictures to `dx` and `dw`.
fn backward_group<T: Real>(
    plan: &Plan,
    scratch: &mut Scratch<T>,
    group: usize,
    tensors: &Tensors<T>,
    dx: &mut [T],
    dw: &mut [T],
    wants: Wants,
) {
    let Tensors { x, w, dy } = *tensors;
    let (window, out) = (&plan.shape.window, plan.shape.group_out);
    let (cols, rows) = (window.cols(), window.rows());
    let pictures = x.len() / plan.x_len();
    let Scratch { col, out: dy_tile } = scratch;
    for band in &plan.bands {
        let tile = pictures * band.rows.len() * window.output.1;
        let col = &mut col[..rows * tile];
        let dy_mat = if plan.pictures == 1 {
            let first = group * out * cols + band.rows.start * window.output.1;
            Mat::strided(&dy[first..], out, tile, cols)
        } else {
            for (n, dy) in dy.chunks_exact(plan.y_len()).enumerate() {
                for (o, dy) in dy[group * out * cols..].chunks_exact(cols).take(out).enumerate() {
                    dy_tile[o * tile + n * cols..][..cols].copy_from_slice(dy);
                }
            }
            Mat::new(dy_tile, out, tile)
        };
        if wants.weight {
            gather(plan, band, group, x, col);
            let dw = MatMut::new(&mut dw[group * out * rows..], out, rows);
            plan.gemm(dy_mat, Mat::new(col, rows, tile).t(), dw, true);
        }
        if wants.input {
            let dcol = MatMut::new(col, rows, tile);
            plan.gemm(plan.weight(w, group).t(), dy_mat, dcol, false);
            scatter(plan, band, group, col, dx);
        }
    }
}

/// im2col of a band of one group of some pictures: [C/G·K, columns], the pictures side by side.
fn gather<T: Real>(plan: &Plan, band: &Band, group: usize, x: &[T], col: &mut [T]) {
    let window = &plan.shape.window;
    let (plane, x_len) = (window.input.0 * window.input.1, plan.x_len());
    let taps = window.kernel.0 * window.kernel.1;
    let per_picture = band.rows.len() * window.output.1;
    let tile = x.len() / x_len * per_picture;
    let channel = |(c, col): (usize, &mut [T])| {
        let first = group * window.pixels() + c * plane;
        for (n, x) in x.chunks_exact(x_len).enumerate() {
            let x = &x[first..][..plane];
            for run in &band.runs {
                let to = &mut col[run.tap * tile + n * per_picture + run.col..][..window.output.1];
                copy_run(run, window.stride.1, x, to);
            }
        }
    };
    if plan.inner {
        col.par_chunks_exact_mut(taps * tile).enumerate().for_each(channel);
    } else {
        col.chunks_exact_mut(taps * tile).enumerate().for_each(channel);
    }
}

/// One output row of one tap: padding, pixels, padding.
fn copy_run<T: Real>(run: &Run, stride: usize, x: &[T], to: &mut [T]) {
    let (before, rest) = to.split_at_mut(run.before);
    let (inside, after) = rest.split_at_mut(run.len);
    before.fill(T::zero());
    after.fill(T::zero());
    let from = &x[run.pixel..];
    match stride {
        1 if run.len >= 16 => inside.copy_from_slice(&from[..run.len]),
        1 => inside.iter_mut().zip(from).for_each(|(to, &from)| *to = from), // no call for a few
        _ => inside.iter_mut().zip(from.iter().step_by(stride)).for_each(|(to, &from)| *to = from),
    }
}

/// col2im of a band: adds the matrix's columns to the pixels of `dx`.
fn scatter<T: Real>(plan: &Plan, band: &Band, group: usize, col: &[T], dx: &mut [T]) {
    let window = &plan.shape.window;
    let plane = window.input.0 * window.input.1;
    let taps = window.kernel.0 * window.kernel.1;
    let per_picture = band.rows.len() * window.output.1;
    let tile = dx.len() / plan.x_len() * per_picture;
    let picture = |(n, dx): (usize, &mut [T])| {
        let dx = &mut dx[group * window.pixels()..][..window.pixels()];
        for (dx, col) in dx.chunks_exact_mut(plane).zip(col.chunks_exact(taps * tile)) {
            for run in &band.runs {
                let from =
                    &col[run.tap * tile + n * per_picture + run.col + run.before..][..run.len];
                let to = &mut dx[run.pixel..];
                if window.stride.1 == 1 {
                    to[..run.len].iter_mut().zip(from).for_each(|(to, &from)| *to += from);
                } else {
                    let to = to.iter_mut().step_by(window.stride.1);
                    to.zip(from).for_each(|(to, &from)| *to += from);
                }
            }
        }
    };
    if plan.inner {
        dx.par_chunks_exact_mut(plan.x_len()).enumerate().for_each(picture);
    } else {
        dx.chunks_exact_mut(plan.x_len()).enumerate().for_each(picture);
    }
}

fn add_bias<T: Real>(y: &mut [T], b: &[T], cols: usize) {
    for (y, &b) in y.chunks_exact_mut(cols).zip(b.iter().cycle()) {
        y.iter_mut().for_each(|y| *y += b);
    }
}

/// db[o] = Σ over pictures and places of dy, picture by picture.
fn bias_gradient<T: Real>(shape: &Conv2dShape, dy: &[T]) -> Vec<T> {
    let (out, cols) = (shape.groups * shape.group_out, shape.window.cols());
    (0..out)
        .into_par_iter()
        .map(|o| dy.chunks_exact(cols).skip(o).step_by(out).map(|p| p.iter().copied().sum()).sum())
        .collect()
}

/// The parts' sum, part after part.
pub(super) fn sum_in_order<T: Real>(parts: Vec<Vec<T>>, len: usize) -> Vec<T> {
    let mut parts = parts.into_iter();
    let mut sum = parts.next().unwrap_or_else(|| vec![T::zero(); len]);
    for part in parts {
        sum.par_iter_mut().with_min_len(4096).zip(&part).for_each(|(s, &p)| *s += p);
    }
    sum
}
