//! The settings of a run, as `config.json` holds them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::criterion::ClassWeights;
use super::ema::check_decay;
use super::finetune::FineTune;
use super::finite::OnNan;
use super::held::GradientRule;
use super::optim::{Rule, check};
use super::schedule::{LearningRate, Schedule, Warmup};
use crate::data::{DataKind, DataRequest, Dataset, LoaderOptions, Mixing, Pipeline, times};
use crate::machine::Machine;
use crate::models::{Model, Stem};
use crate::nn::Precision;
use crate::ops;
use crate::ops::nhwc::lanes::Isa;
use crate::visible::visible_line;
use crate::weights::{SaveType, Sketch, TrainedOn};
use crate::{Error, Result};

/// The version of candle that convzoo is built with.
pub const CANDLE_VERSION: &str = "0.11.1";

/// How a network is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Passes over the training pictures.
    pub epochs: usize,
    /// Pictures in a step.
    pub batch_size: usize,
    /// The optimiser and its numbers.
    pub optimizer: Rule,
    /// The base learning rate.
    pub lr: f64,
    /// Weight decay, as the optimiser understands it.
    pub weight_decay: f64,
    /// Whether weight decay acts on batch norms and biases too.
    pub decay_norms_and_biases: bool,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// How it begins.
    pub warmup: Warmup,
    /// Share of a label that is spread over all classes.
    pub label_smoothing: f64,
    /// How much each class counts in the training loss.
    #[serde(skip_serializing_if = "ClassWeights::is_default")]
    pub class_weights: ClassWeights,
    /// What is done to gradients before a step.
    #[serde(skip_serializing_if = "GradientRule::is_default")]
    pub gradients: GradientRule,
    /// α of mixup, 0 for none: see [`Mixing`].
    #[serde(skip_serializing_if = "is_zero")]
    pub mixup: f64,
    /// α of CutMix, 0 for none.
    #[serde(skip_serializing_if = "is_zero")]
    pub cutmix: f64,
    /// The decay of averaged weights, which are evaluated and kept beside the others: see
    /// [`Ema`](super::Ema).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// End after so many evaluations without better weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
    /// The type of the weight files. What is trained, and the resume state, keep theirs.
    #[serde(skip_serializing_if = "SaveType::is_default")]
    pub save_type: SaveType,
    /// The type of the activations in training; f16 comes with a [`LossScale`](super::LossScale).
    /// Evaluation is in f32.
    #[serde(skip_serializing_if = "Precision::is_default")]
    pub precision: Precision,
    /// Which layers are trained, and how fast; [`FineTune::apply`] makes a network follow it.
    #[serde(skip_serializing_if = "FineTune::is_default")]
    pub finetune: FineTune,
    /// Of weights, order, augmentation and dropout.
    pub seed: u64,
    /// Height and width of the input, in pixels.
    pub image_size: usize,
    /// Channels of the input.
    pub channels: usize,
    /// Evaluate after every so many epochs, and after the last.
    pub eval_every: usize,
    /// Save the resume state within an epoch when the last one is so old, in minutes.
    pub save_minutes: f64,
    /// What to do about a step whose loss or gradients are not finite.
    #[serde(skip_serializing_if = "OnNan::is_default")]
    pub on_nan: OnNan,
    /// Threads that decode and transform pictures.
    pub workers: usize,
}

impl Default for TrainConfig {
    /// Ten epochs of SGD with momentum on a cosine; a start, not a recipe.
    fn default() -> Self {
        TrainConfig {
            epochs: 10,
            batch_size: 32,
            optimizer: Rule::MOMENTUM,
            lr: 0.01,
            weight_decay: 5e-4,
            decay_norms_and_biases: true,
            schedule: Schedule::Cosine { min_lr: 0.0 },
            warmup: Warmup::NONE,
            label_smoothing: 0.0,
            class_weights: ClassWeights::Equal,
            gradients: GradientRule::default(),
            mixup: 0.0,
            cutmix: 0.0,
            ema: None,
            patience: None,
            save_type: SaveType::F32,
            precision: Precision::F32,
            finetune: FineTune::default(),
            seed: 42,
            image_size: 96,
            channels: 3,
            eval_every: 1,
            save_minutes: 10.0,
            on_nan: OnNan::Stop,
            workers: LoaderOptions::default().workers,
        }
    }
}

/// Counts beyond this are mistakes; products of them would not fit into 64 bits.
const MOST: usize = 1_000_000_000;

impl TrainConfig {
    /// Refuses numbers that make no sense.
    ///
    /// # Errors
    /// Names the setting, what it is and what it must be.
    pub fn check(&self) -> Result<()> {
        let counts = [
            ("epochs", self.epochs),
            ("the batch size", self.batch_size),
            ("the image size", self.image_size),
            ("channels", self.channels),
            ("epochs between evaluations", self.eval_every),
            ("loader threads", self.workers),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(Error::Setting(format!("{name}: got 0; at least 1 is needed")));
        }
        if let Some((name, count)) = counts.iter().find(|(_, count)| *count > MOST) {
            return Err(Error::Setting(format!("{name}: got {count}; at most {MOST} is taken")));
        }
        check("the learning rate", self.lr, self.lr > 0.0, "above 0")?;
        check("weight decay", self.weight_decay, self.weight_decay >= 0.0, "0 or more")?;
        let smoothing = self.label_smoothing;
        check("label smoothing", smoothing, (0.0..1.0).contains(&smoothing), "in [0, 1)")?;
        check("minutes between saves", self.save_minutes, self.save_minutes > 0.0, "above 0")?;
        if self.patience == Some(0) {
            return Err(Error::Setting("patience: got 0; at least 1 is needed".to_owned()));
        }
        if self.finetune.cache_features && !self.mixing().is_none() {
            let message = "--cache-features needs the same pictures every time: no mixup or cutmix";
            return Err(Error::Setting(message.to_owned()));
        }
        self.ema.map_or(Ok(()), check_decay)?;
        self.mixing().check()?;
        self.gradients.check()?;
        self.optimizer.check()?;
        self.finetune.check()?;
        self.schedule.check()?;
        self.warmup.check()
    }

    /// For the loader of `count` training pictures: shuffled. A last batch of a single picture is
    /// left out, since a batch norm cannot learn from one; so is any batch of which a single picture is
    /// left because the others cannot be read.
    pub fn train_loader(&self, count: usize) -> LoaderOptions {
        let drop_last = count > self.batch_size && count % self.batch_size == 1;
        let mix = self.mixing();
        let pass_over_single = true;
        LoaderOptions { shuffle: true, drop_last, mix, pass_over_single, ..self.eval_loader() }
    }

    /// How training pictures are mixed.
    pub fn mixing(&self) -> Mixing {
        Mixing { mixup: self.mixup, cutmix: self.cutmix }
    }

    /// For a loader of pictures to evaluate on: in order, all of them.
    pub fn eval_loader(&self) -> LoaderOptions {
        let (batch_size, seed, workers) = (self.batch_size, self.seed, self.workers);
        LoaderOptions { batch_size, seed, workers, ..Default::default() }
    }

    /// The learning rate of every step of a run with `batches` steps an epoch.
    pub fn learning_rate(&self, batches: usize) -> LearningRate {
        let (schedule, epochs) = (self.schedule.clone(), self.epochs as u64);
        LearningRate::new(self.lr, schedule, self.warmup, batches as u64, epochs)
    }
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

/// How this program was called, as text.
fn command_line() -> Vec<String> {
    std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect()
}

/// What is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// The architecture's name in the registry.
    pub name: String,
    /// Trainable values, without auxiliary heads.
    pub params: usize,
    /// Multiply-adds for one picture, in evaluation.
    pub macs: u64,
    /// The weight file it began with, where it was not fresh weights.
    pub weights: Option<String>,
    /// How a ResNet begins.
    #[serde(default, skip_serializing_if = "Stem::is_paper")]
    pub stem: Stem,
}

impl ModelInfo {
    /// Of a model that begins with fresh weights.
    ///
    /// # Errors
    /// Never, for a model that was built: its input was checked.
    pub fn new(model: &Model) -> Result<Self> {
        let (name, macs) = (model.architecture.name.to_owned(), model.macs()?);
        let (params, stem) = (model.parameter_count(), model.config.stem);
        Ok(ModelInfo { name, params, macs, weights: None, stem })
    }
}

/// What it is trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataInfo {
    /// The data set's name.
    pub name: String,
    /// What kind of pictures.
    pub kind: DataKind,
    /// Changes when the data does.
    pub identity: String,
    /// A hash over the times at which its files were written last, where it is files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<String>,
    /// Where it came from.
    pub origin: String,
    /// How to find it again; none for data sets that were not opened by name.
    #[serde(default)]
    pub request: Option<DataRequest>,
    /// Names of the classes, by label.
    pub classes: Vec<String>,
    /// Training pictures.
    pub train_images: usize,
    /// Validation pictures.
    pub val_images: usize,
    /// What is done to a training picture.
    pub train_pipeline: Pipeline,
    /// What is done to a validation picture, and to one that is predicted.
    pub eval_pipeline: Pipeline,
}

impl DataInfo {
    /// Of a data set and what is done to its pictures.
    pub fn new(dataset: &Dataset, train_pipeline: Pipeline, eval_pipeline: Pipeline) -> Self {
        DataInfo {
            name: dataset.name.clone(),
            kind: dataset.kind,
            identity: dataset.identity.clone(),
            times: times(&[dataset.train.as_ref(), dataset.val.as_ref()]),
            origin: dataset.origin.clone(),
            request: None,
            classes: dataset.classes.clone(),
            train_images: dataset.train.len(),
            val_images: dataset.val.len(),
            train_pipeline,
            eval_pipeline,
        }
    }

    /// What weight files say about the images that they were trained on, of which this is a sketch.
    pub fn trained_on(&self, sketch: Sketch) -> TrainedOn {
        let request = self.request.as_ref();
        TrainedOn {
            dataset: self.name.clone(),
            identity: self.identity.clone(),
            seed: request.map_or(0, |request| request.seed),
            val_split: request.and_then(|request| request.val_split),
            limit: request.and_then(|request| request.limit),
            images: self.train_images,
            sketch,
        }
    }
}

/// What a run was computed with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// Of convzoo.
    pub convzoo: String,
    /// Of candle.
    pub candle: String,
}

impl Default for Versions {
    /// Of this program.
    fn default() -> Self {
        let convzoo = env!("CARGO_PKG_VERSION").to_owned();
        Versions { convzoo, candle: CANDLE_VERSION.to_owned() }
    }
}

/// How a run is computed: on equal settings, what its bits depend on. They are equal for any number of
/// threads, and with AVX2 and AVX-512 they have been in every network tried; apart from that, runs that
/// differ here agree within rounding alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compute {
    /// The instruction set of the kernels on a CPU: `avx512`, `avx2` or `plain`.
    pub instructions: String,
    /// The best one that the CPU has, which products of matrices use.
    pub cpu: String,
    /// Whether 3x3 convolutions go Winograd's way where that is faster, by which points: `off`, or those
    /// beside 0 and infinity.
    pub winograd: String,
    /// Whether ops on CUDA run in `kernels` or in `portable` form.
    pub cuda_ops: String,
    /// The type of the activations.
    pub precision: Precision,
}

impl Compute {
    /// What this program uses on this machine, for activations of this type.
    pub fn here(precision: Precision) -> Self {
        let settings = ops::settings();
        let winograd = if settings.winograd { ops::WINOGRAD_POINTS } else { "off" };
        let cuda_ops = if settings.portable_on_cuda { "portable" } else { "kernels" };
        Compute {
            instructions: settings.isa.name().to_owned(),
            cpu: Isa::available()[0].name().to_owned(),
            winograd: winograd.to_owned(),
            cuda_ops: cuda_ops.to_owned(),
            precision,
        }
    }

    /// What has changed since `before`, on this device: `instructions avx512, before plain`.
    fn changes(&self, before: &Compute, on_cpu: bool) -> Vec<String> {
        let pairs = [
            ("instructions", &self.instructions, &before.instructions, on_cpu),
            ("a CPU with", &self.cpu, &before.cpu, on_cpu),
            ("Winograd", &self.winograd, &before.winograd, on_cpu),
            ("CUDA ops", &self.cuda_ops, &before.cuda_ops, !on_cpu),
        ];
        let changed = pairs.into_iter().filter(|(_, now, before, counts)| *counts && now != before);
        changed.map(|(what, now, before, _)| format!("{what} {now}, before {before}")).collect()
    }
}

/// All that defines a run; `config.json` in its folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunConfig {
    /// What is trained.
    pub model: ModelInfo,
    /// What it is trained on.
    pub data: DataInfo,
    /// How.
    pub train: TrainConfig,
    /// `cpu`, `cuda:0`, `metal`.
    pub device: String,
    /// Threads that compute.
    pub threads: usize,
    /// What it is computed with.
    pub versions: Versions,
    /// The command line that began it.
    pub command: Vec<String>,
    /// The command lines that went on with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resumed_by: Vec<Vec<String>>,
    /// When it began, in UTC: `2026-01-31T23:59:59Z`. Earlier versions did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// The machine that computed last. Earlier versions did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
    /// How it computed there. Earlier versions did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute: Option<Compute>,
}

impl RunConfig {
    /// The run of this program, on all of rayon's threads.
    pub fn new(model: ModelInfo, data: DataInfo, train: TrainConfig, device: String) -> Self {
        let compute = Some(Compute::here(train.precision));
        RunConfig {
            model,
            data,
            train,
            device,
            threads: rayon::current_num_threads(),
            versions: Versions::default(),
            command: command_line(),
            resumed_by: Vec::new(),
            started: Some(super::run::now()),
            machine: Some(Machine::here()),
            compute,
        }
    }

    /// This program's settings for a run that it goes on with: how it began stays as it was.
    pub(super) fn going_on_with(&self, saved: &RunConfig) -> RunConfig {
        let mut resumed_by = saved.resumed_by.clone();
        resumed_by.push(self.command.clone());
        let (command, started) = (saved.command.clone(), saved.started.clone());
        RunConfig { command, resumed_by, started, ..self.clone() }
    }

    /// Refuses names that are not plain ones: they become names of files, in reports and exports.
    ///
    /// # Errors
    /// Says which name it is, and why it cannot be used.
    pub fn check_names(&self) -> Result<()> {
        check_plain("model.name", &self.model.name)?;
        check_plain("data.name", &self.data.name)
    }

    /// What is to be said where a run that was computed as `saved` says goes on here.
    pub(super) fn computes_otherwise(&self, saved: &RunConfig) -> Option<String> {
        let end = "its bits will not be those that it would have come to";
        let (Some(now), Some(before)) = (&self.compute, &saved.compute) else {
            let what = "the run does not say with which instructions it was computed";
            return Some(format!("{what}: if with others, or by an earlier version, {end}"));
        };
        let changes = now.changes(before, self.device == "cpu");
        (!changes.is_empty()).then(|| format!("it computes with {}: {end}", changes.join("; ")))
    }

    /// What differs from `saved` and would make a resumed run another run; one line each.
    pub fn differences(&self, saved: &RunConfig) -> Vec<String> {
        let mut found = Vec::new();
        // Earlier versions kept the path of the weights as it was typed.
        let value = |config: &RunConfig| {
            let mut config = config.clone();
            config.model.weights = config.model.weights.map(|weights| from_root(&weights));
            serde_json::to_value(config).unwrap_or_default()
        };
        differ("", &value(saved), &value(self), &mut found);
        found
    }
}

/// A path from the root of the file system.
fn from_root(path: &str) -> String {
    std::path::absolute(path).map_or_else(|_| path.to_owned(), |path| path.display().to_string())
}

/// Settings that may change when a run is resumed: its bits do not depend on them, or they say how
/// far it goes.
const FREE: &[&str] = &[
    "train.epochs",
    "train.patience",
    "train.save_type",
    "train.save_minutes",
    "train.on_nan",
    "train.workers",
    "data.times",
    "data.origin",
    "data.request",
    "threads",
    "versions",
    "command",
    "resumed_by",
    "started",
    "machine",
    "compute",
];

/// Refuses what is no plain name of a file.
fn check_plain(what: &str, name: &str) -> Result<()> {
    const MOST: usize = 200;
    let wrong = match name {
        "" => "is empty",
        "." | ".." => "names a folder",
        _ if name.len() > MOST => "is too long",
        _ if name.contains(['/', '\\']) => "has a slash",
        _ if *visible_line(name) != *name => "has characters that cannot be seen",
        _ => return Ok(()),
    };
    let shown: String = visible_line(name).chars().take(MOST).collect();
    let message =
        format!("{what}: {shown:?} {wrong}; a plain name is needed, as files are called by it");
    Err(Error::Setting(message))
}

fn differ(path: &str, saved: &Value, now: &Value, found: &mut Vec<String>) {
    if saved == now || FREE.contains(&path) {
        return;
    }
    match (saved, now) {
        (Value::Object(saved), Value::Object(now)) if path.split('.').count() < 3 => {
            let keys = saved.keys().chain(now.keys().filter(|key| !saved.contains_key(*key)));
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let of = |object: &serde_json::Map<_, _>| object.get(key).cloned();
                let (saved, now) = (of(saved).unwrap_or_default(), of(now).unwrap_or_default());
                differ(&path, &saved, &now, found);
            }
        }
        _ => found.push(format!("{path} was {saved} and is now {now}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candle_is_the_locked_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock");
        let lock = std::fs::read_to_string(path).unwrap().replace('\r', "");
        let entry = format!("name = \"candle-core\"\nversion = \"{CANDLE_VERSION}\"");
        assert!(lock.contains(&entry));
    }

    #[test]
    fn settings_survive_json() {
        let config = TrainConfig {
            optimizer: Rule::ADAMW,
            schedule: Schedule::MultiStep { milestones: vec![1.5, 3.0], gamma: 0.1 },
            warmup: Warmup::epochs(0.1 + 0.2),
            lr: 0.1 + 0.2,
            seed: u64::MAX,
            ..Default::default()
        };
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<TrainConfig>(&json).unwrap(), config);
        assert!(serde_json::from_str::<TrainConfig>("{\"learning_rate\": 1}").is_err());
        let partial: TrainConfig = serde_json::from_str("{\"lr\": 1.0}").unwrap();
        assert_eq!(partial, TrainConfig { lr: 1.0, ..Default::default() });
    }

    #[test]
    fn senseless_settings_are_refused() {
        let refused = |config: TrainConfig| config.check().unwrap_err().to_string();
        let base = TrainConfig::default();
        base.check().unwrap();
        assert!(refused(TrainConfig { epochs: 0, ..base.clone() }).contains("epochs"));
        assert!(refused(TrainConfig { lr: -1.0, ..base.clone() }).contains("learning rate is -1"));
        assert!(refused(TrainConfig { lr: f64::INFINITY, ..base.clone() }).contains("learning"));
        assert!(refused(TrainConfig { label_smoothing: 1.0, ..base }).contains("smoothing"));
    }

    #[test]
    fn names_are_plain() {
        for name in ["resnet18", "cats and dogs", "a..b", "Käfer", ".hidden"] {
            check_plain("data.name", name).unwrap();
        }
        let long = "x".repeat(300);
        for name in ["", ".", "..", "../up", "a/b", "/x", "a\\b", "a\nb", "\u{1b}[2J", &long] {
            let error = check_plain("data.name", name).unwrap_err().to_string();
            assert!(error.starts_with("data.name: \"") && error.len() < 400, "{error}");
            assert!(!error.contains('\u{1b}'), "{error}");
        }
    }

    #[test]
    fn other_ways_to_compute_are_told() {
        let now = Compute::here(Precision::F32);
        assert!(now.changes(&now, true).is_empty());
        let other = Compute { instructions: "sse9".into(), winograd: "off".into(), ..now.clone() };
        let told = now.changes(&other, true).join("; ");
        assert!(told.contains("before sse9") && told.contains("before off"), "{told}");
        assert!(now.changes(&other, false).is_empty(), "on a GPU they are of no account");
        let json = serde_json::to_string(&now).unwrap();
        assert_eq!(serde_json::from_str::<Compute>(&json).unwrap(), now);
    }

    #[test]
    fn a_batch_of_one_is_left_out() {
        let config = TrainConfig { batch_size: 8, ..Default::default() };
        assert!(config.train_loader(17).drop_last);
        assert!(!config.train_loader(16).drop_last && !config.train_loader(18).drop_last);
        assert!(!config.train_loader(1).drop_last);
    }
}
