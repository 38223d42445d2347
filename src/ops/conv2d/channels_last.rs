//! The kernel for f32 without groups: to channels-last maps, through the kernels of
//! [`nhwc`](crate::ops::nhwc), and back. Moving the maps costs little beside what is gained.

use super::{Conv2dShape, Conv2dWants};
use crate::ops::nhwc::conv::{Finish, Gather, Maps, Runs, convolve, weight_gradient};
use crate::ops::nhwc::lanes::{Isa, padded};
use crate::ops::nhwc::pack::{Panels, WeightShape, unpack_gradient};
use crate::ops::nhwc::pixels::{MapsMut, to_channels_first, to_channels_last};
use crate::ops::nhwc::winograd::{Filters, Scratch, Winograd};

/// Fewer channels than this are mostly padding as vectors; the other kernel is faster there.
pub(super) const LEAST_CHANNELS: usize = 4;

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
    let (isa, sizes) = (Isa::best(), Sizes::of(shape));
    let WeightShape { outputs, inputs, .. } = sizes.weight;
    let n = sizes.pictures;
    let x = to_channels_last(x, n, inputs, sizes.pixels.0);
    let x = Maps { data: &x, step: padded(inputs) };
    let step = padded(outputs);
    let mut to = vec![0.0; n * sizes.pixels.1 * step];
    let bias = b.map(|b| b.iter().copied().chain(std::iter::repeat_n(0.0, step - b.len())));
    let bias: Option<Vec<f32>> = bias.map(Iterator::collect);
    let finish = Finish { bias: bias.as_deref(), ..Finish::default() };
    let tiles = Winograd::new(&shape.window).filter(|tiles| tiles.pays(n, inputs, outputs));
    if let Some(tiles) = tiles {
        let mut filters = Filters::default();
        filters.forward(isa, w, sizes.weight);
        tiles.forward(isa, n, x, &filters, MapsMut { data: &mut to, step }, finish);
    } else {
        let mut panels = Panels::default();
        panels.pack_forward(isa, w, sizes.weight);
        convolve(isa, &Gather::forward(&shape.window), n, x, &panels, &mut to, step, finish);
    }
    to_channels_first(&to, n, outputs, sizes.pixels.1, y);
}

/// The gradients of x and w that are wanted, into slices of their shapes.
pub(super) fn backward(
    shape: &Conv2dShape,
    (x, w, dy): (&[f32], &[f32], &[f32]),
    wants: Conv2dWants,
    dx: &mut [f32],
    dw: &mut [f32],
) {
    let (isa, sizes) = (Isa::best(), Sizes::of(shape));
    let WeightShape { outputs, inputs, kernel } = sizes.weight;
    let n = sizes.pictures;
    let (step, wide) = (padded(inputs), padded(outputs));
    let x = to_channels_last(x, n, inputs, sizes.pixels.0);
    let dy = to_channels_last(dy, n, outputs, sizes.pixels.1);
    let (x, dy) = (Maps { data: &x, step }, Maps { data: &dy, step: wide });
    let mut to = vec![0.0; if wants.input { n * sizes.pixels.0 * step } else { 0 }];
    let taps = kernel.0 * kernel.1;
    let mut sums = vec![0.0; if wants.weight { taps * inputs * wide } else { 0 }];
    let tiles = Winograd::new(&shape.window);
    if let Some(tiles) = tiles.filter(|tiles| tiles.pays_backward(n, inputs, outputs)) {
        let mut filters = Filters::default();
        if wants.input {
            filters.backward(isa, w, sizes.weight);
        }
        let dx = wants.input.then(|| (&filters, MapsMut { data: &mut to, step }));
        let dw = wants.weight.then_some(&mut sums[..]);
        tiles.backward(isa, &mut Scratch::default(), n, x, dy, sizes.weight, dw, dx, false);
    } else {
        if wants.weight {
            let runs = Runs::new(&shape.window);
            weight_gradient(isa, &runs, n, x, inputs, dy, outputs, &mut sums);
        }
        if wants.input {
            let mut panels = Panels::default();
            panels.pack_backward(isa, w, sizes.weight);
            let (g, finish) = (Gather::backward(&shape.window), Finish::default());
            convolve(isa, &g, n, dy, &panels, &mut to, step, finish);
        }
    }
    if wants.input {
        to_channels_first(&to, n, inputs, sizes.pixels.0, dx);
    }
    if wants.weight {
        unpack_gradient(&sums, sizes.weight, dw);
    }
}
