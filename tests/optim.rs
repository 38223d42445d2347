//! Optimisers and schedules against what PyTorch recorded.

mod common;

use candle_core::{DType, Device, Tensor};
use common::fill;
use convzoo::models::{Config, Model, Stem};
use convzoo::nn::{Mode, Params};
use convzoo::ops::{self, CrossEntropyParams};
use convzoo::train::{LearningRate, Length, Optimizer, Rule, Schedule, Warmup};
use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// LeNet-5 with ReLU and the recorded fill as its weights.
fn lenet(dtype: DType) -> Result<Model> {
    let config =
        Config { classes: 10, input: (1, 28, 28), aux: false, dropout: None, stem: Stem::Paper };
    let model = Model::with_type("lenet5-relu", config, 0, dtype, &Device::Cpu)?;
    let entries = model.network.params().entries().iter();
    let specs: Vec<_> = entries.map(|e| (e.spec.name.clone(), e.spec.shape.clone())).collect();
    let state = fill::state_dict("lenet5", &specs);
    model.network.params().set(state.iter().map(|(name, tensor)| (name.as_str(), tensor)))?;
    Ok(model)
}

/// A `torch.optim` optimiser with its arguments.
fn optimizer(params: &Params, run: &Value) -> Result<(Optimizer, f64)> {
    let options = &run["options"];
    let or = |name: &str, default: f64| options[name].as_f64().unwrap_or(default);
    let (beta1, beta2, eps) = (0.9, 0.999, or("eps", 1e-8));
    let rule = match run["optimizer"].as_str() {
        Some("SGD") => Rule::Sgd {
            momentum: or("momentum", 0.0),
            dampening: or("dampening", 0.0),
            nesterov: options["nesterov"] == true,
        },
        Some("Adam") => Rule::Adam { beta1, beta2, eps },
        Some("AdamW") => Rule::AdamW { beta1, beta2, eps },
        Some("RMSprop") => {
            Rule::RmsProp { alpha: or("alpha", 0.99), eps, momentum: or("momentum", 0.0) }
        }
        other => return Err(format!("no optimiser for {other:?}").into()),
    };
    let optimizer = Optimizer::new(params, rule, or("weight_decay", 0.0), true)?;
    Ok((optimizer, or("lr", f64::NAN)))
}

/// The losses before each step and after the last.
fn train(model: &Model, run: &Value, dtype: DType) -> Result<Vec<f64>> {
    let x = fill::noise(&[8, 1, 28, 28]).to_dtype(dtype)?;
    let labels: Vec<u32> = (0..8).collect();
    let loss = |step: u64| -> Result<Tensor> {
        let logits = model.network.forward(&x, Mode::Train { seed: step })?.logits;
        Ok(ops::cross_entropy(&logits, &labels, &CrossEntropyParams::default())?)
    };
    let (mut optimizer, lr) = optimizer(model.network.params(), run)?;
    let mut losses = Vec::new();
    for step in 0..10 {
        let loss = loss(step)?;
        losses.push(common::values(&loss)[0]);
        optimizer.step(&loss.backward()?, lr)?;
    }
    losses.push(common::values(&loss(10)?)[0]);
    Ok(losses)
}

fn check_runs(dtype: DType, loss_tolerance: f64, param_tolerance: f64) -> Result<()> {
    let Some(shared) = common::shared() else { return Ok(()) };
    let recorded = common::json(&shared.join("fixtures/optim/lenet5.json"));
    let runs = recorded["runs"].as_object().expect("an object of runs");
    assert_eq!(runs.len(), 10);
    for (name, run) in runs {
        let model = lenet(dtype)?;
        let losses = train(&model, run, dtype)?;
        let reference = run["f64"]["losses"].as_array().expect("a list of losses");
        assert_eq!(losses.len(), reference.len());
        for (step, (loss, reference)) in losses.iter().zip(reference).enumerate() {
            let reference = reference.as_f64().expect("a number");
            let error = (loss - reference).abs() / reference.abs().max(1e-2);
            assert!(error <= loss_tolerance, "{name}, loss {step}: {loss} for {reference}");
        }
        for entry in model.network.params().entries() {
            let (tensor, param) = (entry.var.as_tensor(), &entry.spec.name);
            let error = fill::summary_error(param, tensor, &run["f64"]["params"][param]);
            assert!(error <= param_tolerance, "{name}: {param} is {error} off");
        }
    }
    Ok(())
}

#[test]
fn steps_are_pytorchs_in_f64() -> Result<()> {
    check_runs(DType::F64, 1e-10, 1e-10)
}

#[test]
fn steps_are_pytorchs_in_f32() -> Result<()> {
    check_runs(DType::F32, 1e-4, 1e-4)
}

#[test]
fn learning_rates_are_pytorchs() {
    let Some(shared) = common::shared() else { return };
    let recorded = common::json(&shared.join("fixtures/optim/schedules.json"));
    let base = recorded["base_lr"].as_f64().expect("a number");
    let warm = Warmup { length: Length::Steps(5), from: 0.1 };
    let schedules = [
        ("step_10_0.5", Schedule::Step { every: 10.0, gamma: 0.5 }, Warmup::NONE),
        (
            "multistep_8_20_0.1",
            Schedule::MultiStep { milestones: vec![8.0, 20.0], gamma: 0.1 },
            Warmup::NONE,
        ),
        ("exponential_0.9", Schedule::Step { every: 1.0, gamma: 0.9 }, Warmup::NONE),
        ("cosine_25_min0.001", Schedule::Cosine { min_lr: 0.001 }, Warmup::NONE),
        ("linear_warmup_5_from_0.1", Schedule::Constant, warm),
        ("polynomial_25_power2", Schedule::Polynomial { power: 2.0 }, Warmup::NONE),
    ];
    let all = recorded["lr_of_step"].as_object().expect("an object of schedules");
    assert_eq!(all.len(), schedules.len());
    for (name, schedule, warmup) in schedules {
        let rate = LearningRate::new(base, schedule, warmup, 1, 25);
        let rates = all[name].as_array().expect("a list of rates");
        for (step, recorded) in rates.iter().enumerate() {
            let (found, recorded) = (rate.at(step as u64), recorded.as_f64().expect("a number"));
            assert!((found - recorded).abs() < 1e-14, "{name}, step {step}: {found}, {recorded}");
        }
    }
}

/// What decays, and what is remembered, of a network with batch norms and biases.
#[test]
fn decay_can_leave_norms_and_biases_alone() -> Result<()> {
    let config =
        Config { classes: 2, input: (3, 32, 32), aux: false, dropout: None, stem: Stem::Paper };
    let model = Model::new("resnet18", config, 0, &Device::Cpu)?;
    let params = model.network.params();
    let before: Vec<Vec<f64>> =
        params.entries().iter().map(|e| common::values(e.var.as_tensor())).collect();
    // Gradients of zero: whatever changes does so by decay.
    let zero = params.trainable().map(|e| e.var.as_tensor().zeros_like()?.mul(e.var.as_tensor()));
    let zeros = zero.collect::<candle_core::Result<Vec<_>>>()?;
    let sums = zeros.iter().map(Tensor::sum_all).collect::<candle_core::Result<Vec<_>>>()?;
    let grads = Tensor::stack(&sums, 0)?.sum_all()?.backward()?;
    Optimizer::new(params, Rule::SGD, 0.5, false)?.step(&grads, 0.1)?;
    for (entry, before) in params.entries().iter().zip(before) {
        let (name, now) = (&entry.spec.name, common::values(entry.var.as_tensor()));
        let decays = name.contains("conv") && name.ends_with("weight")
            || name == "fc.weight"
            || name.ends_with("downsample.0.weight");
        let factor = if decays { 0.95 } else { 1.0 };
        for (now, before) in now.iter().zip(before) {
            assert!((now - before * factor).abs() <= 1e-6 * before.abs(), "{name}");
        }
    }
    Ok(())
}
