//! An op on its inputs, forward, or forward and backward.

use candle_core::{Tensor, Var};

use super::{Plan, Timing, measure, random};
use crate::Result;

/// A forward pass alone, without a graph.
pub(super) const FORWARD: &str = "fwd";
/// A forward and a backward pass.
pub(super) const BOTH: &str = "fwd+bwd";

/// What is computed of an op's inputs.
pub(super) type Apply = Box<dyn Fn(&[Tensor]) -> Result<Tensor>>;

/// An op with inputs, all of which gradients are wanted for.
pub(super) struct Pass {
    inputs: Vec<Var>,
    apply: Apply,
}

impl Pass {
    /// `apply` on inputs of these shapes.
    pub(super) fn new(shapes: &[&[usize]], apply: Apply) -> Result<Self> {
        let input = |shape: &&[usize]| Ok(Var::from_tensor(&random(shape)?)?);
        Ok(Pass { inputs: shapes.iter().map(input).collect::<Result<_>>()?, apply })
    }

    /// Another op on the same inputs.
    pub(super) fn with(&self, apply: Apply) -> Self {
        Pass { inputs: self.inputs.clone(), apply }
    }

    /// How long it takes; in the backward pass the gradient of the output is 1 everywhere.
    pub(super) fn time(&self, op: &str, plan: Plan) -> Result<Timing> {
        if op == FORWARD {
            let inputs = self.detached();
            return measure(plan, || (self.apply)(&inputs));
        }
        let inputs = self.tracked();
        measure(plan, || Ok((self.apply)(&inputs)?.backward()?))
    }

    /// What it gives: the output, and in a backward pass the gradients of the inputs too, where that
    /// of the output has random values.
    pub(super) fn values(&self, op: &str) -> Result<Vec<Tensor>> {
        if op == FORWARD {
            return Ok(vec![(self.apply)(&self.detached())?]);
        }
        let y = (self.apply)(&self.tracked())?;
        let grads = (&y * random(y.dims())?)?.sum_all()?.backward()?;
        let of_inputs = self.inputs.iter().filter_map(|input| grads.get(input).cloned());
        Ok(std::iter::once(y.detach()).chain(of_inputs).collect())
    }

    fn tracked(&self) -> Vec<Tensor> {
        self.inputs.iter().map(|input| input.as_tensor().clone()).collect()
    }

    fn detached(&self) -> Vec<Tensor> {
        self.inputs.iter().map(Var::as_detached_tensor).collect()
    }
}
