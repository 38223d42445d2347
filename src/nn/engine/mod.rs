//! A network's forward and backward pass on a CPU in f32, without candle's graph.
//!
//! The tree of layers becomes a list of steps on channels-last maps ([`plan`]): a convolution takes the
//! bias and ReLU behind it into its own pass, a batch norm the ReLU and the sum of a residual block,
//! the branches of an inception module write into the joined map. Buffers go from step to step, and
//! gradients are made where they are wanted and written once. What comes out is what the ops give, and
//! a test holds both to the same logits and gradients.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use convzoo::nn::{self, Engine, Init, Network};
//!
//! # fn main() -> convzoo::Result<()> {
//! let layers = nn::sequential([
//!     ("conv", nn::conv(3, 8, 3).padding(1).into()),
//!     ("relu", nn::Layer::Relu),
//!     ("pool", nn::adaptive_avg_pool(1)),
//!     ("flatten", nn::Layer::Flatten),
//!     ("fc", nn::linear(8, 2)),
//! ]);
//! let network = Network::new(layers, &Init::PYTORCH, 1, DType::F32, &Device::Cpu)?;
//! let images = Tensor::ones((4, 3, 16, 16), DType::F32, &Device::Cpu)?;
//! let mut engine = Engine::evaluation(&network, (3, 16, 16))?.expect("nothing unusual in it");
//! assert_eq!(engine.logits(network.params(), &images)?.dims(), [4, 2]);
//! # Ok(())
//! # }
//! ```

mod backward;
mod buffers;
mod forward;
mod linear;
mod narrow;
mod plan;

use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};

use super::forward::{AuxLogits, Output};
use super::{Entry, Layer, Network, ParamSpec, Params, Role};
use crate::machine::check_memory;
use crate::ops::nhwc::conv::Maps;
use crate::ops::nhwc::lanes::{Isa, padded};
use crate::ops::nhwc::norm::{Moments, Scales};
use crate::ops::nhwc::pack::Panels;
use crate::ops::nhwc::pixels::{self, MapsMut};
use crate::ops::nhwc::pool::Tap;
use crate::ops::nhwc::winograd::{Filters, Scratch};
use crate::ops::size::checked_len;
use crate::ops::{self, access};
use crate::{Error, Result};
use buffers::Buffers;
use narrow::Blocks;
use plan::{Conv, EntryId, Plan, Purpose, Value, ValueId};

/// What a step keeps from the forward pass besides its input and output.
#[derive(Debug, Default)]
struct Kept {
    /// Of a norm.
    scales: Scales,
    /// Of a max pooling.
    taps: Vec<Tap>,
    /// Of a dropout: the seed of its mask.
    seed: u64,
    /// Of a convolution in evaluation: its weights and bias, a norm folded in.
    weights: Option<(Weights, Vec<f32>)>,
}

/// A convolution's weights as one of its kernels reads them.
#[derive(Debug)]
enum Weights {
    Direct(Panels),
    Winograd(Filters),
}

/// Takes a parameter's gradient, or a part of it: the parameter's place in [`Params::entries`], the place
/// of the first value, and the values.
pub type TakeGradient<'a> = dyn FnMut(usize, usize, &[f32]) -> Result<()> + Send + 'a;

/// What becomes of the gradients of parameters.
enum Gradients<'a> {
    /// They stay where [`Engine::gradient`] finds them.
    Keep,
    /// They are handed over.
    HandOver(&'a mut TakeGradient<'a>),
}

/// A network laid out for one size of pictures, with the memory that its passes need.
#[derive(Debug)]
pub struct Engine {
    isa: Isa,
    purpose: Purpose,
    plan: Arc<Plan>,
    last_readers: Vec<usize>,
    first_writers: Vec<usize>,
    pictures: usize,
    /// The most pictures of a pass so far.
    most_pictures: usize,
    buffers: Buffers,
    /// By root.
    activations: Vec<Option<Vec<f32>>>,
    /// By root.
    gradients: Vec<Option<Vec<f32>>>,
    kept: Vec<Kept>,
    /// What it was laid out for: the tensors of its network, and which of them are trained.
    laid_out: Vec<(ParamSpec, bool)>,
    /// Gradients of parameters, by their place in [`Params::entries`].
    parameters: Vec<Option<Vec<f32>>>,
    /// The largest of those that were handed over, for the next.
    spare: Vec<f32>,
    /// Weights as the kernels read them, for one step at a time.
    panels: Panels,
    filters: Filters,
    scratch: Scratch,
    blocks: Blocks,
    /// The logits of the last forward pass, main and auxiliary, from which a loss is computed.
    ends: Vec<(ValueId, Var)>,
}

impl Engine {
    /// An engine that trains `network` on pictures of these channels, height and width. `None` where
    /// it has parts that the engine does not do (grouped convolutions), or is not in f32 on a CPU, or
    /// has layers that thaw: use [`Network::forward`] there.
    ///
    /// # Errors
    /// Names the layer that its input does not fit, or a setting of
    /// [the environment](crate::ops::check_environment) that there is not.
    pub fn training(network: &Network, input: (usize, usize, usize)) -> Result<Option<Self>> {
        Self::new(network, input, Purpose::Train)
    }

    /// An engine that evaluates `network`: with the first pass, weights are laid out for the kernels,
    /// batch norms folded into them. Later changes of the network's weights are not seen.
    ///
    /// # Errors
    /// Those of [`Engine::training`].
    pub fn evaluation(network: &Network, input: (usize, usize, usize)) -> Result<Option<Self>> {
        Self::new(network, input, Purpose::Eval)
    }

    fn new(
        network: &Network,
        input: (usize, usize, usize),
        purpose: Purpose,
    ) -> Result<Option<Self>> {
        ops::check_environment()?;
        let (layers, params) = (network.layers(), network.params());
        let fits = |var: &Var| {
            matches!(var.device(), Device::Cpu) && matches!(var.dtype(), DType::F32 | DType::I64)
        };
        let entries = params.entries();
        if !entries.iter().all(|entry| entry.spec.role.is_buffer() || fits(&entry.var)) {
            return Ok(None);
        }
        of_layers(layers, params)?;
        // It is laid out once for what is trained, and does not change from epoch to epoch.
        if purpose == Purpose::Train && entries.iter().any(|entry| entry.thaw > 0) {
            return Ok(None);
        }
        let Some(plan) = plan::plan(layers, params, input, purpose)? else { return Ok(None) };
        let values = plan.values.len();
        Ok(Some(Engine {
            isa: Isa::best(),
            purpose,
            last_readers: plan.last_readers(),
            first_writers: plan.first_writers(),
            pictures: 0,
            most_pictures: 0,
            buffers: Buffers::default(),
            activations: vec![None; values],
            gradients: vec![None; values],
            kept: plan.nodes.iter().map(|_| Kept::default()).collect(),
            laid_out: entries.iter().map(|e| (e.spec.clone(), e.trainable)).collect(),
            parameters: vec![None; entries.len()],
            spare: Vec::new(),
            panels: Panels::default(),
            filters: Filters::default(),
            scratch: Scratch::default(),
            blocks: Blocks::default(),
            ends: Vec::new(),
            plan: Arc::new(plan),
        }))
    }

    /// Runs pictures [N, C, H, W] forward, for training: batch statistics, dropout drawn from `seed`,
    /// auxiliary heads. Compute a loss from the logits, and give its gradients to
    /// [`Engine::backward`].
    ///
    /// # Errors
    /// Where the pictures have another size, the parameters are not those of its network, or a batch norm
    /// sees a single value.
    pub fn forward(&mut self, params: &Params, images: &Tensor, seed: u64) -> Result<Output> {
        if self.purpose == Purpose::Eval {
            let message = "an engine made for evaluation does not train; use Engine::training";
            return Err(Error::Setting(message.to_owned()));
        }
        self.check(params)?;
        self.ends.clear();
        self.load(images)?;
        in_pool(|| self.forward_steps(params, seed))?;
        let logits = self.end(self.plan.logits)?;
        let heads = self.plan.heads.clone();
        let aux = heads
            .into_iter()
            .map(|(name, value, weight)| Ok(AuxLogits { name, logits: self.end(value)?, weight }));
        let aux = aux.collect::<Result<Vec<_>>>()?;
        Ok(Output { logits, aux })
    }

    /// Runs the backward pass of the last forward pass; `grads` are those of the logits, from
    /// `loss.backward()`. See [`Engine::gradient`].
    ///
    /// # Errors
    /// Where there was no forward pass, or the parameters or gradients are not those of its network.
    pub fn backward(&mut self, params: &Params, grads: &GradStore) -> Result<()> {
        self.check(params)?;
        self.release_gradients();
        self.begin_backward(grads)?;
        in_pool(|| self.backward_steps(params, &mut Gradients::Keep))
    }

    /// [`Engine::backward`] that hands each parameter's gradient to `take` as soon as nothing reads the
    /// parameter any more, and does not keep it. Large gradients of linear layers come in parts, one
    /// after the other from place 0 on, each as soon as it is computed: an optimiser that steps there
    /// finds them in the cache, and needs no memory for all gradients at once.
    ///
    /// # Errors
    /// Those of [`Engine::backward`], and those of `take`.
    pub fn backward_into(
        &mut self,
        params: &Params,
        grads: &GradStore,
        take: &mut TakeGradient<'_>,
    ) -> Result<()> {
        self.check(params)?;
        self.release_gradients();
        self.begin_backward(grads)?;
        in_pool(|| self.backward_steps(params, &mut Gradients::HandOver(take)))
    }

    fn release_gradients(&mut self) {
        for gradient in &mut self.parameters {
            *gradient = None;
        }
    }

    /// Room for the gradient of a parameter: the one that was handed over last if that is large
    /// enough, and if not, then not beside it.
    fn parameter_gradient(&mut self, len: usize) -> Vec<f32> {
        let mut vector = std::mem::take(&mut self.spare);
        if vector.capacity() < len {
            vector = Vec::new();
        }
        vector.resize(len, 0.0);
        vector
    }

    /// Puts the gradients of the logits in their places.
    fn begin_backward(&mut self, grads: &GradStore) -> Result<()> {
        if self.ends.is_empty() {
            return Err(Error::Setting(
                "a backward pass needs a forward pass before it".to_owned(),
            ));
        }
        for (value, logits) in std::mem::take(&mut self.ends) {
            let Some(grad) = grads.get(&logits) else { continue };
            let Value { root, channels, step, .. } = self.plan.values[value];
            if grad.dims() != [self.pictures, channels] || grad.dtype() != DType::F32 {
                let found = format!("gradients {:?} of {:?}", grad.dims(), grad.dtype());
                let needed = format!("its logits are [{}, {channels}] of f32", self.pictures);
                return Err(Error::op("engine", found, needed));
            }
            let mut to = self.buffers.take(self.pictures * step);
            let rows = grad.to_vec2::<f32>()?;
            for (to, row) in to.chunks_exact_mut(step).zip(&rows) {
                to.fill(0.0);
                to[..channels].copy_from_slice(row);
            }
            self.gradients[root] = Some(to);
        }
        Ok(())
    }

    /// The gradient of the parameter at this place in [`Params::entries`], after a backward pass.
    pub fn gradient(&self, entry: usize) -> Option<&[f32]> {
        self.parameters.get(entry)?.as_deref()
    }

    /// Logits [N, classes] of pictures [N, C, H, W] in evaluation mode.
    ///
    /// # Errors
    /// Where the pictures have another size, or the parameters are not those of its network.
    pub fn logits(&mut self, params: &Params, images: &Tensor) -> Result<Tensor> {
        if self.purpose == Purpose::Train {
            let message = "an engine made for training does not evaluate; use Engine::evaluation";
            return Err(Error::Setting(message.to_owned()));
        }
        self.check(params)?;
        self.load(images)?;
        in_pool(|| self.forward_steps(params, 0))?;
        self.rows(self.plan.logits)
    }

    /// Refuses parameters that it was not laid out for: the kernels go by the sizes of its network.
    fn check(&self, params: &Params) -> Result<()> {
        let entries = params.entries();
        if entries.len() != self.laid_out.len() {
            let found = format!("{} tensors of parameters", entries.len());
            return Err(Error::op(
                "engine",
                found,
                format!("its network has {}", self.laid_out.len()),
            ));
        }
        for (entry, (spec, trainable)) in entries.iter().zip(&self.laid_out) {
            fits(entry, spec)?;
            if self.purpose == Purpose::Train && entry.trainable != *trainable {
                let found =
                    format!("{} {}", spec.name, if *trainable { "frozen" } else { "thawed" });
                let needed = "an engine trains what was trained when it was made; make a new one";
                return Err(Error::op("engine", found, needed));
            }
        }
        Ok(())
    }

    /// Refuses more pictures than there is memory for: in evaluation that is for the largest map and
    /// the one it is made of, in training for all maps.
    fn check_room(&mut self, pictures: usize) -> Result<()> {
        let len = |value: ValueId| self.plan.values[value].pixels() * self.plan.values[value].step;
        let values = match self.purpose {
            Purpose::Eval => self.plan.nodes.iter().map(|n| len(n.x) + len(n.y)).max().unwrap_or(0),
            Purpose::Train => self.plan.nodes.iter().map(|node| len(node.y)).sum(),
        };
        checked_len("engine", &[pictures, values])?;
        // What earlier passes have taken is there already.
        let more = pictures.saturating_sub(self.most_pictures);
        check_memory(&format!("a batch of {pictures} images"), 4 * (more * values) as u64)?;
        self.most_pictures = self.most_pictures.max(pictures);
        Ok(())
    }

    /// Lays a batch out channels-last.
    fn load(&mut self, images: &Tensor) -> Result<()> {
        let image = self.plan.values[self.plan.image];
        let (rows, cols) = self.plan.frame;
        let input = (image.channels, image.height - 2 * rows, image.width - 2 * cols);
        let (n, c, h, w) = images.dims4()?;
        if (c, h, w) != input || images.dtype() != DType::F32 {
            let found = format!("pictures {:?} of {:?}", images.dims(), images.dtype());
            let needed =
                format!("this engine takes [N, {}, {}, {}] of f32", input.0, input.1, input.2);
            return Err(Error::op("engine", found, needed));
        }
        self.check_room(n)?;
        self.pictures = n;
        let images = images.contiguous()?;
        let values = access::values::<f32>("engine", &images)?;
        if self.prefix().is_some() {
            self.load_blocks(&values);
            return Ok(());
        }
        let (step, pixels, root) = (image.step, image.pixels(), image.root);
        let len = n * pixels * step + self.plan.slack;
        let mut to = self.activations[root].take().unwrap_or_default();
        if to.len() != len {
            to.clear(); // so that the frame, and what pads the channels, is 0
            to.resize(len, 0.0);
        }
        pixels::from_channels_first(&values, input, step, (rows, cols), &mut to);
        self.activations[root] = Some(to);
        Ok(())
    }

    /// The logits of a value, [N, classes].
    fn rows(&self, value: ValueId) -> Result<Tensor> {
        let Value { root, channels, step, .. } = self.plan.values[value];
        let from = self.activations[root].as_deref().unwrap_or_default();
        let rows = from.chunks_exact(step).flat_map(|row| &row[..channels]).copied();
        let rows: Vec<f32> = rows.collect();
        Ok(Tensor::from_vec(rows, (self.pictures, channels), &Device::Cpu)?)
    }

    /// The same as a variable that a loss can be traced to.
    fn end(&mut self, value: ValueId) -> Result<Tensor> {
        let logits = Var::from_tensor(&self.rows(value)?)?;
        let tensor = logits.as_tensor().clone();
        self.ends.push((value, logits));
        Ok(tensor)
    }

    /// Buffers of the last step go back to where the next takes them.
    fn recycle(&mut self) {
        for (root, slot) in self.activations.iter_mut().enumerate() {
            if root != self.plan.image
                && let Some(vector) = slot.take()
            {
                self.buffers.give(vector);
            }
        }
        for slot in &mut self.gradients {
            if let Some(vector) = slot.take() {
                self.buffers.give(vector);
            }
        }
    }
}

/// Refuses parameters that are not those of a tree, as a network's may have become.
fn of_layers(layers: &Layer, params: &Params) -> Result<()> {
    layers.state_specs().iter().try_for_each(|spec| fits(params.get(&spec.name)?, spec))
}

/// Refuses a tensor that is not what `spec` says, or not one that the kernels can read.
fn fits(entry: &Entry, spec: &ParamSpec) -> Result<()> {
    let var = entry.var.as_tensor();
    let dtype = if spec.role == Role::BatchesTracked { DType::I64 } else { DType::F32 };
    let same = entry.spec.name == spec.name && var.dims() == spec.shape && var.is_contiguous();
    if same && var.dtype() == dtype && var.device().is_cpu() {
        return Ok(());
    }
    let Entry { spec: ParamSpec { name, .. }, .. } = entry;
    let found = format!("parameter {name} {:?} of {:?}", var.dims(), var.dtype());
    let needed = format!("its network has {} {:?}, {dtype:?} on a CPU", spec.name, spec.shape);
    Err(Error::op("engine", found, needed))
}

/// Weights and bias of a convolution for evaluation: `w·s` and `β + (b - μ)·s` with `s = γ / √(σ² + ε)`
/// where a norm is folded in.
fn lay_out(params: &Params, conv: &Conv, isa: Isa, pictures: usize) -> Result<(Weights, Vec<f32>)> {
    let mut weight = tensor_values(params, conv.weight)?;
    let mut bias = match conv.bias {
        Some(bias) => tensor_values(params, bias)?,
        None => vec![0.0; conv.shape.outputs],
    };
    if let Some(norm) = &conv.norm {
        let s = running_scales(params, norm)?;
        let per_output = weight.len() / conv.shape.outputs;
        for (o, w) in weight.chunks_exact_mut(per_output).enumerate() {
            w.iter_mut().for_each(|w| *w *= s.scale[o]);
            bias[o] = s.shift[o] + (bias[o] - s.mean[o]) * s.scale[o];
        }
    }
    bias.resize(padded(conv.shape.outputs), 0.0);
    if conv.forward_tiles(pictures).is_some() {
        let mut filters = Filters::default();
        filters.forward(isa, &weight, conv.shape);
        return Ok((Weights::Winograd(filters), bias));
    }
    let mut panels = Panels::default();
    match conv.stem {
        true => panels.pack_stem(isa, &weight, conv.shape),
        false => panels.pack_forward(isa, &weight, conv.shape),
    }
    Ok((Weights::Direct(panels), bias))
}

/// Runs a whole pass on one of rayon's threads: from there, sharing work out takes microseconds, from
/// a thread that is none of them a sleep and a waking up each time, which a small net notices.
fn in_pool<T: Send>(pass: impl FnOnce() -> T + Send) -> T {
    match rayon::current_thread_index() {
        Some(_) => pass(),
        None => rayon::scope(|_| pass()),
    }
}

/// A copy of a tensor's values.
fn tensor_values(params: &Params, entry: EntryId) -> Result<Vec<f32>> {
    let tensor = params.entries()[entry].var.as_detached_tensor();
    Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

/// The scales of a norm by its running statistics.
fn running_scales(params: &Params, norm: &plan::Norm) -> Result<Scales> {
    let wide = |values: Vec<f32>, fill: f64| -> Vec<f64> {
        let len = padded(values.len());
        let mut values: Vec<f64> = values.into_iter().map(f64::from).collect();
        values.resize(len, fill);
        values
    };
    let moments = Moments {
        mean: wide(tensor_values(params, norm.mean)?, 0.0),
        var: wide(tensor_values(params, norm.var)?, 1.0),
    };
    let (weight, bias) = (tensor_values(params, norm.weight)?, tensor_values(params, norm.bias)?);
    Ok(Scales::new(&moments, &weight, &bias, norm.eps))
}

/// A value in its buffer, to read.
fn read<'a>(buffers: &'a [Option<Vec<f32>>], value: &Value) -> Maps<'a> {
    let data = buffers[value.root].as_deref().unwrap_or_default();
    Maps { data: data.get(value.at..).unwrap_or_default(), step: value.step }
}

/// A value in its buffer, to write.
fn write<'a>(buffer: &'a mut [f32], value: &Value) -> MapsMut<'a> {
    MapsMut { data: buffer.get_mut(value.at..).unwrap_or_default(), step: value.step }
}
