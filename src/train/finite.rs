//! Numbers that are not finite: where they began, and what to do about them.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::evaluate::{Trainable, number};
use crate::Result;
use crate::nn::{Mode, Network, Params, Precision};
use crate::ops::access;

/// What to do about a step whose loss or gradients are not finite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnNan {
    /// Stop, and say which layer it began in.
    #[default]
    Stop,
    /// Leave everything as it was before the step, count it, go on. All gradients are kept until the
    /// last is there, which takes the memory for them.
    Skip,
}

impl OnNan {
    /// Whether it is what runs have always done.
    pub(super) fn is_default(&self) -> bool {
        *self == OnNan::Stop
    }
}

/// Elements that a thread looks at in one go.
const BLOCK: usize = 1 << 16;

/// Whether all values are finite.
pub(super) fn all_finite(values: &[f32]) -> bool {
    // Counting instead of stopping at the first lets the compiler use whole vectors.
    let finite = |block: &[f32]| {
        let bad = block.iter().map(|value| u32::from(!value.is_finite())).sum::<u32>();
        bad == 0
    };
    match values.len() <= BLOCK {
        true => finite(values),
        false => values.par_chunks(BLOCK).all(finite),
    }
}

/// [`all_finite`] for a tensor; whole numbers are.
pub(super) fn is_finite(tensor: &Tensor) -> Result<bool> {
    let tensor = tensor.detach();
    if !tensor.dtype().is_float() {
        return Ok(true);
    }
    if tensor.dtype() == DType::F64 {
        let values = tensor.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f64>()?;
        return Ok(values.iter().all(|value| value.is_finite()));
    }
    let tensor = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.contiguous()?;
    Ok(all_finite(&access::values::<f32>("finite", &tensor)?))
}

/// The first tensor of a network, by name, that has values that are not finite.
pub(super) fn broken_tensor(params: &Params) -> Result<Option<&str>> {
    for entry in params.entries() {
        if !is_finite(entry.var.as_tensor())? {
            return Ok(Some(&entry.spec.name));
        }
    }
    Ok(None)
}

/// The first trained tensor that has values that are not finite: no step can be skipped any more.
pub(super) fn broken_trained(params: &Params) -> Result<Option<&str>> {
    for entry in params.trainable() {
        if !is_finite(entry.var.as_tensor())? {
            return Ok(Some(&entry.spec.name));
        }
    }
    Ok(None)
}

/// When the gradients of a step are looked at before they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// On a CPU, where looking is cheap.
    Cheap,
    /// On a GPU too, which has to be waited for: one number a step.
    Always,
}

/// The place in [`Params::entries`] of a parameter whose gradient is not finite, the one nearest to
/// the loss.
pub(super) fn broken_gradient(
    params: &Params,
    grads: &GradStore,
    look: Look,
) -> Result<Option<usize>> {
    let on_cpu = params.entries().iter().all(|entry| entry.var.device().is_cpu());
    if !on_cpu && (look == Look::Cheap || all_finite_together(params, grads)?) {
        return Ok(None);
    }
    for (place, entry) in params.entries().iter().enumerate().rev() {
        let Some(grad) = grads.get(entry.var.as_tensor()) else { continue };
        if !is_finite(grad)? {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

/// Whether all gradients are finite: one number is read, whatever the number of parameters.
fn all_finite_together(params: &Params, grads: &GradStore) -> Result<bool> {
    let of = params.entries().iter().filter_map(|entry| grads.get(entry.var.as_tensor()));
    // 0 for what is finite, NaN for what is not.
    let flags = of.map(|grad| Ok((grad.detach().to_dtype(DType::F32)? * 0.0)?.sum_all()?));
    let flags = flags.collect::<Result<Vec<_>>>()?;
    match flags.is_empty() {
        true => Ok(true),
        false => Ok(number(&Tensor::stack(&flags, 0)?.sum_all()?)? == 0.0),
    }
}

/// Divides the gradients of a loss that was multiplied by `factor`.
pub(super) fn unscale(params: &Params, grads: &mut GradStore, factor: f64) -> Result<()> {
    for entry in params.entries() {
        let var = entry.var.as_tensor();
        if let Some(grad) = grads.remove(var) {
            grads.insert(var, (grad.detach() / factor)?);
        }
    }
    Ok(())
}

/// Where a forward pass on these pictures goes wrong, as a clause of a sentence. It is run once more,
/// layer by layer, with the seed it had; running statistics move.
pub(super) fn origin(
    trained: &impl Trainable,
    x: &Tensor,
    seed: u64,
    precision: Precision,
) -> Result<String> {
    if !is_finite(x)? {
        return Ok("the pictures of the batch are not finite themselves".to_owned());
    }
    let broken = broken_tensor(trained.params())?.map(str::to_owned);
    let because = broken.map_or(String::new(), |name| {
        format!(" ({name} is not finite itself: the step before was too large)")
    });
    let Some(network) = trained.network() else {
        return Ok(format!("which layer cannot be told here, without its tree{because}"));
    };
    Ok(match first_layer(network, x, seed, precision)? {
        Some(layer) => {
            format!("the first layer whose output is not finite is {layer}{because}")
        }
        None => format!("the output of every layer is finite, the loss of it is not{because}"),
    })
}

fn first_layer(
    network: &Network,
    x: &Tensor,
    seed: u64,
    precision: Precision,
) -> Result<Option<String>> {
    let (mut found, mode) = (Ok(None), Mode::Train { seed });
    network.forward_watched_in(x, mode, precision, &mut |name, output| {
        if matches!(found, Ok(None)) {
            let name = if name.is_empty() { "the whole network" } else { name };
            found = is_finite(output).map(|finite| (!finite).then(|| name.to_owned()));
        }
    })?;
    found
}

/// The running statistics of a network, to be put back after a step that does not count.
pub(super) struct Statistics(Vec<(usize, Tensor)>);

impl Statistics {
    /// A copy of those of `params`.
    pub(super) fn of(params: &Params) -> Result<Self> {
        let entries = params.entries().iter().enumerate();
        let buffers = entries.filter(|(_, entry)| entry.spec.role.is_buffer());
        let copies = buffers.map(|(place, entry)| Ok((place, entry.var.as_tensor().copy()?)));
        Ok(Statistics(copies.collect::<Result<_>>()?))
    }

    /// Puts them back.
    pub(super) fn restore(&self, params: &Params) -> Result<()> {
        for (place, tensor) in &self.0 {
            params.entries()[*place].var.set(tensor)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{self, Init};

    #[test]
    fn one_value_in_many_is_found() {
        for len in [1, 17, BLOCK, 3 * BLOCK + 5] {
            let mut values = vec![1e38f32; len];
            assert!(all_finite(&values));
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                values[len - 1] = bad;
                assert!(!all_finite(&values), "{len} {bad}");
            }
        }
    }

    #[test]
    fn the_first_layer_is_named_with_its_cause() {
        let layers = nn::sequential([
            ("conv", nn::conv(1, 4, 3).into()),
            ("bn", nn::batch_norm(4)),
            ("relu", nn::Layer::Relu),
            ("flat", nn::Layer::Flatten),
            ("fc", nn::linear(4 * 4 * 4, 2)),
        ]);
        let net = Network::new(layers, &Init::PYTORCH, 1, DType::F32, &Device::Cpu).unwrap();
        let x = Tensor::randn(0f32, 1.0, (2, 1, 6, 6), &Device::Cpu).unwrap();
        assert!(
            origin(&net, &x, 0, Precision::F32)
                .unwrap()
                .contains("output of every layer is finite")
        );
        let large = (&x * 1e38).unwrap().contiguous().unwrap();
        let text = origin(&net, &(large * 3.0).unwrap(), 0, Precision::F32).unwrap();
        assert!(text.contains("first layer") || text.contains("pictures"), "{text}");
        let weight = &net.params().get("bn.weight").unwrap().var;
        weight.set(&(weight.as_detached_tensor() * f64::INFINITY).unwrap()).unwrap();
        let text = origin(&net, &x, 0, Precision::F32).unwrap();
        assert!(text.contains("not finite is bn (bn.weight is not finite itself"), "{text}");
    }

    #[test]
    fn one_number_tells_whether_all_gradients_are_finite() {
        let layers = nn::sequential([("a", nn::linear(3, 2)), ("b", nn::linear(2, 2))]);
        let net = Network::new(layers, &Init::PYTORCH, 1, DType::F32, &Device::Cpu).unwrap();
        let x = Tensor::ones((2, 3), DType::F32, &Device::Cpu).unwrap();
        let loss = net.forward(&x, Mode::Train { seed: 0 }).unwrap().logits.sum_all().unwrap();
        let mut grads = loss.backward().unwrap();
        assert!(all_finite_together(net.params(), &grads).unwrap());
        let weight = net.params().get("a.weight").unwrap().var.as_tensor();
        let before = grads.get(weight).unwrap().to_vec2::<f32>().unwrap();
        unscale(net.params(), &mut grads, 4.0).unwrap();
        let after = grads.get(weight).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(after[1][2] * 4.0, before[1][2]);
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            grads.insert(weight, (weight.detach() * bad).unwrap());
            assert!(!all_finite_together(net.params(), &grads).unwrap(), "{bad}");
            let found = broken_gradient(net.params(), &grads, Look::Cheap).unwrap();
            assert_eq!(found, net.params().position("a.weight"));
        }
    }

    #[test]
    fn statistics_are_put_back() {
        let layers = nn::sequential([("bn", nn::batch_norm(3))]);
        let net = Network::new(layers, &Init::PYTORCH, 1, DType::F32, &Device::Cpu).unwrap();
        let mean = || net.params().get("bn.running_mean").unwrap().var.to_vec1::<f32>().unwrap();
        let (before, kept) = (mean(), Statistics::of(net.params()).unwrap());
        let x = Tensor::randn(5f32, 1.0, (2, 3, 4, 4), &Device::Cpu).unwrap();
        net.forward(&x, Mode::Train { seed: 0 }).unwrap();
        assert_ne!(mean(), before);
        kept.restore(net.params()).unwrap();
        assert_eq!(mean(), before);
    }
}
