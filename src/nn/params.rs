//! A network's parameters and buffers by their names, in the tree's order.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{DType, Device, Tensor, Var};

use super::Layer;
use super::init::Init;
use super::layer::join;
use crate::machine::check_memory;
use crate::ops::size::checked_len;
use crate::{Error, Result};

/// What a tensor of the state dict is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Weight of a convolution or linear layer.
    Weight,
    /// Bias of a convolution or linear layer.
    Bias,
    /// Scale γ of a batch norm.
    NormWeight,
    /// Shift β of a batch norm.
    NormBias,
    /// Running mean of a batch norm: a buffer, not trained.
    RunningMean,
    /// Running variance of a batch norm: a buffer, not trained.
    RunningVar,
    /// Batches that a batch norm has seen: a buffer, i64.
    BatchesTracked,
}

impl Role {
    /// Whether this is state that no optimiser touches.
    pub fn is_buffer(self) -> bool {
        matches!(self, Role::RunningMean | Role::RunningVar | Role::BatchesTracked)
    }
}

/// Name, shape and role of a tensor of the state dict.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamSpec {
    /// The full name, torchvision's.
    pub name: String,
    /// The dimensions.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
}

impl ParamSpec {
    /// How many values it has.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many inputs feed one output: the product of all dimensions but the first.
    pub fn fan_in(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// How many outputs one input feeds, as PyTorch counts it (groups are not looked at).
    pub fn fan_out(&self) -> usize {
        self.shape.first().unwrap_or(&1) * self.shape.iter().skip(2).product::<usize>()
    }
}

impl Layer {
    /// The whole state dict of the tree below, in order: what `state_dict()` lists in PyTorch.
    pub fn state_specs(&self) -> Vec<ParamSpec> {
        let mut specs = Vec::new();
        self.walk("", &mut |path, layer| specs.extend(layer.own_specs(path)));
        specs
    }

    /// Trainable values in the tree below, auxiliary heads included.
    pub fn parameter_count(&self) -> usize {
        self.state_specs().iter().filter(|s| !s.role.is_buffer()).map(ParamSpec::len).sum()
    }

    /// The tensors of this very layer, without those below.
    pub(crate) fn own_specs(&self, path: &str) -> Vec<ParamSpec> {
        let spec = |name: &str, shape: &[usize], role| ParamSpec {
            name: join(path, name),
            shape: shape.to_vec(),
            role,
        };
        match self {
            Layer::Conv2d(conv) => {
                let per_group = conv.inputs / conv.params.groups.max(1);
                let shape = [conv.outputs, per_group, conv.kernel.0, conv.kernel.1];
                let mut specs = vec![spec("weight", &shape, Role::Weight)];
                specs.extend(conv.bias.then(|| spec("bias", &[conv.outputs], Role::Bias)));
                specs
            }
            Layer::Linear { inputs, outputs } => vec![
                spec("weight", &[*outputs, *inputs], Role::Weight),
                spec("bias", &[*outputs], Role::Bias),
            ],
            Layer::BatchNorm2d { channels, .. } => vec![
                spec("weight", &[*channels], Role::NormWeight),
                spec("bias", &[*channels], Role::NormBias),
                spec("running_mean", &[*channels], Role::RunningMean),
                spec("running_var", &[*channels], Role::RunningVar),
                spec("num_batches_tracked", &[], Role::BatchesTracked),
            ],
            _ => Vec::new(),
        }
    }
}

/// One tensor of a network's state.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Name, shape and role.
    pub spec: ParamSpec,
    /// The values; optimisers and batch norms change them in place.
    pub var: Var,
    /// Whether an optimiser may change it, once it has thawed.
    pub trainable: bool,
    /// The epoch, from 0, that it is trained from; before, it is frozen.
    pub thaw: usize,
    /// Its learning rate over the common one.
    pub rate: f64,
}

/// All tensors of a network's state, in the tree's order.
#[derive(Clone, Debug, Default)]
pub struct Params {
    entries: Vec<Entry>,
    index: HashMap<String, usize>,
    /// The epoch under way, which thaws tensors.
    epoch: Arc<AtomicUsize>,
}

impl Params {
    /// Fresh tensors for a tree, drawn from `seed`: every tensor from a stream of its own name.
    ///
    /// # Errors
    /// Where the device cannot hold them: on a CPU that is asked before anything is made.
    pub fn new(
        layers: &Layer,
        init: &Init,
        seed: u64,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let specs = layers.state_specs();
        if device.is_cpu() {
            let values = specs.iter().try_fold(0u64, |sum, spec| {
                sum.checked_add(checked_len("parameter", &spec.shape)? as u64).ok_or_else(|| {
                    Error::op("parameter", format!("shape {:?}", spec.shape), "sizes are too large")
                })
            })?;
            let bytes = values.saturating_mul(dtype.size_in_bytes() as u64);
            check_memory("the network's parameters", bytes)?;
        }
        let mut params = Params::default();
        for (spec, bias_fan_in) in with_fan_in(specs) {
            let tensor = init.tensor(&spec, bias_fan_in, seed, dtype, device)?;
            params.index.insert(spec.name.clone(), params.entries.len());
            let trainable = !spec.role.is_buffer();
            let var = Var::from_tensor(&tensor)?;
            params.entries.push(Entry { spec, var, trainable, thaw: 0, rate: 1.0 });
        }
        Ok(params)
    }

    /// The variables of a model that is none of ours, in the order of their names, which also say what
    /// each is for: `bias`, `running_mean` and so on, as PyTorch calls them.
    pub fn of_vars(vars: impl IntoIterator<Item = (String, Var)>) -> Self {
        let mut vars: Vec<(String, Var)> = vars.into_iter().collect();
        vars.sort_by(|a, b| a.0.cmp(&b.0));
        let mut params = Params::default();
        for (name, var) in vars {
            let (shape, role) = (var.dims().to_vec(), role_of(&name, var.rank()));
            params.index.insert(name.clone(), params.entries.len());
            let trainable = !role.is_buffer();
            let spec = ParamSpec { name, shape, role };
            params.entries.push(Entry { spec, var, trainable, thaw: 0, rate: 1.0 });
        }
        params
    }

    /// All tensors, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The tensors that an optimiser may change, in order.
    pub fn trainable(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.trainable)
    }

    /// Freezes the tensors whose name `frozen` holds for, and frees the others (never buffers).
    pub fn freeze(&mut self, frozen: impl Fn(&str) -> bool) {
        for entry in &mut self.entries {
            entry.trainable = !entry.spec.role.is_buffer() && !frozen(&entry.spec.name);
        }
    }

    /// All tensors, to change how they are trained. Whoever changes `spec` or `var` breaks the network.
    pub(crate) fn entries_mut(&mut self) -> &mut [Entry] {
        &mut self.entries
    }

    /// Begins an epoch, from 0: tensors whose time has come are trained from now on.
    pub fn begin_epoch(&self, epoch: usize) {
        self.epoch.store(epoch, Ordering::Relaxed);
    }

    /// Whether `entry` is trained in the epoch under way: neither a buffer, nor frozen.
    pub fn trains(&self, entry: &Entry) -> bool {
        entry.trainable && entry.thaw <= self.epoch.load(Ordering::Relaxed)
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// Where there is none.
    pub fn get(&self, name: &str) -> Result<&Entry> {
        let index = self.index.get(name);
        index
            .map(|&i| &self.entries[i])
            .ok_or_else(|| Error::Setting(format!("the network has no tensor named {name}")))
    }

    /// Where the tensor of this name stands in [`Params::entries`].
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// Replaces values by name; nothing changes unless every tensor is known and fits.
    ///
    /// # Errors
    /// Names the first tensor that is unknown or has another shape.
    pub fn set<'a>(&self, tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<()> {
        let mut checked = Vec::new();
        for (name, tensor) in tensors {
            let entry = self.get(name)?;
            if tensor.dims() != entry.spec.shape {
                let (found, needed) = (tensor.dims(), &entry.spec.shape);
                let message = format!("tensor {name}: found shape {found:?}, needed {needed:?}");
                return Err(Error::Setting(message));
            }
            let var = &entry.var;
            checked.push((var, tensor.to_dtype(var.dtype())?.to_device(var.device())?));
        }
        for (var, tensor) in checked {
            var.set(&tensor)?;
        }
        Ok(())
    }
}

/// What a tensor is for, by the end of its name.
fn role_of(name: &str, rank: usize) -> Role {
    match name.rsplit('.').next().unwrap_or(name) {
        "running_mean" => Role::RunningMean,
        "running_var" => Role::RunningVar,
        "num_batches_tracked" => Role::BatchesTracked,
        "bias" | "beta" => Role::Bias,
        _ if rank < 2 => Role::NormWeight,
        _ => Role::Weight,
    }
}

/// Each tensor with the fan-in of the weight it belongs to: a bias's bound in PyTorch depends on it.
fn with_fan_in(specs: Vec<ParamSpec>) -> impl Iterator<Item = (ParamSpec, usize)> {
    let mut fan_in = 1;
    specs.into_iter().map(move |spec| {
        if spec.role == Role::Weight {
            fan_in = spec.fan_in();
        }
        (spec, fan_in)
    })
}
