//! What a step of training takes of a machine's memory, before it is begun.
//!
//! Rust ends a process that cannot have memory, and Linux kills one that uses what is not there: neither
//! says why. So it is reckoned beforehand. The sum is of what must be there at once, and stays somewhat
//! below what is used; a test holds it against what has been measured.

use super::optim::Rule;
use crate::Result;
use crate::nn::{Layer, Network, ParamSpec, Shape};

/// Gradients of activations that are in use at a time, in units of the largest.
const GRADIENTS: usize = 3;

/// Bytes that training takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainingMemory {
    /// Of parameters, of what the optimiser remembers, and of the largest gradient.
    pub fixed: u64,
    /// Of the activations and gradients of one picture.
    pub picture: u64,
}

impl TrainingMemory {
    /// For a network in f32, all of whose layers are trained, on pictures of these channels, height
    /// and width.
    ///
    /// # Errors
    /// Names the layer that its input does not fit.
    pub fn of(network: &Network, input: (usize, usize, usize), rule: &Rule) -> Result<Self> {
        let trained = network.params().trainable().map(|entry| entry.spec.len());
        Self::reckon(network.layers(), trained.collect(), input, rule)
    }

    /// [`TrainingMemory::of`] for a network that is still to be made of this tree: nothing is
    /// allocated.
    ///
    /// # Errors
    /// Names the layer that its input does not fit.
    pub fn of_layers(layers: &Layer, input: (usize, usize, usize), rule: &Rule) -> Result<Self> {
        let specs = layers.state_specs();
        let trained = specs.iter().filter(|spec| !spec.role.is_buffer()).map(ParamSpec::len);
        Self::reckon(layers, trained.collect(), input, rule)
    }

    /// For trained tensors of these sizes.
    fn reckon(
        layers: &Layer,
        trained: Vec<usize>,
        (channels, height, width): (usize, usize, usize),
        rule: &Rule,
    ) -> Result<Self> {
        let trace = layers.trace(Shape::Map(channels, height, width))?;
        let mut values = channels * height * width;
        let mut largest = 0;
        for step in &trace.steps {
            let copies = copies(step.layer);
            values += copies * step.output.len();
            largest = largest.max(copies.min(1) * step.output.len());
        }
        let (all, most) = (trained.iter().sum::<usize>(), trained.iter().max());
        let most = most.copied().unwrap_or(0);
        let bytes = |values: usize| 4 * values as u64;
        Ok(TrainingMemory {
            fixed: bytes(all * (1 + rule.states()) + most),
            picture: bytes(values + GRADIENTS * largest),
        })
    }

    /// Of an evaluation on a CPU: the parameters, and the largest map with the one that it is made of.
    ///
    /// # Errors
    /// Names the layer that its input does not fit.
    pub fn of_evaluation(layers: &Layer, input: (usize, usize, usize)) -> Result<Self> {
        let trace = layers.trace(Shape::Map(input.0, input.1, input.2))?;
        let steps = trace.steps.iter().filter(|step| !step.auxiliary && copies(step.layer) > 0);
        let most = steps.map(|step| step.input.len() + step.output.len()).max().unwrap_or(0);
        let parameters = layers.state_specs().iter().map(ParamSpec::len).sum::<usize>();
        Ok(TrainingMemory { fixed: 4 * parameters as u64, picture: 4 * most as u64 })
    }

    /// For a batch of this many pictures.
    pub fn bytes(&self, batch: usize) -> u64 {
        self.fixed.saturating_add(self.picture.saturating_mul(batch as u64))
    }

    /// The largest batch for which so many bytes are enough.
    pub fn batch_within(&self, bytes: u64) -> usize {
        (bytes.saturating_sub(self.fixed) / self.picture.max(1)) as usize
    }
}

/// How often a layer's output is kept for the backward pass. A ReLU works in the pass before it.
fn copies(layer: &Layer) -> usize {
    match layer {
        Layer::Conv2d(_) | Layer::BatchNorm2d { .. } | Layer::Linear { .. } => 1,
        Layer::LocalResponseNorm(_) | Layer::AvgPool2d(_) | Layer::AdaptiveAvgPool2d(_) => 1,
        Layer::Sigmoid | Layer::Tanh => 1,
        Layer::MaxPool2d(_) => 2, // and where each maximum was
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::models::{self, Config, Model};

    /// Peaks of three steps with momentum on 96x96, in MiB, as `convzoo bench` measured them.
    #[test]
    fn it_is_near_what_was_measured() {
        for (name, batch, measured) in
            [("resnet18", 32, 358.0), ("resnet50", 32, 873.0), ("googlenet", 32, 489.0)]
        {
            let architecture = models::find(name).unwrap();
            let config = Config { input: (3, 96, 96), ..architecture.config() };
            let model = Model::new(name, config, 0, &Device::Cpu).unwrap();
            let memory = TrainingMemory::of(&model.network, (3, 96, 96), &Rule::MOMENTUM).unwrap();
            let mib = memory.bytes(batch) as f64 / f64::from(1 << 20);
            println!("{name}: {mib:.0} MiB, measured {measured}");
            assert!((0.6..1.05).contains(&(mib / measured)), "{name}: {mib:.0} MiB");
            let most = memory.batch_within(memory.bytes(batch));
            assert_eq!(most, batch);
            let layers = model.network.layers();
            let before = TrainingMemory::of_layers(layers, (3, 96, 96), &Rule::MOMENTUM).unwrap();
            assert_eq!(before, memory, "the tree alone says as much");
            let evaluation = TrainingMemory::of_evaluation(layers, (3, 96, 96)).unwrap();
            assert!(evaluation.bytes(batch) < memory.bytes(batch));
        }
    }
}
