//! The loop: one for every model, data set and device.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};

use super::checkpoint::{self, Groups, State};
use super::config::{RunConfig, TrainConfig};
use super::criterion::losses;
use super::ema::Ema;
use super::evaluate::{Evaluation, Trainable, evaluate_watched, input, number, per_second};
use super::finite::{self, Look, OnNan, Statistics, all_finite};
use super::held::HeldGradients;
use super::lock::RunLock;
use super::loss_scale::LossScale;
use super::metrics::Sums;
use super::observer::{BatchDone, Observer, Started};
use super::optim::Optimizer;
use super::readings::{self, Readings};
use super::run::{Best, EpochRow, Progress, RunFolder, Summary};
use super::same;
use super::schedule::LearningRate;
use crate::data::{Batch, Loader, Mixed};
use crate::machine::PeakMemory;
use crate::nn::{Engine, Mode, Params, Precision};
use crate::ops::{self, CrossEntropyParams};
use crate::rng::Rng;
use crate::weights::{Sketch, TrainedOn};
use crate::{Error, Result, files};

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
///
/// On a CPU the loss of a step is known when the step is done. On a GPU, losses and counts stay there
/// for 50 steps, or until the epoch ends or the state is saved, and the observer is told of these steps
/// together: a loss that is not finite ends the run then, before anything is saved. Two settings need
/// to know more at every step, which makes the program wait for the GPU: [`OnNan::Skip`] all of it,
/// f16 whether the gradients are finite.
pub struct Trainer<'a, N> {
    job: Job<'a, N>,
    folder: RunFolder,
    lock: Arc<RunLock>,
    optimizer: Optimizer,
    /// The loss, but for its labels.
    entropy: CrossEntropyParams,
    /// Gradients that wait for a step, where they are not used as they come.
    held: Option<HeldGradients>,
    /// Averaged weights, where they are asked for.
    ema: Option<Ema>,
    /// What runs the steps, if it can run the network; asked with the first batch.
    engine: Option<Option<Engine>>,
    rate: LearningRate,
    progress: Progress,
    /// Steps after which what they measured is read, where they wait for it.
    read_every: Option<usize>,
    readings: Readings,
    /// The learning rate of the last step.
    lr: f64,
    /// When the resume state was last saved.
    saved: Instant,
    /// Pictures that the observer has been told of.
    reported: BTreeSet<String>,
    /// What the observer is to be told at the start.
    notes: Vec<String>,
    memory: Option<PeakMemory>,
    /// What the weight files say about the training images.
    trained_on: TrainedOn,
}

/// What an epoch's training came to.
#[derive(PartialEq)]
enum Went {
    Through,
    Stopped,
}

/// What came of a step.
enum Tried {
    Done {
        loss: f64,
    },
    /// What it came to is still on the device, see [`readings::row`].
    Later {
        row: Tensor,
    },
    /// Parameters are as they were, or the run must end.
    NotFinite {
        what: String,
        loss: f64,
    },
}

impl<'a, N: Trainable> Trainer<'a, N> {
    /// A new run in a new folder.
    ///
    /// # Errors
    /// Settings that make no sense; a folder that cannot be written, holds a run already, or is one
    /// that another process writes to.
    pub fn start(job: Job<'a, N>, folder: &Path) -> Result<Self> {
        let made = prepare(&job)?;
        let folder = RunFolder::create(folder)?;
        let lock = RunLock::take(folder.path())?;
        folder.claim()?;
        let loss_scale = LossScale::of(job.config.train.precision);
        let progress = Progress { loss_scale, ..Progress::default() };
        let mut trainer = Self::at(job, folder, lock, made, progress);
        trainer.save()?;
        trainer.folder.write_config(trainer.job.config)?;
        Ok(trainer)
    }

    /// Goes on with the run in `folder`: the network takes over the weights of its resume state.
    ///
    /// # Errors
    /// A folder without a run, or one that another process writes to; a resume state that cannot be
    /// read, pictures that have changed, or settings that would make it another run; the message says
    /// which.
    pub fn resume(job: Job<'a, N>, folder: &Path) -> Result<Self> {
        Self::go_on(job, folder, false)
    }

    /// [`Trainer::resume`] where the pictures may have changed since the run was begun, in number too.
    ///
    /// # Errors
    /// Those of [`Trainer::resume`], but for the pictures.
    pub fn resume_with_changed_data(job: Job<'a, N>, folder: &Path) -> Result<Self> {
        Self::go_on(job, folder, true)
    }

    fn go_on(job: Job<'a, N>, folder: &Path, changed_data: bool) -> Result<Self> {
        let mut made = prepare(&job)?;
        let folder = RunFolder::open(folder)?;
        let lock = RunLock::take(folder.path())?;
        let mut notes = same::check(&folder, job.config, changed_data)?;
        let mut state = checkpoint::read(&folder)?;
        let settings = state.settings.as_ref();
        notes.extend(same::check_state(&folder, settings, job.config, changed_data)?);
        restore(&mut state, &job, &mut made)
            .map_err(|error| Error::file(folder.path(), format!("its resume state: {error}")))?;
        let (progress, note) = (state.progress, state.note);
        let epochs = job.config.train.epochs;
        if progress.epoch > epochs || (progress.epoch == epochs && progress.batch > 0) {
            let cause = format!("has done more than {epochs} epochs; ask for more of them");
            return Err(Error::file(folder.path(), cause));
        }
        let mut trainer = Self::at(job, folder, lock, made, progress);
        trainer.notes.extend(note.into_iter().chain(notes));
        trainer.catch_up()?;
        Ok(trainer)
    }

    /// A run that stands at `progress`.
    fn at(
        job: Job<'a, N>,
        folder: RunFolder,
        lock: RunLock,
        made: Made,
        progress: Progress,
    ) -> Self {
        let (saved, reported) = (Instant::now(), progress.left_out.clone());
        let notes = lock.note().into_iter().chain(slow_precision(&job)).collect();
        let lock = Arc::new(lock);
        let waits = !job.device.is_cpu() && job.config.train.on_nan != OnNan::Skip;
        let (read_every, readings) = (waits.then_some(readings::EVERY), Readings::default());
        let Made { optimizer, rate, entropy, held, ema } = made;
        let (engine, lr, memory) = (None, 0.0, PeakMemory::watch());
        let trained_on = job.config.data.trained_on(Sketch::of(job.train.source().as_ref()));
        Trainer {
            job,
            folder,
            lock,
            optimizer,
            entropy,
            held,
            ema,
            engine,
            rate,
            progress,
            read_every,
            readings,
            lr,
            saved,
            reported,
            notes,
            memory,
            trained_on,
        }
    }

    /// Makes the files of a run that goes on what its state says: one that was killed may not have
    /// come to write them.
    fn catch_up(&mut self) -> Result<()> {
        let parts = files::remove_parts(self.folder.path())?;
        if parts > 0 {
            let text = format!("deleted {parts} file{} left half written", plural(parts));
            self.notes.push(text);
        }
        self.notes.extend(self.folder.other_metrics(&self.progress.rows));
        let saved = self.folder.config()?;
        if saved.data.identity != self.job.config.data.identity {
            self.save()?; // or the state would be that of other pictures than config.json says
        }
        self.folder.write_config(&self.job.config.going_on_with(&saved))?;
        self.write_epoch()
    }

    /// The right to write the run's folder, for whoever has more to write there when the trainer is
    /// done.
    pub fn lock(&self) -> Arc<RunLock> {
        self.lock.clone()
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
        self.notes.drain(..).for_each(|note| observer.message(&note));
        while self.progress.epoch < self.epochs() && !self.is_tired() {
            if self.stopped() || self.epoch(observer)? == Went::Stopped {
                self.save()?;
                let (epochs, batches) = (self.progress.epoch, self.progress.batch);
                return Ok(Outcome::Stopped { epochs, batches });
            }
        }
        if let Some(patience) = self.job.config.train.patience.filter(|_| self.is_tired()) {
            let (epoch, epochs) = (self.progress.epoch, self.epochs());
            observer.message(&format!(
                "ends after epoch {epoch} of {epochs}: {patience} evaluation{} without better weights",
                plural(patience)
            ));
        }
        let mut summary = Summary::new(self.job.config, &self.progress);
        summary.val_images -= self.job.val.bad_files().len().min(summary.val_images);
        self.lock.check()?;
        self.folder.write_summary(&summary)?;
        Ok(Outcome::Finished(Box::new(summary)))
    }

    fn epochs(&self) -> usize {
        self.job.config.train.epochs
    }

    /// Whether nothing has got better for as many evaluations as are borne.
    fn is_tired(&self) -> bool {
        let Progress { rows, best, best_ema, .. } = &self.progress;
        let Some(patience) = self.job.config.train.patience else { return false };
        let best = best.iter().chain(best_ema).map(|best| best.epoch).max();
        let since = rows.iter().filter(|row| row.val_loss.is_some() && Some(row.epoch) > best);
        since.count() >= patience
    }

    /// The learning rate of step `step`.
    fn lr_at(&self, step: u64) -> f64 {
        self.rate.after(step, self.progress.rows.iter().filter_map(|row| row.val_loss))
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
        let (mut evaluation, mut averaged) = (None, None);
        if due {
            evaluation = self.evaluate(observer)?;
            if evaluation.is_some() {
                averaged = self.evaluate_averaged(observer)?;
            }
            if evaluation.is_none() || averaged.is_some() != self.ema.is_some() {
                return Ok(Went::Stopped);
            }
        }
        let row = self.row(evaluation, averaged, evaluated.elapsed());
        self.report_bad_files(observer);
        let best = self.complete(row.clone())?;
        observer.epoch_done(&row, best);
        Ok(Went::Through)
    }

    /// The training steps that are left of the epoch.
    fn train_epoch(&mut self, observer: &mut dyn Observer) -> Result<Went> {
        let (epoch, first) = (self.progress.epoch as u64, self.progress.batch);
        self.job.network.params().begin_epoch(self.progress.epoch);
        let mut lap = Instant::now();
        for batch in self.job.train.epoch(epoch, first) {
            self.progress.wait_seconds += lap.elapsed().as_secs_f64();
            let report = self.step(&batch?, observer)?;
            self.progress.train_seconds += lap.elapsed().as_secs_f64();
            match report {
                Some(report) => self.tell(report, self.progress.sums, observer),
                None if Some(self.readings.len()) >= self.read_every => self.read(observer)?,
                None => {}
            }
            if self.between_steps(observer)? == Went::Stopped {
                return Ok(Went::Stopped);
            }
            lap = Instant::now();
        }
        self.use_held()?;
        self.read(observer)?;
        if self.progress.sums.images == 0 {
            let message = match self.progress.skipped_steps {
                0 => format!(
                    "epoch {} had nothing to learn from: no batch of two images or more could be read",
                    epoch + 1
                ),
                n => format!("every step of epoch {} was skipped, {n} in all", epoch + 1),
            };
            return Err(Error::Training(message));
        }
        Ok(Went::Through)
    }

    /// Stops where that is asked for, and saves where the last state is old.
    fn between_steps(&mut self, observer: &mut dyn Observer) -> Result<Went> {
        // What is held is in no resume state: stop and save when it has been used.
        if self.held.as_ref().is_some_and(|held| !held.is_empty()) {
            return Ok(Went::Through);
        }
        let old = self.saved.elapsed().as_secs_f64() > 60.0 * self.job.config.train.save_minutes;
        let stopped = self.stopped();
        if old || stopped {
            self.read(observer)?;
        }
        match (stopped, old) {
            (true, _) => return Ok(Went::Stopped),
            (false, true) => self.save()?,
            (false, false) => {}
        }
        Ok(Went::Through)
    }

    /// Tells of a step, after which the epoch has come to `sums`.
    fn tell(&self, report: BatchDone, sums: Sums, observer: &mut dyn Observer) {
        let images_per_s = per_second(self.progress.sums.images, self.progress.train_seconds);
        observer.batch_done(&BatchDone { sums, images_per_s, ..report });
    }

    /// Reads what the steps since the last reading came to, and tells of them.
    fn read(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let (before, asked) = (self.progress.sums, Instant::now());
        let steps = self.readings.read()?;
        if let Some(bad) = steps.iter().find(|step| !step.report.loss.is_finite()) {
            let BatchDone { loss, step, epoch, batch, lr, .. } = bad.report;
            let what = format!("the loss is {loss} at step {step} (epoch {epoch}, batch {batch})");
            return Err(self.diverged(&what, lr));
        }
        // Steps that were still being computed have been waited for.
        self.progress.train_seconds += asked.elapsed().as_secs_f64();
        steps.iter().for_each(|step| self.progress.sums.join(&step.sums));
        let mut sums = before;
        for step in steps {
            sums.join(&step.sums);
            self.tell(step.report, sums, observer);
        }
        Ok(())
    }

    /// One step. One whose numbers are not finite ends the run, or is skipped. None where what it came
    /// to waits to be read.
    fn step(&mut self, batch: &Batch, observer: &mut dyn Observer) -> Result<Option<BatchDone>> {
        let config = &self.job.config.train;
        let batches = self.job.train.batches();
        let step = (self.progress.epoch * batches + batch.number) as u64;
        let lr = self.lr_at(step);
        self.lr = lr;
        let seed = Rng::stream(config.seed, "step", &[step]).next_u64();
        let images = input(self.job.network, batch, self.job.device)?;
        let params = self.job.network.params();
        let (epoch, batch_number) = (self.progress.epoch + 1, batch.number + 1);
        let skip = config.on_nan == OnNan::Skip;
        let statistics = skip.then(|| Statistics::of(params)).transpose()?;
        let (mut loss, mut waiting) = (f64::NAN, None);
        match self.try_step(batch, &images, lr, seed)? {
            Tried::Done { loss: known } => loss = known,
            Tried::Later { row } => waiting = Some(row),
            Tried::NotFinite { what, loss: known } => {
                let mut what =
                    format!("{what} at step {step} (epoch {epoch}, batch {batch_number})");
                let broken = finite::broken_trained(params)?.is_some();
                let statistics = statistics.filter(|_| !broken);
                let skipped = self.progress.skipped_steps + 1;
                let told = statistics.is_none() || skipped.is_power_of_two();
                if told && !known.is_finite() {
                    let precision = config.precision;
                    let origin = finite::origin(self.job.network, &images, seed, precision)?;
                    what += &format!("; {origin}");
                }
                let Some(statistics) = statistics else {
                    return Err(self.diverged(&what, lr));
                };
                statistics.restore(params)?;
                self.progress.skipped_steps = skipped;
                if told {
                    observer.message(&format!("skipped, {skipped} so far: {what}"));
                }
                loss = known;
            }
        }
        if self.held.as_ref().is_some_and(HeldGradients::is_full) {
            self.use_held()?;
        }
        self.progress.batch = batch_number;
        let report = BatchDone {
            epoch,
            batch: batch_number,
            batches,
            step,
            lr,
            loss,
            sums: Sums::default(),
            images_per_s: 0.0,
        };
        let Some(row) = waiting else { return Ok(Some(report)) };
        self.readings.push(report, batch.labels.len(), row);
        Ok(None)
    }

    /// Forward, backward, and a step of the optimiser; no parameter changes by a gradient that is not
    /// finite.
    fn try_step(&mut self, batch: &Batch, images: &Tensor, lr: f64, seed: u64) -> Result<Tried> {
        let params = self.job.network.params();
        let output = match self.engine(images)? {
            Some(engine) => engine.forward(params, images, seed)?,
            None => {
                let precision = self.job.config.train.precision;
                self.job.network.forward_in(images, Mode::Train { seed }, precision)?
            }
        };
        let mixed = batch.mixed.as_ref();
        let (main, total) = losses(&output, &batch.labels, mixed, &self.entropy)?;
        let right = mixed.map_or(&batch.labels[..], |mixed: &Mixed| mixed.dominant(&batch.labels));
        if self.read_every.is_some() {
            let row = readings::row(&main, &total, &output.logits, right)?;
            let bad = self.descend(&total, lr, right.len())?;
            return Ok(match bad {
                Some(what) => Tried::NotFinite { what, loss: number(&total)? },
                None => Tried::Later { row },
            });
        }
        let (main, loss) = (number(&main)?, number(&total)?);
        if !loss.is_finite() {
            return Ok(Tried::NotFinite { what: format!("the loss is {loss}"), loss });
        }
        if let Some(what) = self.descend(&total, lr, right.len())? {
            return Ok(Tried::NotFinite { what, loss });
        }
        let sums = &mut self.progress.sums;
        sums.add(&output.logits, right, main * right.len() as f64)?;
        Ok(Tried::Done { loss })
    }

    /// The backward pass of a loss, and the step that follows from it; what is not finite, if anything
    /// is that the loss's scale is not to blame for.
    fn descend(&mut self, loss: &Tensor, lr: f64, pictures: usize) -> Result<Option<String>> {
        let params = self.job.network.params();
        let grads = match &self.progress.loss_scale {
            None => loss.backward()?,
            Some(scale) => {
                let mut grads = (loss * scale.factor())?.backward()?;
                finite::unscale(params, &mut grads, scale.factor())?;
                grads
            }
        };
        let bad = self.update(&grads, lr, pictures)?;
        let left_out = match (&mut self.progress.loss_scale, bad) {
            (Some(scale), Some(_)) => scale.overflowed(),
            (Some(scale), None) => {
                scale.fitted();
                false
            }
            (None, _) => false,
        };
        let bad = bad.filter(|_| !left_out).map(|place| &params.entries()[place].spec.name);
        Ok(bad.map(|name| format!("the gradient of {name} is not finite")))
    }

    /// When gradients are looked at.
    fn look(&self) -> Look {
        let TrainConfig { on_nan, precision, .. } = self.job.config.train;
        let always = on_nan == OnNan::Skip || precision == Precision::F16;
        if always { Look::Always } else { Look::Cheap }
    }

    /// The backward pass of the engine, if there is one, and the optimiser's step, if it is due; the
    /// place of a parameter whose gradient is not finite, if there is one, which changes nothing.
    /// Where steps may be skipped, no other gradient has either.
    fn update(&mut self, grads: &GradStore, lr: f64, pictures: usize) -> Result<Option<usize>> {
        if self.held.is_some() {
            return self.hold(grads, pictures);
        }
        let bad = self.update_at_once(grads, lr)?;
        if let (None, Some(ema)) = (bad, &mut self.ema) {
            ema.update(self.job.network.params())?;
        }
        Ok(bad)
    }

    fn update_at_once(&mut self, grads: &GradStore, lr: f64) -> Result<Option<usize>> {
        let look = self.look();
        let (params, optimizer) = (self.job.network.params(), &mut self.optimizer);
        let Some(engine) = self.engine.as_mut().and_then(Option::as_mut) else {
            let bad = finite::broken_gradient(params, grads, look)?;
            if bad.is_none() {
                optimizer.step(grads, lr)?;
            }
            return Ok(bad);
        };
        if self.job.config.train.on_nan == OnNan::Skip {
            engine.backward(params, grads)?;
            if let Some(bad) = broken_in(engine, params) {
                return Ok(Some(bad));
            }
            for entry in 0..params.entries().len() {
                if let Some(gradient) = engine.gradient(entry) {
                    optimizer.step_one(entry, gradient, lr)?;
                }
            }
            return Ok(None);
        }
        let mut bad = None;
        let done = engine.backward_into(params, grads, &mut |entry, at, gradient| {
            if !all_finite(gradient) {
                bad = Some(entry);
                return Err(Error::Training("a gradient is not finite".to_owned()));
            }
            optimizer.step_part(entry, at, gradient, lr)
        });
        match bad {
            Some(entry) => Ok(Some(entry)),
            None => done.map(|()| None),
        }
    }

    /// The backward pass, and its gradients to those that wait, if all are finite.
    fn hold(&mut self, grads: &GradStore, pictures: usize) -> Result<Option<usize>> {
        let look = self.look();
        let (params, held) = (self.job.network.params(), self.held.as_mut());
        let engine = self.engine.as_mut().and_then(Option::as_mut);
        let bad = match engine {
            Some(engine) => {
                engine.backward(params, grads)?;
                let bad = broken_in(engine, params);
                if let (None, Some(held)) = (bad, held) {
                    held.add_engine(params, engine, pictures);
                }
                bad
            }
            None => {
                let bad = finite::broken_gradient(params, grads, look)?;
                if let (None, Some(held)) = (bad, held) {
                    held.add(params, grads, pictures)?;
                }
                bad
            }
        };
        Ok(bad)
    }

    /// A step with the gradients that wait, if there are any.
    fn use_held(&mut self) -> Result<()> {
        let Some(held) = self.held.as_mut().filter(|held| !held.is_empty()) else {
            return Ok(());
        };
        held.step(&mut self.optimizer, self.lr)?;
        match &mut self.ema {
            Some(ema) => ema.update(self.job.network.params()),
            None => Ok(()),
        }
    }

    /// The engine for pictures like these, if the network is one for it.
    fn engine(&mut self, images: &Tensor) -> Result<Option<&mut Engine>> {
        if self.engine.is_none() {
            let (_, c, h, w) = images.dims4()?;
            let half = self.job.config.train.precision.half();
            let network = self.job.network.network().filter(|_| half.is_none());
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
                let what = format!("the validation loss is {loss} after epoch {epoch}");
                Err(self.diverged(&what, self.lr_at(self.rate_step())))
            }
            other => Ok(other),
        }
    }

    /// [`Trainer::evaluate`] with averaged weights, where there are any.
    fn evaluate_averaged(&mut self, observer: &mut dyn Observer) -> Result<Option<Evaluation>> {
        let Some(mut ema) = self.ema.take() else { return Ok(None) };
        let evaluation = ema.with(self.job.network.params(), || self.evaluate(observer));
        self.ema = Some(ema);
        evaluation
    }

    fn row(
        &self,
        evaluation: Option<Evaluation>,
        averaged: Option<Evaluation>,
        after_training: Duration,
    ) -> EpochRow {
        let Progress { epoch, sums, train_seconds, .. } = self.progress;
        let last_step = (epoch + 1) * self.job.train.batches() - 1;
        EpochRow {
            epoch: epoch + 1,
            lr: self.lr_at(last_step as u64),
            train_loss: sums.mean_loss(),
            train_top1: sums.top1_share(),
            val_loss: evaluation.map(|e| e.loss),
            val_top1: evaluation.map(|e| e.top1),
            val_top5: evaluation.map(|e| e.top5),
            ema_val_loss: averaged.map(|e| e.loss),
            ema_val_top1: averaged.map(|e| e.top1),
            images: sums.images,
            train_seconds,
            seconds: train_seconds + after_training.as_secs_f64(),
        }
    }

    /// Takes a complete epoch down; true where it is the best so far.
    fn complete(&mut self, row: EpochRow) -> Result<bool> {
        let progress = &mut self.progress;
        let better = better(&row, row.val_top1, row.val_loss, progress.best);
        progress.best = better.or(progress.best);
        let averaged = self::better(&row, row.ema_val_top1, row.ema_val_loss, progress.best_ema);
        progress.best_ema = averaged.or(progress.best_ema);
        progress.epoch += 1;
        progress.batch = 0;
        progress.sums = Sums::default();
        progress.train_seconds = 0.0;
        progress.rows.push(row);
        self.save()?;
        self.write_epoch()?;
        Ok(better.is_some())
    }

    /// The files that follow from the state at the end of an epoch, which is saved before them: a run
    /// that is killed between them writes them when it goes on.
    fn write_epoch(&mut self) -> Result<()> {
        let Progress { batch, rows, best, best_ema, .. } = &self.progress;
        self.folder.write_metrics(rows)?;
        let Some(row) = rows.last().filter(|_| *batch == 0) else { return Ok(()) };
        let (params, config) = (self.job.network.params(), self.job.config);
        let about = &self.trained_on;
        self.folder.write_weights("last.safetensors", params, config, about, row.val_top1)?;
        if best.is_some_and(|best| best.epoch == row.epoch) {
            self.folder.write_weights("best.safetensors", params, config, about, row.val_top1)?;
        }
        let (folder, top1) = (&self.folder, row.ema_val_top1);
        match &mut self.ema {
            Some(ema) if best_ema.is_some_and(|best| best.epoch == row.epoch) => {
                let write = || folder.write_weights("ema.safetensors", params, config, about, top1);
                ema.with(params, write)
            }
            _ => Ok(()),
        }
    }

    fn save(&mut self) -> Result<()> {
        self.check_finite()?;
        self.lock.check()?;
        self.progress.left_out.extend(self.bad_files().into_iter().map(|(name, _)| name));
        let peak = self.memory.as_ref().and_then(PeakMemory::mib);
        let before = self.progress.peak_memory_mib;
        self.progress.peak_memory_mib = before.into_iter().chain(peak).reduce(f64::max);
        checkpoint::write(&self.folder, &self.progress, self.job.config, self.state()?)?;
        self.saved = Instant::now();
        Ok(())
    }

    /// All tensors that a run needs to go on, in groups; [`restore`] takes them back.
    fn state(&self) -> Result<Groups> {
        let entries = self.job.network.params().entries().iter();
        let params = entries.map(|e| (e.spec.name.clone(), e.var.as_detached_tensor()));
        let mut groups = vec![("param", params.collect()), ("optim", self.optimizer.state()?)];
        if let Some(ema) = &self.ema {
            groups.push(("ema", ema.state()?));
        }
        Ok(groups)
    }

    /// Weights that are not finite must not replace good ones.
    fn check_finite(&self) -> Result<()> {
        match finite::broken_tensor(self.job.network.params())? {
            Some(name) => {
                let (epoch, step) = (self.progress.epoch + 1, self.rate_step());
                let what = format!("{name} is not finite in epoch {epoch}");
                Err(self.diverged(&what, self.lr_at(step)))
            }
            None => Ok(()),
        }
    }

    /// The number of the next step.
    fn rate_step(&self) -> u64 {
        (self.progress.epoch * self.job.train.batches() + self.progress.batch) as u64
    }

    fn diverged(&self, what: &str, lr: f64) -> Error {
        let kept = match self.progress.epoch {
            0 => "no epoch was complete yet".to_owned(),
            n => {
                let path = self.folder.file("last.safetensors");
                format!("the weights of epoch {n} are in {}", path.display())
            }
        };
        Error::Training(format!(
            "{what}; the learning rate is {lr}: try a lower --lr, a longer --warmup or another \
             --seed, or --on-nan skip where it is rare; {kept}"
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

/// What follows from the settings.
struct Made {
    optimizer: Optimizer,
    rate: LearningRate,
    entropy: CrossEntropyParams,
    held: Option<HeldGradients>,
    ema: Option<Ema>,
}

/// Checks the settings and makes what follows from them.
fn prepare<N: Trainable>(job: &Job<'_, N>) -> Result<Made> {
    ops::check_environment()?;
    job.config.check_names()?;
    let config = &job.config.train;
    config.check()?;
    let decay_all = config.decay_norms_and_biases;
    let params = job.network.params();
    let (classes, label_smoothing) = (job.config.data.classes.len(), config.label_smoothing);
    let class_weights = config.class_weights.of(job.train.source().as_ref(), classes)?;
    Ok(Made {
        optimizer: Optimizer::new(params, config.optimizer, config.weight_decay, decay_all)?,
        rate: config.learning_rate(job.train.batches()),
        entropy: CrossEntropyParams { label_smoothing, class_weights, ..Default::default() },
        held: (!config.gradients.is_default()).then(|| HeldGradients::new(config.gradients)),
        ema: config.ema.map(|decay| Ema::new(params, decay)).transpose()?,
    })
}

/// Takes the tensors of a resume state over; a network is not left half changed.
fn restore<N: Trainable>(state: &mut State, job: &Job<'_, N>, made: &mut Made) -> Result<()> {
    let (values, params) = (state.group("param"), job.network.params());
    let mut names = params.entries().iter().map(|entry| &entry.spec.name);
    if let Some(lost) = names.find(|name| !values.contains_key(*name)) {
        return Err(Error::Setting(format!("parameter {lost} is missing")));
    }
    made.optimizer.restore(&state.group("optim"))?;
    if let Some(ema) = &mut made.ema {
        ema.restore(&state.group("ema"))?;
    }
    params.set(values.iter().map(|(name, tensor)| (name.as_str(), tensor)))
}

/// The place of a parameter whose gradient is not finite after an engine's backward pass, the one
/// nearest to the loss.
fn broken_in(engine: &Engine, params: &Params) -> Option<usize> {
    let broken = |gradient: &[f32]| !all_finite(gradient);
    (0..params.entries().len()).rev().find(|&entry| engine.gradient(entry).is_some_and(broken))
}

/// What is to be said of half precision on a CPU.
fn slow_precision<N>(job: &Job<'_, N>) -> Option<String> {
    let precision = job.config.train.precision;
    precision.half().filter(|_| job.device.is_cpu()).map(|_| {
        format!(
            "{precision} on a CPU is for checking: it runs candle's own operations, many times slower \
             than f32"
        )
    })
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// An epoch, if it is better than the best before it.
fn better(
    row: &EpochRow,
    top1: Option<f64>,
    loss: Option<f64>,
    before: Option<Best>,
) -> Option<Best> {
    let new = Best { epoch: row.epoch, top1: top1?, loss: loss? };
    before.is_none_or(|old| beats(&new, &old)).then_some(new)
}

/// Higher top-1, or the same with a lower loss.
fn beats(new: &Best, old: &Best) -> bool {
    new.top1 > old.top1 || (new.top1 == old.top1 && new.loss < old.loss)
}

#[cfg(test)]
mod tests;
