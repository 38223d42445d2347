//! The backward pass, step by step from the last.

use std::sync::Arc;

use super::forward::dropout;
use super::plan::{Conv, EntryId, Kind, Linear, Node, Norm, Value, ValueId};
use super::{Engine, Gradients, Kept, linear, read, write};
use crate::Result;
use crate::nn::Params;
use crate::ops::access;
use crate::ops::nhwc::conv::{Finish, Maps, convolve, weight_gradient};
use crate::ops::nhwc::pack::{unpack_gradient, unpack_stem_gradient};
use crate::ops::nhwc::pixels::{self, MapsMut};
use crate::ops::nhwc::winograd::Winograd;
use crate::ops::nhwc::{norm, pool, response};

const OP: &str = "engine";

impl Engine {
    pub(super) fn backward_steps(&mut self, params: &Params, to: &mut Gradients<'_>) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let prefix = self.prefix().cloned();
        for (at, node) in plan.nodes.iter().enumerate().rev() {
            let y = plan.values[node.y];
            let Some(mut dy) = self.gradients[y.root].take() else { continue };
            if let Some(prefix) = prefix.as_ref().filter(|prefix| prefix.steps() == at + 1) {
                if plan.values[node.x].needs_gradient {
                    self.backward_blocks(prefix, params, maps(&dy, &y), to)?;
                }
                self.buffers.give(dy);
                break;
            }
            let taken = self.backward_step(at, node, params, &y, &mut dy, to)?;
            self.hand_over(node, to)?;
            let done = self.first_writers[y.root] == at;
            match (done, taken) {
                (_, true) => {}
                (false, false) => self.gradients[y.root] = Some(dy),
                (true, false) => self.buffers.give(dy),
            }
            if done && let Some(vector) = self.activations[y.root].take() {
                self.buffers.give(vector);
            }
        }
        Ok(())
    }

    /// Gives the gradients of a step's parameters away: nothing reads these parameters any more.
    pub(super) fn hand_over(&mut self, node: &Node, to: &mut Gradients<'_>) -> Result<()> {
        let entries = match &node.kind {
            Kind::Conv(conv) => [Some(conv.weight), conv.bias],
            Kind::Linear(linear) => [Some(linear.weight), Some(linear.bias)],
            Kind::Norm(norm) => [Some(norm.weight), Some(norm.bias)],
            _ => [None, None],
        };
        let Gradients::HandOver(take) = to else { return Ok(()) };
        for entry in entries.into_iter().flatten() {
            let Some(gradient) = self.parameters[entry].take() else { continue };
            take(entry, 0, &gradient)?;
            if gradient.capacity() > self.spare.capacity() {
                self.spare = gradient;
            }
        }
        Ok(())
    }

    /// The gradient buffer of a value, and whether it holds a part of the gradient already.
    fn target(&mut self, value: ValueId) -> (Vec<f32>, bool) {
        let value = &self.plan.values[value];
        let root = &self.plan.values[value.root];
        match self.gradients[value.root].take() {
            Some(buffer) => (buffer, true),
            None => (self.buffers.take(self.pictures * root.pixels() * root.step), false),
        }
    }

    /// Hands the gradient `dy` on to the step's parameters and inputs. Whether `dy` itself has become
    /// the gradient of an input.
    fn backward_step(
        &mut self,
        at: usize,
        node: &Node,
        params: &Params,
        y: &Value,
        dy: &mut Vec<f32>,
        to: &mut Gradients<'_>,
    ) -> Result<bool> {
        let x_id = node.x;
        let pixels = self.pictures * y.pixels();
        let relu = match &node.kind {
            Kind::Conv(conv) => conv.relu,
            Kind::Linear(linear) => linear.relu,
            Kind::Relu | Kind::AddRelu(_) => true,
            _ => false,
        };
        if relu {
            let y_maps = read(&self.activations, y);
            pixels::relu_gradient(y_maps, y.wide(), pixels, write(dy, y));
        }
        match &node.kind {
            Kind::Conv(conv) => self.conv(conv, params, x_id, y, dy).map(|()| false),
            Kind::Linear(l) => self.linear(*l, params, x_id, y, dy, to).map(|()| false),
            Kind::Norm(norm) => self.norm(at, norm, params, x_id, y, dy),
            Kind::AddRelu(other) => {
                self.pass_on(x_id, y, dy);
                self.pass_on(*other, y, dy);
                Ok(false)
            }
            other => {
                if self.plan.values[x_id].needs_gradient {
                    self.unary(at, other, x_id, y, dy);
                }
                Ok(false)
            }
        }
    }

    /// Steps without parameters.
    fn unary(&mut self, at: usize, kind: &Kind, x_id: ValueId, y: &Value, dy: &[f32]) {
        let (mut dx, add) = self.target(x_id);
        let x_value = self.plan.values[x_id];
        let (x, y_maps) = (read(&self.activations, &x_value), read(&self.activations, y));
        let (dy, to) = (maps(dy, y), write(&mut dx, &x_value));
        let (wide, pictures) = (y.wide(), self.pictures);
        let pixels = pictures * y.pixels();
        let kept = &self.kept[at];
        match kind {
            Kind::Response(shape) => response::gradient(shape, x, dy, pixels, to, add),
            Kind::PaddedIdentity(identity) => {
                identity.gradient(pictures, dy, x_value.wide(), to, add);
            }
            Kind::Dropout { p, .. } => dropout(dy, kept, *p, y, pictures, to, add),
            Kind::Flatten => {
                pixels::unflatten(dy, x_value.channels, x_value.pixels(), pictures, to, add);
            }
            kind => unary(kind, pictures, pixels, (y_maps, dy), wide, kept, to, add),
        }
        self.gradients[x_value.root] = Some(dx);
    }

    /// The gradient of a value is `dy` as it stands.
    fn pass_on(&mut self, to: ValueId, y: &Value, dy: &[f32]) {
        let value = self.plan.values[to];
        if !value.needs_gradient {
            return;
        }
        let (mut buffer, add) = self.target(to);
        let pixels = self.pictures * y.pixels();
        pixels::copy(maps(dy, y), y.wide(), pixels, write(&mut buffer, &value), add);
        self.gradients[value.root] = Some(buffer);
    }

    fn conv(
        &mut self,
        conv: &Conv,
        params: &Params,
        x_id: ValueId,
        y: &Value,
        dy: &[f32],
    ) -> Result<()> {
        let x_value = self.plan.values[x_id];
        let dy = maps(dy, y);
        if let Some(bias) = conv.bias {
            self.bias_gradient(params, bias, dy, y);
        }
        if let Some(tiles) = conv.backward_tiles(self.pictures) {
            return self.conv_by_tiles(conv, tiles, params, x_id, dy);
        }
        if trains(params, conv.weight) {
            let mut dw = self.buffers.take(conv.gradient_len());
            let mut grad = self.parameter_gradient(params.entries()[conv.weight].spec.len());
            let x = read(&self.activations, &x_value);
            let (isa, outputs) = (self.isa, conv.shape.outputs);
            weight_gradient(isa, &conv.runs, self.pictures, x, conv.depth(), dy, outputs, &mut dw);
            match conv.stem {
                true => unpack_stem_gradient(&dw, conv.shape, &mut grad),
                false => unpack_gradient(&dw, conv.shape, &mut grad),
            }
            self.buffers.give(dw);
            self.parameters[conv.weight] = Some(grad);
        }
        if x_value.needs_gradient {
            let weight = params.entries()[conv.weight].var.as_tensor();
            let weight = access::values::<f32>(OP, weight)?;
            self.panels.pack_backward(self.isa, &weight, conv.shape);
            let (mut dx, add) = self.target(x_id);
            let to = write(&mut dx, &x_value);
            let finish = Finish { add, ..Finish::default() };
            let (g, n) = (&conv.backward, self.pictures);
            convolve(self.isa, g, n, dy, &self.panels, to.data, to.step, finish);
            self.gradients[x_value.root] = Some(dx);
        }
        Ok(())
    }

    /// The gradients of a convolution by Winograd's way.
    fn conv_by_tiles(
        &mut self,
        conv: &Conv,
        tiles: &Winograd,
        params: &Params,
        x_id: ValueId,
        dy: Maps<'_>,
    ) -> Result<()> {
        let x_value = self.plan.values[x_id];
        let (isa, pictures) = (self.isa, self.pictures);
        let trains = trains(params, conv.weight);
        let mut dw = trains.then(|| self.buffers.take(conv.gradient_len()));
        let mut dx = x_value.needs_gradient.then(|| self.target(x_id));
        let add = dx.as_ref().is_some_and(|dx| dx.1);
        if dx.is_some() {
            let weight = params.entries()[conv.weight].var.as_tensor();
            let weight = access::values::<f32>(OP, weight)?;
            self.filters.backward(isa, &weight, conv.shape);
        }
        let to = dx.as_mut().map(|(dx, _)| (&self.filters, write(dx, &x_value)));
        let x = read(&self.activations, &x_value);
        let dw_mut = dw.as_deref_mut();
        tiles.backward(isa, &mut self.scratch, pictures, x, dy, conv.shape, dw_mut, to, add);
        if let Some(dw) = dw {
            let mut grad = self.parameter_gradient(params.entries()[conv.weight].spec.len());
            unpack_gradient(&dw, conv.shape, &mut grad);
            self.buffers.give(dw);
            self.parameters[conv.weight] = Some(grad);
        }
        if let Some((dx, _)) = dx {
            self.gradients[x_value.root] = Some(dx);
        }
        Ok(())
    }

    fn bias_gradient(&mut self, params: &Params, bias: EntryId, dy: Maps<'_>, y: &Value) {
        if !trains(params, bias) {
            return;
        }
        let mut grad = vec![0.0; y.channels];
        pixels::column_sums(dy, y.channels, self.pictures * y.pixels(), &mut grad);
        self.parameters[bias] = Some(grad);
    }

    fn linear(
        &mut self,
        l: Linear,
        params: &Params,
        x_id: ValueId,
        y: &Value,
        dy: &[f32],
        to: &mut Gradients<'_>,
    ) -> Result<()> {
        let x_value = self.plan.values[x_id];
        let dy = maps(dy, y);
        let sizes = (self.pictures, l.inputs, l.outputs);
        self.bias_gradient(params, l.bias, dy, y);
        // Before the weight's gradient, which may change the weight.
        if x_value.needs_gradient {
            let w = access::values::<f32>(OP, params.entries()[l.weight].var.as_tensor())?;
            let (mut dx, add) = self.target(x_id);
            linear::input_gradient(dy, &w, sizes, write(&mut dx, &x_value), add);
            self.gradients[x_value.root] = Some(dx);
        }
        if trains(params, l.weight) {
            self.linear_weight(l, x_id, dy, to)?;
        }
        Ok(())
    }

    /// The gradient of a linear layer's weight, in parts where it is large and handed over.
    fn linear_weight(
        &mut self,
        l: Linear,
        x_id: ValueId,
        dy: Maps<'_>,
        to: &mut Gradients<'_>,
    ) -> Result<()> {
        let x_value = self.plan.values[x_id];
        let pictures = self.pictures;
        match to {
            Gradients::HandOver(take) if l.outputs > linear::PART => {
                for first in (0..l.outputs).step_by(linear::PART) {
                    let rows = first..(first + linear::PART).min(l.outputs);
                    let mut part = self.parameter_gradient(rows.len() * l.inputs);
                    let x = read(&self.activations, &x_value);
                    linear::weight_gradient(x, dy, (pictures, l.inputs, rows), &mut part);
                    take(l.weight, first * l.inputs, &part)?;
                    self.spare = part;
                }
            }
            _ => {
                let mut grad = self.parameter_gradient(l.inputs * l.outputs);
                let x = read(&self.activations, &x_value);
                linear::weight_gradient(x, dy, (pictures, l.inputs, 0..l.outputs), &mut grad);
                self.parameters[l.weight] = Some(grad);
            }
        }
        Ok(())
    }

    fn norm(
        &mut self,
        at: usize,
        n: &Norm,
        params: &Params,
        x_id: ValueId,
        y: &Value,
        dy: &mut Vec<f32>,
    ) -> Result<bool> {
        let x_value = self.plan.values[x_id];
        let pixels = self.pictures * y.pixels();
        let scales = std::mem::take(&mut self.kept[at].scales);
        let x = read(&self.activations, &x_value);
        let y_maps = n.relu.then(|| read(&self.activations, y));
        let sums = norm::reduce(x, y_maps, &scales, pixels, &mut write(dy, y));
        let wide = y.wide();
        for (entry, first) in [(n.bias, 0), (n.weight, wide)] {
            if !trains(params, entry) {
                continue;
            }
            let mut grad = vec![0.0; y.channels];
            for (c, grad) in grad.iter_mut().enumerate() {
                let scale = if first == 0 { 1.0 } else { f64::from(scales.inverse[c]) };
                *grad = (sums[first + c] * scale) as f32;
            }
            self.parameters[entry] = Some(grad);
        }
        if x_value.needs_gradient {
            let (mut dx, add) = self.target(x_id);
            let x = read(&self.activations, &x_value);
            let to = write(&mut dx, &x_value);
            let fixed = n.is_frozen(params);
            norm::gradient(x, maps(dy, y), &scales, &sums, fixed, pixels, to, add);
            self.gradients[x_value.root] = Some(dx);
        }
        let Some(residual) = n.residual else { return Ok(false) };
        let value = &self.plan.values[residual];
        // Masked by the ReLU, dy is the residual's gradient: where nothing is there yet, hand it over.
        let whole = value.root == residual && y.root == self.plan.nodes[at].y;
        let free = value.needs_gradient && self.gradients[value.root].is_none();
        if whole && free && value.step == y.step {
            self.gradients[residual] = Some(std::mem::take(dy));
            return Ok(true);
        }
        self.pass_on(residual, y, dy);
        Ok(false)
    }
}

/// The gradients of steps whose input is not needed for them: `y` their output, `dy` its gradient, for
/// `pixels` pixels of all pictures with `wide` values each.
#[allow(clippy::too_many_arguments)] // maps, and how large they are
pub(super) fn unary(
    kind: &Kind,
    pictures: usize,
    pixels: usize,
    (y, dy): (Maps<'_>, Maps<'_>),
    wide: usize,
    kept: &Kept,
    dx: MapsMut<'_>,
    add: bool,
) {
    match kind {
        Kind::MaxPool(window) => {
            pool::max_pool_gradient(window, pictures, dy, wide, &kept.taps, dx, add);
        }
        Kind::Means(means) => pool::avg_pool_gradient(means, pictures, dy, wide, dx, add),
        Kind::Sigmoid => {
            pixels::map_gradient(y, dy, wide, pixels, dx, add, |y, dy| dy * y * (1.0 - y));
        }
        Kind::Tanh => {
            pixels::map_gradient(y, dy, wide, pixels, dx, add, |y, dy| dy * (1.0 - y * y));
        }
        Kind::Relu => pixels::copy(dy, wide, pixels, dx, add),
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

fn trains(params: &Params, entry: EntryId) -> bool {
    params.entries()[entry].trainable
}

/// A gradient laid out as its value.
fn maps<'a>(gradient: &'a [f32], value: &Value) -> Maps<'a> {
    Maps { data: gradient.get(value.at..).unwrap_or_default(), step: value.step }
}
