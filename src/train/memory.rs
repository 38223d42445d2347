//! What a step of training takes of a machine's memory, before it is begun.
//!
//! Rust ends a process that cannot have memory, and Linux kills one that uses what is not there: neither
//! says why. So it is reckoned beforehand. The sum is of what must be there at once, and stays somewhat
//! below what is used; a test holds it against what has been measured.

use std::fs;

use super::optim::Rule;
use crate::Result;
use crate::nn::{Layer, Network, Shape};

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
        let (channels, height, width) = input;
        let trace = network.layers().trace(Shape::Map(channels, height, width))?;
        let mut values = channels * height * width;
        let mut largest = 0;
        for step in &trace.steps {
            let copies = copies(step.layer);
            values += copies * step.output.len();
            largest = largest.max(copies.min(1) * step.output.len());
        }
        let parameters: Vec<usize> =
            network.params().trainable().map(|entry| entry.spec.len()).collect();
        let (all, most) = (parameters.iter().sum::<usize>(), parameters.iter().max());
        let most = most.copied().unwrap_or(0);
        let bytes = |values: usize| 4 * values as u64;
        Ok(TrainingMemory {
            fixed: bytes(all * (1 + rule.states()) + most),
            picture: bytes(values + GRADIENTS * largest),
        })
    }

    /// For a batch of this many pictures.
    pub fn bytes(&self, batch: usize) -> u64 {
        self.fixed + self.picture * batch as u64
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

/// Bytes of memory that this process may still take; `None` where that cannot be known.
pub fn available_memory() -> Option<u64> {
    let machine = kilobytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")?;
    Some(group_rest().map_or(machine, |rest| rest.min(machine)))
}

/// A line of `/proc/meminfo` in bytes.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
}

/// What is left of the control group's limit, as a container has one. Files that the system keeps in
/// memory count against it too, but are given up first.
fn group_rest() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let name = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let folder = std::path::Path::new("/sys/fs/cgroup").join(name);
    let limit: u64 = fs::read_to_string(folder.join("memory.max")).ok()?.trim().parse().ok()?;
    let stat = fs::read_to_string(folder.join("memory.stat")).ok()?;
    let used = stat.lines().find_map(|line| line.strip_prefix("anon "))?.trim().parse().ok()?;
    Some(limit.saturating_sub(used))
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
        }
    }

    #[test]
    fn this_machine_has_memory() {
        if std::path::Path::new("/proc/meminfo").exists() {
            assert!(available_memory().unwrap() > 1 << 20);
        }
        assert_eq!(
            kilobytes("MemFree: 1 kB\nMemAvailable:   20 kB\n", "MemAvailable:"),
            Some(20480)
        );
    }
}
