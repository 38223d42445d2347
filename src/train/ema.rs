//! A moving average of the weights, which often predicts better than the last ones (Polyak and
//! Juditsky, 1992; as used by Szegedy et al., 2016, section 8).

use std::collections::HashMap;

use candle_core::{CpuStorage, DType, Device, InplaceOp2, Layout, Tensor, Var};
use rayon::prelude::*;

use super::optim::check;
use crate::nn::Params;
use crate::ops::access;
use crate::{Error, Result};

/// The moving average of a network's parameters and buffers, as timm keeps it: running means and
/// variances are averaged too, counters copied.
///
/// ```
/// # use convzoo::nn::{self, Init, Network};
/// # use convzoo::train::Ema;
/// # use candle_core::{DType, Device};
/// # fn main() -> convzoo::Result<()> {
/// # let layers = nn::sequential([("fc", nn::linear(4, 2))]);
/// # let network = Network::new(layers, &Init::PYTORCH, 1, DType::F32, &Device::Cpu)?;
/// let mut ema = Ema::new(network.params(), 0.999)?;
/// // after every step of the optimiser
/// ema.update(network.params())?;
/// // to evaluate: the network has the averages in between
/// let top1 = ema.with(network.params(), || Ok(0.5))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    updates: u64,
    names: Vec<String>,
    averages: Vec<Var>,
}

/// The name under which [`Ema::state`] keeps the number of updates; no parameter is called so.
const UPDATES: &str = ".updates";

impl Ema {
    /// Averages that begin as the weights are. Of an update, they keep the share `decay`, but at first
    /// less, (1 + t) / (10 + t) at update t, so that a short run forgets its beginning too.
    ///
    /// # Errors
    /// A share that is none.
    pub fn new(params: &Params, decay: f64) -> Result<Self> {
        check_decay(decay)?;
        let names = params.entries().iter().map(|entry| entry.spec.name.clone()).collect();
        let copy = |entry: &crate::nn::Entry| Ok(Var::from_tensor(&entry.var.as_tensor().copy()?)?);
        let averages = params.entries().iter().map(copy).collect::<Result<_>>()?;
        Ok(Ema { decay, updates: 0, names, averages })
    }

    /// Moves the averages towards the weights: after every step of the optimiser.
    ///
    /// # Errors
    /// Where the parameters are those of another network.
    pub fn update(&mut self, params: &Params) -> Result<()> {
        self.check_same(params)?;
        self.updates += 1;
        let t = self.updates as f64;
        let fresh = 1.0 - self.decay.min((1.0 + t) / (10.0 + t));
        for (average, entry) in self.averages.iter().zip(params.entries()) {
            move_towards(average, entry.var.as_tensor(), fresh)?;
        }
        Ok(())
    }

    /// Runs `f` while the network has the averages for weights; afterwards it has its own again.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn with<T>(&mut self, params: &Params, f: impl FnOnce() -> Result<T>) -> Result<T> {
        self.swap(params)?;
        let result = f();
        self.swap(params)?;
        result
    }

    fn check_same(&self, params: &Params) -> Result<()> {
        let names = params.entries().iter().map(|entry| &entry.spec.name);
        match names.eq(&self.names) {
            true => Ok(()),
            false => Err(Error::Setting("averages of another network's weights".to_owned())),
        }
    }

    /// Exchanges averages and weights.
    fn swap(&mut self, params: &Params) -> Result<()> {
        self.check_same(params)?;
        for (average, entry) in self.averages.iter().zip(params.entries()) {
            let own = entry.var.as_tensor().copy()?;
            entry.var.set(average.as_tensor())?;
            average.set(&own)?;
        }
        Ok(())
    }

    /// All that is needed to go on, by name; [`Ema::restore`] takes it back, to the bit.
    ///
    /// # Errors
    /// Where the device gives its values not away.
    pub fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let named = self.names.iter().zip(&self.averages);
        let mut state: Vec<_> =
            named.map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect();
        state.push((UPDATES.to_owned(), Tensor::new(self.updates as i64, &Device::Cpu)?));
        Ok(state)
    }

    /// Takes back what [`Ema::state`] gave; nothing changes unless all of it fits.
    ///
    /// # Errors
    /// Names the tensor that is missing or has another shape.
    pub fn restore(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let found = |name: &str, shape: &[usize]| match state.get(name) {
            Some(tensor) if tensor.dims() == shape => Ok(tensor),
            Some(tensor) => Err(Error::Setting(format!(
                "average {name}: found shape {:?}, needed {shape:?}",
                tensor.dims()
            ))),
            None => Err(Error::Setting(format!("average {name} is missing"))),
        };
        let updates = found(UPDATES, &[])?.to_dtype(DType::I64)?.to_scalar::<i64>()?;
        let named = self.names.iter().zip(&self.averages);
        let tensors = named.map(|(name, var)| {
            Ok(found(name, var.dims())?.to_dtype(var.dtype())?.to_device(var.device())?)
        });
        let tensors = tensors.collect::<Result<Vec<_>>>()?;
        self.updates = u64::try_from(updates)
            .map_err(|_| Error::Setting("the number of updates is negative".to_owned()))?;
        for (var, tensor) in self.averages.iter().zip(&tensors) {
            var.set(tensor)?;
        }
        Ok(())
    }
}

/// Refuses a decay that makes no sense.
pub(super) fn check_decay(decay: f64) -> Result<()> {
    check("the decay of averaged weights", decay, decay > 0.0 && decay < 1.0, "between 0 and 1")
}

/// `average += fresh * (value - average)`; whole numbers are copied.
fn move_towards(average: &Var, value: &Tensor, fresh: f64) -> Result<()> {
    let value = value.detach();
    if !average.dtype().is_float() {
        return Ok(average.set(&value)?);
    }
    if matches!(average.device(), Device::Cpu) && average.dtype() == DType::F32 {
        return Ok(average.as_tensor().inplace_op2(&value.contiguous()?, &Lerp(fresh as f32))?);
    }
    let old = average.as_detached_tensor();
    Ok(average.set(&(&old + ((value - &old)? * fresh)?)?)?)
}

/// [`move_towards`] on a CPU in f32, in one pass.
struct Lerp(f32);

impl InplaceOp2 for Lerp {
    fn name(&self) -> &'static str {
        "moving average"
    }

    fn cpu_fwd(
        &self,
        average: &mut CpuStorage,
        average_layout: &Layout,
        value: &CpuStorage,
        value_layout: &Layout,
    ) -> candle_core::Result<()> {
        const BLOCK: usize = 1 << 14;
        let new = access::slice::<f32>(self.name(), value, value_layout)?;
        let old = match (average, average_layout.contiguous_offsets()) {
            (CpuStorage::F32(values), Some((start, end))) => values.get_mut(start..end),
            _ => None,
        };
        let Some(old) = old.filter(|old| old.len() == new.len()) else {
            let found = format!("{average_layout:?} and {value_layout:?}");
            return Err(Error::op(self.name(), found, "both must have one shape").into());
        };
        old.par_chunks_mut(BLOCK).zip(new.par_chunks(BLOCK)).for_each(|(old, new)| {
            old.iter_mut().zip(new).for_each(|(old, new)| *old += self.0 * (new - *old));
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{self, Init, Network};

    fn network(dtype: DType) -> Network {
        let layers = nn::sequential([("bn", nn::batch_norm(2)), ("fc", nn::linear(2, 3))]);
        Network::new(layers, &Init::PYTORCH, 1, dtype, &Device::Cpu).unwrap()
    }

    fn set(network: &Network, name: &str, value: f64) {
        let var = &network.params().get(name).unwrap().var;
        var.set(
            &Tensor::full(value, var.shape(), &Device::Cpu).unwrap().to_dtype(var.dtype()).unwrap(),
        )
        .unwrap();
    }

    fn first(network: &Network, name: &str) -> f64 {
        let tensor = network.params().get(name).unwrap().var.flatten_all().unwrap();
        tensor.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap()[0]
    }

    #[test]
    fn averages_follow_parameters_and_statistics_and_counters_are_copied() {
        for dtype in [DType::F32, DType::F64] {
            let network = network(dtype);
            set(&network, "fc.weight", 1.0);
            let mut ema = Ema::new(network.params(), 0.9).unwrap();
            set(&network, "fc.weight", 2.0);
            set(&network, "bn.running_mean", 1.0);
            set(&network, "bn.num_batches_tracked", 7.0);
            ema.update(network.params()).unwrap(); // keeps 2 / 11 the first time
            let seen = ema.with(network.params(), || {
                let names = ["fc.weight", "bn.running_mean", "bn.num_batches_tracked"];
                Ok(names.map(|name| first(&network, name)))
            });
            let seen = seen.unwrap();
            for (found, expected) in seen.into_iter().zip([2.0 - 2.0 / 11.0, 9.0 / 11.0, 7.0]) {
                assert!((found - expected).abs() < 1e-6, "{seen:?}");
            }
            assert_eq!(first(&network, "fc.weight"), 2.0);
            for _ in 0..200 {
                ema.update(network.params()).unwrap();
            }
            let weight = ema.with(network.params(), || Ok(first(&network, "fc.weight"))).unwrap();
            assert!((weight - 2.0).abs() < 1e-5);
        }
    }

    #[test]
    fn a_state_is_taken_back_or_refused() {
        let network = network(DType::F32);
        let mut ema = Ema::new(network.params(), 0.99).unwrap();
        set(&network, "fc.bias", 3.0);
        ema.update(network.params()).unwrap();
        let mut state: HashMap<_, _> = ema.state().unwrap().into_iter().collect();
        let mut other = Ema::new(network.params(), 0.99).unwrap();
        other.restore(&state).unwrap();
        for ema in [&mut ema, &mut other] {
            ema.update(network.params()).unwrap();
        }
        let bias = |ema: &mut Ema| ema.with(network.params(), || Ok(first(&network, "fc.bias")));
        assert_eq!(bias(&mut ema).unwrap().to_bits(), bias(&mut other).unwrap().to_bits());
        state.remove("fc.weight");
        let error = other.restore(&state).unwrap_err().to_string();
        assert!(error.contains("fc.weight is missing"), "{error}");
        assert!(Ema::new(network.params(), 1.0).is_err());
    }
}
