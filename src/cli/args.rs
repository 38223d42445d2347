//! The flags of a run, shared by every example and by `convzoo train`.

use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};

use super::learn::LearnArgs;
use crate::data::OnBad;
use crate::models::Stem;
use crate::train::OnNan;

/// Train one of the classic networks, or measure it.
///
/// The defaults are chosen for the network and the data set, so that the bare command gives a good
/// result. Everything goes into a run folder: settings, metrics, weights, and what is needed to go
/// on after a stop (Ctrl-C stops cleanly).
#[derive(Parser, Clone, Debug)]
#[command(version, max_term_width = 100)]
pub struct RunArgs {
    /// Settings from this file: TOML with a line for each flag (epochs = 5), or the config.json of a
    /// run that is to be repeated. Flags on the command line win
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Pictures: cats-dogs, cats-dogs-drawn, mnist, cifar-10, or folder (any DIR/train/CLASS/*,
    /// DIR/val/CLASS/*, or DIR/CLASS/*) [default: what is in --data-dir, or else what suits the network]
    #[arg(long, value_name = "NAME", help_heading = "Pictures")]
    pub dataset: Option<String>,

    /// Where the pictures are [default: NAME in $CONVZOO_DATA or data/, then a download]
    #[arg(long, value_name = "DIR", help_heading = "Pictures")]
    pub data_dir: Option<PathBuf>,

    /// Share of the training pictures to validate on, where the data set has no validation part;
    /// where it has one, that becomes the test part
    #[arg(long, value_name = "SHARE", help_heading = "Pictures")]
    pub val_split: Option<f64>,

    /// Fail where photographs cannot be had, instead of going on with drawn pictures
    #[arg(long, help_heading = "Pictures")]
    pub no_fallback: bool,

    /// What to do about a picture that cannot be read
    #[arg(long, value_enum, default_value_t = BadFiles::Skip, help_heading = "Pictures")]
    pub on_bad: BadFiles,

    /// Use at most this many pictures for training, and for validation
    #[arg(long, value_name = "N", help_heading = "Pictures")]
    pub limit: Option<usize>,

    /// Passes over the training pictures
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub epochs: Option<usize>,

    /// Pictures in a step
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub batch_size: Option<usize>,

    /// Learning rate; the highest one, where a schedule changes it
    #[arg(long, value_name = "RATE", help_heading = "Training")]
    pub lr: Option<f64>,

    /// How gradients change the weights
    #[arg(long, value_enum, help_heading = "Training")]
    pub optimizer: Option<OptimizerName>,

    /// Momentum of SGD
    #[arg(long, value_name = "M", help_heading = "Training")]
    pub momentum: Option<f64>,

    /// Nesterov's momentum
    #[arg(long, help_heading = "Training")]
    pub nesterov: bool,

    /// Weight decay
    #[arg(long, value_name = "W", help_heading = "Training")]
    pub weight_decay: Option<f64>,

    /// How the learning rate changes
    #[arg(long, value_enum, help_heading = "Training")]
    pub schedule: Option<ScheduleName>,

    /// Epochs in which the learning rate rises from a tenth
    #[arg(long, value_name = "EPOCHS", help_heading = "Training")]
    pub warmup: Option<f64>,

    /// Label smoothing, 0 to 1
    #[arg(long, value_name = "S", help_heading = "Training")]
    pub label_smoothing: Option<f64>,

    /// Side of the pictures in pixels
    #[arg(long, value_name = "PIXELS", help_heading = "Pictures")]
    pub image_size: Option<usize>,

    /// How a ResNet begins [default: paper, or what --weights has]
    #[arg(long, value_enum, help_heading = "Weights and layers")]
    pub stem: Option<StemName>,

    /// Seed of weights, order, augmentation and dropout: same seed, same bits [default: 0]
    #[arg(long, help_heading = "Training")]
    pub seed: Option<u64>,

    /// The seed of splits and limits, where it is not that of the run
    #[arg(skip)]
    pub data_seed: Option<u64>,

    /// Threads that compute [default: one a core]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,

    /// Threads that decode and augment pictures [default: 2]
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,

    #[command(flatten)]
    #[allow(missing_docs)] // a comment here would become a heading of --help
    pub learn: LearnArgs,

    /// Where to compute: auto, cpu, cuda, cuda:N or metal
    #[arg(long, default_value = "auto")]
    pub device: String,

    /// Start from this safetensors or PyTorch file; a last layer of another size begins anew
    /// (FILE, `pretrained`, `pretrained:TAG` or hf:ORG/REPO[/FILE])
    #[arg(long, value_name = "WEIGHTS", help_heading = "Weights and layers")]
    pub weights: Option<String>,

    /// Where torchvision's published files are to be had instead [default: $CONVZOO_MIRROR]
    #[arg(long, value_name = "URL", help_heading = "Weights and layers")]
    pub mirror: Option<String>,

    /// Take over the tensors of --weights that fit, and leave the rest as it begins
    #[arg(long, requires = "weights", help_heading = "Weights and layers")]
    pub partial: bool,

    /// Layers that keep their weights: backbone (all but the last), none, or names as in
    /// layer1,layer2.0
    #[arg(long, value_delimiter = ',', value_name = "LAYERS", help_heading = "Weights and layers")]
    pub freeze: Vec<String>,

    /// Learning rate of the last layer
    #[arg(long, value_name = "RATE", help_heading = "Weights and layers")]
    pub head_lr: Option<f64>,

    /// A layer's learning rate over that of the layer behind it
    #[arg(long, value_name = "FACTOR", help_heading = "Weights and layers")]
    pub lr_decay: Option<f64>,

    /// Begin with the last layer alone, and thaw one more after every so many epochs
    #[arg(long, value_name = "EPOCHS", help_heading = "Weights and layers")]
    pub unfreeze_every: Option<usize>,

    /// With --freeze backbone: compute the backbone once for each picture, without augmentation
    #[arg(long, help_heading = "Weights and layers")]
    pub cache_features: bool,

    /// Save the resume state within an epoch too, when the last one is so old [default: 10]
    #[arg(long, value_name = "MINUTES", help_heading = "Run")]
    pub save_every: Option<f64>,

    /// What to do about a step whose loss or gradients are not finite [default: stop]
    #[arg(long, value_enum, help_heading = "Training")]
    pub on_nan: Option<OnNanName>,

    /// Begin although the network and its batches seem to need more memory than there is
    #[arg(long, help_heading = "Run")]
    pub ignore_memory: bool,

    /// Only measure: no training
    #[arg(long, help_heading = "Measuring")]
    pub eval: bool,

    /// The run folder [default: runs/MODEL-DATASET-TIME]
    #[arg(long, value_name = "DIR", help_heading = "Run")]
    pub out: Option<PathBuf>,

    /// Go on with the run in this folder, to the same bits as if it had never stopped
    #[arg(long, value_name = "RUN", help_heading = "Run")]
    pub resume: Option<PathBuf>,

    /// With --resume: go on although the pictures have changed since the run was begun
    #[arg(long, requires = "resume", help_heading = "Run")]
    pub allow_changed_data: bool,

    /// Print the result as JSON at the end
    #[arg(long)]
    pub json: bool,
}

impl RunArgs {
    /// To go on with the run in `folder`: only what does not make it another run.
    pub(super) fn going_on_with(&self, folder: &Path) -> RunArgs {
        let (save_dtype, tensorboard) = (self.learn.save_dtype, self.learn.tensorboard);
        RunArgs {
            resume: Some(folder.to_owned()),
            data_dir: self.data_dir.clone(),
            device: self.device.clone(),
            threads: self.threads,
            workers: self.workers,
            save_every: self.save_every,
            on_bad: self.on_bad,
            on_nan: self.on_nan,
            ignore_memory: self.ignore_memory,
            json: self.json,
            learn: LearnArgs { save_dtype, tensorboard, ..LearnArgs::default() },
            ..RunArgs::parse_from(["convzoo"])
        }
    }
}

/// `--on-bad`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BadFiles {
    /// Name it, count it, go on
    Skip,
    /// Stop
    Fail,
}

impl From<BadFiles> for OnBad {
    fn from(bad: BadFiles) -> OnBad {
        match bad {
            BadFiles::Skip => OnBad::Skip,
            BadFiles::Fail => OnBad::Fail,
        }
    }
}

/// `--on-nan`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnNanName {
    /// Name the first layer whose output is not finite, and stop
    Stop,
    /// Leave everything as it was before the step, count it, go on; the 1st, 2nd, 4th, 8th ... is told
    Skip,
}

impl From<OnNanName> for OnNan {
    fn from(name: OnNanName) -> OnNan {
        match name {
            OnNanName::Stop => OnNan::Stop,
            OnNanName::Skip => OnNan::Skip,
        }
    }
}

/// `--stem`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StemName {
    /// 7x7 with stride 2, then pooling
    Paper,
    /// 3x3 with stride 1 and no pooling, for pictures of 32x32 or so
    Cifar,
}

impl From<StemName> for Stem {
    fn from(name: StemName) -> Stem {
        match name {
            StemName::Paper => Stem::Paper,
            StemName::Cifar => Stem::Cifar,
        }
    }
}

/// `--optimizer`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OptimizerName {
    /// Stochastic gradient descent, with momentum
    Sgd,
    /// Adam, weight decay in the gradient
    Adam,
    /// Adam with decoupled weight decay
    Adamw,
    /// RMSprop
    Rmsprop,
}

/// `--schedule`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ScheduleName {
    /// Always the same
    Constant,
    /// A tenth after a half and after three quarters of the epochs
    Step,
    /// Half a cosine, down to 0
    Cosine,
    /// The same again and again, each from the top
    CosineRestarts,
    /// A tenth whenever the validation loss does not fall
    Plateau,
    /// A straight line down to 0
    Polynomial,
    /// Up, then down to almost 0 (Smith and Topin)
    OneCycle,
}
