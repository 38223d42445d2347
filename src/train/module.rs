//! Any candle model in the loop, not only the zoo's.

use candle_core::{ModuleT, Tensor};
use candle_nn::VarMap;

use super::evaluate::Trainable;
use crate::Result;
use crate::nn::{Mode, Output, Params};

/// A model made of candle's own layers, to be trained by a [`Trainer`](super::Trainer) or evaluated.
///
/// What it knows of the model is its variables, by their names in the `VarMap`. Two things are
/// candle's, and not as in the zoo: its dropout draws from a generator without a seed, so that such a
/// run does not repeat to the bit; its batch norm keeps running statistics outside the `VarMap`, so
/// that they are in no weight file.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{Module, VarBuilder, VarMap};
/// use convzoo::train::{CandleModel, Trainable};
///
/// # fn main() -> convzoo::Result<()> {
/// let vars = VarMap::new();
/// let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
/// let conv = candle_nn::conv2d(3, 4, 3, Default::default(), vb.pp("conv"))?;
/// let fc = candle_nn::linear(4 * 36, 2, vb.pp("fc"))?;
/// let net = candle_nn::func(move |x| fc.forward(&conv.forward(x)?.relu()?.flatten_from(1)?));
///
/// let model = CandleModel::new(net, &vars)?;
/// assert_eq!(model.params().entries()[0].spec.name, "conv.bias");
/// let x = Tensor::zeros((5, 3, 8, 8), DType::F32, &Device::Cpu)?;
/// let logits = Trainable::forward(&model, &x, convzoo::nn::Mode::Eval)?.logits;
/// assert_eq!(logits.dims(), [5, 2]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct CandleModel<M> {
    module: M,
    params: Params,
}

impl<M: ModuleT> CandleModel<M> {
    /// A model and its variables; the model takes pictures [N, C, H, W] and gives logits [N, classes].
    ///
    /// # Errors
    /// Where another thread broke while it held the variables.
    pub fn new(module: M, vars: &VarMap) -> Result<Self> {
        let data = vars.data().lock().map_err(|_| {
            crate::Error::Setting("the model's variables are locked by a thread that broke".into())
        })?;
        let vars = data.iter().map(|(name, var)| (name.clone(), var.clone()));
        Ok(CandleModel { module, params: Params::of_vars(vars) })
    }

    /// The model.
    pub fn module(&self) -> &M {
        &self.module
    }
}

impl<M: ModuleT> Trainable for CandleModel<M> {
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Output> {
        let logits = match mode {
            Mode::Train { .. } => self.module.forward_t(x, true)?,
            Mode::Eval => self.module.forward_t(x, false)?.detach(),
        };
        Ok(Output { logits, aux: Vec::new() })
    }

    fn params(&self) -> &Params {
        &self.params
    }
}
