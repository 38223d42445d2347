//! The classic convolutional networks in Rust, on candle: read them, train them, compare them.
//!
//! This page goes from the sliding window to a network of one's own in five steps; every example on
//! it runs.
//!
//! # 1. The sliding window
//!
//! A convolution moves a small window over a picture and takes, at each place, the sum of products of
//! window and weights. [`ops::conv2d::definition::sliding_window`] is just that: seven loops.
//!
//! ```
//! use convzoo::ops::conv2d::{Conv2dParams, Conv2dShape, definition};
//!
//! # fn main() -> convzoo::Result<()> {
//! // One picture of one channel, 3x3, and one 2x2 filter that finds rising diagonals.
//! let picture = [0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0];
//! let filter = [0.0, 1.0, 1.0, 0.0];
//! let shape = Conv2dShape::new(&[1, 1, 3, 3], &[1, 1, 2, 2], &Conv2dParams::default())?;
//! let found = definition::sliding_window(&shape, &picture, &filter, None);
//! assert_eq!(found, [0.0, 2.0, 2.0, 0.0]);
//! # Ok(())
//! # }
//! ```
//!
//! # 2. The same as a matrix
//!
//! [`ops::im2col()`] lays every window out as a column, so that the convolution becomes one matrix
//! product: what computers do best. [`ops::col2im()`] is its adjoint, and the way gradients flow back.
//!
//! ```
//! use convzoo::ops::{Im2col, im2col};
//!
//! # fn main() -> convzoo::Result<()> {
//! let picture = [0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0];
//! let windows = Im2col::new(1, (3, 3), (2, 2), (1, 1), (0, 0), (1, 1))?;
//! let columns = im2col(&windows, &picture); // 4 taps x 4 places
//! let filter = [0.0, 1.0, 1.0, 0.0];
//! let product = |place| (0..4).map(|tap| filter[tap] * columns[tap * 4 + place]).sum::<f64>();
//! assert_eq!([0, 1, 2, 3].map(product), [0.0, 2.0, 2.0, 0.0]);
//! # Ok(())
//! # }
//! ```
//!
//! # 3. An op in any candle program
//!
//! The ops are candle custom ops with a backward pass of their own: see [`ops`].
//!
//! ```
//! use candle_core::{DType, Device, Tensor, Var};
//! use convzoo::ops::{self, MaxPool2dParams};
//!
//! # fn main() -> candle_core::Result<()> {
//! let x = Var::from_tensor(&Tensor::arange(0f32, 25.0, &Device::Cpu)?.reshape((1, 1, 5, 5))?)?;
//! // Kernel 3, stride 2: candle alone cannot train through this.
//! let y = ops::max_pool2d(&x, &MaxPool2dParams::new(3, 2))?;
//! assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [12.0, 14.0, 22.0, 24.0]);
//! let grad = y.sum_all()?.backward()?.get(&x).unwrap().clone();
//! assert_eq!(grad.sum_all()?.to_scalar::<f32>()?, 4.0);
//! # assert_eq!(grad.dtype(), DType::F32);
//! # Ok(())
//! # }
//! ```
//!
//! # 4. A network is a tree
//!
//! An architecture is plain data, a tree of named [`nn::Layer`]s. Shapes, parameters, multiply-adds
//! and the forward pass are all read from it. The networks of the papers are in [`models`], one file
//! each.
//!
//! ```
//! use convzoo::nn::{Layer, Shape, conv, linear, max_pool, numbered, sequential};
//!
//! # fn main() -> convzoo::Result<()> {
//! let net = sequential([
//!     ("features", numbered([conv(1, 8, 3).padding(1).into(), Layer::Relu, max_pool(2, 2).into()])),
//!     ("flatten", Layer::Flatten),
//!     ("head", linear(8 * 14 * 14, 10)),
//! ]);
//! assert_eq!(net.state_specs()[0].name, "features.0.weight");
//! assert_eq!(net.parameter_count(), 80 + 15_690);
//! assert_eq!(net.trace(Shape::Map(1, 28, 28))?.macs(), 8 * 9 * 28 * 28 + 15_680);
//! # Ok(())
//! # }
//! ```
//!
//! # 5. Training a network of one's own
//!
//! Pictures come from a [`data::Dataset`], here the drawn cats and dogs that need no download; any
//! folder of pictures does as well. [`train::Trainer`] does the rest, and leaves a run folder.
//!
//! ```
//! use std::sync::atomic::AtomicBool;
//!
//! use candle_core::{DType, Device};
//! use convzoo::data::{Loader, drawn};
//! use convzoo::nn::{Init, Layer, Network, Shape, adaptive_avg_pool, batch_norm, conv, linear};
//! use convzoo::train::{DataInfo, Job, ModelInfo, Outcome, RunConfig, TrainConfig, Trainer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let net = convzoo::nn::numbered([
//!     conv(3, 8, 3).stride(2).padding(1).no_bias().into(),
//!     batch_norm(8),
//!     Layer::Relu,
//!     adaptive_avg_pool(4),
//!     Layer::Flatten,
//!     linear(8 * 4 * 4, 2),
//! ]);
//! let macs = net.trace(Shape::Map(3, 32, 32))?.macs();
//! let network = Network::new(net, &Init::PYTORCH, 1, DType::F32, &Device::Cpu)?;
//!
//! let data = drawn::cats_dogs(1, 32, 16);
//! let settings = TrainConfig { epochs: 2, batch_size: 8, image_size: 32, ..Default::default() };
//! let (train, eval) = (data.train_pipeline(32, 3)?, data.eval_pipeline(32, 3)?);
//! let pictures = Loader::new(data.train.clone(), train.clone(), settings.train_loader(32))?;
//! let held_out = Loader::new(data.val.clone(), eval.clone(), settings.eval_loader())?;
//!
//! let params = network.layers().parameter_count();
//! let model = ModelInfo { name: "my-net".into(), params, macs, weights: None, stem: Default::default() };
//! let config = RunConfig::new(model, DataInfo::new(&data, train, eval), settings, "cpu".into());
//! let job = Job {
//!     network: &network,
//!     train: &pictures,
//!     val: &held_out,
//!     device: &Device::Cpu,
//!     config: &config,
//!     stop: &AtomicBool::new(false),
//! };
//! let folder = tempfile::tempdir()?;
//! let Outcome::Finished(summary) = Trainer::start(job, folder.path())?.run(&mut ())? else {
//!     return Err("nobody stopped it".into());
//! };
//! assert_eq!(summary.epochs, 2);
//! assert!(folder.path().join("best.safetensors").exists());
//! # Ok(())
//! # }
//! ```
#![warn(missing_docs)]

pub mod bench;
pub mod cli;
mod csv;
pub mod data;
mod digits;
pub mod doctor;
pub mod error;
mod files;
pub mod inspect;
pub mod machine;
#[path = "../models/mod.rs"]
pub mod models;
pub mod nn;
pub mod ops;
pub mod report;
pub mod rng;
pub mod train;
pub mod visible;
pub mod weights;

pub use error::{Error, Result};
