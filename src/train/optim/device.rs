//! The updates out of candle's tensor operations, for devices other than the CPU and for types that
//! the fused pass does not know.

use candle_core::{Tensor, Var};

use super::{Rule, Step, Update};
use crate::{Error, Result};

/// The state of one parameter, one tensor for each of [`Rule::state_names`].
pub(super) struct OnDevice {
    states: Vec<Tensor>,
}

impl OnDevice {
    pub(super) fn new(states: usize, var: &Var) -> Result<Self> {
        let zeros = (0..states).map(|_| Ok(var.zeros_like()?.detach()));
        Ok(OnDevice { states: zeros.collect::<Result<_>>()? })
    }
}

impl Update for OnDevice {
    fn step(&mut self, rule: &Rule, step: Step, var: &Var, grad: &Tensor) -> Result<()> {
        if grad.dims() != var.dims() {
            let found = format!("{:?} for {:?}", grad.dims(), var.dims());
            let needed = "the gradient must have its parameter's shape";
            return Err(Error::op("optimizer step", found, needed));
        }
        let (p, g) = (var.as_detached_tensor(), grad.detach());
        let (p, states) = updated(rule, step, &p, &g, &self.states)?;
        self.states = states;
        Ok(var.set(&p)?)
    }

    fn state(&self, _: &Var) -> Result<Vec<Tensor>> {
        Ok(self.states.clone())
    }

    fn restore(&mut self, var: &Var, state: &[Tensor]) -> Result<()> {
        let own = |t: &Tensor| Ok(t.to_dtype(var.dtype())?.to_device(var.device())?);
        self.states = state.iter().map(own).collect::<Result<_>>()?;
        Ok(())
    }
}

/// The parameter and its states after the step.
fn updated(
    rule: &Rule,
    step: Step,
    p: &Tensor,
    g: &Tensor,
    states: &[Tensor],
) -> candle_core::Result<(Tensor, Vec<Tensor>)> {
    let Step { lr, decay, count } = step;
    let decayed = |g: &Tensor| if decay == 0.0 { Ok(g.clone()) } else { g + (p * decay)? };
    match *rule {
        Rule::Sgd { momentum: 0.0, .. } => Ok(((p - (decayed(g)? * lr)?)?, Vec::new())),
        Rule::Sgd { momentum, dampening, nesterov } => {
            let g = decayed(g)?;
            let velocity = match count {
                1 => g.clone(),
                _ => ((&states[0] * momentum)? + (&g * (1.0 - dampening))?)?,
            };
            let along = if nesterov { (g + (&velocity * momentum)?)? } else { velocity.clone() };
            Ok(((p - (along * lr)?)?, vec![velocity]))
        }
        Rule::Adam { beta1, beta2, eps } => {
            adam([beta1, beta2, eps], step, p, &decayed(g)?, states)
        }
        Rule::AdamW { beta1, beta2, eps } => {
            let p = (p * (1.0 - lr * decay))?;
            adam([beta1, beta2, eps], step, &p, g, states)
        }
        Rule::RmsProp { alpha, eps, momentum } => {
            let g = decayed(g)?;
            let square = ((&states[0] * alpha)? + (g.sqr()? * (1.0 - alpha))?)?;
            let scaled = (g / (square.sqrt()? + eps)?)?;
            if momentum == 0.0 {
                return Ok(((p - (scaled * lr)?)?, vec![square]));
            }
            let velocity = ((&states[1] * momentum)? + scaled)?;
            Ok(((p - (&velocity * lr)?)?, vec![square, velocity]))
        }
    }
}

fn adam(
    [beta1, beta2, eps]: [f64; 3],
    step: Step,
    p: &Tensor,
    g: &Tensor,
    states: &[Tensor],
) -> candle_core::Result<(Tensor, Vec<Tensor>)> {
    let count = step.count as f64;
    let mean = (&states[0] + ((g - &states[0])? * (1.0 - beta1))?)?;
    let square = ((&states[1] * beta2)? + (g.sqr()? * (1.0 - beta2))?)?;
    let divisor = ((square.sqrt()? / (1.0 - beta2.powf(count)).sqrt())? + eps)?;
    let step_size = step.lr / (1.0 - beta1.powf(count));
    let p = (p - ((&mean * step_size)? / divisor)?)?;
    Ok((p, vec![mean, square]))
}
