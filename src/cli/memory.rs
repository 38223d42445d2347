//! Whether there is enough memory to train, asked before anything large is made.

use anyhow::bail;
use candle_core::Device;

use crate::nn::Network;
use crate::train::{TrainConfig, TrainingMemory, available_memory};

/// Refuses batches for which there is not enough memory: the system would end the program with no
/// reason given. With frozen layers less is needed, how much less is not reckoned.
pub fn enough(
    network: &Network,
    config: &TrainConfig,
    pictures: usize,
    device: &Device,
) -> anyhow::Result<()> {
    if !device.is_cpu() || !config.finetune.is_default() {
        return Ok(());
    }
    let Some(available) = available_memory() else { return Ok(()) };
    let size = config.image_size;
    let input = (config.channels, size, size);
    let mut memory = TrainingMemory::of(network, input, &config.optimizer)?;
    // Gradients that wait are there twice: as the engine has them and as they are summed.
    let copies = u64::from(config.ema.is_some()) + 2 * u64::from(!config.gradients.is_default());
    memory.fixed += 4 * copies * network.layers().parameter_count() as u64;
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
        "training on batches of {batch} pictures of {size}x{size} takes some {} of memory, and {} are \
         free; {advice} (--ignore-memory begins all the same)",
        gigabytes(needed),
        gigabytes(available)
    )
}
