//! Softmax cross-entropy, with label smoothing (Szegedy et al., 2016) and class weights.
//!
//! For row n with label t, C classes, smoothing ε and class weights v (1 if there are none):
//!
//! ```text
//! q[c] = (1 − ε)·v[t]·[c = t] + ε/C·v[c]              what is wished for
//! loss[n] = −Σ q[c]·log p[c],  p = softmax(x[n])
//! y = Σ loss[n] / D,  D = Σ v[t[n]] for the mean, 1 for the sum
//! dx[n, c] = dy / D · (p[c]·Σ q − q[c])
//! ```

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor, WithDType};

use super::access::{self, by_dtype};
use super::{Form, Real, half};
use crate::{Error, Result};

const OP: &str = "cross_entropy";

/// How the losses of the rows become one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// Their mean, weighted by the class weights of the labels.
    #[default]
    Mean,
    /// Their sum.
    Sum,
}

/// Settings of the cross-entropy; PyTorch's defaults.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CrossEntropyParams {
    /// The share of the wish that is spread evenly over all classes, in 0..=1; usually 0 or 0.1.
    pub label_smoothing: f64,
    /// A factor for each class, for classes of unequal size; 1 if there are none.
    pub class_weights: Option<Vec<f64>>,
    /// Mean or sum.
    pub reduction: Reduction,
}

/// The cross-entropy of `logits` [N, C] and the classes in `labels`, a scalar; in the form that
/// suits the device. NaN where a logit is NaN.
///
/// # Errors
/// If there are no rows, not as many labels as rows, a label that is no class, or settings that make
/// no sense.
pub fn cross_entropy(
    logits: &Tensor,
    labels: &[u32],
    params: &CrossEntropyParams,
) -> Result<Tensor> {
    cross_entropy_as(Form::of(logits), logits, labels, params)
}

/// [`cross_entropy`] in a form of your choice.
///
/// # Errors
/// As for [`cross_entropy`].
pub fn cross_entropy_as(
    form: Form,
    logits: &Tensor,
    labels: &[u32],
    params: &CrossEntropyParams,
) -> Result<Tensor> {
    let target = Target::new(logits, labels, params)?;
    Ok(match form {
        Form::Portable => portable(logits, &target)?,
        _ => logits.contiguous()?.apply_op1(CrossEntropy { target, form })?,
    })
}

/// What is wished for, checked.
struct Target {
    labels: Vec<u32>,
    classes: usize,
    smoothing: f64,
    weights: Option<Vec<f64>>,
    /// D, what the sum of the losses is divided by.
    divisor: f64,
}

impl Target {
    fn new(logits: &Tensor, labels: &[u32], params: &CrossEntropyParams) -> Result<Self> {
        access::same_kind(OP, &[logits])?;
        let &[rows, classes] = logits.dims() else {
            let found = format!("logits of shape {:?}", logits.dims());
            return Err(Error::op(OP, found, "it needs [N, C]"));
        };
        if rows == 0 || labels.len() != rows {
            let found = format!("{} labels for logits {:?}", labels.len(), logits.dims());
            return Err(Error::op(OP, found, "it needs one label a row, and at least one row"));
        }
        if let Some(row) = labels.iter().position(|&label| label as usize >= classes) {
            let found = format!("label {} in row {row}", labels[row]);
            return Err(Error::op(OP, found, format!("labels must be below {classes}")));
        }
        let (smoothing, weights) = (params.label_smoothing, params.class_weights.clone());
        if !(0.0..=1.0).contains(&smoothing) {
            let found = format!("label smoothing {smoothing}");
            return Err(Error::op(OP, found, "it must be between 0 and 1"));
        }
        if let Some(weights) = &weights {
            let sound = weights.iter().all(|&weight| weight >= 0.0 && weight.is_finite());
            if !sound || weights.len() != classes {
                let needed = format!("it needs {classes} numbers that are 0 or positive");
                return Err(Error::op(OP, format!("class weights {weights:?}"), needed));
            }
        }
        let mut target =
            Target { labels: labels.to_vec(), classes, smoothing, weights, divisor: 1.0 };
        if params.reduction == Reduction::Mean {
            target.divisor = labels.iter().map(|&label| target.weight(label as usize)).sum();
        }
        Ok(target)
    }

    /// v[c].
    fn weight(&self, c: usize) -> f64 {
        self.weights.as_ref().map_or(1.0, |weights| weights[c])
    }

    /// The part of the wish that lies on the label: (1 − ε)·v[t].
    fn on_label(&self, label: usize) -> f64 {
        (1.0 - self.smoothing) * self.weight(label)
    }

    /// The part of the wish that every class has: ε/C·v[c].
    fn spread(&self, c: usize) -> f64 {
        self.smoothing / self.classes as f64 * self.weight(c)
    }
}

/// The formulas as they stand, row by row.
mod definition {
    use super::{Real, Target};

    /// q of a row with this label, \[C\].
    fn wish(target: &Target, label: u32) -> Vec<f64> {
        let of_label = |c: usize| if c == label as usize { target.on_label(c) } else { 0.0 };
        (0..target.classes).map(|c| of_label(c) + target.spread(c)).collect()
    }

    /// log p of a row, \[C\]: x − m − log Σ exp(x − m), where m = max x keeps the sum finite.
    fn log_softmax<T: Real>(x: &[T]) -> Vec<f64> {
        let max = x.iter().map(|x| x.f64()).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = x.iter().map(|x| (x.f64() - max).exp()).sum();
        x.iter().map(|x| x.f64() - max - sum.ln()).collect()
    }

    pub fn forward<T: Real>(target: &Target, x: &[T]) -> f64 {
        let mut loss = 0.0;
        for (x, &label) in x.chunks_exact(target.classes).zip(&target.labels) {
            for (c, (q, log_p)) in wish(target, label).into_iter().zip(log_softmax(x)).enumerate() {
                if q != 0.0 || c == label as usize {
                    loss -= q * log_p; // elsewhere 0 · −∞ is 0
                }
            }
        }
        loss / target.divisor
    }

    pub fn backward<T: Real>(target: &Target, x: &[T], dy: f64) -> Vec<T> {
        let mut dx = Vec::with_capacity(x.len());
        for (x, &label) in x.chunks_exact(target.classes).zip(&target.labels) {
            let q = wish(target, label);
            let total: f64 = q.iter().sum();
            let gradient =
                |(q, log_p): (&f64, f64)| dy / target.divisor * (log_p.exp() * total - q);
            dx.extend(q.iter().zip(log_softmax(x)).map(gradient).map(T::of));
        }
        dx
    }
}

/// The same with rows spread over threads, and nothing stored.
mod kernel {
    use rayon::prelude::*;

    use super::{Real, Target};

    /// Logits that one task works on.
    const TASK: usize = 1 << 12;

    /// max x and log Σ exp(x − max x).
    fn log_sum_exp<T: Real>(x: &[T]) -> (f64, f64) {
        let max = x.iter().fold(T::neg_infinity(), |max, &x| if x > max { x } else { max }).f64();
        (max, x.iter().map(|x| (x.f64() - max).exp()).sum::<f64>().ln())
    }

    pub fn forward<T: Real>(target: &Target, x: &[T]) -> f64 {
        let losses: Vec<f64> = x
            .par_chunks_exact(target.classes)
            .zip(&target.labels)
            .with_min_len(TASK.div_ceil(target.classes))
            .map(|(x, &label)| row_loss(target, label as usize, x))
            .collect();
        losses.iter().sum::<f64>() / target.divisor
    }

    fn row_loss<T: Real>(target: &Target, label: usize, x: &[T]) -> f64 {
        let (max, log_sum) = log_sum_exp(x);
        let log_p = |c: usize| x[c].f64() - max - log_sum;
        let mut loss = -target.on_label(label) * log_p(label);
        if target.smoothing > 0.0 {
            let spread = |c| target.spread(c) * log_p(c);
            loss -= (0..x.len()).filter(|&c| target.weight(c) != 0.0).map(spread).sum::<f64>();
        }
        loss
    }

    pub fn backward<T: Real>(target: &Target, x: &[T], dy: f64) -> Vec<T> {
        let mut dx = vec![T::zero(); x.len()];
        let spread: f64 = (0..target.classes).map(|c| target.spread(c)).sum();
        let factor = dy / target.divisor;
        dx.par_chunks_exact_mut(target.classes)
            .zip(x.par_chunks_exact(target.classes))
            .zip(&target.labels)
            .with_min_len(TASK.div_ceil(target.classes))
            .for_each(|((dx, x), &label)| {
                let label = label as usize;
                let (max, log_sum) = log_sum_exp(x);
                let total = target.on_label(label) + spread;
                for (c, (dx, x)) in dx.iter_mut().zip(x).enumerate() {
                    let wish = if c == label { target.on_label(c) } else { 0.0 } + target.spread(c);
                    *dx = T::of(factor * (total * (x.f64() - max - log_sum).exp() - wish));
                }
            });
        dx
    }
}

/// Out of candle tensor operations (`softmax_last_dim` and its like cut gradients). Half-precision
/// logits are worked on as f32.
fn portable(logits: &Tensor, target: &Target) -> candle_core::Result<Tensor> {
    let (rows, device) = (target.labels.len(), logits.device());
    let working = half::working(logits.dtype());
    let tensor = |values: Vec<f64>, shape| {
        Tensor::from_vec(values, shape, &candle_core::Device::Cpu)?
            .to_dtype(working)?
            .to_device(device)
    };
    let x = logits.to_dtype(working)?;
    let x = x.broadcast_sub(&x.max_keepdim(1)?.detach())?;
    let log_p = x.broadcast_sub(&x.exp()?.sum_keepdim(1)?.log()?)?;

    let labels = Tensor::from_slice(&target.labels, (rows, 1), device)?;
    let on_label = target.labels.iter().map(|&label| target.on_label(label as usize)).collect();
    let mut wished = (log_p.gather(&labels, 1)? * tensor(on_label, (rows, 1))?)?.sum_all()?;
    if target.smoothing > 0.0 {
        let spread = (0..target.classes).map(|c| target.spread(c)).collect();
        let spread = log_p.broadcast_mul(&tensor(spread, (1, target.classes))?)?;
        wished = (wished + spread.sum_all()?)?;
    }
    (wished / -target.divisor)?.to_dtype(logits.dtype())
}

/// The custom op behind the definition and the kernel.
struct CrossEntropy {
    target: Target,
    form: Form,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        by_dtype!(OP, access::dtype(x), T => {
            let x = access::slice::<T>(OP, x, layout)?;
            let loss = match self.form {
                Form::Definition => definition::forward(&self.target, x),
                _ => kernel::forward(&self.target, x),
            };
            Ok((T::to_cpu_storage_owned(vec![T::of(loss)]), Shape::from(())))
        })
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        if !x.track_op() {
            return Ok(None);
        }
        by_dtype!(OP, x.dtype(), T => {
            let dy = dy.to_scalar::<T>()?.f64();
            let xs = access::values::<T>(OP, x)?;
            let dx = match self.form {
                Form::Definition => definition::backward(&self.target, &xs, dy),
                _ => kernel::backward(&self.target, &xs, dy),
            };
            access::tensor(dx, x.dims()).map(Some)
        })
    }
}
