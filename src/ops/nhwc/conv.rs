//! Convolution on channels-last maps, [N, H, W, C] with C padded to whole vectors: no im2col, the
//! tiles of [`tile`](super::tile) read the pictures where they stand.
//!
//! The forward pass and the gradient of the input are the same computation, [`convolve`], with another
//! [`Gather`] (which source pixel each tap of each target pixel reads) and the weights packed the other
//! way round. Sums are made in the order of taps, then of channels, by one thread: the bits do not
//! depend on how the work is split.

use std::ops::Range;

use rayon::prelude::*;

use super::lanes::{Isa, LANES, padded};
use super::maps_len;
use super::pack::Panels;
use super::shared::Shared;
use super::tile::{self, Dot, Epilogue, Outer};
use crate::ops::Im2col;

/// Which source pixel each tap of each target pixel reads.
#[derive(Clone, Debug)]
pub(crate) struct Gather {
    taps: usize,
    /// The target pixels, in the order in which they are computed.
    order: Vec<u32>,
    /// [order][taps] source pixels; negative where a tap lies in the padding.
    sources: Vec<i32>,
    source_pixels: usize,
    /// Whether a tile holds the same pixel of several pictures, rather than several pixels of one: on
    /// small maps whole taps then lie in the padding, and are left out.
    by_place: bool,
}

/// Maps up to this many pixels are computed pixel by pixel, if a tenth of their taps is padding.
const SMALL: usize = 256;

impl Gather {
    /// Whether the pixels of these maps, and the entries of the table, can be counted in 31 bits: of
    /// larger ones there is no `Gather`.
    pub(crate) fn counts(window: &Im2col) -> bool {
        let ((height, width), taps) = (window.input, window.kernel.0 * window.kernel.1);
        [height * width, window.cols()].iter().all(|pixels| {
            pixels.checked_mul(taps).is_some_and(|entries| entries <= i32::MAX as usize)
        })
    }

    /// Output pixels from input pixels.
    pub(crate) fn forward(window: &Im2col) -> Self {
        let (rows, cols) = window.output;
        let order = (0..(rows * cols) as u32).collect();
        let source = |place: usize, kh: usize, kw: usize| {
            let at =
                |place: usize, k: usize, stride: usize, dilation: usize, padding: usize, size| {
                    (place * stride + k * dilation).checked_sub(padding).filter(|&i| i < size)
                };
            let (s, d, p) = (window.stride, window.dilation, window.padding);
            let h = at(place / cols, kh, s.0, d.0, p.0, window.input.0)?;
            let w = at(place % cols, kw, s.1, d.1, p.1, window.input.1)?;
            Some(h * window.input.1 + w)
        };
        Self::new(window, order, window.input.0 * window.input.1, source)
    }

    /// The gradient's input pixels from output pixels: `x = y·stride + k·dilation - padding`, solved
    /// for y. Pixels that leave the same remainder by the stride use the same taps, and stand together.
    pub(crate) fn backward(window: &Im2col) -> Self {
        let (height, width) = window.input;
        let (s, d, p) = (window.stride, window.dilation, window.padding);
        let mut order: Vec<u32> = (0..(height * width) as u32).collect();
        let phase = |at: u32| ((at as usize / width) % s.0, (at as usize % width) % s.1);
        order.sort_by_key(|&at| phase(at)); // stable: row by row within a phase
        let source = |place: usize, kh: usize, kw: usize| {
            let at =
                |place: usize, k: usize, stride: usize, dilation: usize, padding: usize, size| {
                    let y = (place + padding).checked_sub(k * dilation)?;
                    (y.is_multiple_of(stride) && y / stride < size).then_some(y / stride)
                };
            let h = at(place / width, kh, s.0, d.0, p.0, window.output.0)?;
            let w = at(place % width, kw, s.1, d.1, p.1, window.output.1)?;
            Some(h * window.output.1 + w)
        };
        Self::new(window, order, window.cols(), source)
    }

    fn new(
        window: &Im2col,
        order: Vec<u32>,
        source_pixels: usize,
        source: impl Fn(usize, usize, usize) -> Option<usize>,
    ) -> Self {
        let (kh, kw) = window.kernel;
        let mut sources = Vec::with_capacity(order.len() * kh * kw);
        for &place in &order {
            for tap in 0..kh * kw {
                let pixel = source(place as usize, tap / kw, tap % kw);
                sources.push(pixel.map_or(-1, |pixel| pixel as i32));
            }
        }
        let padding = sources.iter().filter(|&&s| s < 0).count();
        let by_place = order.len() <= SMALL && 10 * padding > sources.len();
        Gather { taps: kh * kw, order, sources, source_pixels, by_place }
    }

    /// Whether a tile holds the same pixel of several pictures, of which there must be some.
    fn by_place(&self, pictures: usize) -> bool {
        self.by_place && pictures >= 8
    }

    /// Picture and place of row `g` of all.
    fn row(&self, g: usize, pictures: usize) -> (usize, usize) {
        if self.by_place(pictures) {
            (g % pictures, g / pictures)
        } else {
            (g / self.order.len(), g % self.order.len())
        }
    }

    /// Picture and place of the row after one.
    fn next_row(&self, n: usize, place: usize, pictures: usize) -> (usize, usize) {
        match self.by_place(pictures) {
            true if n + 1 == pictures => (0, place + 1),
            true => (n + 1, place),
            false if place + 1 == self.order.len() => (n + 1, 0),
            false => (n, place + 1),
        }
    }

    /// Rows of tile `t` of [`Gather::tiles`].
    fn tile(&self, t: usize, pictures: usize, most: usize) -> Range<usize> {
        let split = |t: usize, tiles: usize, rows: usize| t * rows / tiles..(t + 1) * rows / tiles;
        if self.by_place(pictures) {
            let tiles = pictures.div_ceil(most);
            let rows = split(t % tiles, tiles, pictures);
            let first = t / tiles * pictures;
            first + rows.start..first + rows.end
        } else {
            split(t, self.tiles(pictures, most), pictures * self.order.len())
        }
    }

    /// How many tiles of at most `most` rows there are.
    fn tiles(&self, pictures: usize, most: usize) -> usize {
        match self.by_place(pictures) {
            true => pictures.div_ceil(most) * self.order.len(),
            false => (pictures * self.order.len()).div_ceil(most),
        }
    }
}

/// A batch of channels-last maps to read: pixel p of a picture begins at `p · step`.
#[derive(Clone, Copy)]
pub(crate) struct Maps<'a> {
    /// From the first value of the first pixel on.
    pub data: &'a [f32],
    /// Values from pixel to pixel.
    pub step: usize,
}

/// What is done to the sums of a convolution before they are stored.
#[derive(Clone, Copy, Default)]
pub(crate) struct Finish<'a> {
    /// [padded(O)], added to every pixel.
    pub bias: Option<&'a [f32]>,
    /// Laid out as the output; added.
    pub residual: Option<&'a [f32]>,
    /// Whether the output's old values are added.
    pub add: bool,
    /// Whether max(·, 0) comes last.
    pub relu: bool,
}

impl Finish<'_> {
    /// The same as the tiles take it, for columns from `first` on of an output that begins at `y`.
    ///
    /// # Panics
    /// If the bias is shorter than `wide`, or the residual than `len`, the output's length.
    pub(super) fn epilogue(
        &self,
        y: *const f32,
        len: usize,
        first: usize,
        wide: usize,
    ) -> Epilogue {
        assert!(self.bias.is_none_or(|b| b.len() >= wide), "bias too short");
        assert!(self.residual.is_none_or(|r| r.len() >= len), "residual too short");
        let residual = match self.add {
            true => Some(0),
            false => self.residual.map(|r| r.as_ptr() as isize - y as isize),
        };
        let bias = self.bias.map_or(std::ptr::null(), |b| b[first..].as_ptr());
        Epilogue { bias, residual, relu: self.relu }
    }
}

/// The pointers of some tiles, one after the other.
#[derive(Default)]
struct Pointers {
    x: Vec<*const f32>,
    taps: Vec<u32>,
    y: Vec<*mut f32>,
    /// Copies of what x points to, where that is needed.
    copies: Vec<f32>,
    /// Where in each of the three a tile begins; one more at the end.
    starts: Vec<(usize, usize, usize)>,
}

impl Pointers {
    fn clear(&mut self) {
        self.x.clear();
        self.taps.clear();
        self.y.clear();
        self.starts.clear();
        self.starts.push((0, 0, 0));
    }

    fn tiles(&self) -> usize {
        self.starts.len() - 1
    }

    /// Points x to copies of its `len` values, a whole number of vectors.
    fn copy(&mut self, len: usize) {
        self.copies.clear();
        self.copies.reserve(self.x.len() * len);
        for &x in &self.x {
            for at in (0..len).step_by(LANES) {
                // SAFETY: x points to the vectors of a pixel, or to as many zeros.
                let vector = unsafe { x.add(at).cast::<[f32; LANES]>().read_unaligned() };
                self.copies.extend_from_slice(&vector);
            }
        }
        for (x, copy) in self.x.iter_mut().zip(self.copies.chunks_exact(len)) {
            *x = copy.as_ptr();
        }
    }
}

/// Tiles whose pointers are made together and which take turns at a panel of weights.
const TILES: usize = 16;

/// `y[pixel] = finish(Σ over taps of w[tap] · x[source of the pixel's tap])` for each picture.
///
/// `x` has `depth` values a pixel that count, `y` `w.outputs` values; `y_step` lie from pixel to pixel.
///
/// # Panics
/// If the slices are shorter than that: the caller has checked its shapes.
#[allow(clippy::too_many_arguments)] // two maps, weights, and how they go together
pub(crate) fn convolve(
    isa: Isa,
    g: &Gather,
    pictures: usize,
    x: Maps<'_>,
    w: &Panels,
    y: &mut [f32],
    y_step: usize,
    finish: Finish<'_>,
) {
    if pictures == 0 || g.order.is_empty() {
        return;
    }
    let wide = padded(w.outputs);
    let x_len = maps_len(&[pictures, g.source_pixels], x.step, w.depth);
    let y_len = maps_len(&[pictures, g.order.len()], y_step, wide);
    assert!(x.data.len() >= x_len && y.len() >= y_len && w.taps == g.taps, "conv outside its maps");
    assert!(w.fits(isa), "weights laid out for another kernel");
    let zeros = vec![0.0; padded(w.depth)];
    let (most, vectors) = isa.tile();
    let tiles = g.tiles(pictures, most);
    let panels = wide.div_ceil(vectors * LANES);
    // Pictures that lie a multiple of the cache's sets apart push each other out of it with every
    // step; where their taps are short, they are copied side by side.
    let apart = g.source_pixels * x.step * size_of::<f32>();
    let copies = g.by_place(pictures)
        && apart.is_multiple_of(4096)
        && w.depth <= 4 * LANES
        && x.data.len() >= x_len - w.depth + padded(w.depth);
    let y_shared = Shared::new(y);
    // Many weights for few pixels: a thread takes some panels for all pixels, so that it reads every
    // weight once. Otherwise it takes some pixels for all panels.
    let by_panel = panels > 1 && w.data.len() > x.data.len();
    let chunk = TILES.min(tiles.div_ceil(8)).max(1);
    let chunks = tiles.div_ceil(chunk);
    let item = |some_panels: Range<usize>, some_chunks: Range<usize>| {
        let mut pointers = Pointers::default();
        for c in some_chunks {
            pointers.clear();
            for t in c * chunk..((c + 1) * chunk).min(tiles) {
                let rows = g.tile(t, pictures, most);
                point(&mut pointers, g, rows, pictures, x, &zeros, &y_shared, y_step);
            }
            if copies {
                pointers.copy(padded(w.depth));
            }
            for panel in some_panels.clone() {
                let first = panel * vectors * LANES;
                let vectors = vectors.min((wide - first) / LANES);
                let epilogue = finish.epilogue(y_shared.at(0), y_len, first, wide);
                for t in 0..pointers.tiles() {
                    let (start, end) = (pointers.starts[t], pointers.starts[t + 1]);
                    let rows = end.2 - start.2;
                    // A convolution of one tap reads its pixels only once: ask for the next ones.
                    let fetch = g.taps == 1 && panel == some_panels.start;
                    let fetch = fetch && end.0 + rows <= pointers.x.len();
                    let dot = Dot {
                        x: pointers.x[start.0..].as_ptr(),
                        next: if fetch { pointers.x[end.0..].as_ptr() } else { std::ptr::null() },
                        taps: pointers.taps[start.1..].as_ptr(),
                        tap_count: end.1 - start.1,
                        depth: w.depth,
                        w: w.panel(panel).as_ptr(),
                        y: pointers.y[start.2..].as_ptr(),
                        column: first,
                        epilogue,
                    };
                    // SAFETY: the pointers are those of pixels inside x and y (asserted above and by
                    // `point`), of which no other item writes this panel; the panel holds
                    // [taps][depth][vectors · 16] weights.
                    unsafe { tile::dot(isa, rows, vectors, dot) };
                }
            }
        }
    };
    match by_panel {
        true => (0..panels).into_par_iter().with_max_len(1).for_each(|p| item(p..p + 1, 0..chunks)),
        false => {
            (0..chunks).into_par_iter().with_max_len(1).for_each(|c| item(0..panels, c..c + 1))
        }
    }
}

/// Adds the pointers of one tile: taps that lie in the padding for all of its rows are left out, others
/// read zeros there.
#[allow(clippy::too_many_arguments)] // two maps and how they go together
fn point(
    to: &mut Pointers,
    g: &Gather,
    rows: Range<usize>,
    pictures: usize,
    x: Maps<'_>,
    zeros: &[f32],
    y: &Shared<'_>,
    y_step: usize,
) {
    let mut places = [(0, 0); 14]; // first source pixel of the picture, and first entry of the place
    let (mut n, mut place) = g.row(rows.start, pictures);
    for (from, _) in places.iter_mut().zip(rows.clone()) {
        *from = (n * g.source_pixels, place * g.taps);
        to.y.push(y.at((n * g.order.len() + g.order[place] as usize) * y_step));
        (n, place) = g.next_row(n, place, pictures);
    }
    let places = &places[..rows.len()];
    to.x.reserve(places.len() * g.taps);
    for tap in 0..g.taps {
        if g.by_place(pictures) && g.sources[places[0].1 + tap] < 0 {
            continue; // for this row, and so for all: they are the same pixel of several pictures
        }
        let (before, mut inside) = (to.x.len(), false);
        for &(picture, place) in places {
            let source = g.sources[place + tap];
            inside |= source >= 0;
            // The caller has asserted that x holds all source pixels of all pictures.
            to.x.push(match source {
                ..0 => zeros.as_ptr(),
                _ => x.data.as_ptr().wrapping_add((picture + source as usize) * x.step),
            });
        }
        if inside { to.taps.push(tap as u32) } else { to.x.truncate(before) }
    }
    to.starts.push((to.x.len(), to.taps.len(), to.y.len()));
}

/// Which pixels meet in the gradient of each tap's weights: for each output row, a run of pixels.
#[derive(Clone, Debug)]
pub(crate) struct Runs {
    taps: usize,
    rows: usize,
    /// [taps][output rows]: first input pixel, first output pixel, how many.
    runs: Vec<(u32, u32, u32)>,
    /// Input pixels from one place of a run to the next.
    step: usize,
    x_pixels: usize,
    y_pixels: usize,
}

impl Runs {
    /// Those of a window.
    pub(crate) fn new(window: &Im2col) -> Self {
        let ((rows, cols), (height, width)) = (window.output, window.input);
        let (kh, kw) = window.kernel;
        let (s, d, p) = (window.stride, window.dilation, window.padding);
        let mut runs = Vec::with_capacity(kh * kw * rows);
        for tap in 0..kh * kw {
            for oh in 0..rows {
                let h = (oh * s.0 + tap / kw * d.0).checked_sub(p.0).filter(|&h| h < height);
                let shift = tap % kw * d.1; // column of the padded input under output column 0
                let first = p.1.saturating_sub(shift).div_ceil(s.1);
                let end = (width + p.1).saturating_sub(shift).div_ceil(s.1).min(cols);
                runs.push(match h {
                    Some(h) if first < end => {
                        let w = first * s.1 + shift - p.1;
                        let (x, y) = (h * width + w, oh * cols + first);
                        (x as u32, y as u32, (end - first) as u32)
                    }
                    _ => (0, 0, 0),
                });
            }
        }
        let (x_pixels, y_pixels) = (height * width, rows * cols);
        Runs { taps: kh * kw, rows, runs, step: s.1, x_pixels, y_pixels }
    }

    /// The runs of a tap in a part of the batch, in values from the part's first pixels on; runs that
    /// follow each other become one.
    fn of(
        &self,
        tap: usize,
        part: &Part,
        x_step: usize,
        y_step: usize,
    ) -> Vec<(usize, usize, usize)> {
        let mut merged: Vec<(usize, usize, usize)> = Vec::new();
        for &(x, y, len) in &self.runs[tap * self.rows..][part.rows.clone()] {
            if len == 0 {
                continue;
            }
            let x = (x as usize - part.x_pixels.start) * x_step;
            let y = (y as usize - part.y_pixels.start) * y_step;
            let len = len as usize;
            match merged.last_mut() {
                Some(last)
                    if last.0 + last.2 * self.step * x_step == x
                        && last.1 + last.2 * y_step == y =>
                {
                    last.2 += len;
                }
                _ => merged.push((x, y, len)),
            }
        }
        merged
    }

    /// The part of the batch in these pictures and output rows.
    fn part(&self, pictures: Range<usize>, rows: Range<usize>) -> Part {
        let runs = || (0..self.taps).flat_map(|tap| &self.runs[tap * self.rows..][rows.clone()]);
        let runs = || runs().filter(|run| run.2 > 0);
        let first =
            |pick: fn(&(u32, u32, u32)) -> u32| runs().map(pick).min().unwrap_or(0) as usize;
        let end = |pick: fn(&(u32, u32, u32)) -> u32, step: usize| {
            runs()
                .map(|run| pick(run) as usize + (run.2 as usize - 1) * step + 1)
                .max()
                .unwrap_or(1)
        };
        // One pixel where all of the part lies in the padding.
        let x_pixels = first(|run| run.0)..end(|run| run.0, self.step);
        let y_pixels = first(|run| run.1)..end(|run| run.1, 1);
        Part { pictures, rows, x_pixels, y_pixels }
    }

    /// The whole batch, in parts of about so many output pixels.
    fn parts(&self, pictures: usize, pixels: usize) -> Vec<Part> {
        if self.y_pixels <= pixels {
            let some = pixels / self.y_pixels;
            let ranges = (0..pictures).step_by(some).map(|n| n..(n + some).min(pictures));
            return ranges.map(|n| self.part(n, 0..self.rows)).collect();
        }
        let some = (pixels * self.rows / self.y_pixels).max(1);
        let rows = || (0..self.rows).step_by(some).map(|r| r..(r + some).min(self.rows));
        let part = |n| rows().map(move |rows| self.part(n..n + 1, rows));
        (0..pictures).flat_map(part).collect()
    }
}

/// Output pixels that a pass over a part of the batch takes at least: so many that reading and writing
/// the sums costs little beside them.
const PART: usize = 512;

/// Values of x and dy in such a part, at least; few enough to stay in the second-level cache.
const PART_VALUES: usize = 96 * 1024;

/// Values from pixel to pixel up to which the pixels of a map are read where they stand.
const NEAR: usize = 128;

/// `dw[tap][c][o] = Σ over pictures and pixels of x[pixel under the tap][c] · dy[pixel][o]`, with
/// `depth` channels c and padded(outputs) channels o.
///
/// # Panics
/// If a slice is shorter than its shape: the caller has checked its shapes.
#[allow(clippy::too_many_arguments)] // two maps, the result, and how they go together
pub(crate) fn weight_gradient(
    isa: Isa,
    runs: &Runs,
    pictures: usize,
    x: Maps<'_>,
    depth: usize,
    dy: Maps<'_>,
    outputs: usize,
    dw: &mut [f32],
) {
    let wide = padded(outputs);
    assert!(dw.len() >= maps_len(&[runs.taps, depth], wide, wide), "dw too short");
    if pictures == 0 || runs.y_pixels == 0 {
        return dw.fill(0.0);
    }
    let (x_pixels, y_pixels) = ([pictures, runs.x_pixels], [pictures, runs.y_pixels]);
    assert!(x.data.len() >= maps_len(&x_pixels, x.step, depth), "x too short");
    assert!(dy.data.len() >= maps_len(&y_pixels, dy.step, wide), "dy too short");
    let (most, vectors) = isa.tile();
    let (tiles, width) = (depth.div_ceil(most), vectors * LANES);
    let panels = wide.div_ceil(width);
    let parts = runs.parts(pictures, PART.max(PART_VALUES / (x.step + dy.step)));
    let dw = Shared::new(dw);
    let items = runs.taps * panels * tiles;
    // Each thread takes some of the items through all parts; which ones does not matter to the bits.
    let threads = rayon::current_num_threads().min(items);
    (0..threads).into_par_iter().with_max_len(1).for_each(|thread| {
        let own = thread * items / threads..(thread + 1) * items / threads;
        let mut xs = Slabs { step: padded(most), ..Slabs::default() };
        let mut ys = Slabs { step: width, ..Slabs::default() };
        for (i, part) in parts.iter().enumerate() {
            let tile_of = |t: usize| t * depth / tiles..(t + 1) * depth / tiles;
            xs.set(x, runs.x_pixels, part, part.x_pixels.clone(), runs.step == 1 && x.step >= NEAR);
            ys.set(dy, runs.y_pixels, part, part.y_pixels.clone(), dy.step >= NEAR);
            let mut of_tap = (usize::MAX, Vec::new());
            for item in own.clone() {
                let tap = item / tiles / panels;
                // The longer side is the one to share out: each thread then copies its own share.
                let (panel, t) = match depth > wide {
                    true => (item % panels, item / panels % tiles),
                    false => (item / tiles % panels, item % tiles),
                };
                let (c, o) = (tile_of(t), panel * width..((panel + 1) * width).min(wide));
                let (x_slab, y_slab) = (xs.slab(t, c.start), ys.slab(panel, o.start));
                if of_tap.0 != tap {
                    of_tap = (tap, runs.of(tap, part, x_slab.step, y_slab.step));
                }
                // SAFETY: runs stay inside their pictures and the slabs hold all pictures of the
                // part; every item has sums of its own, inside dw (asserted).
                unsafe {
                    tile::outer(
                        isa,
                        c.len(),
                        o.len() / LANES,
                        Outer {
                            x: x_slab.data.as_ptr(),
                            y: y_slab.data.as_ptr(),
                            x_picture: x_slab.picture,
                            y_picture: y_slab.picture,
                            x_step: runs.step * x_slab.step,
                            y_step: y_slab.step,
                            pictures: part.pictures.len(),
                            runs: of_tap.1.as_ptr(),
                            run_count: of_tap.1.len(),
                            sums: dw.at((tap * depth + c.start) * wide + o.start),
                            sum_step: wide,
                            add: i > 0,
                        },
                    );
                }
            }
        }
    });
}

/// Some pictures, some of their output rows, and the pixels that these stand for.
struct Part {
    pictures: Range<usize>,
    rows: Range<usize>,
    x_pixels: Range<usize>,
    y_pixels: Range<usize>,
}

/// Some channels of the pixels of a part of the batch, from its first pixel on.
struct Slab<'a> {
    data: &'a [f32],
    /// From picture to picture.
    picture: usize,
    /// From pixel to pixel.
    step: usize,
}

/// A part of the batch, copied as it is asked for, channels by channels: a tile's values then lie
/// together, whereas in the maps they may all fall into one set of the cache.
#[derive(Default)]
struct Slabs<'a> {
    from: Option<Maps<'a>>,
    copies: bool,
    /// Channels of a slab, a whole number of vectors.
    step: usize,
    /// First picture's first pixel, pictures, pixels of a picture in the part and in all.
    first: usize,
    pictures: usize,
    pixels: usize,
    all_pixels: usize,
    slabs: Vec<Vec<f32>>,
}

impl<'a> Slabs<'a> {
    fn set(
        &mut self,
        from: Maps<'a>,
        all_pixels: usize,
        part: &Part,
        pixels: Range<usize>,
        copies: bool,
    ) {
        self.first = part.pictures.start * all_pixels + pixels.start;
        (self.pictures, self.pixels, self.all_pixels) =
            (part.pictures.len(), pixels.len(), all_pixels);
        (self.from, self.copies) = (Some(from), copies);
        self.slabs.iter_mut().for_each(Vec::clear);
    }

    /// Slab `i`, whose channels begin with `first`.
    fn slab(&mut self, i: usize, first: usize) -> Slab<'_> {
        let Some(from) = self.from else { return Slab { data: &[], picture: 0, step: 0 } };
        if !self.copies {
            let (picture, step) = (self.all_pixels * from.step, from.step);
            return Slab { data: &from.data[self.first * step + first..], picture, step };
        }
        if self.slabs.len() <= i {
            self.slabs.resize_with(i + 1, Vec::new);
        }
        let slab = &mut self.slabs[i];
        let step = self.step;
        if slab.is_empty() {
            slab.reserve(self.pictures * self.pixels * step);
            for n in 0..self.pictures {
                let start = (self.first + n * self.all_pixels) * from.step + first;
                for pixel in 0..self.pixels {
                    copy_vectors(&from.data[start + pixel * from.step..], step, slab);
                }
            }
        }
        Slab { data: slab, picture: self.pixels * step, step }
    }
}

/// Appends `len` values, a whole number of vectors; zeros where there are no more. What lies behind a
/// tile's own channels is never looked at.
fn copy_vectors(from: &[f32], len: usize, to: &mut Vec<f32>) {
    for at in (0..len).step_by(LANES) {
        match from.get(at..).and_then(|from| from.first_chunk::<LANES>()) {
            Some(vector) => to.extend_from_slice(vector),
            None => {
                let rest = from.get(at..).unwrap_or_default();
                to.extend_from_slice(rest);
                to.resize(to.len() + LANES - rest.len(), 0.0);
            }
        }
    }
}
