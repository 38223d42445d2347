//! The folder of a run: all that passes between training and whoever reads its results.
//!
//! | file | holds |
//! | --- | --- |
//! | `config.json` | [`RunConfig`]: every setting, the data's identity, versions |
//! | `metrics.csv` | one [`EpochRow`] a line |
//! | `best.safetensors`, `last.safetensors` | weights, with what is needed to predict with them |
//! | `ema.safetensors` | the best averaged weights, with `--ema` |
//! | `evaluation.json` | [`Assessments`](super::Assessments) of the best weights, at the end |
//! | `resume.safetensors` | parameters, optimiser state and [`Progress`]: enough to go on |
//! | `resume.previous.safetensors` | the state before that, should the newest be damaged |
//! | `summary.json` | [`Summary`], at the end |
//! | `run.lock` | the number of the process that writes here |
//!
//! Every file is written aside, flushed and renamed, so a run that is killed leaves whole files. At the
//! end of an epoch the resume state comes first; weights and metrics follow from it, and are written
//! anew when the run goes on. In a new run `config.json` comes last: a folder without one holds no run.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::assess::Assessments;
use super::checkpoint::{BEFORE, NEWEST};
use super::config::RunConfig;
use super::evaluate::per_second;
use super::loss_scale::LossScale;
use super::metrics::Sums;
use crate::nn::Params;
use crate::weights::{self, Metadata, TrainedOn};
use crate::{Error, Result, files};

/// The first line of `metrics.csv`; with averaged weights [`EMA_COLUMNS`] follow.
pub const METRICS_HEADER: &str =
    "epoch,lr,train_loss,train_top1,val_loss,val_top1,images_per_s,seconds";

/// The columns that a run with averaged weights has besides.
pub const EMA_COLUMNS: &str = "ema_val_loss,ema_val_top1";

/// The results of the best weights in detail.
const EVALUATION: &str = "evaluation.json";

/// Files that only a run that has begun leaves.
const FILES: [&str; 6] = [
    "config.json",
    "metrics.csv",
    "best.safetensors",
    "last.safetensors",
    "ema.safetensors",
    "summary.json",
];

/// What came of an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    /// From 1.
    pub epoch: usize,
    /// Learning rate of its last step.
    pub lr: f64,
    /// Mean loss of the main logits, label smoothing included.
    pub train_loss: f64,
    /// Share of training pictures that were right, as augmented and before the step they were for.
    pub train_top1: f64,
    /// Mean validation loss; none where the epoch was not evaluated.
    pub val_loss: Option<f64>,
    /// Share of validation pictures that were right.
    pub val_top1: Option<f64>,
    /// Share of validation pictures whose class was among the first five.
    pub val_top5: Option<f64>,
    /// Mean validation loss of the averaged weights, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema_val_loss: Option<f64>,
    /// Share of validation pictures that were right with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema_val_top1: Option<f64>,
    /// Training pictures seen.
    pub images: u64,
    /// Seconds of training alone, waiting for pictures included.
    pub train_seconds: f64,
    /// Seconds of training and evaluation.
    pub seconds: f64,
}

impl EpochRow {
    /// Training pictures a second, evaluation not counted.
    pub fn images_per_s(&self) -> f64 {
        per_second(self.images, self.train_seconds)
    }

    /// Its line of `metrics.csv`.
    fn line(&self) -> String {
        format!(
            "{},{},{:.6},{:.6},{},{},{:.2},{:.3}",
            self.epoch,
            self.lr,
            self.train_loss,
            self.train_top1,
            cell(self.val_loss),
            cell(self.val_top1),
            self.images_per_s(),
            self.seconds
        )
    }
}

/// `metrics.csv` of these epochs.
fn metrics(rows: &[EpochRow]) -> String {
    let ema = rows.iter().any(|row| row.ema_val_loss.is_some());
    let mut text = METRICS_HEADER.to_owned();
    // A String takes everything.
    let _ = if ema { writeln!(text, ",{EMA_COLUMNS}") } else { writeln!(text) };
    for row in rows {
        let line = row.line();
        let (loss, top1) = (cell(row.ema_val_loss), cell(row.ema_val_top1));
        let _ = if ema { writeln!(text, "{line},{loss},{top1}") } else { writeln!(text, "{line}") };
    }
    text
}

/// A cell of `metrics.csv`.
fn cell(value: Option<f64>) -> String {
    value.map_or(String::new(), |value| format!("{value:.6}"))
}

/// The epoch with the best weights so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// From 1.
    pub epoch: usize,
    /// Its validation top-1.
    pub top1: f64,
    /// Its validation loss, which decides between equal top-1.
    pub loss: f64,
}

/// How far a run has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Epochs that are complete.
    pub epoch: usize,
    /// Batches of the next epoch that are done.
    pub batch: usize,
    /// Sums over the batches of the epoch under way.
    pub sums: Sums,
    /// Seconds of training in the epoch under way.
    pub train_seconds: f64,
    /// The epochs that are complete.
    pub rows: Vec<EpochRow>,
    /// The best of them.
    pub best: Option<Best>,
    /// The best of them with averaged weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_ema: Option<Best>,
    /// Names of pictures that could not be read and were left out.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub left_out: BTreeSet<String>,
    /// Steps of the run that were skipped since their numbers were not finite.
    #[serde(default)]
    pub skipped_steps: u64,
    /// The factor of the loss, in an f16 run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<LossScale>,
    /// Seconds of all training so far that were spent waiting for pictures.
    #[serde(default)]
    pub wait_seconds: f64,
    /// The highest resident memory so far, in MiB, where the system tells it.
    #[serde(default)]
    pub peak_memory_mib: Option<f64>,
}

impl Progress {
    /// Refuses what no run comes to.
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        let (epochs, rows) = (self.epoch, self.rows.len());
        if epochs != rows {
            return Err(format!("{epochs} epochs are done, and it has the rows of {rows}"));
        }
        if let Some((at, row)) = (1..).zip(&self.rows).find(|(at, row)| row.epoch != *at) {
            return Err(format!("its row {at} is that of epoch {}", row.epoch));
        }
        let mut bests = self.best.iter().chain(&self.best_ema);
        if let Some(best) = bests.find(|best| best.epoch == 0 || best.epoch > epochs) {
            return Err(format!("its best epoch is {}, of {epochs}", best.epoch));
        }
        let Sums { top1, top5, images, .. } = self.sums;
        if top1 > top5 || top5 > images {
            return Err(format!(
                "{top1} of {images} pictures were right, {top5} in the first five"
            ));
        }
        let rows = self.rows.iter().flat_map(|row| [row.train_seconds, row.seconds]);
        let mut seconds = rows.chain([self.train_seconds, self.wait_seconds]);
        match seconds.find(|seconds| seconds.is_nan() || *seconds < 0.0) {
            Some(wrong) => Err(format!("something took {wrong} seconds")),
            None => Ok(()),
        }
    }
}

/// The outcome of a finished run; `summary.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The architecture's name.
    pub model: String,
    /// The data set's name.
    pub dataset: String,
    /// What kind of pictures: photographs, drawn, digits, pictures.
    pub data_kind: String,
    /// Height and width of the input, in pixels.
    pub image_size: usize,
    /// Channels of the input.
    pub channels: usize,
    /// Classes.
    pub num_classes: usize,
    /// Training pictures.
    pub train_images: usize,
    /// Validation images that could be measured: those that cannot be read are not among them.
    pub val_images: usize,
    /// Images for training and validation that could not be read and were left out.
    pub skipped_images: usize,
    /// Steps that were skipped since their numbers were not finite (`--on-nan skip`).
    #[serde(default)]
    pub skipped_steps: u64,
    /// The factor of the loss at the end of an f16 run, and how many steps it left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<LossScale>,
    /// Epochs.
    pub epochs: usize,
    /// Validation top-1 after the last epoch.
    pub val_top1: Option<f64>,
    /// Validation top-5 after the last epoch.
    pub val_top5: Option<f64>,
    /// Validation loss after the last epoch.
    pub val_loss: Option<f64>,
    /// Validation top-1 of the best epoch, whose weights are in `best.safetensors`.
    pub best_val_top1: Option<f64>,
    /// That epoch, from 1.
    pub best_epoch: Option<usize>,
    /// Validation top-1 of the best averaged weights, which are in `ema.safetensors`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_ema_top1: Option<f64>,
    /// Their epoch, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_ema_epoch: Option<usize>,
    /// Whether it ended before its last epoch since nothing got better.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped_early: bool,
    /// Top-1 of the best weights on the test pictures, where there are any and they were measured.
    #[serde(default)]
    pub test_top1: Option<f64>,
    /// Their loss there.
    #[serde(default)]
    pub test_loss: Option<f64>,
    /// How many test images were measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_images: Option<usize>,
    /// Test images that could not be read and were left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skipped_test_images: usize,
    /// Trainable values, without auxiliary heads.
    pub params: usize,
    /// Multiply-adds for one picture, in evaluation.
    pub macs: u64,
    /// Pictures in a step.
    pub batch_size: usize,
    /// Training pictures a second over the whole run, evaluation not counted.
    pub train_images_per_s: f64,
    /// Share of the training time that was spent waiting for pictures.
    #[serde(default)]
    pub data_wait: f64,
    /// Seconds of training and evaluation.
    pub seconds: f64,
    /// The seed.
    pub seed: u64,
    /// The device.
    pub device: String,
    /// Threads that computed.
    pub threads: usize,
    /// The highest resident memory of the process during the run, in MiB, where the system tells it.
    #[serde(default)]
    pub peak_memory_mib: Option<f64>,
    /// When it ended, in UTC: `2026-01-31T23:59:59Z`. Earlier versions did not say.
    #[serde(default)]
    pub finished: Option<String>,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Summary {
    /// Of a run that has come so far.
    pub(super) fn new(config: &RunConfig, progress: &Progress) -> Self {
        let (rows, last) = (&progress.rows, progress.rows.last());
        let images = rows.iter().map(|row| row.images).sum();
        let train_seconds: f64 = rows.iter().map(|row| row.train_seconds).sum();
        Summary {
            model: config.model.name.clone(),
            dataset: config.data.name.clone(),
            data_kind: config.data.kind.to_string(),
            image_size: config.train.image_size,
            channels: config.train.channels,
            num_classes: config.data.classes.len(),
            train_images: config.data.train_images,
            val_images: config.data.val_images,
            skipped_images: progress.left_out.len(),
            skipped_steps: progress.skipped_steps,
            loss_scale: progress.loss_scale,
            epochs: progress.epoch,
            val_top1: last.and_then(|row| row.val_top1),
            val_top5: last.and_then(|row| row.val_top5),
            val_loss: last.and_then(|row| row.val_loss),
            best_val_top1: progress.best.map(|best| best.top1),
            best_epoch: progress.best.map(|best| best.epoch),
            best_ema_top1: progress.best_ema.map(|best| best.top1),
            best_ema_epoch: progress.best_ema.map(|best| best.epoch),
            stopped_early: progress.epoch < config.train.epochs,
            test_top1: None,
            test_loss: None,
            test_images: None,
            skipped_test_images: 0,
            params: config.model.params,
            macs: config.model.macs,
            batch_size: config.train.batch_size,
            train_images_per_s: per_second(images, train_seconds),
            data_wait: if train_seconds > 0.0 {
                progress.wait_seconds / train_seconds
            } else {
                0.0
            },
            seconds: rows.iter().map(|row| row.seconds).sum(),
            seed: config.train.seed,
            device: config.device.clone(),
            threads: config.threads,
            peak_memory_mib: progress.peak_memory_mib,
            finished: Some(now()),
        }
    }
}

/// The folder of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// A folder for a new run, empty or new; its parents are made too.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub(super) fn create(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(|error| Error::file(path, error))?;
        Ok(RunFolder { path: path.to_owned() })
    }

    /// Refuses a folder that holds a run. What one that was killed before it had begun has left is
    /// deleted.
    ///
    /// # Errors
    /// Names the file that is there, or the one that cannot be deleted.
    pub(super) fn claim(&self) -> Result<()> {
        if let Some(file) = FILES.iter().find(|file| self.file(file).exists()) {
            let cause = format!(
                "holds a run already ({file} is there); go on with it by --resume, or choose \
                 another folder"
            );
            return Err(Error::file(&self.path, cause));
        }
        files::remove_parts(&self.path)?;
        for path in [NEWEST, BEFORE].map(|name| self.file(name)).iter().filter(|p| p.exists()) {
            std::fs::remove_file(path).map_err(|error| Error::file(path, error))?;
        }
        Ok(())
    }

    /// The folder of a run, whose config may be read and which may be resumed.
    ///
    /// # Errors
    /// Where it holds no run.
    pub fn open(path: &Path) -> Result<Self> {
        match path.join("config.json").is_file() {
            true => Ok(RunFolder { path: path.to_owned() }),
            false => Err(Error::file(path, "holds no run (there is no config.json in it)")),
        }
    }

    /// `runs/MODEL-DATASET-TIME` under the working directory, in UTC; where that is taken, with a
    /// number behind it.
    pub fn default_path(model: &str, dataset: &str) -> PathBuf {
        let stem = format!("{model}-{dataset}-{}", timestamp(SystemTime::now()));
        let numbered = (2..).map(|n: u32| format!("{stem}-{n}"));
        let mut names = std::iter::once(stem.clone()).chain(numbered);
        let free = names.find(|name| !Path::new("runs").join(name).exists());
        Path::new("runs").join(free.unwrap_or(stem))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The settings of its run.
    ///
    /// # Errors
    /// Where `config.json` cannot be read, or calls the network or the pictures by what is no plain
    /// name: a run folder may be somebody else's.
    pub fn config(&self) -> Result<RunConfig> {
        let config: RunConfig = self.read_json("config.json")?;
        config.check_names().map_err(|error| Error::file(self.file("config.json"), error))?;
        Ok(config)
    }

    /// The outcome of its run.
    ///
    /// # Errors
    /// Where `summary.json` cannot be read: the run may not be finished.
    pub fn summary(&self) -> Result<Summary> {
        self.read_json("summary.json")
    }

    fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let path = self.file(name);
        let text = files::regular::read_text(&path)?;
        serde_json::from_str(&text).map_err(|error| Error::file(&path, error))
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let path = self.file(name);
        let text = serde_json::to_string_pretty(value).map_err(|e| Error::file(&path, e))?;
        files::write_bytes(&path, (text + "\n").as_bytes())
    }

    /// Writes `config.json`: with it the folder holds a run. A resumed run writes it anew, with the
    /// settings that may change.
    pub(super) fn write_config(&self, config: &RunConfig) -> Result<()> {
        self.write_json("config.json", config)
    }

    /// Writes `summary.json`.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write_summary(&self, summary: &Summary) -> Result<()> {
        self.write_json("summary.json", summary)
    }

    /// Writes `evaluation.json`.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write_evaluation(&self, assessments: &Assessments) -> Result<()> {
        let path = self.file(EVALUATION);
        // In one line: a confusion matrix of a thousand classes has a million numbers.
        let text = serde_json::to_string(assessments).map_err(|e| Error::file(&path, e))?;
        files::write_bytes(&path, (text + "\n").as_bytes())
    }

    /// The results of its best weights in detail.
    ///
    /// # Errors
    /// Where `evaluation.json` cannot be read: the run may not be finished.
    pub fn evaluation(&self) -> Result<Assessments> {
        self.read_json(EVALUATION)
    }

    /// What is to be said where `metrics.csv` is not what these rows come to; it may end earlier, or
    /// later.
    pub(super) fn other_metrics(&self, rows: &[EpochRow]) -> Option<String> {
        let found = files::regular::read_text(&self.file("metrics.csv")).ok()?;
        let wanted = metrics(rows);
        // Columns of averaged weights may have come since: a line may be longer now.
        let same = |(found, wanted): (&str, &str)| wanted.starts_with(found);
        let same = found.lines().zip(wanted.lines()).all(same);
        let note =
            "metrics.csv was not as the run left it; it is written anew from the resume state";
        (!same).then(|| note.to_owned())
    }

    pub(super) fn write_metrics(&self, rows: &[EpochRow]) -> Result<()> {
        files::write_bytes(&self.file("metrics.csv"), metrics(rows).as_bytes())
    }

    /// Writes `best.safetensors`, `last.safetensors` or `ema.safetensors`.
    pub(super) fn write_weights(
        &self,
        name: &str,
        params: &Params,
        config: &RunConfig,
        trained_on: &TrainedOn,
        val_top1: Option<f64>,
    ) -> Result<()> {
        let path = self.file(name);
        let pipeline = serde_json::to_value(&config.data.eval_pipeline);
        let size = config.train.image_size;
        let metadata = Metadata {
            architecture: config.model.name.clone(),
            stem: config.model.stem,
            classes: config.data.classes.clone(),
            input: (config.train.channels, size, size),
            preprocessing: pipeline.map_err(|error| Error::file(&path, error))?,
            dataset: config.data.name.clone(),
            data_kind: config.data.kind.to_string(),
            val_top1,
            trained_on: Some(trained_on.clone()),
        };
        weights::save_as(&path, params, &metadata, config.train.save_type)
    }
}

/// `20260131-235959`, in UTC.
fn timestamp(time: SystemTime) -> String {
    iso(time).replace(['-', ':', 'Z'], "").replace('T', "-")
}

/// The time as `2026-01-31T23:59:59Z`.
pub(crate) fn now() -> String {
    iso(SystemTime::now())
}

/// `2026-01-31T23:59:59Z`, in UTC.
fn iso(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, seconds) = (since / 86_400, since % 86_400);
    let (year, month, day) = date(days);
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
}

/// Year, month and day of a day counted from 1970-01-01.
fn date(mut days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(19_782), (2024, 2, 29));
        assert_eq!(date(19_783), (2024, 3, 1));
        assert_eq!(date(20_453), (2025, 12, 31));
        assert_eq!(date(20_454), (2026, 1, 1));
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_767_225_599);
        assert_eq!(timestamp(time), "20251231-235959");
        assert_eq!(iso(time), "2025-12-31T23:59:59Z");
    }

    #[test]
    fn a_line_has_a_cell_for_every_name() {
        let row = EpochRow {
            epoch: 1,
            lr: 0.05,
            train_loss: 0.7,
            train_top1: 0.5,
            val_loss: None,
            val_top1: None,
            val_top5: None,
            ema_val_loss: None,
            ema_val_top1: None,
            images: 30,
            train_seconds: 2.0,
            seconds: 2.5,
        };
        assert_eq!(row.line(), "1,0.05,0.700000,0.500000,,,15.00,2.500");
        let cells = |line: &str| line.split(',').count();
        assert_eq!(cells(&row.line()), cells(METRICS_HEADER));
    }
}
