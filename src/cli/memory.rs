//! Whether there is enough memory for a network and its batches, asked before anything large is made.

use anyhow::{anyhow, bail};
use candle_core::Device;

use crate::models::Model;
use crate::nn::Layer;
use crate::train::{TrainConfig, TrainingMemory, available_memory};

/// Refuses batches for which there is not enough memory: the system would end the program with no
/// reason given. It goes by the tree, so that nothing is made before. With frozen layers less is needed
/// than training takes, how much less is not reckoned: what an evaluation takes is asked for then.
pub fn enough(
    layers: &Layer,
    config: &TrainConfig,
    pictures: usize,
    trains: bool,
    device: &Device,
) -> anyhow::Result<()> {
    if !device.is_cpu() {
        return Ok(());
    }
    let trains = trains && config.finetune.is_default();
    let size = config.image_size;
    let input = (config.channels, size, size);
    let mut memory = match trains {
        true => TrainingMemory::of_layers(layers, input, &config.optimizer)?,
        false => TrainingMemory::of_evaluation(layers, input)?,
    };
    if trains {
        // Gradients that wait are there twice: as the engine has them and as they are summed.
        let gradients = 2 * u64::from(!config.gradients.is_default());
        let copies = u64::from(config.ema.is_some()) + gradients;
        memory.fixed += 4 * copies * layers.parameter_count() as u64;
    }
    let what = if trains { "training" } else { "running the network" };
    enough_for(memory, config.batch_size.min(pictures), size, what)
        .map_err(|error| anyhow!("{error} (--ignore-memory begins all the same)"))
}

/// The same for a network that is only measured, on batches of images of its input's size.
pub fn enough_to_measure(model: &Model, batch: usize, device: &Device) -> anyhow::Result<()> {
    if !device.is_cpu() {
        return Ok(());
    }
    let memory = TrainingMemory::of_evaluation(model.network.layers(), model.config.input)?;
    enough_for(memory, batch, model.config.input.1, "running the network")
}

fn enough_for(memory: TrainingMemory, batch: usize, size: usize, what: &str) -> anyhow::Result<()> {
    let Some(available) = available_memory() else { return Ok(()) };
    let needed = memory.bytes(batch);
    if needed <= available {
        return Ok(());
    }
    let gigabytes = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
    let advice = match memory.batch_within(available / 10 * 9) {
        0 => "try a smaller --image-size or another network".to_owned(),
        most => format!("try --batch-size {most} or less"),
    };
    bail!(
        "{what} on batches of {batch} images of {size}x{size} takes some {} of memory, and {} are free; \
         {advice}",
        gigabytes(needed),
        gigabytes(available)
    )
}
