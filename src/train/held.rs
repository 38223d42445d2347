//! Gradients held back until all of a step are there: to clip them by their norm, or to add those of
//! several batches.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::evaluate::number;
use super::optim::{Optimizer, check};
use crate::nn::{Engine, Params};
use crate::ops::access;
use crate::{Error, Result};

/// What is done to gradients before an optimiser's step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GradientRule {
    /// All gradients together are scaled down to this Euclidean norm where theirs is larger (Pascanu et
    /// al., 2013, algorithm 1), as `torch.nn.utils.clip_grad_norm_` does.
    pub clip_norm: Option<f64>,
    /// Every value is cut to within this distance of 0, before the norm is taken.
    pub clip_value: Option<f64>,
    /// Batches whose gradients are averaged for one step; each counts by its pictures, so that it is
    /// that of one large batch, but for batch norms, which see each batch alone. The last step of an
    /// epoch takes what is left. The learning rate is that of the last of them.
    pub accumulate: usize,
}

impl Default for GradientRule {
    /// A step a batch, with the gradients as they are.
    fn default() -> Self {
        GradientRule { clip_norm: None, clip_value: None, accumulate: 1 }
    }
}

impl GradientRule {
    /// Whether gradients are used as they come.
    pub fn is_default(&self) -> bool {
        *self == GradientRule::default()
    }

    /// Refuses numbers that make no sense.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> Result<()> {
        let limits =
            [("the norm to clip at", self.clip_norm), ("the value to clip at", self.clip_value)];
        for (name, limit) in limits {
            let limit = limit.unwrap_or(1.0);
            check(name, limit, limit > 0.0, "above 0")?;
        }
        match self.accumulate {
            0 => Err(Error::Setting("batches to accumulate: got 0; at least 1".to_owned())),
            _ => Ok(()),
        }
    }
}

/// The gradient of one parameter.
enum Gradient {
    /// On a CPU in f32.
    Values(Vec<f32>),
    /// Elsewhere.
    Tensor(Tensor),
}

/// Sums of gradients, each batch's times its pictures.
///
/// ```
/// # use convzoo::nn::{self, Init, Mode, Network};
/// # use convzoo::train::{GradientRule, HeldGradients, Optimizer, Rule};
/// # use candle_core::{DType, Device, Tensor};
/// # fn main() -> convzoo::Result<()> {
/// # let layers = nn::sequential([("fc", nn::linear(4, 2))]);
/// # let network = Network::new(layers, &Init::PYTORCH, 1, DType::F32, &Device::Cpu)?;
/// # let batches = [Tensor::ones((3, 4), DType::F32, &Device::Cpu)?];
/// let mut optimizer = Optimizer::new(network.params(), Rule::MOMENTUM, 0.0, true)?;
/// let rule = GradientRule { clip_norm: Some(1.0), ..Default::default() };
/// let mut held = HeldGradients::new(rule);
/// for x in &batches {
///     let loss = network.forward(x, Mode::Train { seed: 0 })?.logits.sqr()?.mean_all()?;
///     held.add(network.params(), &loss.backward()?, x.dim(0)?)?;
/// }
/// held.step(&mut optimizer, 0.1)?;
/// # Ok(())
/// # }
/// ```
pub struct HeldGradients {
    rule: GradientRule,
    /// By place in [`Params::entries`].
    sums: Vec<Option<Gradient>>,
    /// Of the batches, together.
    weight: f64,
    batches: usize,
}

impl HeldGradients {
    /// None yet.
    pub fn new(rule: GradientRule) -> Self {
        HeldGradients { rule, sums: Vec::new(), weight: 0.0, batches: 0 }
    }

    /// Whether none are held: the time to stop, or to save.
    pub fn is_empty(&self) -> bool {
        self.batches == 0
    }

    /// Whether there are as many batches as a step takes.
    pub fn is_full(&self) -> bool {
        self.batches >= self.rule.accumulate
    }

    /// Adds the gradients of a batch of so many pictures, of a loss that is their mean.
    ///
    /// # Errors
    /// Where a gradient cannot be read.
    pub fn add(&mut self, params: &Params, grads: &GradStore, pictures: usize) -> Result<()> {
        let weight = self.count(pictures);
        for (place, entry) in params.entries().iter().enumerate() {
            let Some(grad) = grads.get(entry.var.as_tensor()) else { continue };
            let grad = grad.detach();
            match matches!(grad.device(), Device::Cpu) && grad.dtype() == DType::F32 {
                true => {
                    let grad = grad.contiguous()?;
                    self.add_values(place, &access::values::<f32>("clip", &grad)?, weight);
                }
                false => self.add_tensor(place, grad, weight)?,
            }
        }
        Ok(())
    }

    /// Adds the gradients of an engine's last backward pass.
    pub(super) fn add_engine(&mut self, params: &Params, engine: &Engine, pictures: usize) {
        let weight = self.count(pictures);
        for place in 0..params.entries().len() {
            if let Some(values) = engine.gradient(place) {
                self.add_values(place, values, weight);
            }
        }
    }

    /// One batch more, and what it counts for: 1 where there is but one, which keeps its bits.
    fn count(&mut self, pictures: usize) -> f64 {
        let weight = if self.rule.accumulate > 1 { pictures as f64 } else { 1.0 };
        self.weight += weight;
        self.batches += 1;
        weight
    }

    fn slot(&mut self, place: usize) -> &mut Option<Gradient> {
        if self.sums.len() <= place {
            self.sums.resize_with(place + 1, || None);
        }
        &mut self.sums[place]
    }

    fn add_values(&mut self, place: usize, values: &[f32], weight: f64) {
        let weight = weight as f32;
        match self.slot(place) {
            Some(Gradient::Values(sum)) => {
                sum.par_chunks_mut(BLOCK).zip(values.par_chunks(BLOCK)).for_each(|(sum, new)| {
                    sum.iter_mut().zip(new).for_each(|(sum, new)| *sum += weight * new);
                });
            }
            slot => *slot = Some(Gradient::Values(values.iter().map(|v| weight * v).collect())),
        }
    }

    fn add_tensor(&mut self, place: usize, grad: Tensor, weight: f64) -> Result<()> {
        let grad = (grad * weight)?;
        let sum = match self.slot(place).take() {
            Some(Gradient::Tensor(sum)) => (sum + grad)?,
            _ => grad,
        };
        *self.slot(place) = Some(Gradient::Tensor(sum));
        Ok(())
    }

    /// A step of the optimiser with the mean of all that are held, clipped; nothing is held after it.
    /// The norm before clipping, where one is asked for.
    ///
    /// # Errors
    /// Where a gradient does not fit its parameter.
    pub fn step(&mut self, optimizer: &mut Optimizer, lr: f64) -> Result<Option<f64>> {
        let mean = 1.0 / self.weight;
        let mut sums = std::mem::take(&mut self.sums);
        (self.weight, self.batches) = (0.0, 0);
        for gradient in sums.iter_mut().flatten() {
            gradient.scale(mean, self.rule.clip_value)?;
        }
        let norm = self.rule.clip_norm.map(|_| norm(&sums)).transpose()?;
        if let (Some(norm), Some(most)) = (norm, self.rule.clip_norm)
            && norm > most
        {
            for gradient in sums.iter_mut().flatten() {
                gradient.scale(most / (norm + 1e-6), None)?;
            }
        }
        for (place, gradient) in sums.iter().enumerate() {
            match gradient {
                Some(Gradient::Values(values)) => optimizer.step_one(place, values, lr)?,
                Some(Gradient::Tensor(tensor)) => optimizer.step_tensor(place, tensor, lr)?,
                None => {}
            }
        }
        Ok(norm)
    }
}

/// Values that a thread takes in one go; sums are made block by block, whatever the threads.
const BLOCK: usize = 1 << 14;

impl Gradient {
    /// Times `factor`, then cut to within `limit` of 0.
    fn scale(&mut self, factor: f64, limit: Option<f64>) -> Result<()> {
        let limit = limit.unwrap_or(f64::INFINITY);
        match self {
            Gradient::Values(values) => {
                let (factor, limit) = (factor as f32, limit as f32);
                values.par_chunks_mut(BLOCK).for_each(|block| {
                    block.iter_mut().for_each(|v| *v = (*v * factor).clamp(-limit, limit));
                });
            }
            Gradient::Tensor(tensor) => {
                let scaled = (&*tensor * factor)?;
                *tensor = if limit.is_finite() { scaled.clamp(-limit, limit)? } else { scaled };
            }
        }
        Ok(())
    }
}

/// The Euclidean norm of all together. What is on a GPU is waited for once.
fn norm(gradients: &[Option<Gradient>]) -> Result<f64> {
    let (mut sum, mut elsewhere) = (0.0, Vec::new());
    for gradient in gradients.iter().flatten() {
        match gradient {
            Gradient::Values(values) => sum += squares(values),
            Gradient::Tensor(tensor) => {
                let working = if tensor.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
                elsewhere.push(tensor.to_dtype(working)?.sqr()?.sum_all()?);
            }
        }
    }
    if !elsewhere.is_empty() {
        sum += number(&Tensor::stack(&elsewhere, 0)?.sum_all()?)?;
    }
    Ok(sum.sqrt())
}

fn squares(values: &[f32]) -> f64 {
    let block = |block: &[f32]| block.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
    let blocks: Vec<f64> = values.par_chunks(BLOCK).map(block).collect();
    blocks.iter().sum()
}
