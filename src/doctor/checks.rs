//! Each op in each form on each device, beside the definition in f64 on the CPU.

use std::time::Instant;

use candle_core::{DType, Device, Tensor, Var};
use serde::Serialize;

use crate::Result;
use crate::models::{self, Config, Model};
use crate::nn::Mode;
use crate::ops::{self, Form};
use crate::ops::{AvgPool2dParams, BatchNorm2dParams, Conv2dParams, LrnParams, MaxPool2dParams};
use crate::rng::Rng;

/// The largest `|found - wanted| / |wanted|`, over a whole tensor, that f32 may have.
const BOUND: f64 = 1e-4;
/// The same of bf16, where one rounding is up to 2e-3.
const HALF_BOUND: f64 = 1e-2;
/// The same of a whole network's loss and gradients.
const NETWORK_BOUND: f64 = 5e-3;

/// What came of one op in one form on one device.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// The op, or `network` for a whole one.
    pub op: &'static str,
    /// `definition`, `kernel` or `portable`; `portable bf16` where tensors are of that type.
    pub form: &'static str,
    /// As `--device` takes it.
    pub device: String,
    /// Shapes that were tried.
    pub shapes: usize,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How long it took.
    pub seconds: f64,
}

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// The largest errors of outputs and of gradients, both within the bound.
    Passed {
        /// Of outputs.
        forward: f64,
        /// Of gradients.
        backward: f64,
    },
    /// An error beyond the bound, or NaN.
    Wrong {
        /// Of outputs.
        forward: f64,
        /// Of gradients.
        backward: f64,
        /// What they may be.
        bound: f64,
    },
    /// It did not run.
    Failed {
        /// Why.
        error: String,
    },
}

impl Check {
    /// Whether it was passed.
    pub fn passed(&self) -> bool {
        matches!(self.outcome, Outcome::Passed { .. })
    }
}

/// An op, with what it is tried on.
struct Case {
    op: &'static str,
    /// Shapes of its inputs; all get gradients.
    shapes: &'static [&'static [usize]],
    apply: fn(Form, &[Tensor]) -> Result<Tensor>,
}

const CASES: &[Case] = &[
    Case { op: "conv2d", shapes: &[&[2, 3, 9, 7], &[4, 3, 3, 3], &[4]], apply: conv },
    Case { op: "conv2d", shapes: &[&[3, 4, 14, 11], &[6, 2, 5, 3], &[6]], apply: grouped_conv },
    Case { op: "conv2d", shapes: &[&[2, 16, 8, 8], &[24, 16, 1, 1]], apply: conv },
    Case { op: "max_pool2d", shapes: &[&[2, 3, 11, 8]], apply: max_pool },
    Case { op: "avg_pool2d", shapes: &[&[2, 3, 11, 8]], apply: avg_pool },
    Case { op: "adaptive_avg_pool2d", shapes: &[&[2, 3, 11, 8]], apply: adaptive },
    Case { op: "adaptive_avg_pool2d", shapes: &[&[2, 5, 3, 2]], apply: adaptive },
    Case { op: "batch_norm2d", shapes: &[&[4, 5, 7, 6], &[5], &[5]], apply: norm_train },
    Case {
        op: "batch_norm2d",
        shapes: &[&[4, 5, 7, 6], &[5], &[5], &[4, 5, 7, 6]],
        apply: norm_train,
    },
    Case { op: "batch_norm2d_eval", shapes: &[&[4, 5, 7, 6], &[5], &[5]], apply: norm_eval },
    Case { op: "local_response_norm", shapes: &[&[2, 9, 4, 5]], apply: response_norm },
    Case { op: "relu", shapes: &[&[3, 4, 5, 6]], apply: |form, t| ops::relu_as(form, &t[0]) },
    Case {
        op: "add_relu",
        shapes: &[&[3, 4, 5, 6], &[3, 4, 5, 6]],
        apply: |form, t| ops::add_relu_as(form, &t[0], &t[1]),
    },
    Case {
        op: "dropout",
        shapes: &[&[3, 400]],
        apply: |form, t| ops::dropout_as(form, &t[0], 0.4, &mut Rng::new(3)),
    },
    Case {
        op: "linear",
        shapes: &[&[5, 70], &[30, 70], &[30]],
        apply: |form, t| ops::linear_as(form, &t[0], &t[1], Some(&t[2])),
    },
    Case { op: "cross_entropy", shapes: &[&[4, 10]], apply: entropy },
];

fn conv(form: Form, t: &[Tensor]) -> Result<Tensor> {
    let params = Conv2dParams { stride: (2, 1), padding: (1, 1), ..Default::default() };
    ops::conv2d_as(form, &t[0], &t[1], t.get(2), &params)
}

fn grouped_conv(form: Form, t: &[Tensor]) -> Result<Tensor> {
    let params =
        Conv2dParams { padding: (4, 1), dilation: (2, 1), groups: 2, ..Default::default() };
    ops::conv2d_as(form, &t[0], &t[1], t.get(2), &params)
}

fn max_pool(form: Form, t: &[Tensor]) -> Result<Tensor> {
    let params = MaxPool2dParams { padding: (1, 1), ceil_mode: true, ..MaxPool2dParams::new(3, 2) };
    ops::max_pool2d_as(form, &t[0], &params)
}

fn avg_pool(form: Form, t: &[Tensor]) -> Result<Tensor> {
    let params = AvgPool2dParams { padding: (1, 1), ceil_mode: true, ..AvgPool2dParams::new(3, 2) };
    ops::avg_pool2d_as(form, &t[0], &params)
}

fn adaptive(form: Form, t: &[Tensor]) -> Result<Tensor> {
    ops::adaptive_avg_pool2d_as(form, &t[0], (4, 3))
}

fn norm_train(form: Form, t: &[Tensor]) -> Result<Tensor> {
    let params = BatchNorm2dParams::default();
    let (weight, bias) = (Some(&t[1]), Some(&t[2]));
    Ok(ops::batch_norm2d_as(form, &t[0], weight, bias, &params, t.get(3), true)?.y)
}

fn norm_eval(form: Form, t: &[Tensor]) -> Result<Tensor> {
    let params = BatchNorm2dParams::default();
    let mean = Tensor::full(0.25f32, 5, t[0].device())?.to_dtype(t[0].dtype())?;
    let var = Tensor::full(0.5f32, 5, t[0].device())?.to_dtype(t[0].dtype())?;
    let affine = (Some(&t[1]), Some(&t[2]));
    ops::batch_norm2d_eval_as(form, &t[0], affine, (&mean, &var), &params, None, true)
}

fn response_norm(form: Form, t: &[Tensor]) -> Result<Tensor> {
    let params = LrnParams { alpha: 0.5, k: 2.0, ..LrnParams::default() };
    ops::local_response_norm_as(form, &t[0], &params)
}

fn entropy(form: Form, t: &[Tensor]) -> Result<Tensor> {
    let params = ops::CrossEntropyParams { label_smoothing: 0.1, ..Default::default() };
    ops::cross_entropy_as(form, &t[0], &[3, 0, 9, 3], &params)
}

/// All checks of a device.
pub(super) fn run(name: &str, device: &Device, say: &mut dyn FnMut(&str)) -> Vec<Check> {
    let mut names: Vec<_> = CASES.iter().map(|case| case.op).collect();
    names.dedup();
    let half = (Form::Portable, "portable bf16", DType::BF16, HALF_BOUND);
    let half = Some(half).filter(|_| has_bf16(device));
    let mut checks = Vec::new();
    for op in names {
        let whole = forms(op, device).iter().map(|&form| (form, word(form), DType::F32, BOUND));
        for (form, word, dtype, bound) in whole.chain(half) {
            say(&format!("{op} as {word} on {name}"));
            let cases: Vec<_> = CASES.iter().filter(|case| case.op == op).collect();
            checks.push(check(op, word, name, cases.len(), bound, || {
                let mut errors = cases.iter().map(|case| errors(case, form, dtype, device));
                errors.try_fold((0.0, 0.0), |worst, next| Ok(larger(worst, next?)))
            }));
        }
    }
    say(&format!("a network on {name}"));
    let kernels = forms("conv2d", device).contains(&Form::Kernel);
    let asked = device.is_cuda() && ops::portable_on_cuda();
    let form = if kernels && !asked { Form::Kernel } else { Form::Portable };
    checks.push(check("network", word(form), name, 1, NETWORK_BOUND, || network(device)));
    checks
}

/// Whether a device computes in bf16 at all: NVIDIA's do from compute capability 8.0 on.
fn has_bf16(device: &Device) -> bool {
    let one = Tensor::ones(1, DType::BF16, device);
    one.and_then(|one| (&one + &one)?.to_device(&Device::Cpu)).is_ok()
}

fn word(form: Form) -> &'static str {
    match form {
        Form::Definition => "definition",
        Form::Kernel => "kernel",
        Form::Portable => "portable",
    }
}

/// The forms of an op that a device has.
fn forms(op: &str, device: &Device) -> &'static [Form] {
    let without_kernel = ["linear", "cross_entropy"].contains(&op);
    match device {
        Device::Cpu => &[Form::Definition, Form::Kernel, Form::Portable],
        Device::Cuda(_) if !without_kernel => &[Form::Kernel, Form::Portable],
        _ => &[Form::Portable],
    }
}

/// The larger of both pairs' errors; NaN is larger than any.
fn larger(a: (f64, f64), b: (f64, f64)) -> (f64, f64) {
    let max = |a: f64, b: f64| if a > b || a.is_nan() { a } else { b };
    (max(a.0, b.0), max(a.1, b.1))
}

fn check(
    op: &'static str,
    form: &'static str,
    device: &str,
    shapes: usize,
    bound: f64,
    run: impl FnOnce() -> Result<(f64, f64)>,
) -> Check {
    let start = Instant::now();
    let outcome = match run() {
        Ok((forward, backward)) if forward <= bound && backward <= bound => {
            Outcome::Passed { forward, backward }
        }
        Ok((forward, backward)) => Outcome::Wrong { forward, backward, bound },
        Err(error) => Outcome::Failed { error: error.to_string() },
    };
    let seconds = start.elapsed().as_secs_f64();
    Check { op, form, device: device.to_owned(), shapes, outcome, seconds }
}

/// Errors of outputs and of gradients, on inputs that `dtype` holds exactly.
fn errors(case: &Case, form: Form, dtype: DType, device: &Device) -> Result<(f64, f64)> {
    let mut rng = Rng::stream(1, case.op, &[case.shapes[0].len() as u64]);
    let inputs = case.shapes.iter().map(|shape| Ok(random(&mut rng, shape)?.to_dtype(dtype)?));
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    let (wanted, wanted_grads) = values(case, Form::Definition, &inputs, DType::F64, &Device::Cpu)?;
    let (found, found_grads) = values(case, form, &inputs, dtype, device)?;
    let of_grads =
        found_grads.iter().zip(&wanted_grads).map(|(found, wanted)| error(found, wanted));
    let backward = of_grads.fold(0.0, |worst, next| larger((worst, 0.0), (next, 0.0)).0);
    Ok((error(&found, &wanted), backward))
}

/// Values that f32 holds exactly.
fn random(rng: &mut Rng, shape: &[usize]) -> Result<Tensor> {
    let values = (0..shape.iter().product()).map(|_| rng.range(-1.0, 1.0) as f32);
    Ok(Tensor::from_vec(values.collect::<Vec<_>>(), shape, &Device::Cpu)?)
}

/// Output and gradients of an op whose output's gradient has random values.
fn values(
    case: &Case,
    form: Form,
    inputs: &[Tensor],
    dtype: DType,
    device: &Device,
) -> Result<(Vec<f64>, Vec<Vec<f64>>)> {
    let vars = inputs
        .iter()
        .map(|input| Ok(Var::from_tensor(&input.to_dtype(dtype)?.to_device(device)?)?))
        .collect::<Result<Vec<_>>>()?;
    let tensors: Vec<_> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let y = (case.apply)(form, &tensors)?;
    let dy = random(&mut Rng::new(2), y.dims())?.to_dtype(dtype)?.to_device(device)?;
    let grads = (&y * dy)?.sum_all()?.backward()?;
    let of_inputs = vars.iter().map(|var| match grads.get(var) {
        Some(grad) => flat(grad),
        None => Err(crate::Error::op(case.op, "no gradient", "every input needs one")),
    });
    Ok((flat(&y)?, of_inputs.collect::<Result<_>>()?))
}

fn flat(t: &Tensor) -> Result<Vec<f64>> {
    Ok(t.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

/// `|found - wanted| / |wanted|`, Euclidean; infinite where there are not as many values.
fn error(found: &[f64], wanted: &[f64]) -> f64 {
    if found.len() != wanted.len() {
        return f64::INFINITY;
    }
    let norm: f64 = wanted.iter().map(|value| value * value).sum();
    let difference: f64 = found.iter().zip(wanted).map(|(a, b)| (a - b) * (a - b)).sum();
    (difference / norm.max(1e-30)).sqrt()
}

/// A step of the ResNet-20 for small pictures, forward and backward, beside the same in f64 on the CPU: the errors
/// of its loss, and of the gradient of its first layer, which everything else comes before.
fn network(device: &Device) -> Result<(f64, f64)> {
    let (loss, gradient) = step(device, DType::F32)?;
    let (wanted_loss, wanted_gradient) = step(&Device::Cpu, DType::F64)?;
    Ok((error(&[loss], &[wanted_loss]), error(&gradient, &wanted_gradient)))
}

fn step(device: &Device, dtype: DType) -> Result<(f64, Vec<f64>)> {
    let name = "resnet20";
    let config = Config { input: (3, 32, 32), classes: 4, ..models::find(name)?.config() };
    let model = Model::with_type(name, config, 5, dtype, device)?;
    let x = random(&mut Rng::new(4), &[4, 3, 32, 32])?.to_dtype(dtype)?.to_device(device)?;
    let output = model.network.forward(&x, Mode::Train { seed: 0 })?;
    let loss = ops::cross_entropy(&output.logits, &[0, 1, 2, 3], &Default::default())?;
    let grads = loss.backward()?;
    let first = &model.network.params().get("conv1.weight")?.var;
    let gradient = grads.get(first).map(flat).transpose()?.unwrap_or_default();
    Ok((flat(&loss)?.into_iter().sum(), gradient))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_not_passed() {
        let outcome = |errors: (f64, f64)| check("op", "kernel", "cpu", 1, 1e-4, || Ok(errors));
        assert!(outcome((1e-6, 1e-5)).passed());
        assert!(!outcome((1e-6, 1e-3)).passed());
        assert!(!outcome((f64::NAN, 0.0)).passed());
        assert!(
            !check("op", "kernel", "cpu", 1, 1e-4, || Err(crate::Error::Setting("no".into())))
                .passed()
        );
        assert_eq!(error(&[1.0], &[1.0, 2.0]), f64::INFINITY);
        assert!(error(&[1.0, f64::NAN], &[1.0, 2.0]).is_nan());
        assert!(larger((0.0, 0.0), (f64::NAN, 1.0)).0.is_nan());
        assert!(larger((f64::NAN, 0.0), (1.0, 1.0)).0.is_nan());
    }

    #[test]
    fn a_case_with_the_wrong_answer_is_seen() {
        let wrong = Case {
            op: "relu",
            shapes: &[&[3, 5]],
            apply: |form, t| match form {
                Form::Definition => ops::relu_as(form, &t[0]),
                _ => Ok(t[0].clone()), // no ReLU at all
            },
        };
        let (forward, backward) = errors(&wrong, Form::Kernel, DType::F32, &Device::Cpu).unwrap();
        assert!(forward > 0.1 && backward > 0.1, "{forward} {backward}");
    }
}
