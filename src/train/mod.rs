//! Training: one loop for every network and data set.
//!
//! A [`Trainer`] takes a network, two loaders and a [`RunConfig`], trains, evaluates after every
//! epoch, and writes the run's [folder](RunFolder). Its parts can be used alone: [`Optimizer`] and
//! [`LearningRate`] in a loop of one's own, [`evaluate`] for a network that is trained.
//!
//! Everything follows from the settings, the seed and the number of the step: the same run gives the
//! same bits on any number of threads, and when it is stopped and resumed.

mod assess;
mod checkpoint;
mod config;
mod criterion;
mod ema;
mod evaluate;
mod features;
mod finetune;
mod finite;
mod held;
mod lock;
mod memory;
mod metrics;
mod module;
mod observer;
mod optim;
mod range_test;
mod run;
mod same;
mod schedule;
mod tensorboard;
mod trainer;

pub use assess::{Assessment, Assessments, Bin, ClassScore, assess};
pub use config::{CANDLE_VERSION, DataInfo, ModelInfo, RunConfig, TrainConfig, Versions};
pub use criterion::ClassWeights;
pub(crate) use criterion::losses;
pub use ema::Ema;
pub use evaluate::{Evaluation, Trainable, Views, evaluate, evaluate_watched};
pub use features::CachedFeatures;
pub use finetune::FineTune;
pub use finite::OnNan;
pub use held::{GradientRule, HeldGradients};
pub use lock::RunLock;
pub use memory::{TrainingMemory, available_memory};
pub use metrics::Sums;
pub use module::CandleModel;
pub use observer::{BatchDone, Observer, Started};
pub use optim::{Optimizer, Rule};
pub use range_test::{Range, RangePoint, RangeTest};
pub use run::{Best, EMA_COLUMNS, EpochRow, METRICS_HEADER, Progress, RunFolder, Summary};
pub use schedule::{LearningRate, Length, Schedule, Warmup};
pub use tensorboard::TensorBoard;
pub use trainer::{Job, Outcome, Trainer};
