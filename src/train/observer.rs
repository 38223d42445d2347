//! How a run is watched: the trainer prints nothing itself.

use std::path::Path;

use super::metrics::Sums;
use super::run::EpochRow;

/// A run at its start.
#[derive(Clone, Copy, Debug)]
pub struct Started<'a> {
    /// The run's folder.
    pub folder: &'a Path,
    /// Epochs in all.
    pub epochs: usize,
    /// Batches in an epoch.
    pub batches: usize,
    /// Batches in an evaluation.
    pub val_batches: usize,
    /// Complete epochs, where the run goes on from a resume state.
    pub done_epochs: usize,
    /// Batches done of the epoch after them.
    pub done_batches: usize,
}

/// A training step that is done.
#[derive(Clone, Copy, Debug)]
pub struct BatchDone {
    /// Its epoch, from 1.
    pub epoch: usize,
    /// Batches of the epoch that are done, this one included.
    pub batch: usize,
    /// Batches in an epoch.
    pub batches: usize,
    /// Its number in the run, from 0.
    pub step: u64,
    /// Its learning rate.
    pub lr: f64,
    /// The loss it went down on: label smoothing and auxiliary heads included.
    pub loss: f64,
    /// Sums of the epoch so far.
    pub sums: Sums,
    /// Pictures a second in the epoch so far.
    pub images_per_s: f64,
}

/// Is told how a run goes; every method may be left out.
pub trait Observer {
    /// Before the first step.
    fn started(&mut self, _start: &Started<'_>) {}
    /// For every training step, in their order: after it on a CPU, for up to 50 together on a GPU.
    fn batch_done(&mut self, _batch: &BatchDone) {}
    /// In an evaluation, after every batch, with how many there are.
    fn evaluated(&mut self, _done: usize, _batches: usize) {}
    /// After every epoch; `best` where its weights are the best so far.
    fn epoch_done(&mut self, _row: &EpochRow, _best: bool) {}
    /// Something that people should know: a picture that cannot be read, for one.
    fn message(&mut self, _text: &str) {}
}

/// Whoever does not want to know.
impl Observer for () {}

/// Two that are told the same, the first one first.
impl<A: Observer, B: Observer> Observer for (A, B) {
    fn started(&mut self, start: &Started<'_>) {
        self.0.started(start);
        self.1.started(start);
    }
    fn batch_done(&mut self, batch: &BatchDone) {
        self.0.batch_done(batch);
        self.1.batch_done(batch);
    }
    fn evaluated(&mut self, done: usize, batches: usize) {
        self.0.evaluated(done, batches);
        self.1.evaluated(done, batches);
    }
    fn epoch_done(&mut self, row: &EpochRow, best: bool) {
        self.0.epoch_done(row, best);
        self.1.epoch_done(row, best);
    }
    fn message(&mut self, text: &str) {
        self.0.message(text);
        self.1.message(text);
    }
}

/// One that may not be there.
impl<A: Observer> Observer for Option<A> {
    fn started(&mut self, start: &Started<'_>) {
        self.iter_mut().for_each(|one| one.started(start));
    }
    fn batch_done(&mut self, batch: &BatchDone) {
        self.iter_mut().for_each(|one| one.batch_done(batch));
    }
    fn evaluated(&mut self, done: usize, batches: usize) {
        self.iter_mut().for_each(|one| one.evaluated(done, batches));
    }
    fn epoch_done(&mut self, row: &EpochRow, best: bool) {
        self.iter_mut().for_each(|one| one.epoch_done(row, best));
    }
    fn message(&mut self, text: &str) {
        self.iter_mut().for_each(|one| one.message(text));
    }
}
