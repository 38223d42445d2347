//! Pooling by means as the CPU runs it: planes spread over threads; in a plane, first the sums of a
//! span of rows, column by column, then sums over spans of those.

use super::Means;
use crate::ops::Real;
use crate::ops::pooling::for_each_plane;

/// The means of each plane of `x`, [.., OH, OW].
///
/// # Panics
/// If `x` is not whole planes, or a span does not lie in its plane.
pub fn forward<T: Real>(means: &Means, x: &[T]) -> Vec<T> {
    let (pixels, places) = (means.pixels(), means.places());
    let mut y = vec![T::zero(); x.len() / pixels * places];
    let (width, divisors) = (means.input.1, divisors(means));
    for_each_plane(
        (&mut y, places),
        (x, pixels),
        || vec![T::zero(); width],
        |columns, y, x| match is_whole(means) {
            true => y[0] = sum(x) / divisors[0],
            false => plane(means, &divisors, columns, x, y),
        },
    );
    y
}

/// The gradient of x from `dy` [.., OH, OW].
///
/// # Panics
/// If `dy` is not whole planes, or a span does not lie in its plane.
pub fn backward<T: Real>(means: &Means, dy: &[T]) -> Vec<T> {
    let (pixels, places) = (means.pixels(), means.places());
    let mut dx = vec![T::zero(); dy.len() / places * pixels];
    let (width, divisors) = (means.input.1, divisors(means));
    for_each_plane(
        (&mut dx, pixels),
        (dy, places),
        || vec![T::zero(); width],
        |columns, dx, dy| match is_whole(means) {
            true => dx.fill(dy[0] / divisors[0]),
            false => plane_gradient(means, &divisors, columns, dy, dx),
        },
    );
    dx
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

/// The sum of a slice, in an order that vectors can follow.
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

fn plane<T: Real>(means: &Means, divisors: &[T], columns: &mut [T], x: &[T], y: &mut [T]) {
    let (width, places) = (columns.len(), means.cols.len());
    let outputs = y.chunks_exact_mut(places).zip(divisors.chunks_exact(places));
    for (row, (y, divisors)) in means.rows.iter().zip(outputs) {
        columns.fill(T::zero());
        for x in x[row.start * width..row.end * width].chunks_exact(width) {
            add(columns, x);
        }
        for ((y, &divisor), col) in y.iter_mut().zip(divisors).zip(&means.cols) {
            let sum: T = columns[col.start..col.end].iter().copied().sum();
            *y = sum / divisor;
        }
    }
}

fn plane_gradient<T: Real>(
    means: &Means,
    divisors: &[T],
    columns: &mut [T],
    dy: &[T],
    dx: &mut [T],
) {
    let (width, places) = (columns.len(), means.cols.len());
    let outputs = dy.chunks_exact(places).zip(divisors.chunks_exact(places));
    for (row, (dy, divisors)) in means.rows.iter().zip(outputs) {
        columns.fill(T::zero());
        for ((&dy, &divisor), col) in dy.iter().zip(divisors).zip(&means.cols) {
            let share = dy / divisor;
            columns[col.start..col.end].iter_mut().for_each(|sum| *sum += share);
        }
        for dx in dx[row.start * width..row.end * width].chunks_exact_mut(width) {
            add(dx, columns);
        }
    }
}

/// Adds one row to another.
fn add<T: Real>(to: &mut [T], from: &[T]) {
    to.iter_mut().zip(from).for_each(|(to, &from)| *to += from);
}
