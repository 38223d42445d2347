//! Convolution layers of the classic networks, one by one.

use super::pass::{Apply, BOTH, FORWARD, Pass};
use super::{Case, Rate, Row, Settings, candle, entry};
use crate::Result;
use crate::ops::{self, Conv2dParams};

/// A square convolution on square pictures.
struct Layer {
    name: &'static str,
    inputs: usize,
    outputs: usize,
    side: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    bias: bool,
    batch: usize,
}

/// Channels in and out, side of the picture, (kernel, stride, padding), bias, batch.
const fn layer(
    name: &'static str,
    (inputs, outputs, side): (usize, usize, usize),
    (kernel, stride, padding): (usize, usize, usize),
    bias: bool,
    batch: usize,
) -> Layer {
    Layer { name, inputs, outputs, side, kernel, stride, padding, bias, batch }
}

const LAYERS: &[Layer] = &[
    layer("resnet_3x3_64_56", (64, 64, 56), (3, 1, 1), false, 16),
    layer("resnet_3x3_128_28", (128, 128, 28), (3, 1, 1), false, 16),
    layer("resnet_3x3_256_14", (256, 256, 14), (3, 1, 1), false, 16),
    layer("resnet_3x3_512_7", (512, 512, 7), (3, 1, 1), false, 16),
    layer("resnet_3x3s2_64_128_56", (64, 128, 56), (3, 2, 1), false, 16),
    layer("resnet_stem_7x7s2_224", (3, 64, 224), (7, 2, 3), false, 16),
    layer("resnet_1x1_256_64_56", (256, 64, 56), (1, 1, 0), false, 16),
    layer("resnet_1x1_64_256_56", (64, 256, 56), (1, 1, 0), false, 16),
    layer("resnet_1x1s2_256_512_56", (256, 512, 56), (1, 2, 0), false, 16),
    layer("alexnet_conv1_11x11s4_224", (3, 64, 224), (11, 4, 2), true, 16),
    layer("alexnet_conv2_5x5_64_192_27", (64, 192, 27), (5, 1, 2), true, 16),
    layer("vgg_conv1_1_3x3_3_64_224", (3, 64, 224), (3, 1, 1), true, 4),
    layer("vgg_conv1_2_3x3_64_224", (64, 64, 224), (3, 1, 1), true, 4),
    layer("vgg_conv5_3x3_512_14", (512, 512, 14), (3, 1, 1), true, 16),
    layer("lenet_5x5_1_6_28", (1, 6, 28), (5, 1, 0), true, 128),
    layer("lenet_5x5_1_6_32", (1, 6, 32), (5, 1, 0), true, 128),
    layer("lenet_5x5_6_16_12", (6, 16, 12), (5, 1, 0), true, 128),
    layer("googlenet_5x5_16_32_28", (16, 32, 28), (5, 1, 2), false, 16),
];

/// Every layer, forward at batch 1 and its own, forward and backward at its own.
pub(super) fn cases() -> Vec<Case> {
    LAYERS.iter().map(|layer| Case { section: "conv", name: layer.name, run }).collect()
}

fn run(name: &'static str, settings: &Settings) -> Result<Vec<Row>> {
    let layer = entry(LAYERS, name, |layer| layer.name)?;
    let mut rows = Vec::new();
    let all = [(1, FORWARD), (layer.batch, FORWARD), (layer.batch, BOTH)];
    for (batch, op) in all {
        let pass = layer.pass(batch)?;
        let row = Row::new("conv", name, settings.threads).on(op, batch);
        let rate = Rate::Gflop(layer.gflop(batch) * if op == BOTH { 3.0 } else { 1.0 });
        if settings.sides.ours() {
            rows.push(row.clone().timed(pass.time(op, settings.layer())?, rate));
        }
        if let Some(backend) = settings.sides.candle() {
            let theirs = pass.with(layer.builtin());
            let row = (row, backend);
            rows.push(candle::row(row, op, (&pass, &theirs), settings.layer(), rate)?);
        }
    }
    Ok(rows)
}

impl Layer {
    /// Our op, on input, weight and, where there is one, bias.
    fn pass(&self, batch: usize) -> Result<Pass> {
        let (stride, padding) = ((self.stride, self.stride), (self.padding, self.padding));
        let params = Conv2dParams { stride, padding, ..Default::default() };
        let x = [batch, self.inputs, self.side, self.side];
        let weight = [self.outputs, self.inputs, self.kernel, self.kernel];
        let bias = [self.outputs];
        let shapes: [&[usize]; 3] = [&x, &weight, &bias];
        let shapes = &shapes[..if self.bias { 3 } else { 2 }];
        Pass::new(shapes, Box::new(move |t| ops::conv2d(&t[0], &t[1], t.get(2), &params)))
    }

    /// candle's op on the same.
    fn builtin(&self) -> Apply {
        let (stride, padding) = (self.stride, self.padding);
        Box::new(move |t| {
            let y = t[0].conv2d(&t[1], padding, stride, 1, 1)?;
            Ok(match t.get(2) {
                Some(bias) => y.broadcast_add(&bias.reshape((1, (), 1, 1))?)?,
                None => y,
            })
        })
    }

    /// 10⁹ operations of a forward pass.
    fn gflop(&self, batch: usize) -> f64 {
        let &Layer { inputs, outputs, side, kernel, stride, padding, .. } = self;
        let side = (side + 2 * padding - kernel) / stride + 1;
        let macs = batch * outputs * inputs * kernel * kernel * side * side;
        2.0 * macs as f64 / 1e9
    }
}
