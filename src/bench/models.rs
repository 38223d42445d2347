//! Whole networks: inference and steps of training.

use candle_core::{Device, Tensor};

use super::{Case, Rate, Row, Settings, entry, measure, random};
use crate::models::{self, Config, Model};
use crate::nn::{Engine, Network};
use crate::train::{Optimizer, Rule, losses};
use crate::{Error, Result};

/// A network, and what it is measured on.
struct Net {
    name: &'static str,
    /// Its name in the registry.
    model: &'static str,
    channels: usize,
    /// Side of the pictures, and batches, of inference.
    infer: (usize, [usize; 2]),
    /// Side of the pictures, and batch, of training.
    train: (usize, usize),
}

const fn net(name: &'static str, train: (usize, usize)) -> Net {
    Net { name, model: name, channels: 3, infer: (224, [1, 16]), train }
}

const NETS: &[Net] = &[
    Net {
        name: "lenet5",
        model: "lenet5-relu", // the net that others call LeNet-5 has ReLU
        channels: 1,
        infer: (28, [1, 128]),
        train: (28, 128),
    },
    net("alexnet", (224, 16)),
    net("vgg16", (96, 32)),
    net("googlenet", (96, 32)),
    net("resnet18", (96, 32)),
    net("resnet50", (96, 32)),
];

/// Learning rate and weight decay of a step.
const RATE: f64 = 0.01;
const DECAY: f64 = 1e-4;

/// Names of the networks, in order.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    NETS.iter().map(|net| net.name)
}

/// Batches, and sides of the pictures, over which it is seen whether the rate keeps up.
const BATCHES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
const SIDES: [usize; 6] = [64, 96, 128, 160, 192, 224];

/// Every network's inference, then every network's training, then one network's at other sizes.
pub(super) fn cases() -> Vec<Case> {
    let infer = names().map(|name| Case { section: "infer", name, run: time_infer });
    let train = names().map(|name| Case { section: "train", name, run: time_train });
    let scaling = Case { section: "scaling", name: "resnet18", run: time_scaling };
    infer.chain(train).chain([scaling]).collect()
}

/// Logits of pictures in evaluation mode: what is timed as inference.
///
/// # Errors
/// Where the pictures do not fit the network.
pub fn infer(engine: &mut Engine, network: &Network, x: &Tensor) -> Result<Tensor> {
    engine.logits(network.params(), x)
}

/// One whole step of training, auxiliary heads included, and its loss: what is timed as training.
///
/// # Errors
/// Where pictures or labels do not fit the network.
pub fn train_step(
    engine: &mut Engine,
    network: &Network,
    optimizer: &mut Optimizer,
    x: &Tensor,
    labels: &[u32],
) -> Result<Tensor> {
    let output = engine.forward(network.params(), x, 0)?;
    let (_, loss) = losses(&output, labels, None, &Default::default())?;
    engine.backward_into(network.params(), &loss.backward()?, &mut |entry, at, gradient| {
        optimizer.step_part(entry, at, gradient, RATE)
    })?;
    Ok(loss.detach())
}

/// A network with a batch to train on.
pub(super) struct Training {
    model: Model,
    engine: Engine,
    optimizer: Optimizer,
    x: Tensor,
    labels: Vec<u32>,
}

impl Training {
    pub(super) fn new(name: &str) -> Result<Self> {
        let net = entry(NETS, name, |net| net.name)?;
        Self::at(net, net.train.0, net.train.1)
    }

    /// On so many pictures of this side.
    fn at(net: &Net, side: usize, batch: usize) -> Result<Self> {
        let model = net.build(side)?;
        let engine = made(Engine::training(&model.network, model.config.input)?)?;
        let params = model.network.params();
        let optimizer = Optimizer::new(params, Rule::MOMENTUM, DECAY, true)?;
        let x = random(&[batch, net.channels, side, side])?;
        let labels = (0..batch as u32).map(|i| i % 10).collect();
        Ok(Training { model, engine, optimizer, x, labels })
    }

    pub(super) fn step(&mut self) -> Result<Tensor> {
        let Training { model, engine, optimizer, x, labels } = self;
        train_step(engine, &model.network, optimizer, x, labels)
    }
}

fn made(engine: Option<Engine>) -> Result<Engine> {
    engine.ok_or_else(|| Error::Setting("the engine does not run this network".to_owned()))
}

/// `row` with the batch of a step of training and the size of its pictures.
pub(super) fn describe_training(name: &str, row: Row) -> Result<Row> {
    let net = entry(NETS, name, |net| net.name)?;
    let (side, batch) = net.train;
    Ok(Row { image: Some([net.channels, side, side]), ..row.on("train_step", batch) })
}

fn time_infer(name: &'static str, settings: &Settings) -> Result<Vec<Row>> {
    let net = entry(NETS, name, |net| net.name)?;
    let (side, batches) = net.infer;
    let model = net.build(side)?;
    let mut rows = Vec::new();
    for batch in batches {
        let x = random(&[batch, net.channels, side, side])?;
        let mut engine = made(Engine::evaluation(&model.network, model.config.input)?)?;
        let timing = measure(settings.network(), || infer(&mut engine, &model.network, &x))?;
        let row = Row::new("infer", name, settings.threads).on("infer", batch);
        let row = Row { image: Some([net.channels, side, side]), ..row };
        rows.push(row.timed(timing, Rate::Images(batch, gflop(&model)?)));
    }
    Ok(rows)
}

fn time_train(name: &'static str, settings: &Settings) -> Result<Vec<Row>> {
    let mut training = Training::new(name)?;
    let row = describe_training(name, Row::new("train", name, settings.threads))?;
    let rate = Rate::Images(training.labels.len(), 3.0 * gflop(&training.model)?);
    Ok(vec![row.timed(measure(settings.network(), || training.step())?, rate)])
}

/// Steps of training on other batches, then on other pictures: GFLOP/s that do not fall say that the time
/// grows no faster than the arithmetic.
fn time_scaling(name: &'static str, settings: &Settings) -> Result<Vec<Row>> {
    let net = entry(NETS, name, |net| net.name)?;
    let batches = BATCHES.map(|batch| (net.train.0, batch));
    let sides = SIDES.map(|side| (side, 16));
    let time = |(side, batch): (usize, usize)| {
        let mut training = Training::at(net, side, batch)?;
        let row = Row::new("scaling", name, settings.threads).on("train_step", batch);
        let row = Row { image: Some([net.channels, side, side]), ..row };
        let rate = Rate::Images(batch, 3.0 * gflop(&training.model)?);
        Ok(row.timed(measure(settings.network(), || training.step())?, rate))
    };
    batches.into_iter().chain(sides).map(time).collect()
}

/// 10⁹ operations of one picture's forward pass, 2 for each multiply-add.
fn gflop(model: &Model) -> Result<f64> {
    Ok(2.0 * model.macs()? as f64 / 1e9)
}

impl Net {
    fn build(&self, side: usize) -> Result<Model> {
        let input = (self.channels, side, side);
        let config = Config { input, ..models::find(self.model)?.config() };
        Model::new(self.model, config, 0, &Device::Cpu)
    }
}
