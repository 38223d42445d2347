//! Optimisers: PyTorch's update formulas, in place.
//!
//! An [`Optimizer`] holds the trainable parameters of a network and what it remembers of each. On
//! the CPU a step is one fused pass over parameter, gradient and state; on other devices it is made
//! of candle's tensor operations.

mod device;
mod fused;

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use serde::{Deserialize, Serialize};

use crate::nn::{Entry, Params, Role};
use crate::{Error, Result};
use device::OnDevice;
use fused::Fused;

/// How a parameter follows its gradient; names and defaults are those of `torch.optim`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase", deny_unknown_fields)]
pub enum Rule {
    /// Stochastic gradient descent, with momentum where that is not 0 (Sutskever et al., 2013).
    Sgd {
        /// Share of the previous step that is kept.
        momentum: f64,
        /// Share of a new gradient that does not enter the momentum.
        #[serde(default)]
        dampening: f64,
        /// Look ahead along the momentum (Nesterov).
        nesterov: bool,
    },
    /// Adam (Kingma and Ba, 2015); weight decay is added to the gradient.
    Adam {
        /// Decay of the mean of gradients.
        beta1: f64,
        /// Decay of the mean of squared gradients.
        beta2: f64,
        /// Added to the divisor.
        eps: f64,
    },
    /// Adam with weight decay apart from the gradient (Loshchilov and Hutter, 2019).
    AdamW {
        /// Decay of the mean of gradients.
        beta1: f64,
        /// Decay of the mean of squared gradients.
        beta2: f64,
        /// Added to the divisor.
        eps: f64,
    },
    /// RMSprop (Hinton, 2012), as Inception v3 was trained.
    RmsProp {
        /// Decay of the mean of squared gradients.
        alpha: f64,
        /// Added to the divisor.
        eps: f64,
        /// Share of the previous step that is kept.
        momentum: f64,
    },
}

impl Rule {
    /// Plain gradient descent.
    pub const SGD: Rule = Rule::Sgd { momentum: 0.0, dampening: 0.0, nesterov: false };
    /// Gradient descent with the customary momentum of 0.9.
    pub const MOMENTUM: Rule = Rule::Sgd { momentum: 0.9, dampening: 0.0, nesterov: false };
    /// Adam with PyTorch's defaults.
    pub const ADAM: Rule = Rule::Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8 };
    /// AdamW with PyTorch's defaults.
    pub const ADAMW: Rule = Rule::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 };
    /// RMSprop with PyTorch's defaults.
    pub const RMSPROP: Rule = Rule::RmsProp { alpha: 0.99, eps: 1e-8, momentum: 0.0 };

    /// Its name on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Rule::Sgd { .. } => "sgd",
            Rule::Adam { .. } => "adam",
            Rule::AdamW { .. } => "adamw",
            Rule::RmsProp { .. } => "rmsprop",
        }
    }

    /// The names of what is remembered for a parameter, PyTorch's.
    fn state_names(&self) -> &'static [&'static str] {
        match *self {
            Rule::Sgd { momentum: 0.0, .. } => &[],
            Rule::Sgd { .. } => &["momentum_buffer"],
            Rule::Adam { .. } | Rule::AdamW { .. } => &["exp_avg", "exp_avg_sq"],
            Rule::RmsProp { momentum: 0.0, .. } => &["square_avg"],
            Rule::RmsProp { .. } => &["square_avg", "momentum_buffer"],
        }
    }

    /// How many values are remembered for each value of a parameter.
    pub(super) fn states(&self) -> usize {
        self.state_names().len()
    }

    /// Refuses numbers that make no sense.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> Result<()> {
        let share = |name, value| check(name, value, (0.0..1.0).contains(&value), "in [0, 1)");
        let positive = |name, value: f64| check(name, value, value > 0.0, "above 0");
        match *self {
            Rule::Sgd { momentum, dampening, nesterov } => {
                share("momentum", momentum)?;
                share("dampening", dampening)?;
                if nesterov && (momentum == 0.0 || dampening != 0.0) {
                    let message = "nesterov needs a momentum above 0 and no dampening";
                    return Err(Error::Setting(message.to_owned()));
                }
                Ok(())
            }
            Rule::Adam { beta1, beta2, eps } | Rule::AdamW { beta1, beta2, eps } => {
                share("beta1", beta1)?;
                share("beta2", beta2)?;
                positive("eps", eps)
            }
            Rule::RmsProp { alpha, eps, momentum } => {
                share("alpha", alpha)?;
                share("momentum", momentum)?;
                positive("eps", eps)
            }
        }
    }
}

/// An error where `holds` is not true.
pub(crate) fn check(name: &str, value: f64, holds: bool, needed: &str) -> Result<()> {
    match holds && value.is_finite() {
        true => Ok(()),
        false => Err(Error::Setting(format!("{name} is {value}; it must be {needed}"))),
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match *self {
            Rule::Sgd { momentum: 0.0, .. } => Ok(()),
            Rule::Sgd { momentum, nesterov, .. } => {
                write!(f, ", momentum {momentum}{}", if nesterov { ", nesterov" } else { "" })
            }
            Rule::Adam { beta1, beta2, .. } | Rule::AdamW { beta1, beta2, .. } => {
                write!(f, ", betas {beta1} and {beta2}")
            }
            Rule::RmsProp { alpha, momentum, .. } => {
                write!(f, ", alpha {alpha}, momentum {momentum}")
            }
        }
    }
}

/// By name; `sgd` comes with momentum 0.9, the others with PyTorch's defaults.
impl FromStr for Rule {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "sgd" => Ok(Rule::MOMENTUM),
            "adam" => Ok(Rule::ADAM),
            "adamw" => Ok(Rule::ADAMW),
            "rmsprop" => Ok(Rule::RMSPROP),
            other => Err(Error::Setting(format!(
                "no optimizer is called {other}; there are sgd, adam, adamw, rmsprop"
            ))),
        }
    }
}

/// The numbers of one update of one parameter.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// Learning rate.
    lr: f64,
    /// Weight decay.
    decay: f64,
    /// How often the parameter has been updated, this time included.
    count: u64,
}

/// What is remembered of one parameter, and how it is updated.
trait Update: Send {
    /// Moves `var` by one step.
    fn step(&mut self, rule: &Rule, step: Step, var: &Var, grad: &Tensor) -> Result<()>;
    /// [`Update::step`] with a gradient that is no tensor, in f32: that of the values from `at` on.
    fn step_by(
        &mut self,
        rule: &Rule,
        step: Step,
        var: &Var,
        at: usize,
        grad: &[f32],
    ) -> Result<()> {
        in_one(self, rule, step, var, at, grad)
    }
    /// A copy of the state, in the order of [`Rule::state_names`].
    fn state(&self, var: &Var) -> Result<Vec<Tensor>>;
    /// Replaces the state.
    fn restore(&mut self, var: &Var, state: &[Tensor]) -> Result<()>;
}

/// [`Update::step_by`] where only a whole parameter can be updated.
fn in_one<U: Update + ?Sized>(
    update: &mut U,
    rule: &Rule,
    step: Step,
    var: &Var,
    at: usize,
    grad: &[f32],
) -> Result<()> {
    if at != 0 || grad.len() != var.elem_count() {
        let found = format!("{} values of {}", grad.len(), var.elem_count());
        return Err(Error::op("optimizer step", found, "parts are for f32 on the CPU"));
    }
    let grad = Tensor::from_slice(grad, var.shape(), &Device::Cpu)?;
    update.step(rule, step, var, &grad.to_device(var.device())?.to_dtype(var.dtype())?)
}

/// One trainable parameter.
struct Slot {
    /// Its place in [`Params::entries`].
    entry: usize,
    name: String,
    var: Var,
    decays: bool,
    /// Its learning rate over the common one.
    rate: f64,
    count: u64,
    update: Box<dyn Update>,
}

impl Slot {
    /// The numbers of its next update.
    fn next(&mut self, lr: f64, weight_decay: f64) -> Step {
        self.count += 1;
        self.now(lr, weight_decay)
    }

    /// The numbers of the update under way.
    fn now(&self, lr: f64, weight_decay: f64) -> Step {
        let decay = if self.decays { weight_decay } else { 0.0 };
        Step { lr: lr * self.rate, decay, count: self.count }
    }
}

/// Updates the trainable parameters of a network.
///
/// ```
/// # use convzoo::nn::{self, Init, Network};
/// # use convzoo::train::{Optimizer, Rule};
/// # use candle_core::{DType, Device, Tensor};
/// # fn main() -> convzoo::Result<()> {
/// # let layers = nn::sequential([("fc", nn::linear(4, 2))]);
/// # let network = Network::new(layers, &Init::PYTORCH, 1, DType::F32, &Device::Cpu)?;
/// # let x = Tensor::ones((3, 4), DType::F32, &Device::Cpu)?;
/// let mut optimizer = Optimizer::new(network.params(), Rule::MOMENTUM, 5e-4, true)?;
/// let loss = network.forward(&x, nn::Mode::Train { seed: 0 })?.logits.sqr()?.sum_all()?;
/// optimizer.step(&loss.backward()?, 0.1)?;
/// # Ok(())
/// # }
/// ```
pub struct Optimizer {
    rule: Rule,
    weight_decay: f64,
    slots: Vec<Slot>,
}

impl Optimizer {
    /// An optimiser for the trainable tensors of `params`. `decay_all` lets weight decay act on
    /// norms and biases too, as PyTorch does; otherwise it acts on the weights of convolutions and
    /// linear layers alone.
    ///
    /// # Errors
    /// Numbers that make no sense.
    pub fn new(params: &Params, rule: Rule, weight_decay: f64, decay_all: bool) -> Result<Self> {
        rule.check()?;
        check("weight decay", weight_decay, weight_decay >= 0.0, "0 or more")?;
        let slot = |(place, entry): (usize, &Entry)| {
            Ok(Slot {
                entry: place,
                name: entry.spec.name.clone(),
                var: entry.var.clone(),
                decays: decay_all || entry.spec.role == Role::Weight,
                rate: entry.rate,
                count: 0,
                update: update_for(&rule, &entry.var)?,
            })
        };
        let entries = params.entries().iter().enumerate();
        let slots =
            entries.filter(|(_, entry)| entry.trainable).map(slot).collect::<Result<_>>()?;
        Ok(Optimizer { rule, weight_decay, slots })
    }

    /// One step with learning rate `lr`, times each parameter's own [`Entry::rate`]. A parameter
    /// without a gradient stays as it is.
    ///
    /// # Errors
    /// Where a gradient does not fit its parameter.
    pub fn step(&mut self, grads: &GradStore, lr: f64) -> Result<()> {
        for slot in &mut self.slots {
            let Some(grad) = grads.get(&slot.var) else { continue };
            let step = slot.next(lr, self.weight_decay);
            slot.update.step(&self.rule, step, &slot.var, grad)?;
        }
        Ok(())
    }

    /// One step of one parameter, the one at this place in [`Params::entries`], if it is trained: for
    /// an engine's backward pass, which hands over each gradient as soon as it is there.
    ///
    /// # Errors
    /// Where the gradient does not fit its parameter.
    pub fn step_one(&mut self, entry: usize, grad: &[f32], lr: f64) -> Result<()> {
        self.step_part(entry, 0, grad, lr)
    }

    /// [`Optimizer::step_one`] for a part of the parameter: its values from `at` on. The parts of a step
    /// come one after the other, that at 0 first.
    ///
    /// # Errors
    /// Where the gradient does not fit its parameter.
    pub fn step_part(&mut self, entry: usize, at: usize, grad: &[f32], lr: f64) -> Result<()> {
        let Ok(slot) = self.slots.binary_search_by_key(&entry, |slot| slot.entry) else {
            return Ok(());
        };
        let slot = &mut self.slots[slot];
        let step = match at {
            0 => slot.next(lr, self.weight_decay),
            _ => slot.now(lr, self.weight_decay),
        };
        slot.update.step_by(&self.rule, step, &slot.var, at, grad)
    }

    /// [`Optimizer::step_one`] with a gradient of any type, on the parameter's device.
    ///
    /// # Errors
    /// Where the gradient does not fit its parameter.
    pub fn step_tensor(&mut self, entry: usize, grad: &Tensor, lr: f64) -> Result<()> {
        let Ok(at) = self.slots.binary_search_by_key(&entry, |slot| slot.entry) else {
            return Ok(());
        };
        let slot = &mut self.slots[at];
        let step = slot.next(lr, self.weight_decay);
        slot.update.step(&self.rule, step, &slot.var, grad)
    }

    /// All it remembers, by name: `PARAMETER.step` and, as PyTorch calls them,
    /// `PARAMETER.momentum_buffer` and so on. [`Optimizer::restore`] takes it back, to the bit.
    ///
    /// # Errors
    /// Where the device gives its values not away.
    pub fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let mut all = Vec::new();
        for slot in &self.slots {
            let count = Tensor::new(slot.count as i64, &Device::Cpu)?;
            all.push((format!("{}.step", slot.name), count));
            let state = slot.update.state(&slot.var)?;
            for (name, tensor) in self.rule.state_names().iter().zip(state) {
                all.push((format!("{}.{name}", slot.name), tensor));
            }
        }
        Ok(all)
    }

    /// Takes back what [`Optimizer::state`] gave; nothing changes unless all of it fits.
    ///
    /// # Errors
    /// Names the tensor that is missing or has another shape.
    pub fn restore(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let found = |name: String, shape: &[usize]| match state.get(&name) {
            Some(tensor) if tensor.dims() == shape => Ok(tensor.clone()),
            Some(tensor) => Err(Error::Setting(format!(
                "optimiser state {name}: found shape {:?}, needed {shape:?}",
                tensor.dims()
            ))),
            None => Err(Error::Setting(format!("optimiser state {name} is missing"))),
        };
        let mut checked = Vec::new();
        for slot in &self.slots {
            let count = found(format!("{}.step", slot.name), &[])?.to_dtype(DType::I64)?;
            let count = count.to_device(&Device::Cpu)?.to_scalar::<i64>()?;
            let count = u64::try_from(count).map_err(|_| {
                Error::Setting(format!("optimiser state {}.step is negative", slot.name))
            })?;
            let names = self.rule.state_names().iter();
            let names = names.map(|name| found(format!("{}.{name}", slot.name), slot.var.dims()));
            checked.push((count, names.collect::<Result<Vec<_>>>()?));
        }
        for (slot, (count, state)) in self.slots.iter_mut().zip(checked) {
            slot.count = count;
            slot.update.restore(&slot.var, &state)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Optimizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Optimizer")
            .field("rule", &self.rule)
            .field("weight_decay", &self.weight_decay)
            .field("parameters", &self.slots.len())
            .finish()
    }
}

fn update_for(rule: &Rule, var: &Var) -> Result<Box<dyn Update>> {
    let states = rule.state_names().len();
    Ok(match (var.device(), var.dtype()) {
        (Device::Cpu, DType::F32) => Box::new(Fused::<f32>::new(states, var.elem_count())),
        (Device::Cpu, DType::F64) => Box::new(Fused::<f64>::new(states, var.elem_count())),
        _ => Box::new(OnDevice::new(states, var)?),
    })
}

#[cfg(test)]
mod tests;
