//! The loop: one for every model, data set and device.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};

use super::config::RunConfig;
use super::evaluate::{Evaluation, Trainable, evaluate_watched, input, number, per_second};
use super::metrics::Sums;
use super::observer::{BatchDone, Observer, Started};
use super::optim::Optimizer;
use super::run::{Best, EpochRow, Progress, RunFolder, Summary};
use super::schedule::LearningRate;
use crate::data::{Batch, Loader};
use crate::nn::{Engine, Mode, Output};
use crate::ops::{self, CrossEntropyParams};
use crate::rng::Rng;
use crate::{Error, Result};

/// What a [`Trainer`] works with.
pub struct Job<'a, N> {
    /// What is trained.
    pub network: &'a N,
    /// Training pictures; see [`TrainConfig::train_loader`](super::TrainConfig::train_loader).
    pub train: &'a Loader,
    /// Validation pictures.
    pub val: &'a Loader,
    /// Where the network is.
    pub device: &'a Device,
    /// The settings.
    pub config: &'a RunConfig,
    /// Set from anywhere to stop after the step under way.
    pub stop: &'a AtomicBool,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All epochs are done.
    Finished(Box<Summary>),
    /// It was stopped; its resume state is saved.
    Stopped {
        /// Epochs that are complete.
        epochs: usize,
        /// Batches done of the next one.
        batches: usize,
    },
}

/// Trains a network, and writes the run's folder.
///
/// For each epoch: batches, forward, loss, backward, step; then an evaluation, and the weights and
/// the resume state are saved. What a step computes depends on the settings, the seed and its number
/// alone, so a resumed run gives the same bits.
pub struct Trainer<'a, N> {
    job: Job<'a, N>,
    folder: RunFolder,
    optimizer: Optimizer,
    /// What runs the steps, if it can run the network; asked with the first batch.
    engine: Option<Option<Engine>>,
    rate: LearningRate,
    progress: Progress,
    /// When the resume state was last saved.
    saved: Instant,
    /// Pictures that the observer has been told of.
    reported: BTreeSet<String>,
}

/// What an epoch's training came to.
#[derive(PartialEq)]
enum Went {
    Through,
    Stopped,
}

impl<'a, N: Trainable> Trainer<'a, N> {
    /// A new run in a new folder.
    ///
    /// # Errors
    /// Settings that make no sense; a folder that cannot be written or holds a run already.
    pub fn start(job: Job<'a, N>, folder: &Path) -> Result<Self> {
        let (optimizer, rate) = prepare(&job)?;
        let folder = RunFolder::create(folder, job.config)?;
        let progress = Progress::default();
        folder.write_state(job.network.params(), &optimizer, &progress)?;
        Ok(Self::at(job, folder, optimizer, rate, progress))
    }

    /// Goes on with the run in `folder`: the network takes over the weights of its resume state.
    ///
    /// # Errors
    /// A folder without a run, a resume state that cannot be read, or settings that would make it
    /// another run; the message says which.
    pub fn resume(job: Job<'a, N>, folder: &Path) -> Result<Self> {
        let (mut optimizer, rate) = prepare(&job)?;
        let folder = RunFolder::open(folder)?;
        let differences = job.config.differences(&folder.config()?);
        if !differences.is_empty() {
            let cause = format!("is another run: {}", differences.join("; "));
            return Err(Error::file(folder.path(), cause));
        }
        let progress = folder.read_state(job.network.params(), &mut optimizer)?;
        let epochs = job.config.train.epochs;
        if progress.epoch > epochs || (progress.epoch == epochs && progress.batch > 0) {
            let cause = format!("has done more than {epochs} epochs; ask for more of them");
            return Err(Error::file(folder.path(), cause));
        }
        folder.write_config(job.config)?;
        folder.write_metrics(&progress.rows)?;
        Ok(Self::at(job, folder, optimizer, rate, progress))
    }

    /// A run that stands at `progress`.
    fn at(
        job: Job<'a, N>,
        folder: RunFolder,
        optimizer: Optimizer,
        rate: LearningRate,
        progress: Progress,
    ) -> Self {
        let (saved, reported) = (Instant::now(), BTreeSet::new());
        Trainer { job, folder, optimizer, engine: None, rate, progress, saved, reported }
    }

    /// The run's folder.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// How far the run has come.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Trains to the end, or until stopped.
    ///
    /// # Errors
    /// [`Error::Training`] as soon as the loss is not finite, and whatever keeps pictures from being
    /// read or files from being written. The folder keeps its last whole state.
    pub fn run(mut self, observer: &mut dyn Observer) -> Result<Outcome> {
        observer.started(&Started {
            folder: self.folder.path(),
            epochs: self.epochs(),
            batches: self.job.train.batches(),
            val_batches: self.job.val.batches(),
            done_epochs: self.progress.epoch,
            done_batches: self.progress.batch,
        });
        while self.progress.epoch < self.epochs() {
            if self.stopped() || self.epoch(observer)? == Went::Stopped {
                self.save()?;
                let (epochs, batches) = (self.progress.epoch, self.progress.batch);
                return Ok(Outcome::Stopped { epochs, batches });
            }
        }
        let summary = Summary::new(self.job.config, &self.progress, self.bad_files().len());
        self.folder.write_summary(&summary)?;
        Ok(Outcome::Finished(Box::new(summary)))
    }

    fn epochs(&self) -> usize {
        self.job.config.train.epochs
    }

    fn stopped(&self) -> bool {
        self.job.stop.load(Ordering::Relaxed)
    }

    /// One epoch from where the run stands, with its evaluation and its files.
    fn epoch(&mut self, observer: &mut dyn Observer) -> Result<Went> {
        if self.train_epoch(observer)? == Went::Stopped {
            return Ok(Went::Stopped);
        }
        let (config, evaluated) = (&self.job.config.train, Instant::now());
        let epoch = self.progress.epoch + 1;
        let due = epoch.is_multiple_of(config.eval_every) || epoch == config.epochs;
        let evaluation = match due {
            true => match self.evaluate(observer)? {
                Some(evaluation) => Some(evaluation),
                None => return Ok(Went::Stopped),
            },
            false => None,
        };
        let row = self.row(evaluation.as_ref(), evaluated.elapsed());
        let best = self.complete(row.clone())?;
        self.report_bad_files(observer);
        observer.epoch_done(&row, best);
        Ok(Went::Through)
    }

    /// The training steps that are left of the epoch.
    fn train_epoch(&mut self, observer: &mut dyn Observer) -> Result<Went> {
        let (epoch, first) = (self.progress.epoch as u64, self.progress.batch);
        self.job.network.params().begin_epoch(self.progress.epoch);
        let mut lap = Instant::now();
        for batch in self.job.train.epoch(epoch, first) {
            let report = self.step(&batch?)?;
            self.progress.train_seconds += lap.elapsed().as_secs_f64();
            let (sums, seconds) = (self.progress.sums, self.progress.train_seconds);
            let images_per_s = per_second(sums.images, seconds);
            observer.batch_done(&BatchDone { sums, images_per_s, ..report });
            if self.stopped() {
                return Ok(Went::Stopped);
            }
            if self.saved.elapsed().as_secs_f64() > 60.0 * self.job.config.train.save_minutes {
                self.save()?;
            }
            lap = Instant::now();
        }
        if self.progress.sums.images == 0 {
            let message = format!("epoch {} had no picture that could be read", epoch + 1);
            return Err(Error::Training(message));
        }
        Ok(Went::Through)
    }

    /// Forward, backward, and a step of the optimiser.
    fn step(&mut self, batch: &Batch) -> Result<BatchDone> {
        let config = &self.job.config.train;
        let batches = self.job.train.batches();
        let step = (self.progress.epoch * batches + batch.number) as u64;
        let lr = self.rate.at(step);
        let seed = Rng::stream(config.seed, "step", &[step]).next_u64();
        let images = input(self.job.network, batch, self.job.device)?;
        let params = self.job.network.params();
        let output = match self.engine(&images)? {
            Some(engine) => engine.forward(params, &images, seed)?,
            None => self.job.network.forward(&images, Mode::Train { seed })?,
        };
        let (main, total) = losses(&output, &batch.labels, config.label_smoothing)?;
        let (main, loss) = (number(&main)?, number(&total)?);
        let (epoch, batch_number) = (self.progress.epoch + 1, batch.number + 1);
        if !loss.is_finite() {
            let at = format!("step {step} (epoch {epoch}, batch {batch_number})");
            return Err(self.diverged(&format!("the loss is {loss} at {at}, learning rate {lr}")));
        }
        let grads = total.backward()?;
        match self.engine.as_mut().and_then(Option::as_mut) {
            Some(engine) => {
                let optimizer = &mut self.optimizer;
                engine.backward_into(params, &grads, &mut |entry, at, gradient| {
                    optimizer.step_part(entry, at, gradient, lr)
                })?;
            }
            None => self.optimizer.step(&grads, lr)?,
        }
        let progress = &mut self.progress;
        progress.sums.add(&output.logits, &batch.labels, main * batch.labels.len() as f64)?;
        progress.batch = batch_number;
        Ok(BatchDone {
            epoch,
            batch: batch_number,
            batches,
            step,
            lr,
            loss,
            sums: Sums::default(),
            images_per_s: 0.0,
        })
    }

    /// The engine for pictures like these, if the network is one for it.
    fn engine(&mut self, images: &Tensor) -> Result<Option<&mut Engine>> {
        if self.engine.is_none() {
            let (_, c, h, w) = images.dims4()?;
            let network = self.job.network.network();
            let engine = network.map(|network| Engine::training(network, (c, h, w)));
            self.engine = Some(engine.transpose()?.flatten());
        }
        Ok(self.engine.as_mut().and_then(Option::as_mut))
    }

    /// `None` where it was stopped.
    fn evaluate(&self, observer: &mut dyn Observer) -> Result<Option<Evaluation>> {
        let Job { network, val, device, .. } = self.job;
        let batches = val.batches();
        let evaluation = evaluate_watched(network, val, device, &mut |done| {
            observer.evaluated(done, batches);
            if self.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        match evaluation {
            Some(Evaluation { images: 0, .. }) => {
                Err(Error::Training("no validation picture could be read".to_owned()))
            }
            Some(Evaluation { loss, .. }) if !loss.is_finite() => {
                let epoch = self.progress.epoch + 1;
                Err(self.diverged(&format!("the validation loss is {loss} after epoch {epoch}")))
            }
            other => Ok(other),
        }
    }

    fn row(&self, evaluation: Option<&Evaluation>, after_training: Duration) -> EpochRow {
        let Progress { epoch, sums, train_seconds, .. } = self.progress;
        let last_step = (epoch + 1) * self.job.train.batches() - 1;
        EpochRow {
            epoch: epoch + 1,
            lr: self.rate.at(last_step as u64),
            train_loss: sums.mean_loss(),
            train_top1: sums.top1_share(),
            val_loss: evaluation.map(|e| e.loss),
            val_top1: evaluation.map(|e| e.top1),
            val_top5: evaluation.map(|e| e.top5),
            images: sums.images,
            train_seconds,
            seconds: train_seconds + after_training.as_secs_f64(),
        }
    }

    /// Takes a complete epoch down; true where it is the best so far.
    fn complete(&mut self, row: EpochRow) -> Result<bool> {
        let candidate = match (row.val_top1, row.val_loss) {
            (Some(top1), Some(loss)) => Some(Best { epoch: row.epoch, top1, loss }),
            _ => None,
        };
        let before = self.progress.best;
        let better = candidate.filter(|new| before.is_none_or(|old| beats(new, &old)));
        let top1 = row.val_top1;
        self.check_finite()?;
        let (params, config) = (self.job.network.params(), self.job.config);
        self.folder.write_weights("last.safetensors", params, config, top1)?;
        if better.is_some() {
            self.folder.write_weights("best.safetensors", params, config, top1)?;
        }
        let progress = &mut self.progress;
        progress.best = better.or(before);
        progress.rows.push(row);
        let (epoch, rows) = (progress.epoch + 1, std::mem::take(&mut progress.rows));
        let best = progress.best;
        *progress = Progress { epoch, rows, best, ..Progress::default() };
        self.save()?;
        self.folder.write_metrics(&self.progress.rows)?;
        Ok(better.is_some())
    }

    fn save(&mut self) -> Result<()> {
        self.check_finite()?;
        self.folder.write_state(self.job.network.params(), &self.optimizer, &self.progress)?;
        self.saved = Instant::now();
        Ok(())
    }

    /// Weights that are not finite must not replace good ones.
    fn check_finite(&self) -> Result<()> {
        for entry in self.job.network.params().trainable() {
            // A sum shows a NaN, which a maximum may pass over.
            if !number(&entry.var.as_detached_tensor().abs()?.sum_all()?)?.is_finite() {
                let epoch = self.progress.epoch + 1;
                let name = &entry.spec.name;
                return Err(self.diverged(&format!("{name} is not finite in epoch {epoch}")));
            }
        }
        Ok(())
    }

    fn diverged(&self, what: &str) -> Error {
        let kept = match self.progress.epoch {
            0 => "no epoch was complete yet".to_owned(),
            n => {
                let path = self.folder.file("last.safetensors");
                format!("the weights of epoch {n} are in {}", path.display())
            }
        };
        Error::Training(format!(
            "{what}; try a lower learning rate, a longer warm-up or another seed; {kept}"
        ))
    }

    fn bad_files(&self) -> Vec<(String, String)> {
        [self.job.train.bad_files(), self.job.val.bad_files()].concat()
    }

    /// Names every picture that could not be read, once.
    fn report_bad_files(&mut self, observer: &mut dyn Observer) {
        for (name, why) in self.bad_files() {
            let text = if why.contains(&name) { why } else { format!("{name}: {why}") };
            if self.reported.insert(name) {
                observer.message(&format!("left out: {text}"));
            }
        }
    }
}

/// Checks the settings and makes what follows from them.
fn prepare<N: Trainable>(job: &Job<'_, N>) -> Result<(Optimizer, LearningRate)> {
    let config = &job.config.train;
    config.check()?;
    let decay_all = config.decay_norms_and_biases;
    let params = job.network.params();
    let optimizer = Optimizer::new(params, config.optimizer, config.weight_decay, decay_all)?;
    Ok((optimizer, config.learning_rate(job.train.batches())))
}

/// The loss of the main logits, and with the weighted losses of auxiliary heads.
pub(crate) fn losses(
    output: &Output,
    labels: &[u32],
    label_smoothing: f64,
) -> Result<(Tensor, Tensor)> {
    let entropy = CrossEntropyParams { label_smoothing, ..Default::default() };
    let main = ops::cross_entropy(&output.logits, labels, &entropy)?;
    let mut total = main.clone();
    for aux in &output.aux {
        let side = ops::cross_entropy(&aux.logits, labels, &entropy)?;
        total = (total + (side * aux.weight)?)?;
    }
    Ok((main, total))
}

/// Higher top-1, or the same with a lower loss.
fn beats(new: &Best, old: &Best) -> bool {
    new.top1 > old.top1 || (new.top1 == old.top1 && new.loss < old.loss)
}
