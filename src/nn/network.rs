//! A tree with weights: what is trained and what predicts.

use candle_core::{DType, Device, Tensor, Var};

use super::forward::Pass;
use super::{Init, Layer, Mode, Output, Params, Precision};
use crate::{Error, Result};

/// An architecture with its parameters.
#[derive(Clone, Debug)]
pub struct Network {
    layers: Layer,
    params: Params,
}

impl Network {
    /// A network with fresh weights drawn from `seed`.
    ///
    /// # Errors
    /// Where the device cannot hold its parameters.
    pub fn new(
        layers: Layer,
        init: &Init,
        seed: u64,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let params = Params::new(&layers, init, seed, dtype, device)?;
        Ok(Network { layers, params })
    }

    /// The architecture.
    pub fn layers(&self) -> &Layer {
        &self.layers
    }

    /// The parameters and buffers.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The parameters, to freeze some.
    pub fn params_mut(&mut self) -> &mut Params {
        &mut self.params
    }

    /// Runs pictures [N, C, H, W] through the network.
    ///
    /// # Errors
    /// Names the layer that its input does not fit.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Output> {
        Pass::new(&self.params, mode, None).run(&self.layers, x)
    }

    /// [`Network::forward`] with activations of this type; the parameters keep theirs, and logits are
    /// f32.
    ///
    /// # Errors
    /// Names the layer that its input does not fit.
    pub fn forward_in(&self, x: &Tensor, mode: Mode, precision: Precision) -> Result<Output> {
        Pass::new(&self.params, mode, None).with_precision(precision).run(&self.layers, x)
    }

    /// [`Network::forward_in`] through a part of the tree, as [`Layer::split_at`] gives it.
    ///
    /// # Errors
    /// Names the layer that its input does not fit.
    pub fn forward_part(
        &self,
        part: &Layer,
        x: &Tensor,
        mode: Mode,
        precision: Precision,
    ) -> Result<Output> {
        Pass::new(&self.params, mode, None).with_precision(precision).run(part, x)
    }

    /// Logits [N, classes] in evaluation mode, without a graph.
    ///
    /// # Errors
    /// Names the layer that its input does not fit.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.forward(x, Mode::Eval)?.logits)
    }

    /// [`Network::forward`], showing every layer's output under its full name as it goes.
    ///
    /// # Errors
    /// Names the layer that its input does not fit.
    pub fn forward_watched(
        &self,
        x: &Tensor,
        mode: Mode,
        watch: &mut dyn FnMut(&str, &Tensor),
    ) -> Result<Output> {
        self.forward_watched_in(x, mode, Precision::F32, watch)
    }

    /// [`Network::forward_watched`] with activations of this type.
    ///
    /// # Errors
    /// Names the layer that its input does not fit.
    pub fn forward_watched_in(
        &self,
        x: &Tensor,
        mode: Mode,
        precision: Precision,
        watch: &mut dyn FnMut(&str, &Tensor),
    ) -> Result<Output> {
        let mut tap = |path: &str, y: &Tensor| {
            watch(path, y);
            Ok(None)
        };
        let pass = Pass::new(&self.params, mode, Some(&mut tap)).with_precision(precision);
        pass.run(&self.layers, x)
    }

    /// The output of the layer called `layer`, as a variable, and the logits that follow from it: the
    /// graph of an evaluation that begins there. `logits.backward()` knows the variable's gradient.
    ///
    /// # Errors
    /// Where there is no such layer, none that an evaluation runs, or the pictures do not fit.
    pub fn forward_from(&self, layer: &str, x: &Tensor) -> Result<(Var, Tensor)> {
        let mut found = None;
        let mut tap = |path: &str, y: &Tensor| {
            if path != layer {
                return Ok(None);
            }
            let var = Var::from_tensor(&y.detach())?;
            let y = var.as_tensor().clone();
            found = Some(var);
            Ok(Some(y))
        };
        let output = Pass::new(&self.params, Mode::Eval, Some(&mut tap)).run(&self.layers, x)?;
        let var = found.ok_or_else(|| self.no_layer(layer))?;
        Ok((var, output.logits))
    }

    /// Says that an evaluation runs no layer of this name, and which ones it does.
    pub(crate) fn no_layer(&self, layer: &str) -> Error {
        let names: Vec<_> = self.layers.children().iter().map(|(name, _)| *name).collect();
        let message = format!(
            "the network has no layer {layer} that an evaluation runs; its outermost ones are {}, \
             and convzoo summary shows all",
            names.join(", ")
        );
        Error::Setting(message)
    }
}

/// So that a network fits wherever candle takes a module: evaluation mode.
impl candle_core::Module for Network {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        Ok(self.logits(x)?)
    }
}
