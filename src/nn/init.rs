//! Initial weights, as PyTorch and torchvision draw them.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::{ParamSpec, Role};
use crate::Result;
use crate::rng::Rng;

/// How a weight is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// PyTorch's default: uniform within ±1/√fan_in.
    PyTorch,
    /// Normal with variance 2/fan_out (He et al., "Delving Deep into Rectifiers", 2015).
    KaimingNormal,
    /// Uniform within ±√(6/(fan_in+fan_out)) (Glorot and Bengio, 2010).
    Xavier,
    /// Normal with this deviation.
    Normal(f64),
    /// Normal with this deviation, values beyond two units drawn again as torchvision does it.
    TruncatedNormal(f64),
}

/// How a network's weights are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Init {
    /// For convolutions.
    pub conv: Distribution,
    /// For linear layers.
    pub linear: Distribution,
    /// Biases begin at 0, not at PyTorch's uniform ±1/√fan_in.
    pub zero_bias: bool,
}

impl Init {
    /// PyTorch's default for every layer.
    pub const PYTORCH: Init =
        Init { conv: Distribution::PyTorch, linear: Distribution::PyTorch, zero_bias: false };

    /// Glorot's, with biases of 0: for nets with sigmoid or tanh.
    pub const XAVIER: Init =
        Init { conv: Distribution::Xavier, linear: Distribution::Xavier, zero_bias: true };

    /// The first values of a tensor; a bias needs the fan-in of its weight.
    pub(crate) fn tensor(
        &self,
        spec: &ParamSpec,
        fan_in: usize,
        seed: u64,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let shape = spec.shape.as_slice();
        let tensor = match spec.role {
            Role::NormWeight | Role::RunningVar => Tensor::ones(shape, dtype, device)?,
            Role::NormBias | Role::RunningMean => Tensor::zeros(shape, dtype, device)?,
            Role::BatchesTracked => Tensor::zeros(shape, DType::I64, device)?,
            Role::Bias if self.zero_bias => Tensor::zeros(shape, dtype, device)?,
            Role::Bias => {
                let bound = 1.0 / (fan_in as f64).sqrt();
                draw(spec, seed, |rng| rng.range(-bound, bound), dtype, device)?
            }
            Role::Weight if shape.len() == 4 => self.conv.draw(spec, seed, dtype, device)?,
            Role::Weight => self.linear.draw(spec, seed, dtype, device)?,
        };
        Ok(tensor)
    }
}

impl Distribution {
    fn draw(self, spec: &ParamSpec, seed: u64, dtype: DType, device: &Device) -> Result<Tensor> {
        let (fan_in, fan_out) = (spec.fan_in() as f64, spec.fan_out() as f64);
        let uniform = |bound: f64| move |rng: &mut Rng| rng.range(-bound, bound);
        match self {
            Distribution::PyTorch => draw(spec, seed, uniform(1.0 / fan_in.sqrt()), dtype, device),
            Distribution::Xavier => {
                let bound = (6.0 / (fan_in + fan_out)).sqrt();
                draw(spec, seed, uniform(bound), dtype, device)
            }
            Distribution::KaimingNormal => {
                let std = (2.0 / fan_out).sqrt();
                draw(spec, seed, move |rng| rng.normal() * std, dtype, device)
            }
            Distribution::Normal(std) => {
                draw(spec, seed, move |rng| rng.normal() * std, dtype, device)
            }
            Distribution::TruncatedNormal(std) => {
                draw(spec, seed, move |rng| within_two(rng, std), dtype, device)
            }
        }
    }
}

fn within_two(rng: &mut Rng, std: f64) -> f64 {
    loop {
        let value = rng.normal() * std;
        if value.abs() <= 2.0 {
            return value;
        }
    }
}

/// Values drawn block by block, each block from its own stream: threads do not change the bits.
fn draw(
    spec: &ParamSpec,
    seed: u64,
    value: impl Fn(&mut Rng) -> f64 + Sync,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    const BLOCK: usize = 1 << 16;
    let mut values = vec![0f32; spec.len()];
    values.par_chunks_mut(BLOCK).enumerate().for_each(|(block, values)| {
        let mut rng = Rng::stream(seed, &spec.name, &[block as u64]);
        values.iter_mut().for_each(|v| *v = value(&mut rng) as f32);
    });
    Ok(Tensor::from_vec(values, spec.shape.as_slice(), device)?.to_dtype(dtype)?)
}
