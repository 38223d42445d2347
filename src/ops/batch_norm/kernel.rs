//! Batch normalisation as the CPU runs it: one pass for the sums and one to write, both over a
//! channel while it is in the cache.
//!
//! Threads take whole channels, so each sum is made by one thread in one order: the bits do not
//! depend on the number of threads. Sums are f64, of differences to a value of the channel, which
//! keeps a variance that is small beside its mean.

use rayon::prelude::*;

use super::{BatchNorm2dShape, Grads, Norm, Saved, Statistics, Wants};
use crate::ops::Real;
use crate::ops::fresh::{Fresh, Hand};
use crate::ops::widest::widest;

/// Values of one picture that a task works on, at least: where maps are tiny it takes several
/// channels, so that threads do not meet in the same cache lines.
const TASK_RUN: usize = 512;

/// The output [N, C, H, W] and the statistics that it was normalised with: those given, or the
/// batch's own.
///
/// # Panics
/// If a slice is shorter than `norm.shape` says.
pub fn forward<T: Real>(
    norm: &Norm,
    x: &[T],
    affine: &[T],
    residual: Option<&[T]>,
    given: Option<&Statistics>,
) -> (Vec<T>, Statistics) {
    let shape = &norm.shape;
    let mut y = Fresh::new(x.len());
    let statistics = for_each_channel(
        shape,
        [&mut y],
        #[inline(always)]
        |c, [y]| {
            let (mean, var) = match given {
                Some(given) => (given.mean[c], given.var[c]),
                None => moments(shape, x, c),
            };
            let scale = T::of(affine[c].f64() / (var + norm.eps).sqrt());
            let (mean_t, shift) = (T::of(mean), affine[shape.channels + c]);
            let floor = if norm.relu { T::zero() } else { T::neg_infinity() };
            for (n, y) in y.enumerate() {
                let x = shape.plane(x, n, c);
                match residual {
                    Some(r) => {
                        for ((y, &x), &r) in y.iter_mut().zip(x).zip(shape.plane(r, n, c)) {
                            *y = at_least(floor, (x - mean_t) * scale + shift + r);
                        }
                    }
                    None => {
                        for (y, &x) in y.iter_mut().zip(x) {
                            *y = at_least(floor, (x - mean_t) * scale + shift);
                        }
                    }
                }
            }
            (mean, var)
        },
    );
    let (mean, var) = statistics.into_iter().unzip();
    (y.whole(), Statistics { mean, var })
}

/// The gradients that are wanted, from `dy` [N, C, H, W].
///
/// # Panics
/// If a slice is shorter than `norm.shape` says.
pub fn backward<T: Real>(norm: &Norm, saved: Saved<'_, T>, dy: &[T], wants: Wants) -> Grads<T> {
    if norm.relu {
        backward_gated::<T, true>(norm, saved, dy, wants)
    } else {
        // No gate: the output is not looked at, so nothing but `dy` need be in the cache.
        backward_gated::<T, false>(norm, Saved { y: dy, ..saved }, dy, wants)
    }
}

fn backward_gated<T: Real, const RELU: bool>(
    norm: &Norm,
    saved: Saved<'_, T>,
    dy: &[T],
    wants: Wants,
) -> Grads<T> {
    let (shape, Saved { x, affine, y, statistics }) = (&norm.shape, saved);
    let mut dx = Fresh::new(if wants.input { x.len() } else { 0 });
    let mut dr = Fresh::new(if wants.residual { x.len() } else { 0 });
    let sums = for_each_channel(
        shape,
        [&mut dx, &mut dr],
        #[inline(always)]
        |c, [dx, dr]| {
            let inverse = 1.0 / (statistics.var[c] + norm.eps).sqrt();
            let needs_sums = wants.affine || (wants.input && norm.training);
            let sums = if needs_sums {
                gradient_sums::<T, RELU>(shape, saved, dy, c)
            } else {
                GradientSums::default()
            };
            // dx = γ/σ'·(g − Σg/M − (x − μ)·Σg(x − μ)/(σ'²·M)) = a·g − b·(x − μ) − d
            let a = affine[c].f64() * inverse;
            let per_value = a / shape.count() as f64;
            let b = T::of(per_value * inverse * inverse * sums.g_centred);
            let (a, d, mean) = (T::of(a), T::of(per_value * sums.g), T::of(statistics.mean[c]));
            for (n, dx) in dx.enumerate() {
                let (dy, y) = (shape.plane(dy, n, c), shape.plane(y, n, c));
                if norm.training {
                    let x = shape.plane(x, n, c);
                    for (((dx, &x), &dy), &y) in dx.iter_mut().zip(x).zip(dy).zip(y) {
                        *dx = a * gate::<T, RELU>(dy, y) - b * (x - mean) - d;
                    }
                } else {
                    for ((dx, &dy), &y) in dx.iter_mut().zip(dy).zip(y) {
                        *dx = a * gate::<T, RELU>(dy, y);
                    }
                }
            }
            for (n, dr) in dr.enumerate() {
                let (dy, y) = (shape.plane(dy, n, c), shape.plane(y, n, c));
                for ((dr, &dy), &y) in dr.iter_mut().zip(dy).zip(y) {
                    *dr = gate::<T, RELU>(dy, y);
                }
            }
            (T::of(sums.g_centred * inverse), T::of(sums.g))
        },
    );
    let (mut dgamma, dbeta): (Vec<T>, Vec<T>) = sums.into_iter().unzip();
    dgamma.extend(dbeta);
    Grads {
        input: wants.input.then(|| dx.whole()),
        affine: wants.affine.then_some(dgamma),
        residual: wants.residual.then(|| dr.whole()),
    }
}

/// Calls `work` for every channel, spread over threads, with the planes of that channel in each of
/// the results (none for a result that is empty); collects what it returns, channel by channel.
/// [`widest`] calls `work`.
fn for_each_channel<T: Real, R: Send, const K: usize>(
    shape: &BatchNorm2dShape,
    results: [&mut Fresh<T>; K],
    work: impl Fn(usize, [Hand<'_, T>; K]) -> R + Sync,
) -> Vec<R> {
    let mut hands = results.map(|result| result.dealt(shape.pixels, shape.channels).into_iter());
    let hand = |hands: &mut std::vec::IntoIter<_>| hands.next().expect("one for each channel");
    let planes: Vec<_> = (0..shape.channels).map(|_| hands.each_mut().map(hand)).collect();
    let channels_a_task = TASK_RUN.div_ceil(shape.pixels.max(1));
    planes
        .into_par_iter()
        .enumerate()
        .with_min_len(channels_a_task)
        .map(|(c, planes)| {
            widest(
                #[inline(always)]
                || work(c, planes),
            )
        })
        .collect()
}

/// `value`, but `floor` where it is below; NaN passes.
#[inline(always)]
fn at_least<T: Real>(floor: T, value: T) -> T {
    if value < floor { floor } else { value }
}

/// The gradient that ReLU lets through: `dy` where the output `y` is above 0.
#[inline(always)]
fn gate<T: Real, const RELU: bool>(dy: T, y: T) -> T {
    if RELU && y <= T::zero() { T::zero() } else { dy }
}

/// Partial sums that a vector register adds to side by side.
const LANES: usize = 8;

/// Two sums, Σ p and Σ p·q, in f64.
struct Sums {
    p: [f64; LANES],
    pq: [f64; LANES],
}

impl Sums {
    fn new() -> Self {
        Sums { p: [0.0; LANES], pq: [0.0; LANES] }
    }

    #[inline(always)]
    fn add(&mut self, lane: usize, p: f64, q: f64) {
        self.p[lane] += p;
        self.pq[lane] += p * q;
    }

    fn total(&self) -> (f64, f64) {
        (self.p.iter().sum(), self.pq.iter().sum())
    }
}

/// Mean and biased variance of channel `c`.
#[inline(always)]
fn moments<T: Real>(shape: &BatchNorm2dShape, x: &[T], c: usize) -> (f64, f64) {
    let origin = shape.plane(x, 0, c)[0].f64();
    let mut sums = Sums::new();
    for n in 0..shape.batch {
        let chunks = shape.plane(x, n, c).chunks_exact(LANES);
        let rest = chunks.remainder();
        for x in chunks {
            for (lane, x) in x.iter().enumerate() {
                sums.add(lane, x.f64() - origin, x.f64() - origin);
            }
        }
        for (lane, x) in rest.iter().enumerate() {
            sums.add(lane, x.f64() - origin, x.f64() - origin);
        }
    }
    let count = shape.count() as f64;
    let (sum, squares) = sums.total();
    let mean = sum / count;
    (origin + mean, at_least(0.0, squares / count - mean * mean))
}

/// Σ g and Σ g·(x − μ) of a channel, g being the gradient behind the ReLU.
#[derive(Default)]
struct GradientSums {
    g: f64,
    g_centred: f64,
}

#[inline(always)]
fn gradient_sums<T: Real, const RELU: bool>(
    shape: &BatchNorm2dShape,
    saved: Saved<'_, T>,
    dy: &[T],
    c: usize,
) -> GradientSums {
    let mean = saved.statistics.mean[c];
    let mut sums = Sums::new();
    for n in 0..shape.batch {
        let plane = |values| shape.plane(values, n, c).chunks_exact(LANES);
        let (x, y, dy) = (plane(saved.x), plane(saved.y), plane(dy));
        let rest = (x.remainder(), y.remainder(), dy.remainder());
        for ((x, y), dy) in x.zip(y).zip(dy) {
            for lane in 0..LANES {
                let g = gate::<T, RELU>(dy[lane], y[lane]);
                sums.add(lane, g.f64(), x[lane].f64() - mean);
            }
        }
        for lane in 0..rest.0.len() {
            let g = gate::<T, RELU>(rest.2[lane], rest.1[lane]);
            sums.add(lane, g.f64(), rest.0[lane].f64() - mean);
        }
    }
    let (g, g_centred) = sums.total();
    GradientSums { g, g_centred }
}
