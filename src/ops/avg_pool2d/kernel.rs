//! Pooling by means as the CPU runs it: planes spread over threads; in a plane, first the sums of a
//! span of rows, column by column, then sums over spans of those.

use std::ops::Range;

use super::{Means, Span};
use crate::ops::Real;
use crate::ops::pooling::each_plane;

/// The means of each plane of `x`, [.., OH, OW].
///
/// # Panics
/// If `x` is not whole planes, or a span does not lie in its plane.
pub fn forward<T: Real>(means: &Means, x: &[T]) -> Vec<T> {
    let (pixels, places) = (means.pixels(), means.places());
    let (width, divisors, beside) = (means.input.1, divisors(means), Beside::of(&means.cols));
    each_plane(
        places,
        (x, pixels),
        || vec![T::zero(); width],
        #[inline(always)]
        |columns, y, x| match is_whole(means) {
            true => y[0] = sum(x) / divisors[0],
            false => plane(means, &beside, &divisors, columns, x, y),
        },
    )
}

/// The gradient of x from `dy` [.., OH, OW].
///
/// # Panics
/// If `dy` is not whole planes, or a span does not lie in its plane.
pub fn backward<T: Real>(means: &Means, dy: &[T]) -> Vec<T> {
    let (pixels, places) = (means.pixels(), means.places());
    let (width, divisors, beside) = (means.input.1, divisors(means), Beside::of(&means.cols));
    each_plane(
        pixels,
        (dy, places),
        || (vec![T::zero(); width], vec![T::zero(); means.cols.len()]),
        #[inline(always)]
        |scratch, dx, dy| match is_whole(means) {
            true => dx.fill(dy[0] / divisors[0]),
            false => plane_gradient(means, &beside, &divisors, scratch, dy, dx),
        },
    )
}

/// Whether the one output of a plane is the mean of all of it.
fn is_whole(means: &Means) -> bool {
    let ([row], [col]) = (&means.rows[..], &means.cols[..]) else { return false };
    (row.start, col.start) == (0, 0) && (row.end, col.end) == means.input
}

/// What the sum at each place is divided by, [OH·OW].
fn divisors<T: Real>(means: &Means) -> Vec<T> {
    let places = means.rows.iter().flat_map(|row| means.cols.iter().map(move |col| (row, col)));
    places.map(|(row, col)| T::of(means.divisor(row, col) as f64)).collect()
}

/// Places whose spans are equally wide and one pixel apart, so that vectors can take them side by side.
struct Beside {
    places: Range<usize>,
    /// Where the first place's span begins.
    first: usize,
    /// How wide they are.
    width: usize,
}

impl Beside {
    /// Those from the first of the widest spans on: where the step is 1, all but the edges.
    fn of(cols: &[Span]) -> Self {
        let wide = |col: &Span| col.end - col.start;
        let width = cols.iter().map(wide).max().unwrap_or(0);
        let start = cols.iter().position(|col| wide(col) == width).unwrap_or(0);
        let next = |pair: &&[Span]| pair[1].start == pair[0].start + 1 && wide(&pair[1]) == width;
        let more = cols[start..].windows(2).take_while(next).count();
        let end = (start + 1 + more).min(cols.len());
        Beside { places: start..end, first: cols.get(start).map_or(0, |col| col.start), width }
    }

    /// For each tap, the pixels that it is on.
    fn taps(&self) -> impl DoubleEndedIterator<Item = Range<usize>> {
        let (first, places) = (self.first, self.places.len());
        (0..self.width).map(move |tap| first + tap..first + tap + places)
    }
}

/// The sum of a slice, in an order that vectors can follow.
#[inline(always)]
fn sum<T: Real>(values: &[T]) -> T {
    const LANES: usize = 16;
    let mut lanes = [T::zero(); LANES];
    let chunks = values.chunks_exact(LANES);
    let rest: T = chunks.remainder().iter().copied().sum();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(sum, &value)| *sum += value);
    }
    lanes.into_iter().sum::<T>() + rest
}

#[inline(always)]
fn plane<T: Real>(
    means: &Means,
    beside: &Beside,
    divisors: &[T],
    columns: &mut [T],
    x: &[T],
    y: &mut [T],
) {
    let (width, places) = (columns.len(), means.cols.len());
    let outputs = y.chunks_exact_mut(places).zip(divisors.chunks_exact(places));
    for (row, (y, divisors)) in means.rows.iter().zip(outputs) {
        columns.fill(T::zero());
        for x in x[row.start * width..row.end * width].chunks_exact(width) {
            add(columns, x);
        }
        for pixels in beside.taps() {
            add(&mut y[beside.places.clone()], &columns[pixels]);
        }
        for place in (0..beside.places.start).chain(beside.places.end..places) {
            let col = &means.cols[place];
            y[place] = columns[col.start..col.end].iter().copied().sum();
        }
        y.iter_mut().zip(divisors).for_each(|(y, &divisor)| *y /= divisor);
    }
}

#[inline(always)]
fn plane_gradient<T: Real>(
    means: &Means,
    beside: &Beside,
    divisors: &[T],
    (columns, shares): &mut (Vec<T>, Vec<T>),
    dy: &[T],
    dx: &mut [T],
) {
    let (width, places) = (columns.len(), means.cols.len());
    let outputs = dy.chunks_exact(places).zip(divisors.chunks_exact(places));
    for (row, (dy, divisors)) in means.rows.iter().zip(outputs) {
        let share = shares.iter_mut().zip(dy.iter().zip(divisors));
        share.for_each(|(share, (&dy, &divisor))| *share = dy / divisor);
        columns.fill(T::zero());
        for pixels in beside.taps() {
            add(&mut columns[pixels], &shares[beside.places.clone()]);
        }
        for place in (0..beside.places.start).chain(beside.places.end..places) {
            let col = &means.cols[place];
            columns[col.start..col.end].iter_mut().for_each(|sum| *sum += shares[place]);
        }
        for dx in dx[row.start * width..row.end * width].chunks_exact_mut(width) {
            add(dx, columns);
        }
    }
}

/// Adds one row to another.
#[inline(always)]
fn add<T: Real>(to: &mut [T], from: &[T]) {
    to.iter_mut().zip(from).for_each(|(to, &from)| *to += from);
}
