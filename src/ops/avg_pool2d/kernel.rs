//! Pooling by means as the CPU runs it: planes spread over threads; in a plane, first the sums of a
//! span of rows, column by column, then sums over spans of those.

use super::{Means, Span};
use crate::ops::Real;
use crate::ops::pooling::for_each_plane;

/// The means of each plane of `x`, [.., OH, OW].
///
/// # Panics
/// If `x` is not whole planes, or a span does not lie in its plane.
pub fn forward<T: Real>(means: &Means, x: &[T]) -> Vec<T> {
    let (pixels, places) = (means.pixels(), means.places());
    let mut y = vec![T::zero(); x.len() / pixels * places];
    let width = means.input.1;
    for_each_plane(
        (&mut y, places),
        (x, pixels),
        || vec![T::zero(); width],
        |columns, y, x| match whole(means) {
            Some(divisor) => y[0] = sum(x) / T::of(divisor as f64),
            None => plane(means, columns, x, y),
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
    let width = means.input.1;
    for_each_plane(
        (&mut dx, pixels),
        (dy, places),
        || vec![T::zero(); width],
        |columns, dx, dy| match whole(means) {
            Some(divisor) => dx.fill(dy[0] / T::of(divisor as f64)),
            None => plane_gradient(means, columns, dy, dx),
        },
    );
    dx
}

/// The divisor, if the one output of a plane is the mean of all of it.
fn whole(means: &Means) -> Option<usize> {
    let ([row], [col]) = (&means.rows[..], &means.cols[..]) else { return None };
    let all = (row.start, col.start) == (0, 0) && (row.end, col.end) == means.input;
    all.then(|| means.divisor(row, col))
}

/// The sum of a slice, in an order that vectors can follow.
fn sum<T: Real>(values: &[T]) -> T {
    const LANES: usize = 16;
    let mut lanes = [T::zero(); LANES];
    let chunks = values.chunks_exact(LANES);
    let rest: T = chunks.remainder().iter().copied().sum();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(sum, &value)| *sum = *sum + value);
    }
    lanes.into_iter().sum::<T>() + rest
}

fn plane<T: Real>(means: &Means, columns: &mut [T], x: &[T], y: &mut [T]) {
    let width = columns.len();
    for (row, y) in means.rows.iter().zip(y.chunks_exact_mut(means.cols.len())) {
        let mut band = x[row.start * width..row.end * width].chunks_exact(width);
        match band.next() {
            Some(first) => columns.copy_from_slice(first),
            None => columns.fill(T::zero()),
        }
        for x in band {
            columns.iter_mut().zip(x).for_each(|(sum, &x)| *sum = *sum + x);
        }
        for (y, col) in y.iter_mut().zip(&means.cols) {
            let sum: T = columns[col.start..col.end].iter().copied().sum();
            *y = sum / divisor(means, row, col);
        }
    }
}

fn plane_gradient<T: Real>(means: &Means, columns: &mut [T], dy: &[T], dx: &mut [T]) {
    let width = columns.len();
    for (row, dy) in means.rows.iter().zip(dy.chunks_exact(means.cols.len())) {
        columns.fill(T::zero());
        for (&dy, col) in dy.iter().zip(&means.cols) {
            let share = dy / divisor(means, row, col);
            columns[col.start..col.end].iter_mut().for_each(|sum| *sum = *sum + share);
        }
        for dx in dx[row.start * width..row.end * width].chunks_exact_mut(width) {
            dx.iter_mut().zip(&*columns).for_each(|(dx, &sum)| *dx = *dx + sum);
        }
    }
}

fn divisor<T: Real>(means: &Means, row: &Span, col: &Span) -> T {
    T::of(means.divisor(row, col) as f64)
}
