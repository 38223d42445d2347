//! How fast: a product, memory, a step of training; a second or so each.

use candle_core::{DType, Device, Tensor};
use serde::Serialize;

use crate::bench::{self, Plan, Settings, What, measure};
use crate::models::{self, Config, Model};
use crate::nn::Mode;
use crate::ops;
use crate::train::{Optimizer, Rule};
use crate::{Error, Result};

/// Something that was timed.
#[derive(Clone, Debug, Serialize)]
pub struct Speed {
    /// As `--device` takes it.
    pub device: String,
    /// What was done.
    pub what: String,
    /// How much of it in a second.
    pub rate: f64,
    /// What the rate counts.
    pub unit: &'static str,
}

/// Rows and columns of a GPU's product.
const SIDE: usize = 4096;
/// Values that a GPU adds: 256 MiB.
const LENGTH: usize = 1 << 26;
/// Pictures of a step, and their side, as `convzoo bench models` has them.
const BATCH: usize = 32;
const PIXELS: usize = 96;

pub(super) fn measure_on(name: &str, device: &Device) -> Result<Vec<Speed>> {
    let speed = |(what, rate, unit)| Speed { device: name.to_owned(), what, rate, unit };
    let measured = if device.is_cpu() { on_cpu()? } else { on_gpu(device)? };
    Ok(measured.into_iter().map(speed).collect())
}

type Measured = (String, f64, &'static str);

/// By the cases of `convzoo bench`, on all threads.
fn on_cpu() -> Result<Vec<Measured>> {
    let cases = [
        (What::Machine, "machine", "gemm_f32_2048"),
        (What::Machine, "machine", "copy_256MiB"),
        (What::Models, "train", "resnet18"),
    ];
    let settings = Settings { target: 0.3, ..Settings::default() };
    let mut measured = Vec::new();
    for (what, section, name) in cases {
        let case = bench::select(what, &[section.to_owned()], &[name.to_owned()])?;
        let rows = case[0].run(&settings)?;
        let row = rows.last().ok_or_else(|| Error::Setting(format!("{name} gave no row")))?;
        let rates = [
            (row.rates.images_per_s, "images/s"),
            (row.rates.gflops, "GFLOP/s"),
            (row.rates.gbytes_per_s, "GB/s"),
        ];
        for (rate, unit) in rates.into_iter().filter_map(|(rate, unit)| Some((rate?, unit))).take(1)
        {
            let what = match section {
                "train" => format!("step of {name}, {BATCH} of {PIXELS}x{PIXELS}, engine"),
                _ => name.to_owned(),
            };
            measured.push((what, rate, unit));
        }
    }
    Ok(measured)
}

fn on_gpu(device: &Device) -> Result<Vec<Measured>> {
    let plan = Plan { target: 0.5, warmup: 3, min_reps: 3 };
    let synchronised = |call: &mut dyn FnMut() -> Result<()>| {
        measure(plan, || {
            call()?;
            Ok(device.synchronize()?)
        })
    };
    let a = Tensor::rand(-1f32, 1.0, (SIDE, SIDE), device)?;
    let product = synchronised(&mut || Ok(a.matmul(&a).map(drop)?))?;
    let gflop = 2.0 * (SIDE as f64).powi(3) / 1e9;
    let b = Tensor::zeros(LENGTH, DType::F32, device)?;
    let sum = synchronised(&mut || Ok((&b + &b).map(drop)?))?;
    let gbytes = 12.0 * LENGTH as f64 / 1e9;
    let mut step = Step::new(device)?;
    let training = synchronised(&mut || step.run())?;
    Ok(vec![
        (format!("product of {SIDE}x{SIDE}, f32"), gflop / product.median_s, "GFLOP/s"),
        ("addition of 256 MiB".to_owned(), gbytes / sum.median_s, "GB/s"),
        (
            format!("step of resnet18, {BATCH} of {PIXELS}x{PIXELS}, ops"),
            BATCH as f64 / training.median_s,
            "images/s",
        ),
    ])
}

/// ResNet-18 with a batch, on a device, on ops and candle's graph.
struct Step {
    model: Model,
    optimizer: Optimizer,
    x: Tensor,
    labels: Vec<u32>,
}

impl Step {
    fn new(device: &Device) -> Result<Self> {
        let input = (3, PIXELS, PIXELS);
        let config = Config { input, ..models::find("resnet18")?.config() };
        let model = Model::new("resnet18", config, 0, device)?;
        let optimizer = Optimizer::new(model.network.params(), Rule::MOMENTUM, 1e-4, true)?;
        let x = Tensor::rand(-1f32, 1.0, (BATCH, 3, PIXELS, PIXELS), device)?;
        Ok(Step { model, optimizer, x, labels: (0..BATCH as u32).map(|i| i % 10).collect() })
    }

    fn run(&mut self) -> Result<()> {
        let output = self.model.network.forward(&self.x, Mode::Train { seed: 0 })?;
        let loss = ops::cross_entropy(&output.logits, &self.labels, &Default::default())?;
        self.optimizer.step(&loss.backward()?, 0.01)
    }
}
