//! The forward pass, step by step.

use super::plan::{Conv, Kind, Norm, Purpose, Value};
use super::{Engine, Kept, Weights, lay_out, linear, read, running_scales, write};
use crate::nn::Params;
use crate::ops::access;
use crate::ops::dropout::Mask;
use crate::ops::nhwc::conv::{Finish, Maps, convolve};
use crate::ops::nhwc::lanes::padded;
use crate::ops::nhwc::norm::{self, Scales};
use crate::ops::nhwc::pixels::{self, MapsMut};
use crate::ops::nhwc::{curves, pool, response};
use crate::rng::Rng;
use crate::{Error, Result};

const OP: &str = "engine";

impl Engine {
    /// All steps; activations stay where the backward pass needs them.
    pub(super) fn forward_steps(&mut self, params: &Params, seed: u64) -> Result<()> {
        let image = self.activations[self.plan.image].take();
        self.recycle();
        self.activations[self.plan.image] = image;
        let prefix = self.prefix().cloned();
        let first = prefix.as_ref().map_or(0, |prefix| prefix.steps() - 1);
        for at in first..self.plan.nodes.len() {
            let y = self.plan.values[self.plan.nodes[at].y];
            let root = self.plan.values[y.root];
            let len = self.pictures * root.pixels() * root.step;
            let mut buffer = match self.activations[y.root].take() {
                Some(buffer) => buffer,
                None => self.buffers.take(len),
            };
            let done = match &prefix {
                Some(prefix) if at == first => {
                    self.forward_blocks(prefix, params, write(&mut buffer, &y))
                }
                _ => self.forward_step(at, params, seed, write(&mut buffer, &y), &y),
            };
            self.activations[y.root] = Some(buffer);
            done?;
            if self.purpose == Purpose::Eval {
                self.release_read(at);
            }
        }
        Ok(())
    }

    /// Frees what no later step reads.
    fn release_read(&mut self, at: usize) {
        for root in 0..self.activations.len() {
            if self.last_readers[root] == at
                && root != self.plan.image
                && let Some(vector) = self.activations[root].take()
            {
                self.buffers.give(vector);
            }
        }
    }

    fn forward_step(
        &mut self,
        at: usize,
        params: &Params,
        seed: u64,
        y: MapsMut<'_>,
        y_value: &Value,
    ) -> Result<()> {
        let Engine { plan, activations, kept, panels, filters, isa, .. } = self;
        let node = &plan.nodes[at];
        let x_value = &plan.values[node.x];
        let x = read(activations, x_value);
        let (pictures, kept) = (self.pictures, &mut kept[at]);
        let pixels = pictures * y_value.pixels();
        let wide = y_value.wide();
        match &node.kind {
            Kind::Conv(conv) => {
                let residual = conv.residual.map(|r| read(activations, &plan.values[r]).data);
                if self.purpose == Purpose::Eval {
                    let (weights, bias) = match &mut kept.weights {
                        Some(kept) => kept,
                        empty => empty.insert(lay_out(params, conv, *isa, pictures)?),
                    };
                    let finish = Finish { bias: Some(bias), residual, add: false, relu: conv.relu };
                    match (weights, &conv.tiles) {
                        (Weights::Winograd(filters), Some(tiles)) => {
                            tiles.forward(*isa, pictures, x, filters, y, finish);
                        }
                        (Weights::Direct(panels), _) => {
                            let g = &conv.forward;
                            convolve(*isa, g, pictures, x, panels, y.data, y.step, finish);
                        }
                        _ => unreachable!("only a convolution with tiles has their filters"),
                    }
                    return Ok(());
                }
                let weight = params.entries()[conv.weight].var.as_tensor();
                let weight = access::values::<f32>(OP, weight)?;
                let bias = padded_bias(conv, params)?;
                let finish =
                    Finish { bias: bias.as_deref(), residual, add: false, relu: conv.relu };
                if let Some(tiles) = conv.forward_tiles(pictures) {
                    filters.forward(*isa, &weight, conv.shape);
                    tiles.forward(*isa, pictures, x, filters, y, finish);
                    return Ok(());
                }
                match conv.stem {
                    true => panels.pack_stem(*isa, &weight, conv.shape),
                    false => panels.pack_forward(*isa, &weight, conv.shape),
                }
                convolve(*isa, &conv.forward, pictures, x, panels, y.data, y.step, finish);
            }
            Kind::Norm(norm) => {
                let residual = norm.residual.map(|r| read(activations, &plan.values[r]));
                kept.scales = match self.purpose {
                    Purpose::Train if !norm.is_frozen(params) => {
                        batch_scales(params, norm, x, wide, pixels)?
                    }
                    _ => running_scales(params, norm)?,
                };
                norm::normalise(x, &kept.scales, residual, norm.relu, pixels, y);
            }
            Kind::Linear(l) => {
                let (w, b) = (&params.entries()[l.weight].var, &params.entries()[l.bias].var);
                let w = access::values::<f32>(OP, w.as_tensor())?;
                let b = access::values::<f32>(OP, b.as_tensor())?;
                linear::forward(x, (&w, &b), (pictures, l.inputs, l.outputs), l.relu, y);
            }
            Kind::Dropout { p, path } => {
                kept.seed = Rng::stream(seed, path, &[]).next_u64();
                dropout(x, kept, *p, y_value, pictures, y, false);
            }
            Kind::Flatten => {
                pixels::flatten(x, x_value.channels, x_value.pixels(), pictures, y);
            }
            Kind::AddRelu(other) => {
                let other = read(activations, &plan.values[*other]);
                pixels::add_relu(x, other, wide, pixels, y);
            }
            Kind::Response(shape) => response::normalise(shape, x, pixels, y),
            Kind::PaddedIdentity(identity) => identity.forward(pictures, x, wide, y),
            kind => unary(kind, pictures, pixels, x, wide, kept, y),
        }
        Ok(())
    }
}

/// Steps of one input without parameters, for `pixels` pixels of all pictures with `wide` values each.
pub(super) fn unary(
    kind: &Kind,
    pictures: usize,
    pixels: usize,
    x: Maps<'_>,
    wide: usize,
    kept: &mut Kept,
    y: MapsMut<'_>,
) {
    match kind {
        Kind::MaxPool(window) => {
            kept.taps.resize(pixels * wide, 0);
            pool::max_pool(window, pictures, x, wide, y, &mut kept.taps);
        }
        Kind::Means(means) => pool::avg_pool(means, pictures, x, wide, y),
        // A NaN stays one.
        Kind::Relu => pixels::map(x, wide, pixels, y, |x| if x < 0.0 { 0.0 } else { x }),
        Kind::Sigmoid => curves::sigmoid(x, wide, pixels, y),
        Kind::Tanh => curves::tanh(x, wide, pixels, y),
        Kind::Conv(_)
        | Kind::Norm(_)
        | Kind::Linear(_)
        | Kind::Response(_)
        | Kind::PaddedIdentity(_)
        | Kind::Dropout { .. }
        | Kind::Flatten
        | Kind::AddRelu(_) => unreachable!("has a branch of its own"),
    }
}

/// `y = m·x`, m the mask of the ops' dropout for the same seed.
pub(super) fn dropout(
    x: Maps<'_>,
    kept: &Kept,
    p: f64,
    value: &Value,
    pictures: usize,
    mut y: MapsMut<'_>,
    add: bool,
) {
    let (mask, channels) = (Mask::new(p, kept.seed), value.channels);
    y.each(pictures, channels, |n, y| {
        for (c, (y, &x)) in y.iter_mut().zip(x.pixel(n, channels)).enumerate() {
            let value = mask.factor::<f32>(n * channels + c) * x;
            *y = if add { *y + value } else { value };
        }
    });
}

fn padded_bias(conv: &Conv, params: &Params) -> Result<Option<Vec<f32>>> {
    let Some(bias) = conv.bias else { return Ok(None) };
    let values = access::values::<f32>(OP, params.entries()[bias].var.as_tensor())?;
    let mut bias = values.to_vec();
    bias.resize(padded(bias.len()), 0.0);
    Ok(Some(bias))
}

/// The scales of a norm by the batch's own statistics, towards which the running ones move.
fn batch_scales(
    params: &Params,
    norm: &Norm,
    x: Maps<'_>,
    wide: usize,
    pixels: usize,
) -> Result<Scales> {
    if pixels < 2 {
        let needed = "training needs at least two: a larger batch or picture";
        return Err(Error::op("batch_norm2d", format!("{pixels} value per channel"), needed));
    }
    let moments = norm::moments(x, wide, pixels);
    let entries = params.entries();
    let correction = pixels as f64 / (pixels as f64 - 1.0);
    for (entry, batch, factor) in
        [(norm.mean, &moments.mean, 1.0), (norm.var, &moments.var, correction)]
    {
        let var = &entries[entry].var;
        let batch = batch[..var.elem_count()].iter().map(|v| (v * factor) as f32).collect();
        let batch = candle_core::Tensor::from_vec(batch, var.dims(), var.device())?;
        var.set(&crate::ops::running_statistics_after(var, &batch, norm.momentum)?)?;
    }
    let tracked = &entries[norm.tracked].var;
    tracked.set(&(tracked.as_detached_tensor() + 1.0)?)?;
    let weight = access::values::<f32>(OP, entries[norm.weight].var.as_tensor())?;
    let bias = access::values::<f32>(OP, entries[norm.bias].var.as_tensor())?;
    Ok(Scales::new(&moments, &weight, &bias, norm.eps))
}
