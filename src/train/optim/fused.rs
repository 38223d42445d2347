//! The CPU's updates: one pass over parameter, gradient and state, in blocks over threads.
//!
//! Every element is computed by itself, so threads do not change the bits.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, InplaceOp1, InplaceOp2, Layout, Tensor, Var};
use rayon::prelude::*;

use super::{Rule, Step, Update, in_one};
use crate::ops::Real;
use crate::{Error, Result};

/// Elements that a thread takes at a time.
const BLOCK: usize = 1 << 14;

/// The state of one parameter, one vector for each of [`Rule::state_names`].
pub(super) struct Fused<T> {
    states: Vec<Vec<T>>,
}

/// A type whose stored values can be changed.
pub(super) trait Stored: Real {
    /// The values of a storage of this type.
    fn values_mut(storage: &mut CpuStorage) -> Option<&mut [Self]>;
    /// The slice itself if this type is f32.
    fn of_f32(values: &[f32]) -> Option<&[Self]>;
}

impl Stored for f32 {
    fn values_mut(storage: &mut CpuStorage) -> Option<&mut [Self]> {
        if let CpuStorage::F32(values) = storage { Some(values) } else { None }
    }

    fn of_f32(values: &[f32]) -> Option<&[Self]> {
        Some(values)
    }
}

impl Stored for f64 {
    fn values_mut(storage: &mut CpuStorage) -> Option<&mut [Self]> {
        if let CpuStorage::F64(values) = storage { Some(values) } else { None }
    }

    fn of_f32(_values: &[f32]) -> Option<&[Self]> {
        None
    }
}

impl<T: Real> Fused<T> {
    pub(super) fn new(states: usize, len: usize) -> Self {
        Fused { states: vec![vec![T::zero(); len]; states] }
    }
}

impl<T: Stored> Update for Fused<T> {
    fn step(&mut self, rule: &Rule, step: Step, var: &Var, grad: &Tensor) -> Result<()> {
        let grad = grad.detach().contiguous()?;
        let op = Pass { rule: *rule, step, states: Mutex::new(&mut self.states) };
        Ok(var.as_tensor().inplace_op2(&grad, &op)?)
    }

    fn step_by(
        &mut self,
        rule: &Rule,
        step: Step,
        var: &Var,
        at: usize,
        grad: &[f32],
    ) -> Result<()> {
        let Some(grad) = T::of_f32(grad) else { return in_one(self, rule, step, var, at, grad) };
        let op = PassBy { rule: *rule, step, at, grad, states: Mutex::new(&mut self.states) };
        Ok(var.as_tensor().inplace_op1(&op)?)
    }

    fn state(&self, var: &Var) -> Result<Vec<Tensor>> {
        let tensor = |state: &Vec<T>| Ok(Tensor::from_slice(state, var.shape(), var.device())?);
        self.states.iter().map(tensor).collect()
    }

    fn restore(&mut self, _: &Var, state: &[Tensor]) -> Result<()> {
        for (own, tensor) in self.states.iter_mut().zip(state) {
            *own = tensor.to_dtype(T::DTYPE)?.flatten_all()?.to_vec1()?;
        }
        Ok(())
    }
}

/// One update as candle runs it: in place on the parameter, with the gradient as its argument.
struct Pass<'a, T> {
    rule: Rule,
    step: Step,
    states: Mutex<&'a mut Vec<Vec<T>>>,
}

/// [`Pass`] with a gradient that is no tensor, for the values from `at` on.
struct PassBy<'a, T> {
    rule: Rule,
    step: Step,
    at: usize,
    grad: &'a [T],
    states: Mutex<&'a mut Vec<Vec<T>>>,
}

const OP: &str = "optimizer step";

fn refuse(found: String) -> candle_core::Error {
    Error::op(OP, found, "the gradient must have its parameter's shape").into()
}

impl<T: Stored> InplaceOp2 for Pass<'_, T> {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        param: &mut CpuStorage,
        param_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> candle_core::Result<()> {
        let offsets = grad_layout.contiguous_offsets();
        let grad = T::cpu_storage_as_slice(grad)?;
        let grad = offsets
            .and_then(|(start, end)| grad.get(start..end))
            .ok_or_else(|| refuse(format!("layout {grad_layout:?}")))?;
        if grad.len() != param_layout.shape().elem_count() {
            let len = param_layout.shape().elem_count();
            return Err(refuse(format!("{} values for {len}", grad.len())));
        }
        update(&self.rule, self.step, (param, param_layout), (0, grad), &self.states)
    }
}

impl<T: Stored> InplaceOp1 for PassBy<'_, T> {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, param: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        update(&self.rule, self.step, (param, layout), (self.at, self.grad), &self.states)
    }
}

/// Checks that everything has the parameter's size, and updates the values from `at` on for which there
/// are gradients.
fn update<T: Stored>(
    rule: &Rule,
    step: Step,
    (param, layout): (&mut CpuStorage, &Layout),
    (at, grad): (usize, &[T]),
    states: &Mutex<&mut Vec<Vec<T>>>,
) -> candle_core::Result<()> {
    let all = match layout.contiguous_offsets() {
        Some((start, end)) => T::values_mut(param).and_then(|all| all.get_mut(start..end)),
        None => None,
    };
    let Some(all) = all else { return Err(refuse(format!("layout {layout:?}"))) };
    let (len, places) = (all.len(), at..at + grad.len());
    let mut states = states.lock().unwrap_or_else(PoisonError::into_inner);
    let fits = states.iter().all(|state| state.len() == len);
    let Some(param) = all.get_mut(places.clone()).filter(|_| fits) else {
        return Err(refuse(format!("values {places:?} of {len}")));
    };
    let mut states: Vec<_> = states.iter_mut().map(|state| &mut state[places.clone()]).collect();
    apply(rule, step, param, grad, &mut states);
    Ok(())
}

/// Updates a parameter and its state.
fn apply<T: Real>(rule: &Rule, step: Step, p: &mut [T], g: &[T], states: &mut [&mut [T]]) {
    let (lr, decay) = (T::of(step.lr), T::of(step.decay));
    match (*rule, states) {
        (Rule::Sgd { momentum, dampening, nesterov }, [velocity]) => {
            let (momentum, fresh) = (T::of(momentum), T::of(1.0 - dampening));
            let first = step.count == 1;
            each_with(p, g, velocity, |p, g, v| {
                let g = g + decay * *p;
                *v = if first { g } else { momentum * *v + fresh * g };
                *p -= lr * if nesterov { g + momentum * *v } else { *v };
            });
        }
        (Rule::Sgd { .. }, _) => each(p, g, |p, g| *p -= lr * (g + decay * *p)),
        (Rule::Adam { beta1, beta2, eps }, [mean, square]) => {
            let adam = Adam::new(beta1, beta2, eps, step);
            each_with2(p, g, mean, square, |p, g, m, v| adam.update(p, g + decay * *p, m, v));
        }
        (Rule::AdamW { beta1, beta2, eps }, [mean, square]) => {
            let adam = Adam::new(beta1, beta2, eps, step);
            let keep = T::of(1.0 - step.lr * step.decay);
            each_with2(p, g, mean, square, |p, g, m, v| {
                *p *= keep;
                adam.update(p, g, m, v);
            });
        }
        (Rule::RmsProp { alpha, eps, .. }, [square]) => {
            let rms = Rms { alpha: T::of(alpha), fresh: T::of(1.0 - alpha), eps: T::of(eps) };
            each_with(p, g, square, |p, g, v| *p -= lr * rms.scaled(g + decay * *p, v));
        }
        (Rule::RmsProp { alpha, eps, momentum }, [square, velocity]) => {
            let rms = Rms { alpha: T::of(alpha), fresh: T::of(1.0 - alpha), eps: T::of(eps) };
            let momentum = T::of(momentum);
            each_with2(p, g, square, velocity, |p, g, s, v| {
                *v = momentum * *v + rms.scaled(g + decay * *p, s);
                *p -= lr * *v;
            });
        }
        (Rule::Adam { .. } | Rule::AdamW { .. } | Rule::RmsProp { .. }, _) => {
            unreachable!("the state is made for its rule")
        }
    }
}

/// The constants of an Adam update, bias corrections included.
struct Adam<T> {
    fresh1: T,
    beta2: T,
    fresh2: T,
    eps: T,
    step_size: T,
    root_correction2: T,
}

impl<T: Real> Adam<T> {
    fn new(beta1: f64, beta2: f64, eps: f64, step: Step) -> Self {
        let count = step.count as f64;
        Adam {
            fresh1: T::of(1.0 - beta1),
            beta2: T::of(beta2),
            fresh2: T::of(1.0 - beta2),
            eps: T::of(eps),
            step_size: T::of(step.lr / (1.0 - beta1.powf(count))),
            root_correction2: T::of((1.0 - beta2.powf(count)).sqrt()),
        }
    }

    #[inline(always)]
    fn update(&self, p: &mut T, g: T, m: &mut T, v: &mut T) {
        *m += self.fresh1 * (g - *m);
        *v = self.beta2 * *v + self.fresh2 * g * g;
        *p -= self.step_size * *m / (v.sqrt() / self.root_correction2 + self.eps);
    }
}

/// The constants of an RMSprop update.
struct Rms<T> {
    alpha: T,
    fresh: T,
    eps: T,
}

impl<T: Real> Rms<T> {
    /// The gradient over the root of its mean square.
    #[inline(always)]
    fn scaled(&self, g: T, square: &mut T) -> T {
        *square = self.alpha * *square + self.fresh * g * g;
        g / (square.sqrt() + self.eps)
    }
}

fn each<T: Real>(p: &mut [T], g: &[T], f: impl Fn(&mut T, T) + Sync) {
    p.par_chunks_mut(BLOCK).zip(g.par_chunks(BLOCK)).for_each(|(p, g)| {
        p.iter_mut().zip(g).for_each(|(p, &g)| f(p, g));
    });
}

fn each_with<T: Real>(p: &mut [T], g: &[T], s: &mut [T], f: impl Fn(&mut T, T, &mut T) + Sync) {
    let blocks = p.par_chunks_mut(BLOCK).zip(g.par_chunks(BLOCK)).zip(s.par_chunks_mut(BLOCK));
    blocks.for_each(|((p, g), s)| {
        p.iter_mut().zip(g).zip(s).for_each(|((p, &g), s)| f(p, g, s));
    });
}

fn each_with2<T: Real>(
    p: &mut [T],
    g: &[T],
    s: &mut [T],
    t: &mut [T],
    f: impl Fn(&mut T, T, &mut T, &mut T) + Sync,
) {
    let params = p.par_chunks_mut(BLOCK).zip(g.par_chunks(BLOCK));
    let states = s.par_chunks_mut(BLOCK).zip(t.par_chunks_mut(BLOCK));
    params.zip(states).for_each(|((p, g), (s, t))| {
        let states = s.iter_mut().zip(t);
        p.iter_mut().zip(g).zip(states).for_each(|((p, &g), (s, t))| f(p, g, s, t));
    });
}
