//! Average pooling as its equations say it: the sum of each column of the im2col matrix, divided.
//!
//! For one plane, with `col = im2col(x)` of shape [KH·KW, OH·OW]:
//!
//! ```text
//! forward    y[p] = Σ over r of col[r, p] / divisor[p]
//! backward   dx   = col2im(dcol),  dcol[r, p] = dy[p] / divisor[p]
//! ```

use super::AvgPool2dShape;
use crate::ops::{Real, col2im, im2col};

/// The means, [N, C, OH, OW].
pub fn forward<T: Real>(shape: &AvgPool2dShape, x: &[T]) -> Vec<T> {
    let (divisors, places) = (divisors::<T>(shape), shape.window.cols());
    let mut y = Vec::with_capacity(shape.output().iter().product());
    for x in x.chunks_exact(shape.window.pixels()) {
        let col = im2col(&shape.window, x);
        for (p, &divisor) in divisors.iter().enumerate() {
            let sum: T = col.iter().skip(p).step_by(places).copied().sum();
            y.push(sum / divisor);
        }
    }
    y
}

/// The gradient of x, [N, C, H, W], from `dy` [N, C, OH, OW].
pub fn backward<T: Real>(shape: &AvgPool2dShape, dy: &[T]) -> Vec<T> {
    let divisors = divisors::<T>(shape);
    let mut dx = Vec::with_capacity(shape.batch * shape.channels * shape.window.pixels());
    for dy in dy.chunks_exact(shape.window.cols()) {
        let row: Vec<T> = dy.iter().zip(&divisors).map(|(&dy, &divisor)| dy / divisor).collect();
        dx.extend(col2im(&shape.window, &row.repeat(shape.window.rows())));
    }
    dx
}

/// The divisor of each place, [OH·OW].
fn divisors<T: Real>(shape: &AvgPool2dShape) -> Vec<T> {
    let (oh, ow) = shape.window.output;
    let places = (0..oh).flat_map(|oy| (0..ow).map(move |ox| (oy, ox)));
    places.map(|(oy, ox)| T::of(shape.divisor(oy, ox) as f64)).collect()
}
