//! The forward pass: the tree walked with a tensor in hand.

use std::cell::RefCell;

use candle_core::Tensor;

use super::layer::join;
use super::{Layer, Params, Precision};
use crate::ops::{self, AvgPool2dParams, BatchNorm2dParams};
use crate::rng::Rng;
use crate::{Error, Result};

/// What a forward pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics, dropout and auxiliary heads; a graph is kept for the backward pass.
    Train {
        /// Draws the dropout masks; a new one every step.
        seed: u64,
    },
    /// Running statistics, no dropout, no auxiliary heads, no graph.
    Eval,
}

/// What an auxiliary head says, and its loss's weight.
#[derive(Clone, Debug)]
pub struct AuxLogits {
    /// The head's name.
    pub name: String,
    /// [N, classes]
    pub logits: Tensor,
    /// Weight of its loss beside the main one.
    pub weight: f64,
}

/// What a forward pass gives.
#[derive(Clone, Debug)]
pub struct Output {
    /// [N, classes]
    pub logits: Tensor,
    /// In training, one entry for each auxiliary head.
    pub aux: Vec<AuxLogits>,
}

/// Called with the full name and the output of every layer, as soon as it is known; what it returns
/// goes on in the output's place.
pub(super) type Tap<'a> = &'a mut dyn FnMut(&str, &Tensor) -> Result<Option<Tensor>>;

/// One forward pass under way.
pub(super) struct Pass<'a> {
    params: &'a Params,
    mode: Mode,
    precision: Precision,
    aux: RefCell<Vec<AuxLogits>>,
    tap: Option<RefCell<Tap<'a>>>,
}

/// What is left to do at the end of a residual block's body.
struct Tail {
    shortcut: Tensor,
}

impl<'a> Pass<'a> {
    pub(super) fn new(params: &'a Params, mode: Mode, tap: Option<Tap<'a>>) -> Self {
        let (precision, aux) = (Precision::F32, RefCell::default());
        Pass { params, mode, precision, aux, tap: tap.map(RefCell::new) }
    }

    /// The same with activations of this type.
    pub(super) fn with_precision(self, precision: Precision) -> Self {
        Pass { precision, ..self }
    }

    /// Runs the whole tree.
    pub(super) fn run(self, layers: &Layer, x: &Tensor) -> Result<Output> {
        let logits = self.layer(layers, "", &self.precision.narrow(x)?)?;
        Ok(Output { logits: self.precision.widen(&logits)?, aux: self.aux.into_inner() })
    }

    /// The parameter `path.name` as this pass may use it: with a graph only where it is trained.
    fn param(&self, path: &str, name: &str) -> Result<Tensor> {
        let entry = self.params.get(&join(path, name))?;
        match self.mode {
            Mode::Train { .. } if self.params.trains(entry) => Ok(entry.var.as_tensor().clone()),
            _ => Ok(entry.var.as_detached_tensor()),
        }
    }

    /// [`Pass::param`] of a convolution or a linear layer, in the type of the activations.
    fn factor(&self, path: &str, name: &str) -> Result<Tensor> {
        self.precision.narrow(&self.param(path, name)?)
    }

    /// A function of each value, computed in f32.
    fn in_f32(
        &self,
        x: &Tensor,
        f: impl FnOnce(&Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Tensor> {
        self.precision.narrow(&f(&self.precision.widen(x)?)?)
    }

    /// The layer `name` below `path`; a group without a name is not shown to who watches.
    fn child(&self, layer: &Layer, path: &str, name: &str, x: &Tensor) -> Result<Tensor> {
        match name {
            "" => self.untapped(layer, path, x),
            name => self.layer(layer, &join(path, name), x),
        }
    }

    fn layer(&self, layer: &Layer, path: &str, x: &Tensor) -> Result<Tensor> {
        let y = self.untapped(layer, path, x).map_err(|error| match error {
            Error::Layer { .. } => error,
            other => Error::Layer { layer: path.to_owned(), cause: Box::new(other) },
        })?;
        let replaced = match &self.tap {
            Some(tap) => tap.borrow_mut()(path, &y)?,
            None => None,
        };
        Ok(replaced.unwrap_or(y))
    }

    fn untapped(&self, layer: &Layer, path: &str, x: &Tensor) -> Result<Tensor> {
        match layer {
            Layer::Conv2d(conv) => {
                let bias = conv.bias.then(|| self.factor(path, "bias")).transpose()?;
                ops::conv2d(x, &self.factor(path, "weight")?, bias.as_ref(), &conv.params)
            }
            Layer::Linear { .. } => {
                let (weight, bias) = (self.factor(path, "weight")?, self.factor(path, "bias")?);
                ops::linear(x, &weight, Some(&bias))
            }
            Layer::BatchNorm2d { eps, momentum, .. } => {
                self.batch_norm(path, x, *eps, *momentum, None, false)
            }
            Layer::LocalResponseNorm(params) => ops::local_response_norm(x, params),
            Layer::MaxPool2d(params) => ops::max_pool2d(x, params),
            Layer::AvgPool2d(params) => ops::avg_pool2d(x, params),
            Layer::AdaptiveAvgPool2d(size) => ops::adaptive_avg_pool2d(x, *size),
            Layer::PaddedIdentity { inputs, outputs, stride } => {
                // Windows of one pixel: what is between them is left out.
                let kept = ops::avg_pool2d(x, &AvgPool2dParams::new(1, *stride))?;
                let zeros = outputs - inputs;
                Ok(kept.pad_with_zeros(1, zeros / 2, zeros - zeros / 2)?)
            }
            Layer::Relu => ops::relu(x),
            Layer::Sigmoid => self.in_f32(x, candle_nn::ops::sigmoid),
            Layer::Tanh => self.in_f32(x, Tensor::tanh),
            Layer::Dropout(p) => match self.mode {
                Mode::Train { seed } => ops::dropout(x, *p, &mut Rng::stream(seed, path, &[])),
                Mode::Eval => Ok(x.clone()),
            },
            Layer::Flatten => Ok(x.flatten_from(1)?),
            Layer::Sequential(layers) => self.sequential(layers, path, x, None),
            Layer::Branches(layers) => {
                let outputs = layers
                    .iter()
                    .map(|(name, layer)| self.child(layer, path, name, x))
                    .collect::<Result<Vec<_>>>()?;
                Ok(Tensor::cat(&outputs, 1)?)
            }
            Layer::Residual { body, shortcut } => self.residual(body, shortcut.as_deref(), path, x),
            Layer::AuxHead { head, weight } => {
                if matches!(self.mode, Mode::Train { .. }) {
                    let logits = self.precision.widen(&self.layer(head, path, x)?)?;
                    let (name, weight) = (path.to_owned(), *weight);
                    self.aux.borrow_mut().push(AuxLogits { name, logits, weight });
                }
                Ok(x.clone())
            }
        }
    }

    /// Layers in turn. A batch norm takes what can be done in the same pass over memory with it: the
    /// ReLU behind it, and at the end of a residual block the sum.
    fn sequential(
        &self,
        layers: &[(String, Layer)],
        path: &str,
        x: &Tensor,
        tail: Option<&Tail>,
    ) -> Result<Tensor> {
        let fuse = self.tap.is_none(); // whoever watches wants to see every layer's own output
        let mut x = x.clone();
        let mut at = 0;
        while let Some((name, layer)) = layers.get(at) {
            let last = at + 1 == layers.len();
            at += 1;
            x = match layer {
                Layer::BatchNorm2d { eps, momentum, .. } if fuse => {
                    let relu = matches!(layers.get(at), Some((_, Layer::Relu)));
                    at += usize::from(relu);
                    let shortcut = tail.filter(|_| last).map(|tail| &tail.shortcut);
                    let relu = relu || shortcut.is_some();
                    let path = join(path, name);
                    let y = self.batch_norm(&path, &x, *eps, *momentum, shortcut, relu)?;
                    if shortcut.is_some() {
                        return Ok(y);
                    }
                    y
                }
                _ => self.child(layer, path, name, &x)?,
            };
        }
        match tail {
            Some(tail) => ops::add_relu(&x, &tail.shortcut),
            None => Ok(x),
        }
    }

    fn residual(
        &self,
        body: &Layer,
        shortcut: Option<&(String, Layer)>,
        path: &str,
        x: &Tensor,
    ) -> Result<Tensor> {
        let shortcut = match shortcut {
            Some((name, layer)) => self.layer(layer, &join(path, name), x)?,
            None => x.clone(),
        };
        let tail = Tail { shortcut };
        match body {
            Layer::Sequential(layers) => self.sequential(layers, path, x, Some(&tail)),
            other => ops::add_relu(&self.layer(other, path, x)?, &tail.shortcut),
        }
    }

    /// `relu?(norm(x) + residual?)`; in training the running statistics move, but a frozen norm works
    /// as in evaluation: the layers behind it count on its statistics.
    fn batch_norm(
        &self,
        path: &str,
        x: &Tensor,
        eps: f64,
        momentum: f64,
        residual: Option<&Tensor>,
        relu: bool,
    ) -> Result<Tensor> {
        let (weight, bias) = (self.param(path, "weight")?, self.param(path, "bias")?);
        let (weight, bias) = (Some(&weight), Some(&bias));
        let params = BatchNorm2dParams { eps };
        let mean = &self.params.get(&join(path, "running_mean"))?.var;
        let var = &self.params.get(&join(path, "running_var"))?.var;
        let entries =
            [self.params.get(&join(path, "weight"))?, self.params.get(&join(path, "bias"))?];
        let frozen = !entries.iter().any(|entry| self.params.trains(entry));
        if self.mode == Mode::Eval || frozen {
            let (mean, var) = (mean.as_detached_tensor(), var.as_detached_tensor());
            return ops::batch_norm2d_eval(x, weight, bias, &mean, &var, &params, residual, relu);
        }
        let out = ops::batch_norm2d(x, weight, bias, &params, residual, relu)?;
        out.update_running(mean, var, momentum)?;
        let tracked = &self.params.get(&join(path, "num_batches_tracked"))?.var;
        tracked.set(&(tracked.as_detached_tensor() + 1.0)?)?;
        Ok(out.y)
    }
}
