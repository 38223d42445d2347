//! What is done pixel by pixel or value by value.

use rayon::prelude::*;

use super::conv::Maps;
use super::lanes::{Isa, LANES, for_each_isa, padded};

/// Pixels that a task takes at a time.
pub(super) const TASK: usize = 128;

/// A batch of channels-last maps to write to: pixel p begins at `p · step`.
pub(crate) struct MapsMut<'a> {
    /// From the first value of the first pixel on.
    pub data: &'a mut [f32],
    /// Values from pixel to pixel.
    pub step: usize,
}

impl<'a> Maps<'a> {
    /// The first `count` values of pixel `p`.
    #[inline(always)]
    pub(crate) fn pixel(&self, p: usize, count: usize) -> &'a [f32] {
        &self.data[p * self.step..][..count]
    }
}

impl MapsMut<'_> {
    /// Calls `task(first pixel, pixels, values from there on)` for all pixels, on all threads.
    pub(super) fn tasks(&mut self, pixels: usize, task: impl Fn(usize, usize, &mut [f32]) + Sync) {
        let step = self.step;
        self.data
            .par_chunks_mut(TASK * step)
            .take(pixels.div_ceil(TASK))
            .enumerate()
            .for_each(|(i, values)| task(i * TASK, TASK.min(pixels - i * TASK), values));
    }

    /// Calls `each(pixel, its values)` for all pixels, on all threads.
    pub(crate) fn each(
        &mut self,
        pixels: usize,
        wide: usize,
        each: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let step = self.step;
        self.tasks(pixels, |first, count, values| {
            for i in 0..count {
                each(first + i, &mut values[i * step..][..wide]);
            }
        });
    }
}

/// Pictures [N, C, H, W] to maps whose pixels have `channels` values, with `padding` rows above and
/// below and columns left and right that stay 0: `to` must be 0 there.
pub(crate) fn from_channels_first(
    from: &[f32],
    (channels, height, width): (usize, usize, usize),
    step: usize,
    padding: (usize, usize),
    to: &mut [f32],
) {
    let wide = width + 2 * padding.1;
    let picture = (height + 2 * padding.0) * wide * step;
    if channels * height * width == 0 {
        return;
    }
    let pictures = from.par_chunks_exact(channels * height * width);
    pictures.zip(to.par_chunks_mut(picture)).for_each(|(from, to)| {
        for (row, to) in to.chunks_exact_mut(wide * step).skip(padding.0).take(height).enumerate() {
            for c in 0..channels {
                let from = &from[(c * height + row) * width..][..width];
                let to = to[padding.1 * step + c..].iter_mut().step_by(step);
                from.iter().zip(to).for_each(|(&from, to)| *to = from);
            }
        }
    });
}

/// Maps to features, [N, C·H·W] in the order of the state dict: PyTorch's flatten. `back` does the
/// opposite: features to maps, adding where `add`.
pub(crate) fn flatten(
    from: Maps<'_>,
    channels: usize,
    pixels: usize,
    pictures: usize,
    to: MapsMut<'_>,
) {
    let step = to.step;
    to.data.par_chunks_mut(step).take(pictures).enumerate().for_each(|(n, features)| {
        for p in 0..pixels {
            let pixel = from.pixel(n * pixels + p, channels);
            let features = features.iter_mut().skip(p).step_by(pixels);
            pixel.iter().zip(features).for_each(|(&from, to)| *to = from);
        }
    });
}

/// The gradient of [`flatten`]: features to maps, added where `add`.
pub(crate) fn unflatten(
    from: Maps<'_>,
    channels: usize,
    pixels: usize,
    pictures: usize,
    mut to: MapsMut<'_>,
    add: bool,
) {
    let count = pixels * pictures;
    to.each(count, channels, |at, pixel| {
        let features = &from.pixel(at / pixels, channels * pixels)[at % pixels..];
        let features = features.iter().step_by(pixels);
        match add {
            true => pixel.iter_mut().zip(features).for_each(|(to, &from)| *to += from),
            false => pixel.iter_mut().zip(features).for_each(|(to, &from)| *to = from),
        }
    });
}

/// `y = f(x)`, value by value.
pub(crate) fn map(
    x: Maps<'_>,
    wide: usize,
    pixels: usize,
    mut y: MapsMut<'_>,
    f: impl Fn(f32) -> f32 + Sync,
) {
    y.each(pixels, wide, |p, y| y.iter_mut().zip(x.pixel(p, wide)).for_each(|(y, &x)| *y = f(x)));
}

/// `dx = f(y, dy)` or `dx += f(y, dy)`, value by value.
pub(crate) fn map_gradient(
    y: Maps<'_>,
    dy: Maps<'_>,
    wide: usize,
    pixels: usize,
    mut dx: MapsMut<'_>,
    add: bool,
    f: impl Fn(f32, f32) -> f32 + Sync,
) {
    dx.each(pixels, wide, |p, dx| {
        let values = dx.iter_mut().zip(y.pixel(p, wide)).zip(dy.pixel(p, wide));
        match add {
            true => values.for_each(|((dx, &y), &dy)| *dx += f(y, dy)),
            false => values.for_each(|((dx, &y), &dy)| *dx = f(y, dy)),
        }
    });
}

/// Where ReLU's output `y` is not above 0, its gradient `dy` becomes 0.
pub(crate) fn relu_gradient(y: Maps<'_>, wide: usize, pixels: usize, mut dy: MapsMut<'_>) {
    let step = dy.step;
    let isa = Isa::best();
    dy.tasks(pixels, |first, count, dy| {
        for i in 0..count {
            let y = y.pixel(first + i, wide);
            // SAFETY: both have `wide` values.
            unsafe { keep_positive(isa, y, &mut dy[i * step..][..wide]) };
        }
    });
}

for_each_isa! {
    unsafe fn keep_positive<V>(y: &[f32], dy: &mut [f32]) {
        for (dy, &y) in dy.iter_mut().zip(y) {
            *dy = if y > 0.0 { *dy } else { 0.0 };
        }
    }
}

/// `to += from`, or `to = from`.
pub(crate) fn copy(from: Maps<'_>, wide: usize, pixels: usize, mut to: MapsMut<'_>, add: bool) {
    to.each(pixels, wide, |p, to| {
        let values = to.iter_mut().zip(from.pixel(p, wide));
        match add {
            true => values.for_each(|(to, &from)| *to += from),
            false => values.for_each(|(to, &from)| *to = from),
        }
    });
}

/// `y = max(a + b, 0)`.
pub(crate) fn add_relu(a: Maps<'_>, b: Maps<'_>, wide: usize, pixels: usize, mut y: MapsMut<'_>) {
    y.each(pixels, wide, |p, y| {
        let values = y.iter_mut().zip(a.pixel(p, wide)).zip(b.pixel(p, wide));
        values.for_each(|((y, &a), &b)| *y = if a + b < 0.0 { 0.0 } else { a + b });
    });
}

/// `sums[c] = Σ over pixels of x[pixel][c]`: the gradient of a bias. Task by task, in order.
pub(crate) fn column_sums(x: Maps<'_>, channels: usize, pixels: usize, sums: &mut [f32]) {
    let wide = padded(channels).min(x.step);
    let isa = Isa::best();
    let parts: Vec<Vec<f32>> = (0..pixels.div_ceil(TASK))
        .into_par_iter()
        .map(|task| {
            let mut sums = vec![0.0; wide];
            for p in task * TASK..((task + 1) * TASK).min(pixels) {
                // SAFETY: both have `wide` values.
                unsafe { accumulate(isa, x.pixel(p, wide), &mut sums) };
            }
            sums
        })
        .collect();
    for (c, sum) in sums.iter_mut().enumerate().take(channels) {
        *sum = parts.iter().map(|part| f64::from(part[c])).sum::<f64>() as f32;
    }
}

/// `y = relu?(x·Wᵀ + b)` for a few pictures, W [outputs, inputs]: each row of W is read once.
///
/// # Panics
/// If a slice is shorter than its shape: the caller has checked its shapes.
pub(crate) fn few_products(
    x: Maps<'_>,
    (w, b): (&[f32], &[f32]),
    (pictures, inputs, outputs): (usize, usize, usize),
    relu: bool,
    y: MapsMut<'_>,
) {
    let isa = Isa::best();
    let columns: Vec<Vec<f32>> = (0..outputs)
        .into_par_iter()
        .with_min_len(32)
        .map(|o| {
            let row = &w[o * inputs..(o + 1) * inputs];
            let product = |n| {
                let (mut lanes, x) = ([0.0; LANES], x.pixel(n, inputs));
                // SAFETY: x and the row have `inputs` values, the sums a vector.
                unsafe { lane_products(isa, x, row, &mut lanes) };
                let whole = inputs / LANES * LANES;
                let rest = x[whole..].iter().zip(&row[whole..]).map(|(x, w)| x * w);
                let sum = lanes.iter().sum::<f32>() + rest.sum::<f32>() + b[o];
                if relu && sum < 0.0 { 0.0 } else { sum }
            };
            (0..pictures).map(product).collect()
        })
        .collect();
    for (n, y) in y.data.chunks_mut(y.step).take(pictures).enumerate() {
        y.iter_mut().zip(&columns).for_each(|(y, column)| *y = column[n]);
    }
}

for_each_isa! {
    /// Σ x·w over whole vectors, lane by lane; four sums at a time hide the products' latency.
    unsafe fn lane_products<V>(x: &[f32], w: &[f32], sums: &mut [f32; LANES]) {
        // SAFETY (whole function): only whole vectors inside x and w are read.
        unsafe {
            let mut four = [V::splat(0.0); 4];
            let blocks = x.len() / (4 * LANES);
            for i in 0..blocks {
                for (j, sum) in four.iter_mut().enumerate() {
                    let at = (4 * i + j) * LANES;
                    *sum = V::load(x.as_ptr().add(at)).fma(V::load(w.as_ptr().add(at)), *sum);
                }
            }
            for at in (4 * blocks * LANES..x.len() / LANES * LANES).step_by(LANES) {
                four[0] = V::load(x.as_ptr().add(at)).fma(V::load(w.as_ptr().add(at)), four[0]);
            }
            four[0].add(four[1]).add(four[2].add(four[3])).store(sums.as_mut_ptr());
        }
    }
}

for_each_isa! {
    unsafe fn accumulate<V>(x: &[f32], sums: &mut [f32]) {
        sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += x);
    }
}
