//! A pass over labelled pictures without training.

use std::ops::ControlFlow;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::finite::{broken_tensor, is_finite};
use super::metrics::Sums;
use crate::data::{Batch, Loader};
use crate::models::Model;
use crate::nn::{Engine, Mode, Network, Output, Params, Precision};
use crate::ops::{self, CrossEntropyParams, Reduction};
use crate::{Error, Result};

/// What can be trained: something with parameters that makes logits of pictures.
pub trait Trainable {
    /// Runs pictures [N, C, H, W]; in [`Mode::Eval`] without a graph.
    ///
    /// # Errors
    /// Where the pictures do not fit.
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Output>;

    /// The same with activations of this type and f32 logits.
    ///
    /// # Errors
    /// Those of [`Trainable::forward`]; half precision where the model knows only one.
    fn forward_in(&self, x: &Tensor, mode: Mode, precision: Precision) -> Result<Output> {
        match precision {
            Precision::F32 => self.forward(x, mode),
            half => Err(Error::Setting(format!(
                "precision {half}: it is for convzoo's own networks, and this one is none"
            ))),
        }
    }

    /// Its parameters and buffers.
    fn params(&self) -> &Params;

    /// The network behind it, where it is one that an [`Engine`] can run.
    fn network(&self) -> Option<&Network> {
        None
    }
}

impl Trainable for Network {
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Output> {
        Network::forward(self, x, mode)
    }

    fn forward_in(&self, x: &Tensor, mode: Mode, precision: Precision) -> Result<Output> {
        Network::forward_in(self, x, mode, precision)
    }

    fn params(&self) -> &Params {
        Network::params(self)
    }

    fn network(&self) -> Option<&Network> {
        Some(self)
    }
}

impl Trainable for Model {
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Output> {
        self.network.forward(x, mode)
    }

    fn forward_in(&self, x: &Tensor, mode: Mode, precision: Precision) -> Result<Output> {
        self.network.forward_in(x, mode, precision)
    }

    fn params(&self) -> &Params {
        self.network.params()
    }

    fn network(&self) -> Option<&Network> {
        Some(&self.network)
    }
}

/// How each picture is looked at where a network is measured or asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Views {
    /// As it is.
    #[default]
    One,
    /// As it is and mirrored left to right: the mean of both probabilities counts.
    Flip,
}

impl Views {
    /// Logits [N, classes] of pictures [N, C, H, W], by what gives them for one view.
    ///
    /// # Errors
    /// Those of `one`.
    pub fn logits(
        self,
        images: &Tensor,
        one: &mut dyn FnMut(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let logits = one(images)?;
        if self == Views::One {
            return Ok(logits);
        }
        let columns: Vec<u32> = (0..images.dim(3)? as u32).rev().collect();
        let mirrored = images.index_select(&Tensor::new(columns, images.device())?, 3)?;
        let log_p = log_softmax(&logits)?;
        let other = log_softmax(&one(&mirrored)?)?;
        // log (p + q) / 2, whose softmax is that mean again
        let most = log_p.maximum(&other)?;
        let sum = ((log_p - &most)?.exp()? + (other - &most)?.exp()?)?;
        Ok(((sum / 2.0)?.log()? + most)?)
    }
}

fn log_softmax(logits: &Tensor) -> Result<Tensor> {
    Ok(candle_nn::ops::log_softmax(&logits.detach(), candle_core::D::Minus1)?)
}

/// The result of a pass over labelled pictures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Mean cross-entropy, without label smoothing.
    pub loss: f64,
    /// Share of pictures whose class came first.
    pub top1: f64,
    /// Share of pictures whose class was among the first five.
    pub top5: f64,
    /// Pictures seen.
    pub images: u64,
    /// Images that could not be read: they count nowhere else.
    #[serde(default)]
    pub left_out: usize,
    /// Seconds it took, waiting for pictures included.
    pub seconds: f64,
}

impl Evaluation {
    /// Pictures a second.
    pub fn images_per_s(&self) -> f64 {
        per_second(self.images, self.seconds)
    }
}

/// A rate; 0 where no time has passed.
pub(super) fn per_second(images: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { images as f64 / seconds } else { 0.0 }
}

/// Evaluates a network on all pictures of a loader.
///
/// # Errors
/// Where pictures cannot be read or do not fit the network, or what it makes of them is not finite.
pub fn evaluate(network: &impl Trainable, loader: &Loader, device: &Device) -> Result<Evaluation> {
    let start = Instant::now();
    let watch = &mut |_| ControlFlow::Continue(());
    let mut each = |logits: &Tensor, _: &[u32]| check_finite(network, logits);
    let sums = pass(network, loader, device, Views::One, watch, &mut each)?;
    Ok(evaluation(&sums.unwrap_or_default(), loader, start))
}

/// Refuses logits that are not finite: they rank no classes, and no share can be made of them.
///
/// # Errors
/// Names the tensor of the network that is not finite itself, where there is one.
pub(super) fn check_finite(network: &impl Trainable, logits: &Tensor) -> Result<()> {
    if is_finite(logits)? {
        return Ok(());
    }
    let cause = match broken_tensor(network.params())? {
        Some(name) => format!("{name} has values that are not finite"),
        None => "its weights are finite, its activations overflow".to_owned(),
    };
    let found = format!("a network whose outputs are not finite: {cause}");
    Err(Error::op("evaluate", found, "nothing can be measured with it, take other weights"))
}

/// [`evaluate`], calling `watch` with the number of batches done after each; `None` where that
/// broke off.
///
/// # Errors
/// Where pictures cannot be read or do not fit the network.
pub fn evaluate_watched(
    network: &impl Trainable,
    loader: &Loader,
    device: &Device,
    watch: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Option<Evaluation>> {
    let start = Instant::now();
    let sums = pass(network, loader, device, Views::One, watch, &mut |_, _| Ok(()))?;
    Ok(sums.map(|sums| evaluation(&sums, loader, start)))
}

pub(super) fn evaluation(sums: &Sums, loader: &Loader, start: Instant) -> Evaluation {
    Evaluation {
        loss: sums.mean_loss(),
        top1: sums.top1_share(),
        top5: sums.top5_share(),
        images: sums.images,
        left_out: loader.bad_files().len(),
        seconds: start.elapsed().as_secs_f64(),
    }
}

/// Runs all pictures of a loader, and calls `each` with the logits and labels of every batch, then
/// `watch`; `None` where that broke off.
pub(super) fn pass(
    network: &impl Trainable,
    loader: &Loader,
    device: &Device,
    views: Views,
    watch: &mut dyn FnMut(usize) -> ControlFlow<()>,
    each: &mut dyn FnMut(&Tensor, &[u32]) -> Result<()>,
) -> Result<Option<Sums>> {
    let mut sums = Sums::default();
    let entropy = CrossEntropyParams { reduction: Reduction::Sum, ..Default::default() };
    let mut engine = None;
    for batch in loader.epoch(0, 0) {
        let batch = batch?;
        let images = input(network, &batch, device)?;
        if batch.number == 0
            && let Some(network) = network.network()
        {
            let (_, c, h, w) = images.dims4()?;
            engine = Engine::evaluation(network, (c, h, w))?;
        }
        let logits = views.logits(&images, &mut |images| match &mut engine {
            Some(engine) => engine.logits(network.params(), images),
            None => Ok(network.forward(images, Mode::Eval)?.logits),
        })?;
        each(&logits, &batch.labels)?;
        let loss = number(&ops::cross_entropy(&logits, &batch.labels, &entropy)?)?;
        sums.add(&logits, &batch.labels, loss)?;
        if watch(batch.number + 1).is_break() {
            return Ok(None);
        }
    }
    Ok(Some(sums))
}

/// A batch's pictures where the network is, in its type.
///
/// They are uploaded by the thread that computes, from ordinary memory, since candle has no pinned one.
/// A worker cannot do it ahead: candle's CUDA device stands for another stream on every thread, and
/// nothing makes one of them wait for another.
pub(super) fn input(network: &impl Trainable, batch: &Batch, device: &Device) -> Result<Tensor> {
    let of_type =
        network.params().trainable().next().or_else(|| network.params().entries().first());
    let dtype = of_type.map_or(DType::F32, |entry| entry.var.dtype());
    Ok(batch.images.to_device(device)?.to_dtype(dtype)?)
}

/// A scalar's value.
pub(super) fn number(scalar: &Tensor) -> Result<f64> {
    // Cast on the CPU: Apple's GPUs have no f64.
    Ok(scalar.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_scalar()?)
}
