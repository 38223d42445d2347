//! Flags of a run that say how it learns: gradients, schedule, augmentation, averaged weights.

use clap::{Args, ValueEnum};

use super::args::ScheduleName;
use crate::data::{Pipeline, Step};
use crate::nn::Precision;
use crate::train::{ClassWeights, Schedule, TrainConfig, Views};
use crate::weights::SaveType;
use crate::{Error, Result};

/// Flattened into [`RunArgs`](super::RunArgs); what is not given stays as the recipe has it.
#[derive(Args, Clone, Debug, Default)]
pub struct LearnArgs {
    /// Scale all gradients down together where their norm is larger
    #[arg(long, value_name = "NORM", help_heading = "Gradients")]
    pub clip_norm: Option<f64>,

    /// Cut every value of the gradients to within this distance of 0
    #[arg(long, value_name = "VALUE", help_heading = "Gradients")]
    pub clip_value: Option<f64>,

    /// Batches whose gradients make one step; the schedule still counts batches
    #[arg(long, value_name = "BATCHES", help_heading = "Gradients")]
    pub accumulate: Option<usize>,

    /// No weight decay on batch norms and biases
    #[arg(long, help_heading = "Gradients")]
    pub no_norm_decay: bool,

    /// How much each class counts in the loss: equal, balanced (by the number of pictures), or a
    /// number a class as in 1,2.5
    #[arg(long, value_name = "WEIGHTS", help_heading = "Gradients")]
    pub class_weights: Option<ClassWeights>,

    /// Average the weights over the steps with this decay, as 0.999; evaluated beside the others, the
    /// best in ema.safetensors
    #[arg(long, value_name = "DECAY", help_heading = "Gradients")]
    pub ema: Option<f64>,

    /// Where a cosine ends, and a plateau stops [default: 0]
    #[arg(long, value_name = "RATE", help_heading = "Schedule")]
    pub min_lr: Option<f64>,

    /// cosine-restarts: epochs of the first cosine [default: 10]
    #[arg(long, value_name = "EPOCHS", help_heading = "Schedule")]
    pub restart_every: Option<f64>,

    /// cosine-restarts: length of each cosine over that before it [default: 2]
    #[arg(long, value_name = "FACTOR", help_heading = "Schedule")]
    pub restart_growth: Option<f64>,

    /// plateau: evaluations without a lower loss before the rate falls [default: 5]
    #[arg(long, value_name = "N", help_heading = "Schedule")]
    pub plateau_patience: Option<usize>,

    /// plateau: what the rate is multiplied by [default: 0.1]
    #[arg(long, value_name = "FACTOR", help_heading = "Schedule")]
    pub plateau_factor: Option<f64>,

    /// End after so many evaluations without better weights
    #[arg(long, value_name = "N", help_heading = "Schedule")]
    pub patience: Option<usize>,

    /// What is done to training pictures [default: light]
    #[arg(long, value_enum, help_heading = "Augmentation")]
    pub augment: Option<AugmentName>,

    /// --augment rand: strength of the changes, 0 to 30 [default: 9]
    #[arg(long, value_name = "M", help_heading = "Augmentation")]
    pub rand_magnitude: Option<usize>,

    /// --augment rand: changes of a picture [default: 2]
    #[arg(long, value_name = "N", help_heading = "Augmentation")]
    pub rand_changes: Option<usize>,

    /// Erase a random rectangle with this probability
    #[arg(long, value_name = "CHANCE", help_heading = "Augmentation")]
    pub erase: Option<f64>,

    /// Average pictures of a batch with one another, shares from Beta(A, A); 0.2 is usual
    #[arg(long, value_name = "A", help_heading = "Augmentation")]
    pub mixup: Option<f64>,

    /// Paste rectangles of other pictures, areas from Beta(A, A); 1 is usual
    #[arg(long, value_name = "A", help_heading = "Augmentation")]
    pub cutmix: Option<f64>,

    /// Type of the numbers in the weight files [default: f32]
    #[arg(long, value_enum, help_heading = "Run")]
    pub save_dtype: Option<SaveName>,

    /// Type of the activations in training; bf16 and f16 are for GPUs [default: f32]
    #[arg(long, value_enum)]
    pub precision: Option<PrecisionName>,

    /// Write TensorBoard event files too, into RUN/tensorboard
    #[arg(long, help_heading = "Run")]
    pub tensorboard: bool,

    /// When measuring: look at each picture mirrored too
    #[arg(long, value_enum, help_heading = "Measuring")]
    pub tta: Option<Tta>,

    /// When measuring: shares of pictures whose class is among the first K
    #[arg(long, value_delimiter = ',', value_name = "K,K", help_heading = "Measuring")]
    pub top_k: Vec<usize>,
}

/// `--augment`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AugmentName {
    /// The pictures as they are measured
    None,
    /// Random crops, flips, a little colour; what suits the data set
    Light,
    /// Random crops, flips, and one change of any kind and strength (TrivialAugment)
    Trivial,
    /// Random crops, flips, and changes of one strength (RandAugment)
    Rand,
}

/// `--save-dtype`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SaveName {
    /// 32 bits
    F32,
    /// 16 bits
    F16,
    /// 16 bits, fewer digits, a larger range
    Bf16,
}

impl From<SaveName> for SaveType {
    fn from(name: SaveName) -> SaveType {
        match name {
            SaveName::F32 => SaveType::F32,
            SaveName::F16 => SaveType::F16,
            SaveName::Bf16 => SaveType::Bf16,
        }
    }
}

/// `--precision`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PrecisionName {
    /// 32 bits
    F32,
    /// 16 bits, with the range of f32
    Bf16,
    /// 16 bits, more digits, a small range: the loss is scaled
    F16,
}

impl From<PrecisionName> for Precision {
    fn from(name: PrecisionName) -> Precision {
        match name {
            PrecisionName::F32 => Precision::F32,
            PrecisionName::Bf16 => Precision::Bf16,
            PrecisionName::F16 => Precision::F16,
        }
    }
}

/// `--tta`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Tta {
    /// As they are and mirrored left to right
    Flip,
}

/// How pictures are looked at.
pub fn views(tta: Option<Tta>) -> Views {
    match tta {
        Some(Tta::Flip) => Views::Flip,
        None => Views::One,
    }
}

impl LearnArgs {
    /// Changes what is given.
    pub fn apply(&self, config: &mut TrainConfig) -> Result<()> {
        let set = |to: &mut f64, from: Option<f64>| *to = from.unwrap_or(*to);
        let gradients = &mut config.gradients;
        gradients.clip_norm = self.clip_norm.or(gradients.clip_norm);
        gradients.clip_value = self.clip_value.or(gradients.clip_value);
        gradients.accumulate = self.accumulate.unwrap_or(gradients.accumulate);
        config.decay_norms_and_biases &= !self.no_norm_decay;
        if let Some(weights) = &self.class_weights {
            config.class_weights = weights.clone();
        }
        config.ema = self.ema.or(config.ema);
        config.patience = self.patience.or(config.patience);
        set(&mut config.mixup, self.mixup);
        set(&mut config.cutmix, self.cutmix);
        config.save_type = self.save_dtype.map_or(config.save_type, Into::into);
        config.precision = self.precision.map_or(config.precision, Into::into);
        self.apply_to_schedule(&mut config.schedule)
    }

    fn apply_to_schedule(&self, schedule: &mut Schedule) -> Result<()> {
        let set = |to: &mut f64, from: Option<f64>| *to = from.unwrap_or(*to);
        let name = schedule.name();
        let restarts = self.restart_every.is_some() || self.restart_growth.is_some();
        let plateau = self.plateau_patience.is_some() || self.plateau_factor.is_some();
        let misplaced = [
            (
                restarts && name != "cosine-restarts",
                "--restart-every and --restart-growth",
                "cosine-restarts",
            ),
            (plateau && name != "plateau", "--plateau-patience and --plateau-factor", "plateau"),
        ];
        if let Some((_, flags, wanted)) = misplaced.iter().find(|(wrong, ..)| *wrong) {
            let message = format!("{flags} go with --schedule {wanted}; the schedule is {name}");
            return Err(Error::Setting(message));
        }
        match schedule {
            Schedule::Cosine { min_lr } => set(min_lr, self.min_lr),
            Schedule::CosineRestarts { every, growth, min_lr } => {
                set(every, self.restart_every);
                set(growth, self.restart_growth);
                set(min_lr, self.min_lr);
            }
            Schedule::Plateau { factor, patience, min_lr } => {
                *patience = self.plateau_patience.unwrap_or(*patience);
                set(factor, self.plateau_factor);
                set(min_lr, self.min_lr);
            }
            _ if self.min_lr.is_some() => {
                let message = format!(
                    "--min-lr goes with --schedule cosine, cosine-restarts or plateau; the schedule is \
                     {name}"
                );
                return Err(Error::Setting(message));
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether pictures are changed in another way than usual.
    pub fn changes_pictures(&self) -> bool {
        self.augment.is_some() || self.erase.is_some()
    }

    /// The training pipeline, from the usual one and that of evaluation.
    pub fn pipeline(&self, light: Pipeline, eval: &Pipeline) -> Result<Pipeline> {
        let rand = self.rand_magnitude.is_some() || self.rand_changes.is_some();
        if rand && self.augment != Some(AugmentName::Rand) {
            let message = "--rand-magnitude and --rand-changes go with --augment rand";
            return Err(Error::Setting(message.to_owned()));
        }
        let pipeline = match self.augment {
            None | Some(AugmentName::Light) => light,
            Some(AugmentName::None) => eval.clone(),
            Some(AugmentName::Trivial) => light.with_changes(Step::TrivialAugment)?,
            Some(AugmentName::Rand) => {
                let magnitude = self.rand_magnitude.unwrap_or(9);
                let changes = self.rand_changes.unwrap_or(2);
                light.with_changes(Step::RandAugment { changes, magnitude })?
            }
        };
        match self.erase {
            Some(chance) => pipeline.with_erasing(chance),
            None => Ok(pipeline),
        }
    }
}

/// A schedule by its name, for a run of so many epochs.
pub fn schedule(name: ScheduleName, epochs: usize) -> Schedule {
    let epochs = epochs as f64;
    match name {
        ScheduleName::Constant => Schedule::Constant,
        ScheduleName::Step => {
            let milestones = vec![(0.5 * epochs).round(), (0.75 * epochs).round()];
            Schedule::MultiStep { milestones, gamma: 0.1 }
        }
        ScheduleName::Cosine => Schedule::Cosine { min_lr: 0.0 },
        ScheduleName::CosineRestarts => {
            Schedule::CosineRestarts { every: 10.0, growth: 2.0, min_lr: 0.0 }
        }
        ScheduleName::Plateau => Schedule::Plateau { factor: 0.1, patience: 5, min_lr: 0.0 },
        ScheduleName::Polynomial => Schedule::Polynomial { power: 1.0 },
        ScheduleName::OneCycle => Schedule::ONE_CYCLE,
    }
}
