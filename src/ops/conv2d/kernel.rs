//! Convolution as the CPU runs it: im2col of a cache-sized tile, then a serial GEMM, tiles spread
//! over threads.
//!
//! A tile is a band of output rows of one picture where maps are large, and several whole pictures
//! where they are small, so that every product has some hundreds of columns. How the work is cut
//! depends on the shapes alone, and partial weight gradients are added in a fixed order: the bits do
//! not depend on the number of threads.

use rayon::prelude::*;

use super::{Conv2dGrads, Conv2dShape, Conv2dWants};
use crate::ops::{Im2col, Mat, MatMut, Real, gemm};

/// Columns of a tile's matrix, near enough: its product then runs at full speed, and its columns
/// stay in the second-level cache.
const TILE_COLUMNS: usize = 512;
/// Into how many parts the batch is cut for the weight gradient, at most.
const WEIGHT_PARTS: usize = 8;

/// `y = w · im2col(x) + b`, [N, O, OH, OW].
///
/// # Panics
/// If a slice is shorter than `shape` says.
pub fn forward<T: Real>(shape: &Conv2dShape, x: &[T], w: &[T], b: Option<&[T]>) -> Vec<T> {
    let plan = Plan::new(shape);
    let mut y = vec![T::zero(); shape.output().iter().product()];
    if y.is_empty() {
        return y;
    }
    let x_chunks = x.par_chunks(plan.pictures * plan.x_len());
    y.par_chunks_mut(plan.pictures * plan.y_len()).zip(x_chunks).for_each_init(
        || Scratch::new(&plan),
        |scratch, (y, x)| {
            for group in 0..shape.groups {
                forward_group(&plan, scratch, group, x, w, y);
            }
            if let Some(b) = b {
                add_bias(y, b, shape.window.cols());
            }
        },
    );
    y
}

/// The gradients that are wanted, from `dy` [N, O, OH, OW].
///
/// # Panics
/// If a slice is shorter than `shape` says.
pub fn backward<T: Real>(
    shape: &Conv2dShape,
    x: &[T],
    w: &[T],
    dy: &[T],
    wants: Conv2dWants,
) -> Conv2dGrads<T> {
    let plan = Plan::new(shape);
    let chunks = shape.batch.div_ceil(plan.pictures).max(1);
    let part = chunks.div_ceil(WEIGHT_PARTS) * plan.pictures; // pictures of one part
    let mut dx = vec![T::zero(); if wants.input { x.len() } else { 0 }];
    let mut parts: Vec<&mut [T]> = dx.chunks_mut(part * plan.x_len()).collect();
    parts.resize_with(shape.batch.div_ceil(part), Default::default);
    let partial: Vec<Vec<T>> = parts
        .into_par_iter()
        .zip(x.par_chunks(part * plan.x_len()))
        .zip(dy.par_chunks(part * plan.y_len()))
        .map_init(
            || Scratch::new(&plan),
            |scratch, ((dx, x), dy)| backward_part(&plan, scratch, x, w, dy, dx, wants),
        )
        .collect();
    Conv2dGrads {
        input: wants.input.then_some(dx),
        weight: wants.weight.then(|| sum_in_order(partial, w.len())),
        bias: wants.bias.then(|| bias_gradient(shape, dy)),
    }
}

/// The gradient of the weight over some pictures; that of their input is added to `dx`.
fn backward_part<T: Real>(
    plan: &Plan,
    scratch: &mut Scratch<T>,
    x: &[T],
    w: &[T],
    dy: &[T],
    dx: &mut [T],
    wants: Conv2dWants,
) -> Vec<T> {
    let mut dw = vec![T::zero(); if wants.weight { w.len() } else { 0 }];
    let step = plan.pictures;
    for (i, (x, dy)) in
        x.chunks(step * plan.x_len()).zip(dy.chunks(step * plan.y_len())).enumerate()
    {
        let start = i * step * plan.x_len();
        let dx = if wants.input { &mut dx[start..start + x.len()] } else { &mut [] };
        for group in 0..plan.shape.groups {
            backward_group(plan, scratch, group, x, w, dy, (dx, &mut dw), wants);
        }
    }
    dw
}

/// How a convolution is cut into tiles.
struct Plan<'a> {
    shape: &'a Conv2dShape,
    /// Pictures that one tile spans; 1 where a tile is a band of rows.
    pictures: usize,
    /// Output rows of one tile.
    rows: usize,
}

impl<'a> Plan<'a> {
    fn new(shape: &'a Conv2dShape) -> Self {
        let (oh, ow) = shape.window.output;
        let pictures = (TILE_COLUMNS / (oh * ow)).clamp(1, shape.batch.max(1));
        let rows = (TILE_COLUMNS / ow).clamp(1, oh);
        Plan { shape, pictures, rows }
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
        self.pictures * self.rows * self.shape.window.output.1
    }

    /// The bands of output rows that a tile of these pictures is worked through in.
    fn bands(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let (oh, rows) = (self.shape.window.output.0, self.rows);
        (0..oh).step_by(rows).map(move |first| first..(first + rows).min(oh))
    }

    /// The weight of one group, [O/G, C/G·K].
    fn weight<'w, T: Real>(&self, w: &'w [T], group: usize) -> Mat<'w, T> {
        let (out, rows) = (self.shape.group_out, self.shape.window.rows());
        Mat::new(&w[group * out * rows..], out, rows)
    }
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
        Scratch {
            col: vec![T::zero(); plan.shape.window.rows() * columns],
            out: vec![T::zero(); plan.shape.group_out * columns],
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
        for band in plan.bands() {
            let tile = band.len() * window.output.1;
            gather(window, &x[group * window.pixels()..], &band, &mut scratch.col, (tile, 0));
            let y = &mut y[group * out * cols + band.start * window.output.1..];
            let col = Mat::new(&scratch.col, rows, tile);
            gemm(w, col, MatMut::strided(y, out, tile, cols), false);
        }
        return;
    }
    let pictures = x.len() / plan.x_len();
    let tile = pictures * cols;
    gather_pictures(plan, group, x, &mut scratch.col, tile);
    let product = MatMut::new(&mut scratch.out, out, tile);
    gemm(w, Mat::new(&scratch.col, rows, tile), product, false);
    for (n, y) in y.chunks_exact_mut(plan.y_len()).enumerate() {
        for (o, y) in y[group * out * cols..][..out * cols].chunks_exact_mut(cols).enumerate() {
            y.copy_from_slice(&scratch.out[o * tile + n * cols..][..cols]);
        }
    }
}

/// Adds the gradients of one group of some pictures to `dx` and `dw`.
#[allow(clippy::too_many_arguments)] // two gradients out of three tensors, and where they are
fn backward_group<T: Real>(
    plan: &Plan,
    scratch: &mut Scratch<T>,
    group: usize,
    x: &[T],
    w: &[T],
    dy: &[T],
    (dx, dw): (&mut [T], &mut [T]),
    wants: Conv2dWants,
) {
    let (window, out) = (&plan.shape.window, plan.shape.group_out);
    let (cols, rows) = (window.cols(), window.rows());
    let pictures = x.len() / plan.x_len();
    let Scratch { col, out: dy_tile } = scratch;
    for band in plan.bands() {
        let per_picture = band.len() * window.output.1;
        let tile = pictures * per_picture;
        let dy_mat = if pictures == 1 {
            let first = group * out * cols + band.start * window.output.1;
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
            for n in 0..pictures {
                let x = &x[n * plan.x_len() + group * window.pixels()..];
                gather(window, x, &band, col, (tile, n * per_picture));
            }
            let dw = MatMut::new(&mut dw[group * out * rows..], out, rows);
            gemm(dy_mat, Mat::new(col, rows, tile).t(), dw, true);
        }
        if wants.input {
            let dcol = MatMut::new(col, rows, tile);
            gemm(plan.weight(w, group).t(), dy_mat, dcol, false);
            for n in 0..pictures {
                let dx = &mut dx[n * plan.x_len() + group * window.pixels()..];
                scatter(window, col, (tile, n * per_picture), &band, dx);
            }
        }
    }
}

/// The whole column matrices of several pictures side by side, [C/G·K, N·P].
fn gather_pictures<T: Real>(plan: &Plan, group: usize, x: &[T], col: &mut [T], tile: usize) {
    let window = &plan.shape.window;
    for (n, x) in x.chunks_exact(plan.x_len()).enumerate() {
        let band = 0..window.output.0;
        gather(window, &x[group * window.pixels()..], &band, col, (tile, n * window.cols()));
    }
}

/// im2col of a band of output rows, to columns `at.1..` of a matrix with rows of `at.0` values.
fn gather<T: Real>(
    window: &Im2col,
    x: &[T],
    band: &std::ops::Range<usize>,
    col: &mut [T],
    at: (usize, usize),
) {
    for_each_run(window, band, at, |run| {
        let (before, rest) = col[run.col..][..window.output.1].split_at_mut(run.before);
        let (inside, after) = rest.split_at_mut(run.len);
        before.fill(T::zero());
        after.fill(T::zero());
        let Some(pixel) = run.pixel else { return };
        if window.stride.1 == 1 {
            inside.copy_from_slice(&x[pixel..][..run.len]);
        } else {
            let pixels = x[pixel..].iter().step_by(window.stride.1);
            inside.iter_mut().zip(pixels).for_each(|(to, &from)| *to = from);
        }
    });
}

/// col2im of a band of output rows: adds the matrix's columns `at.1..` to the pixels of `dx`.
fn scatter<T: Real>(
    window: &Im2col,
    col: &[T],
    at: (usize, usize),
    band: &std::ops::Range<usize>,
    dx: &mut [T],
) {
    for_each_run(window, band, at, |run| {
        let Some(pixel) = run.pixel else { return };
        let from = &col[run.col + run.before..][..run.len];
        if window.stride.1 == 1 {
            dx[pixel..][..run.len].iter_mut().zip(from).for_each(|(to, &from)| *to = *to + from);
        } else {
            let pixels = dx[pixel..].iter_mut().step_by(window.stride.1);
            pixels.zip(from).for_each(|(to, &from)| *to = *to + from);
        }
    });
}

/// One tap's view of one output row: a run of pixels between two stretches of padding.
struct Run {
    /// Where the row begins in the column matrix.
    col: usize,
    /// Places that lie in the padding before the run.
    before: usize,
    /// Places inside the picture.
    len: usize,
    /// The run's first pixel, if it has any.
    pixel: Option<usize>,
}

/// Visits every tap (row of the column matrix) and every output row of the band.
fn for_each_run(
    window: &Im2col,
    band: &std::ops::Range<usize>,
    (row_stride, first_col): (usize, usize),
    mut visit: impl FnMut(Run),
) {
    let ((height, width), (kh, kw)) = (window.input, window.kernel);
    let mut row_start = first_col;
    for c in 0..window.channels {
        for ky in 0..kh {
            for kx in 0..kw {
                let (before, len, first_x) = inside(window, kx, width);
                for (i, oy) in band.clone().enumerate() {
                    let y = (oy * window.stride.0 + ky * window.dilation.0)
                        .checked_sub(window.padding.0)
                        .filter(|&y| y < height && len > 0);
                    let pixel = y.map(|y| (c * height + y) * width + first_x);
                    let col = row_start + i * window.output.1;
                    let (before, len) = if pixel.is_some() { (before, len) } else { (0, 0) };
                    visit(Run { col, before, len, pixel });
                }
                row_start += row_stride;
            }
        }
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

fn add_bias<T: Real>(y: &mut [T], b: &[T], cols: usize) {
    for (y, &b) in y.chunks_exact_mut(cols).zip(b.iter().cycle()) {
        y.iter_mut().for_each(|y| *y = *y + b);
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
fn sum_in_order<T: Real>(parts: Vec<Vec<T>>, len: usize) -> Vec<T> {
    let mut parts = parts.into_iter();
    let mut sum = parts.next().unwrap_or_else(|| vec![T::zero(); len]);
    for part in parts {
        sum.par_iter_mut().with_min_len(4096).zip(&part).for_each(|(s, &p)| *s = *s + p);
    }
    sum
}
