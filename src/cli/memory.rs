//! Whether there is enough memory for a network and its batches, asked before anything large is made.

use anyhow::bail;
use candle_core::Device;

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
    let Some(available) = available_memory() else { return Ok(()) };
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
    let batch = config.batch_size.min(pictures);
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
        "{} on batches of {batch} images of {size}x{size} takes some {} of memory, and {} are free; \
         {advice} (--ignore-memory begins all the same)",
        if trains { "training" } else { "running the network" },
        gigabytes(needed),
        gigabytes(available)
    )
}
