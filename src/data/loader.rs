//! Batches made ahead of need on threads of their own.
//!
//! Worker threads take the batches of an epoch in turn and finish them in any order; the iterator
//! hands them out in the right one. What is in a batch depends on the seed, the epoch and the
//! pictures alone: the order comes from the stream "shuffle" of the epoch, the augmentation of a
//! picture from the stream "augment" of the epoch and the picture's index, and what is mixed in a batch
//! from the stream "mix" of the epoch and the batch's number.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};

use super::mix::{Mixed, Mixing};
use super::picture::Picture;
use super::source::Source;
use super::transform::Pipeline;
use crate::error::{Error, Result};
use crate::rng::Rng;

/// What to do about a picture that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBad {
    /// Leave it out; its batch is smaller. [`Loader::bad_files`] names it.
    #[default]
    Skip,
    /// Stop with an error that names it.
    Fail,
}

/// How a [`Loader`] works.
#[derive(Clone, Debug)]
pub struct LoaderOptions {
    /// Pictures in a batch.
    pub batch_size: usize,
    /// Another order in every epoch, or always that of the source.
    pub shuffle: bool,
    /// Leave out a last batch that is not full.
    pub drop_last: bool,
    /// The seed of order and augmentation.
    pub seed: u64,
    /// Worker threads.
    pub workers: usize,
    /// Batches that may wait, finished or in the making.
    pub ahead: usize,
    /// Bytes of decoded pictures to keep in memory; the pictures beyond are decoded every time.
    pub keep_bytes: usize,
    /// What to do about pictures that cannot be read.
    pub on_bad: OnBad,
    /// Pass over a batch of which a single image is left, since the others could not be read: a batch
    /// norm cannot learn from one. A batch that is of one image by design stays.
    pub pass_over_single: bool,
    /// Whether pictures of a batch are mixed with one another.
    pub mix: Mixing,
}

impl Default for LoaderOptions {
    /// Batches of 32 in the source's order, one worker, 4 batches ahead, 1 GiB kept.
    fn default() -> Self {
        LoaderOptions {
            batch_size: 32,
            shuffle: false,
            drop_last: false,
            seed: 0,
            workers: 1,
            ahead: 4,
            keep_bytes: 1 << 30,
            on_bad: OnBad::Skip,
            pass_over_single: false,
            mix: Mixing::default(),
        }
    }
}

/// Some pictures, ready for a network.
#[derive(Debug)]
pub struct Batch {
    /// `[n, channels, height, width]`, f32, on the CPU.
    pub images: Tensor,
    /// The class of each picture.
    pub labels: Vec<u32>,
    /// What has been mixed into the pictures, if anything.
    pub mixed: Option<Mixed>,
    /// The index of each picture in its source.
    pub indices: Vec<usize>,
    /// Which batch of its epoch this is, from 0; a run resumes at `number + 1`.
    pub number: usize,
}

/// Makes batches of a source's pictures, epoch after epoch.
///
/// ```
/// # use std::sync::Arc;
/// # use convzoo::data::{DataKind, Loader, LoaderOptions, Picture, Pipeline, Source};
/// /// Eight grey squares, from dark to bright.
/// struct Squares;
///
/// impl Source for Squares {
///     fn len(&self) -> usize {
///         8
///     }
///     fn label(&self, index: usize) -> u32 {
///         (index / 4) as u32
///     }
///     fn name(&self, index: usize) -> String {
///         format!("square {index}")
///     }
///     fn picture(&self, index: usize) -> convzoo::Result<Picture> {
///         Picture::new(28, 28, 1, vec![index as u8 * 30; 28 * 28])
///     }
/// }
///
/// # fn main() -> convzoo::Result<()> {
/// let pipeline = Pipeline::eval(DataKind::Digits, 28, 1, &[0.5], &[0.5])?;
/// let options = LoaderOptions { batch_size: 3, shuffle: true, ..Default::default() };
/// let loader = Loader::new(Arc::new(Squares), pipeline, options)?;
/// let mut seen = 0;
/// for batch in loader.epoch(0, 0) {
///     seen += batch?.labels.len();
/// }
/// assert_eq!((seen, loader.batches()), (8, 3));
/// # Ok(())
/// # }
/// ```
pub struct Loader {
    work: Arc<Work>,
}

/// What workers share for as long as there is a loader.
struct Work {
    source: Arc<dyn Source>,
    pipeline: Pipeline,
    options: LoaderOptions,
    /// How many of the pipeline's steps a kept picture has been through.
    fixed: usize,
    kept: Vec<OnceLock<Picture>>,
    kept_bytes: AtomicUsize,
    /// Name and complaint of pictures that cannot be read, by index.
    bad: Mutex<BTreeMap<usize, (String, String)>>,
    waited_nanos: AtomicU64,
}

/// Most threads that decode; as many are started as are asked for.
const MOST_WORKERS: usize = 256;

impl Loader {
    /// A loader of `source`'s pictures.
    ///
    /// # Errors
    /// No pictures, no workers, or not enough pictures for a single batch.
    pub fn new(
        source: Arc<dyn Source>,
        pipeline: Pipeline,
        options: LoaderOptions,
    ) -> Result<Self> {
        let count = source.len();
        if count == 0 {
            return Err(Error::Setting("a loader was given no pictures".into()));
        }
        if options.batch_size == 0 || options.workers == 0 || options.ahead == 0 {
            return Err(Error::Setting(
                "batch size, workers and batches ahead must each be at least 1".into(),
            ));
        }
        if options.workers > MOST_WORKERS {
            return Err(Error::Setting(format!(
                "loader threads: got {}; at most {MOST_WORKERS}",
                options.workers
            )));
        }
        if options.drop_last && count < options.batch_size {
            return Err(Error::Setting(format!(
                "batches of {} from {count} pictures, the last one dropped, are none at all; \
                 choose a batch size of at most {count}",
                options.batch_size
            )));
        }
        let fixed = pipeline.fixed_steps();
        let kept = (0..count).map(|_| OnceLock::new()).collect();
        Ok(Loader {
            work: Arc::new(Work {
                source,
                pipeline,
                options,
                fixed,
                kept,
                kept_bytes: AtomicUsize::new(0),
                bad: Mutex::default(),
                waited_nanos: AtomicU64::new(0),
            }),
        })
    }

    /// Batches in an epoch.
    pub fn batches(&self) -> usize {
        let Work { source, options, .. } = self.work.as_ref();
        match options.drop_last {
            true => source.len() / options.batch_size,
            false => source.len().div_ceil(options.batch_size),
        }
    }

    /// The batches of epoch `epoch` from number `first_batch` on, which is 0 but for a run that
    /// resumes. After an error the iterator ends; dropping it early stops the workers.
    pub fn epoch(&self, epoch: u64, first_batch: usize) -> Epoch {
        let count = self.work.source.len();
        let mut order: Vec<usize> = (0..count).collect();
        if self.work.options.shuffle {
            Rng::stream(self.work.options.seed, "shuffle", &[epoch]).shuffle(&mut order);
        }
        let plan = Arc::new(Plan {
            order,
            epoch,
            batches: self.batches(),
            queue: Mutex::new(Queue {
                next: first_batch,
                wanted: first_batch,
                done: BTreeMap::new(),
                stopped: false,
            }),
            finished: Condvar::new(),
            room: Condvar::new(),
        });
        let workers = self.work.options.workers.min(self.batches().saturating_sub(first_batch));
        let mut epoch = Epoch {
            work: self.work.clone(),
            plan,
            workers: Vec::new(),
            from_start: first_batch == 0,
            given: 0,
        };
        for _ in 0..workers {
            epoch.start_worker();
        }
        epoch
    }

    /// Names and complaints of the pictures that could not be read so far, each once, in the
    /// source's order.
    pub fn bad_files(&self) -> Vec<(String, String)> {
        lock(&self.work.bad).values().cloned().collect()
    }

    /// How long callers have waited for batches, all epochs together.
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(self.work.waited_nanos.load(Ordering::Relaxed))
    }

    /// Bytes of decoded pictures that are kept.
    pub fn kept_bytes(&self) -> usize {
        self.work.kept_bytes.load(Ordering::Relaxed)
    }

    /// The pictures it reads.
    pub fn source(&self) -> &Arc<dyn Source> {
        &self.work.source
    }

    /// What it does to them.
    pub fn pipeline(&self) -> &Pipeline {
        &self.work.pipeline
    }
}

/// A poisoned lock is still a lock: a panic is reported as the batch's error.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Work {
    /// Picture `index` after the fixed steps, kept if there is room; hands it to `use_it`.
    fn with_picture<T>(
        &self,
        index: usize,
        use_it: impl FnOnce(&Picture) -> Result<T>,
    ) -> Result<T> {
        if let Some(picture) = self.kept[index].get() {
            return use_it(picture);
        }
        let picture = self.pipeline.apply_fixed(self.fixed, &self.source.picture(index)?)?;
        let result = use_it(&picture)?;
        self.keep(index, picture);
        Ok(result)
    }

    fn keep(&self, index: usize, picture: Picture) {
        let bytes = picture.bytes();
        let before = self.kept_bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= self.options.keep_bytes;
        if !fits || self.kept[index].set(picture).is_err() {
            self.kept_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// The input made of picture `index`, written to `out`; false where the picture is left out.
    fn input(&self, index: usize, epoch: u64, out: &mut [f32]) -> Result<bool> {
        if lock(&self.bad).contains_key(&index) {
            return Ok(false);
        }
        let mut rng = Rng::stream(self.options.seed, "augment", &[epoch, index as u64]);
        let made = self.with_picture(index, |picture| {
            self.pipeline.apply_from(self.fixed, picture, &mut rng, out)
        });
        match (made, self.options.on_bad) {
            (Ok(()), _) => Ok(true),
            (Err(error), OnBad::Skip) => {
                let name = self.source.name(index);
                lock(&self.bad).insert(index, (name, error.to_string()));
                Ok(false)
            }
            (Err(error), OnBad::Fail) => {
                let (name, what) = (self.source.name(index), error.to_string());
                Err(match what.contains(&name) {
                    true => error,
                    false => Error::file(name, what),
                })
            }
        }
    }

    /// One batch; `None` when the epoch has been given up meanwhile.
    fn batch(&self, plan: &Plan, number: usize) -> Result<Option<Batch>> {
        let size = self.options.batch_size;
        let first = number * size;
        let chosen = &plan.order[first..plan.order.len().min(first + size)];
        let [channels, height, width] = self.pipeline.output();
        let each = channels * height * width;
        let mut values = vec![0f32; chosen.len() * each];
        let mut indices = Vec::with_capacity(chosen.len());
        for &index in chosen {
            if lock(&plan.queue).stopped {
                return Ok(None);
            }
            let at = indices.len() * each;
            if self.input(index, plan.epoch, &mut values[at..at + each])? {
                indices.push(index);
            }
        }
        values.truncate(indices.len() * each);
        let labels: Vec<u32> = indices.iter().map(|&index| self.source.label(index)).collect();
        let mut rng = Rng::stream(self.options.seed, "mix", &[plan.epoch, number as u64]);
        let sizes = [channels, height, width];
        let mixed = self.options.mix.apply(&mut values, sizes, &labels, &mut rng);
        let shape = (indices.len(), channels, height, width);
        let images = Tensor::from_vec(values, shape, &Device::Cpu)?;
        Ok(Some(Batch { images, labels, mixed, indices, number }))
    }
}

/// One pass over the pictures.
struct Plan {
    order: Vec<usize>,
    epoch: u64,
    batches: usize,
    queue: Mutex<Queue>,
    /// A batch has been finished.
    finished: Condvar,
    /// A batch has been taken, or the epoch given up.
    room: Condvar,
}

struct Queue {
    /// The next batch that a worker takes on.
    next: usize,
    /// The next batch to hand out.
    wanted: usize,
    done: BTreeMap<usize, Result<Batch>>,
    stopped: bool,
}

impl Plan {
    /// The number of a batch to make, waiting for room; `None` when there is no more to do.
    fn take_on(&self, ahead: usize) -> Option<usize> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.stopped || queue.next >= self.batches {
                return None;
            }
            if queue.next < queue.wanted + ahead {
                queue.next += 1;
                return Some(queue.next - 1);
            }
            queue = self.room.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn stop(&self) {
        lock(&self.queue).stopped = true;
        self.room.notify_all();
        self.finished.notify_all();
    }
}

/// A worker's life: batches, until none is left. A panic becomes the batch's error.
fn run_worker(work: &Work, plan: &Plan) {
    while let Some(number) = plan.take_on(work.options.ahead) {
        let made = catch_unwind(AssertUnwindSafe(|| work.batch(plan, number)));
        let made = made.unwrap_or_else(|panic| {
            let why = (panic.downcast_ref::<&str>().map(|text| text.to_string()))
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "no reason given".into());
            Err(Error::Training(format!("a loader thread panicked on batch {number}: {why}")))
        });
        let Some(made) = made.transpose() else { return };
        lock(&plan.queue).done.insert(number, made);
        plan.finished.notify_all();
    }
}

/// The batches of one epoch, in order.
pub struct Epoch {
    work: Arc<Work>,
    plan: Arc<Plan>,
    workers: Vec<JoinHandle<()>>,
    /// Whether it is a whole pass, and not the rest of one.
    from_start: bool,
    /// Batches handed out.
    given: usize,
}

impl Epoch {
    fn start_worker(&mut self) {
        let (work, plan) = (self.work.clone(), self.plan.clone());
        let thread = std::thread::Builder::new().name("convzoo-loader".into());
        match thread.spawn(move || run_worker(&work, &plan)) {
            Ok(handle) => self.workers.push(handle),
            Err(cause) if self.workers.is_empty() => {
                let error = Error::Training(format!("no loader thread can be started: {cause}"));
                let mut queue = lock(&self.plan.queue);
                let wanted = queue.wanted;
                queue.done.insert(wanted, Err(error));
            }
            // Fewer workers give the same batches.
            Err(_) => {}
        }
    }

    /// An epoch that comes to nothing is an error, once: no image can be read, or too few for a batch.
    fn nothing_readable(&self) -> Option<Error> {
        let (bad, count) = (lock(&self.work.bad), self.work.source.len());
        if lock(&self.plan.queue).stopped {
            return None;
        }
        let (name, why) = bad.values().next()?;
        let unreadable = bad.len();
        let cause = if unreadable >= count {
            format!("none of the {count} pictures can be read; the first: {name}: {why}")
        } else if self.from_start && self.given == 0 {
            format!(
                "no batch of the epoch has two images: {unreadable} of {count} cannot be read, the \
                 first: {name}: {why}; mend them or choose larger batches"
            )
        } else {
            return None;
        };
        Some(Error::Training(cause))
    }

    /// Whether there is nothing to learn from a batch.
    fn passes_over(&self, batch: &Batch) -> bool {
        match batch.labels.len() {
            0 => true,
            1 => self.work.options.pass_over_single && self.planned(batch.number) > 1,
            _ => false,
        }
    }

    /// How many images a batch has where all can be read.
    fn planned(&self, number: usize) -> usize {
        let size = self.work.options.batch_size;
        self.plan.order.len().saturating_sub(number * size).min(size)
    }

    /// The next batch in order, however small.
    fn wait_for_next(&mut self) -> Option<Result<Batch>> {
        let mut queue = lock(&self.plan.queue);
        if queue.stopped || queue.wanted >= self.plan.batches {
            return None;
        }
        loop {
            let wanted = queue.wanted;
            if let Some(batch) = queue.done.remove(&wanted) {
                queue.wanted += 1;
                self.plan.room.notify_all();
                return Some(batch);
            }
            queue = self.plan.finished.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Iterator for Epoch {
    type Item = Result<Batch>;

    /// The next batch that there is something to learn from.
    fn next(&mut self) -> Option<Self::Item> {
        let start = Instant::now();
        let batch = loop {
            match self.wait_for_next() {
                Some(Ok(batch)) if self.passes_over(&batch) => {}
                other => break other,
            }
        };
        self.given += usize::from(batch.is_some());
        let batch = batch.or_else(|| self.nothing_readable().map(Err));
        let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.work.waited_nanos.fetch_add(nanos, Ordering::Relaxed);
        if matches!(batch, Some(Err(_))) {
            self.plan.stop();
        }
        batch
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        self.plan.stop();
        for worker in self.workers.drain(..) {
            // Its panics have been caught and reported already.
            let _ = worker.join();
        }
    }
}
