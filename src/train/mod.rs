//! Training: one loop for every network and data set.
//!
//! A [`Trainer`] takes a network, two loaders and a [`RunConfig`], trains, evaluates after every
//! epoch, and writes the run's [folder](RunFolder). Its parts can be used alone: [`Optimizer`] and
//! [`LearningRate`] in a loop of one's own, [`evaluate`] for a network that is trained.
//!
//! A loop of one's own takes of them what it needs:
//!
//! ```
//! use candle_core::{DType, Device};
//! use convzoo::data::{Loader, LoaderOptions, drawn};
//! use convzoo::nn::{self, Init, Layer, Mode, Network};
//! use convzoo::ops::{self, CrossEntropyParams};
//! use convzoo::train::{Ema, LearningRate, Optimizer, Rule, Schedule, Sums, Warmup, evaluate};
//!
//! # fn main() -> convzoo::Result<()> {
//! let net = nn::numbered([
//!     nn::conv(3, 4, 3).stride(2).into(),
//!     Layer::Relu,
//!     nn::adaptive_avg_pool(2),
//!     Layer::Flatten,
//!     nn::linear(16, 2),
//! ]);
//! let network = Network::new(net, &Init::PYTORCH, 1, DType::F32, &Device::Cpu)?;
//! let data = drawn::cats_dogs(1, 16, 8);
//! let options = LoaderOptions { batch_size: 8, shuffle: true, ..Default::default() };
//! let pictures = Loader::new(data.train.clone(), data.train_pipeline(32, 3)?, options.clone())?;
//! let held_out = Loader::new(data.val.clone(), data.eval_pipeline(32, 3)?, options)?;
//!
//! let mut optimizer = Optimizer::new(network.params(), Rule::ADAMW, 1e-2, false)?;
//! let rate = LearningRate::new(1e-3, Schedule::ONE_CYCLE, Warmup::NONE, 2, 3);
//! let mut ema = Ema::new(network.params(), 0.99)?;
//! for epoch in 0..3 {
//!     let mut sums = Sums::default();
//!     for batch in pictures.epoch(epoch, 0) {
//!         let batch = batch?;
//!         let step = epoch * 2 + batch.number as u64;
//!         let logits = network.forward(&batch.images, Mode::Train { seed: step })?.logits;
//!         let loss = ops::cross_entropy(&logits, &batch.labels, &CrossEntropyParams::default())?;
//!         optimizer.step(&loss.backward()?, rate.at(step))?;
//!         ema.update(network.params())?;
//!         let count = batch.labels.len() as f64;
//!         sums.add(&logits, &batch.labels, f64::from(loss.to_scalar::<f32>()?) * count)?;
//!     }
//!     assert_eq!(sums.images, 16);
//! }
//! let averaged = ema.with(network.params(), || evaluate(&network, &held_out, &Device::Cpu))?;
//! assert_eq!(averaged.images, 8);
//! # Ok(())
//! # }
//! ```
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
mod loss_scale;
mod measuring;
mod memory;
mod metrics;
mod module;
mod observer;
mod optim;
mod range_test;
mod readings;
mod run;
mod same;
mod schedule;
mod tensorboard;
mod trainer;

pub use crate::machine::available_memory;
pub use assess::{Assessment, Assessments, Bin, ClassScore, LeftOut, assess};
pub use config::{CANDLE_VERSION, Compute, DataInfo, ModelInfo, RunConfig, TrainConfig, Versions};
pub use criterion::ClassWeights;
pub(crate) use criterion::losses;
pub use ema::Ema;
pub use evaluate::{Evaluation, Trainable, Views, evaluate, evaluate_watched};
pub use features::CachedFeatures;
pub use finetune::FineTune;
pub use finite::OnNan;
pub use held::{GradientRule, HeldGradients};
pub use lock::RunLock;
pub use loss_scale::LossScale;
pub use measuring::{MeasureRequest, MeasuredPart, Measuring};
pub use memory::TrainingMemory;
pub use metrics::Sums;
pub use module::CandleModel;
pub use observer::{BatchDone, Observer, Started};
pub use optim::{Optimizer, Rule};
pub use range_test::{Range, RangePoint, RangeTest};
pub use run::{Best, EMA_COLUMNS, EpochRow, METRICS_HEADER, Progress, RunFolder, Summary};
pub use schedule::{LearningRate, Length, Schedule, Warmup};
pub use tensorboard::TensorBoard;
pub use trainer::{Job, Outcome, Trainer};
