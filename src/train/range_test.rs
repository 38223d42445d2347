//! Which learning rates a network bears: the range test of Smith ("No More Pesky Learning Rate Guessing
//! Games", 2015, section 3.3).

use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::config::TrainConfig;
use super::criterion::losses;
use super::evaluate::{Trainable, input, number};
use super::finite::{Look, broken_gradient, unscale};
use super::held::HeldGradients;
use super::loss_scale::LossScale;
use super::optim::{Optimizer, check};
use crate::data::{Batch, Epoch, Loader, Source};
use crate::nn::{Engine, Mode};
use crate::ops::CrossEntropyParams;
use crate::rng::Rng;
use crate::{Error, Result};

/// Steps of training with a rate that grows from one to the next by the same factor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RangeTest {
    /// The rate of the first step.
    pub from: f64,
    /// The rate of the last step, if the loss does not get out of hand before.
    pub to: f64,
    /// How many.
    pub steps: usize,
}

impl Default for RangeTest {
    /// A hundred steps from 1e-6 to 10.
    fn default() -> Self {
        RangeTest { from: 1e-6, to: 10.0, steps: 100 }
    }
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RangePoint {
    /// Its learning rate.
    pub lr: f64,
    /// Its loss.
    pub loss: f64,
    /// The moving average of the losses so far.
    pub smooth: f64,
}

/// What came of a range test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// The steps, up to where the loss got out of hand.
    pub points: Vec<RangePoint>,
    /// The rate at which the averaged loss fell fastest.
    pub steepest: f64,
    /// The highest rate at which it was still about as low as it got: beyond, training is in danger.
    pub highest: f64,
    /// A tenth of that: a rate to begin with.
    pub suggestion: f64,
}

/// Share of the average that a step keeps.
const KEEP: f64 = 0.95;
/// The test ends where the averaged loss is so many times the lowest.
const OUT_OF_HAND: f64 = 3.0;

impl RangeTest {
    /// Refuses numbers that make no sense.
    fn check(&self) -> Result<()> {
        check("the lowest learning rate", self.from, self.from > 0.0, "above 0")?;
        check("the highest learning rate", self.to, self.to > self.from, "above the lowest")?;
        match self.steps {
            0..10 => Err(Error::Setting(format!("steps: got {}; at least 10", self.steps))),
            _ => Ok(()),
        }
    }

    /// The rate of a step.
    fn lr(&self, step: usize) -> f64 {
        self.from * (self.to / self.from).powf(step as f64 / (self.steps - 1) as f64)
    }

    /// Runs it with all of `config` that changes a step: optimiser and weight decay, clipping and
    /// accumulation (a step then takes several batches), label smoothing, class weights, precision, seed;
    /// mixing is the loader's. Rates, epochs and averaged weights are of no effect: the rate of a layer
    /// keeps its share of the common one. The network has the weights afterwards that it had before.
    /// `watch` is told of every step.
    ///
    /// # Errors
    /// Numbers that make no sense, pictures that cannot be read, or a loss that is not finite from the
    /// beginning.
    pub fn run(
        &self,
        network: &impl Trainable,
        loader: &Loader,
        device: &Device,
        config: &TrainConfig,
        watch: &mut dyn FnMut(&RangePoint),
    ) -> Result<Range> {
        self.check()?;
        config.check()?;
        let params = network.params();
        let before = params.entries().iter().map(|entry| Ok(entry.var.as_tensor().copy()?));
        let before = before.collect::<Result<Vec<_>>>()?;
        let points = self.points(network, loader, device, config, watch);
        for (entry, values) in params.entries().iter().zip(&before) {
            entry.var.set(values)?;
        }
        evaluated(points?)
    }

    fn points(
        &self,
        network: &impl Trainable,
        loader: &Loader,
        device: &Device,
        config: &TrainConfig,
        watch: &mut dyn FnMut(&RangePoint),
    ) -> Result<Vec<RangePoint>> {
        let mut steps = Steps::new(network, device, config)?;
        let (mut points, mut average, mut best) = (Vec::new(), 0.0, f64::INFINITY);
        let mut batches = Batches::new(loader, config.batch_size);
        for step in 0..self.steps {
            let lr = self.lr(step);
            let loss = steps.step(&mut batches, lr)?;
            if !loss.is_finite() {
                break;
            }
            average = KEEP * average + (1.0 - KEEP) * loss;
            let smooth = average / (1.0 - KEEP.powi(step as i32 + 1));
            let point = RangePoint { lr, loss, smooth };
            watch(&point);
            points.push(point);
            if smooth > OUT_OF_HAND * best {
                break;
            }
            best = best.min(smooth);
        }
        Ok(points)
    }
}

/// Share of the lowest average, or of the fall to it, that counts as noise.
const NOISE: f64 = 0.05;

/// Up to where the curve is low, and where it falls fastest.
fn evaluated(points: Vec<RangePoint>) -> Result<Range> {
    // The first averages are of few steps.
    let settled = points.get((points.len() / 10).max(5)..).unwrap_or_default();
    let lowest = settled.iter().map(|point| point.smooth).fold(f64::INFINITY, f64::min);
    let Some(first) = settled.first() else {
        let message = "the loss is out of hand at the lowest rates already; begin lower".to_owned();
        return Err(Error::Training(message));
    };
    let low = lowest + NOISE * lowest.max(first.smooth - lowest);
    let highest = settled.iter().rfind(|point| point.smooth <= low).map_or(first.lr, |p| p.lr);
    let until = settled.iter().take_while(|point| point.lr <= highest).collect::<Vec<_>>();
    let span = (until.len() / 6).max(1) + 1;
    let fall = |part: &&[&RangePoint]| match (part.first(), part.last()) {
        (Some(a), Some(b)) => (b.smooth - a.smooth) / (b.lr / a.lr).ln(),
        _ => 0.0,
    };
    let steepest = until.windows(span).min_by(|a, b| fall(a).total_cmp(&fall(b)));
    let steepest = steepest.map_or(first.lr, |part| part[part.len() / 2].lr);
    Ok(Range { points, steepest, highest, suggestion: highest / 10.0 })
}

/// Training batches without end, epoch after epoch.
struct Batches<'a> {
    loader: &'a Loader,
    epoch: u64,
    left: Epoch,
    /// Whether this epoch has had a batch to learn from.
    any: bool,
    /// Fewest pictures of a batch: a batch norm cannot learn from one that is alone.
    least: usize,
}

impl<'a> Batches<'a> {
    fn new(loader: &'a Loader, batch_size: usize) -> Self {
        Batches { loader, epoch: 0, left: loader.epoch(0, 0), any: false, least: batch_size.min(2) }
    }

    fn next(&mut self) -> Result<Batch> {
        loop {
            match self.left.next().transpose()? {
                Some(batch) if batch.labels.len() >= self.least => {
                    self.any = true;
                    return Ok(batch);
                }
                Some(_) => {}
                None if self.any => {
                    self.epoch += 1;
                    (self.left, self.any) = (self.loader.epoch(self.epoch, 0), false);
                }
                None => {
                    let message = "there is no batch to learn from: too few images can be read";
                    return Err(Error::Training(message.to_owned()));
                }
            }
        }
    }
}

/// Training steps without a run around them.
struct Steps<'a, N> {
    network: &'a N,
    device: &'a Device,
    config: &'a TrainConfig,
    optimizer: Optimizer,
    /// Gradients that wait for a step, where they are not used as they come.
    held: Option<HeldGradients>,
    loss_scale: Option<LossScale>,
    engine: Option<Option<Engine>>,
    /// The loss, but for its labels; made with the first batch.
    entropy: Option<CrossEntropyParams>,
    /// Batches so far.
    batches: u64,
}

impl<'a, N: Trainable> Steps<'a, N> {
    fn new(network: &'a N, device: &'a Device, config: &'a TrainConfig) -> Result<Self> {
        let (rule, decay) = (config.optimizer, config.weight_decay);
        let decay_all = config.decay_norms_and_biases;
        let optimizer = Optimizer::new(network.params(), rule, decay, decay_all)?;
        let held = !config.gradients.is_default();
        Ok(Steps {
            network,
            device,
            config,
            optimizer,
            held: held.then(|| HeldGradients::new(config.gradients)),
            loss_scale: LossScale::of(config.precision),
            engine: None,
            entropy: None,
            batches: 0,
        })
    }

    /// The mean loss of the batches of a step; the weights then go down on it.
    fn step(&mut self, batches: &mut Batches<'_>, lr: f64) -> Result<f64> {
        let wanted = self.config.gradients.accumulate;
        let (mut sum, mut weights) = (0.0, 0.0);
        for _ in 0..wanted {
            let batch = batches.next()?;
            let loss = self.batch(&batch, batches.loader.source(), lr)?;
            if !loss.is_finite() {
                return Ok(loss);
            }
            let weight = if wanted > 1 { batch.labels.len() as f64 } else { 1.0 };
            (sum, weights) = (sum + weight * loss, weights + weight);
        }
        if let Some(held) = self.held.as_mut().filter(|held| !held.is_empty()) {
            held.step(&mut self.optimizer, lr)?;
        }
        Ok(sum / weights)
    }

    /// The loss of a batch, whose gradients are used or held.
    fn batch(&mut self, batch: &Batch, source: &Arc<dyn Source>, lr: f64) -> Result<f64> {
        let params = self.network.params();
        let images = input(self.network, batch, self.device)?;
        let seed = Rng::stream(self.config.seed, "range", &[self.batches]).next_u64();
        self.batches += 1;
        let precision = self.config.precision;
        let output = match self.engine(&images)? {
            Some(engine) => engine.forward(params, &images, seed)?,
            None => self.network.forward_in(&images, Mode::Train { seed }, precision)?,
        };
        let entropy = self.entropy(source, output.logits.dim(1)?)?;
        let (_, total) = losses(&output, &batch.labels, batch.mixed.as_ref(), entropy)?;
        let loss = number(&total)?;
        if !loss.is_finite() {
            return Ok(loss);
        }
        let Some(grads) = self.gradients(&total)? else { return Ok(loss) };
        let pictures = batch.labels.len();
        let (optimizer, engine) = (&mut self.optimizer, self.engine.as_mut());
        match (&mut self.held, engine.and_then(Option::as_mut)) {
            (Some(held), Some(engine)) => {
                engine.backward(params, &grads)?;
                held.add_engine(params, engine, pictures);
            }
            (Some(held), None) => held.add(params, &grads, pictures)?,
            (None, Some(engine)) => {
                engine.backward_into(params, &grads, &mut |entry, at, gradient| {
                    optimizer.step_part(entry, at, gradient, lr)
                })?;
            }
            (None, None) => optimizer.step(&grads, lr)?,
        }
        Ok(loss)
    }

    /// The engine for pictures like these, if the network is one for it.
    fn engine(&mut self, images: &Tensor) -> Result<Option<&mut Engine>> {
        if self.engine.is_none() {
            let (_, c, h, w) = images.dims4()?;
            let half = self.config.precision.half();
            let network = self.network.network().filter(|_| half.is_none());
            let engine = network.map(|network| Engine::training(network, (c, h, w)));
            self.engine = Some(engine.transpose()?.flatten());
        }
        Ok(self.engine.as_mut().and_then(Option::as_mut))
    }

    fn entropy(&mut self, source: &Arc<dyn Source>, classes: usize) -> Result<&CrossEntropyParams> {
        let label_smoothing = self.config.label_smoothing;
        if self.entropy.is_none() {
            let class_weights = self.config.class_weights.of(source.as_ref(), classes)?;
            let entropy =
                CrossEntropyParams { label_smoothing, class_weights, ..Default::default() };
            self.entropy = Some(entropy);
        }
        Ok(self.entropy.get_or_insert_default())
    }

    /// The backward pass of a loss; none where the scale of the loss was too large, and is smaller from
    /// now on.
    fn gradients(&mut self, loss: &Tensor) -> Result<Option<GradStore>> {
        let Some(scale) = &mut self.loss_scale else { return Ok(Some(loss.backward()?)) };
        let params = self.network.params();
        let mut grads = (loss * scale.factor())?.backward()?;
        unscale(params, &mut grads, scale.factor())?;
        if broken_gradient(params, &grads, Look::Always)?.is_some() && scale.overflowed() {
            return Ok(None);
        }
        scale.fitted();
        Ok(Some(grads))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_fall_and_the_steepest_are_found() {
        // Falls as a cosine over the logarithm of the rate, lowest at 0.1, steepest at 0.01.
        let point = |step: usize| {
            let log = -4.0 + step as f64 * 0.05;
            let smooth = 1.0 + ((log + 3.0) / 2.0 * std::f64::consts::PI).cos();
            RangePoint { lr: 10f64.powf(log), loss: smooth, smooth }
        };
        // It begins on the rise.
        let range = evaluated((20..75).map(point).collect()).unwrap();
        assert!((0.1..0.2).contains(&range.highest), "{}", range.highest);
        assert!((range.steepest / 0.01).ln().abs() < 0.3, "{}", range.steepest);
        assert_eq!(range.suggestion, range.highest / 10.0);
        assert!(evaluated(Vec::new()).is_err());
    }

    #[test]
    fn rates_grow_evenly_between_their_ends() {
        let test = RangeTest { from: 1e-4, to: 1.0, steps: 41 };
        assert!((test.lr(0) - 1e-4).abs() < 1e-12 && (test.lr(40) - 1.0).abs() < 1e-12);
        assert!((test.lr(20) - 1e-2).abs() < 1e-12);
        assert!(RangeTest { from: 1.0, ..RangeTest::default() }.check().is_ok());
        assert!(RangeTest { from: 10.0, ..RangeTest::default() }.check().is_err());
        assert!(RangeTest { steps: 3, ..RangeTest::default() }.check().is_err());
    }
}
