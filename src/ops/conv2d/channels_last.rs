//! The kernel for f32 without groups: to channels-last maps, through the kernels of
//! [`nhwc`](crate::ops::nhwc), and back. Moving the maps costs little beside what is gained.

use std::sync::{Mutex, PoisonError};

use super::Conv2dShape;
use crate::ops::nhwc::conv::{Finish, Gather, Maps, Runs, convolve, weight_gradient};
use crate::ops::nhwc::grown;
use crate::ops::nhwc::lanes::{Isa, padded};
use crate::ops::nhwc::order::{to_channels_first, to_channels_last};
use crate::ops::nhwc::pack::{Panels, WeightShape, unpack_gradient};
use crate::ops::nhwc::pixels::MapsMut;
use crate::ops::nhwc::winograd::{Filters, Scratch, Winograd};
use crate::ops::weighted::Wants;

/// Fewer channels than this are mostly padding as vectors; the other kernel is faster there.
pub(super) const LEAST_CHANNELS: usize = 4;

/// Memory that is kept from call to call: fresh pages would cost as much as the convolution.
#[derive(Default)]
struct Kept {
    x: Vec<f32>,
    y: Vec<f32>,
    to: Vec<f32>,
    sums: Vec<f32>,
    filters: Filters,
    panels: Panels,
    scratch: Scratch,
}

/// Lends the memory, or new memory where another thread is using it.
fn with_kept<T>(work: impl FnOnce(&mut Kept) -> T) -> T {
    static KEPT: Mutex<Option<Box<Kept>>> = Mutex::new(None);
    let lock = || KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let mut kept = lock().take().unwrap_or_default();
    let result = work(&mut kept);
    *lock() = Some(kept);
    result
}

/// The sizes of a call.
struct Sizes {
    pictures: usize,
    weight: WeightShape,
    /// Pixels of an input and of an output picture.
    pixels: (usize, usize),
}

impl Sizes {
    fn of(shape: &Conv2dShape) -> Self {
        let window = &shape.window;
        let (outputs, inputs) = (shape.group_out, window.channels);
        Sizes {
            pictures: shape.batch,
            weight: WeightShape { outputs, inputs, kernel: window.kernel },
            pixels: (window.input.0 * window.input.1, window.cols()),
        }
    }
}

/// `y = w · im2col(x) + b`, [N, O, OH, OW].
pub(super) fn forward(shape: &Conv2dShape, x: &[f32], w: &[f32], b: Option<&[f32]>, y: &mut [f32]) {
    with_kept(|kept| forward_in(kept, shape, x, w, b, y));
}

fn forward_in(
    kept: &mut Kept,
    shape: &Conv2dShape,
    x: &[f32],
    w: &[f32],
    b: Option<&[f32]>,
    y: &mut [f32],
) {
    let (isa, sizes) = (Isa::best(), Sizes::of(shape));
    let WeightShape { outputs, inputs, .. } = sizes.weight;
    let n = sizes.pictures;
    let Kept { x: xs, y: ys, filters, panels, .. } = kept;
    let x_step = padded(inputs);
    to_channels_last(x, n, inputs, sizes.pixels.0, grown(xs, n * sizes.pixels.0 * x_step));
    let x = Maps { data: xs, step: x_step };
    let step = padded(outputs);
    let to = grown(ys, n * sizes.pixels.1 * step);
    let bias = b.map(|b| b.iter().copied().chain(std::iter::repeat_n(0.0, step - b.len())));
    let bias: Option<Vec<f32>> = bias.map(Iterator::collect);
    let finish = Finish { bias: bias.as_deref(), ..Finish::default() };
    let tiles = Winograd::new(&shape.window).filter(|tiles| tiles.pays(n, inputs, outputs));
    if let Some(tiles) = tiles {
        filters.forward(isa, w, sizes.weight);
        tiles.forward(isa, n, x, filters, MapsMut { data: to, step }, finish);
    } else {
        panels.pack_forward(isa, w, sizes.weight);
        convolve(isa, &Gather::forward(&shape.window), n, x, panels, to, step, finish);
    }
    to_channels_first(ys, n, outputs, sizes.pixels.1, y);
}

/// The gradients of x and w that are wanted, into slices of their shapes.
pub(super) fn backward(
    shape: &Conv2dShape,
    values: (&[f32], &[f32], &[f32]),
    wants: Wants,
    dx: &mut [f32],
    dw: &mut [f32],
) {
    with_kept(|kept| backward_in(kept, shape, values, wants, dx, dw));
}

fn backward_in(
    kept: &mut Kept,
    shape: &Conv2dShape,
    (x, w, dy): (&[f32], &[f32], &[f32]),
    wants: Wants,
    dx: &mut [f32],
    dw: &mut [f32],
) {
    let (isa, sizes) = (Isa::best(), Sizes::of(shape));
    let WeightShape { outputs, inputs, kernel } = sizes.weight;
    let n = sizes.pictures;
    let (step, wide) = (padded(inputs), padded(outputs));
    let Kept { x: xs, y: ys, to, sums, filters, panels, scratch } = kept;
    to_channels_last(x, n, inputs, sizes.pixels.0, grown(xs, n * sizes.pixels.0 * step));
    to_channels_last(dy, n, outputs, sizes.pixels.1, grown(ys, n * sizes.pixels.1 * wide));
    let (x, dy) = (Maps { data: xs, step }, Maps { data: ys, step: wide });
    let to = grown(to, n * sizes.pixels.0 * step);
    let sums = grown(sums, kernel.0 * kernel.1 * inputs * wide);
    let tiles = Winograd::new(&shape.window);
    if let Some(tiles) = tiles.filter(|tiles| tiles.pays_backward(n, inputs, outputs)) {
        if wants.input {
            filters.backward(isa, w, sizes.weight);
        }
        let dx = wants.input.then_some((&*filters, MapsMut { data: &mut *to, step }));
        let dw = wants.weight.then_some(&mut *sums);
        tiles.backward(isa, scratch, n, x, dy, sizes.weight, dw, dx, false);
    } else {
        if wants.weight {
            let runs = Runs::new(&shape.window);
            weight_gradient(isa, &runs, n, x, inputs, dy, outputs, sums);
        }
        if wants.input {
            panels.pack_backward(isa, w, sizes.weight);
            let (g, finish) = (Gather::backward(&shape.window), Finish::default());
            convolve(isa, &g, n, dy, panels, to, step, finish);
        }
    }
    if wants.input {
        to_channels_first(to, n, inputs, sizes.pixels.0, dx);
    }
    if wants.weight {
        unpack_gradient(sums, sizes.weight, dw);
    }
}
