//! Linear layers, ReLU, dropout and cross-entropy: every form against the definition, PyTorch and
//! finite differences.

mod common;

use candle_core::{DType, Device, Result, Tensor, Var};
use common::{cases, gradient_error, output_and_grads, pick, random, rel_l2, values};
use convzoo::ops::{
    self, CrossEntropyParams, Form, Reduction, add_relu_as, cross_entropy_as, dropout_as,
    linear_as, relu_as,
};
use convzoo::rng::Rng;

const FORMS: [Form; 3] = [Form::Definition, Form::Kernel, Form::Portable];

/// Compares output and gradients of the kernel and the portable form with the definition's.
fn forms_agree(
    rng: &mut Rng,
    inputs: &[Tensor],
    what: &str,
    f: impl Fn(Form, &[Tensor]) -> Result<Tensor>,
) -> Result<()> {
    let gy = random(rng, f(Form::Definition, inputs)?.dims());
    let run = |form| output_and_grads(inputs, Some(&gy), |t| f(form, t));
    let (y, expected) = run(Form::Definition)?;
    for form in [Form::Kernel, Form::Portable] {
        let (out, grads) = run(form)?;
        assert!(rel_l2(&out, &y) < 1e-12, "{form:?} {what}");
        for (grad, expected) in grads.iter().zip(&expected) {
            assert!(rel_l2(grad, expected) < 1e-11, "{form:?} {what}");
        }
    }
    Ok(())
}

/// The bits of output and gradients of the kernel, in f32, on 1, 2 and 4 threads, must be equal.
fn bits_agree(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor> + Sync) -> Result<()> {
    let inputs = inputs.iter().map(|t| t.to_dtype(DType::F32)).collect::<Result<Vec<_>>>()?;
    let bits = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| -> Result<Vec<Vec<u64>>> {
            let (y, mut all) = output_and_grads(&inputs, None, &f)?;
            all.push(y);
            let bits = |t| values(t).into_iter().map(f64::to_bits).collect();
            Ok(all.iter().map(bits).collect())
        })
    };
    let one = bits(1)?;
    assert_eq!(one, bits(2)?);
    assert_eq!(one, bits(4)?);
    Ok(())
}

/// An op's error must begin with its name and say `word`.
fn refused(op: &str, result: convzoo::Result<Tensor>, word: &str) {
    let error = result.unwrap_err().to_string();
    assert!(error.starts_with(&format!("{op}: ")) && error.contains(word), "{error}");
}

fn from(values: &[f64]) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap()
}

// Linear

/// x, weight and, in half of the cases, bias.
fn linear_inputs(rng: &mut Rng) -> Vec<Tensor> {
    // Now and then so large that the kernel cuts its products into blocks.
    let high = if rng.chance(0.05) { 150 } else { 9 };
    let (n, i, o) = (pick(rng, 1, high), pick(rng, 1, high), pick(rng, 1, high));
    let mut inputs = vec![random(rng, &[n, i]), random(rng, &[o, i])];
    inputs.extend(rng.chance(0.5).then(|| random(rng, &[o])));
    inputs
}

fn linear(form: Form, t: &[Tensor]) -> Result<Tensor> {
    Ok(linear_as(form, &t[0], &t[1], t.get(2))?)
}

#[test]
fn linear_forms_agree_and_gradients_are_right() -> Result<()> {
    for seed in 0..cases() {
        let mut rng = Rng::stream(seed, "linear", &[]);
        let inputs = linear_inputs(&mut rng);
        let what = format!("x {:?}, w {:?}", inputs[0].dims(), inputs[1].dims());
        forms_agree(&mut rng, &inputs, &what, linear)?;
        for form in FORMS {
            let error = gradient_error(&mut rng, &inputs, |t| linear(form, t))?;
            assert!(error < 1e-6, "{error} {form:?} {what}");
        }
    }
    Ok(())
}

#[test]
fn linear_cuts_large_products_rightly() -> Result<()> {
    let mut rng = Rng::new(1);
    // One row; few rows; as many rows as columns; so many rows that they are cut. None fits blocks.
    for (n, i, o) in [(1, 700, 403), (5, 300, 203), (70, 90, 71), (33, 41, 601), (601, 40, 33)] {
        let inputs = [random(&mut rng, &[n, i]), random(&mut rng, &[o, i]), random(&mut rng, &[o])];
        forms_agree(&mut rng, &inputs, &format!("{n}x{i} to {o}"), linear)?;
        bits_agree(&inputs, |t| linear(Form::Kernel, t))?;
    }
    Ok(())
}

#[test]
fn linear_agrees_with_pytorch() -> Result<()> {
    let Some(recorded) = common::recorded_ops("linear") else { return Ok(()) };
    assert!(recorded.len() >= 2);
    for (name, _, t) in recorded {
        let keys: Vec<_> = ["x", "w", "b"].into_iter().filter(|k| t.contains_key(*k)).collect();
        for (dtype, tolerance) in [(DType::F32, 2e-6), (DType::F64, 1e-12)] {
            let inputs = keys.iter().map(|k| t[*k].to_dtype(dtype)).collect::<Result<Vec<_>>>()?;
            let gy = t["gy"].to_dtype(dtype)?;
            for form in FORMS {
                let (y, grads) = output_and_grads(&inputs, Some(&gy), |t| linear(form, t))?;
                let error = rel_l2(&y, &t["y.f64"]);
                assert!(error < tolerance, "{name} {form:?} {dtype:?}: y is {error} off");
                for (key, grad) in keys.iter().zip(&grads) {
                    let error = rel_l2(grad, &t[&format!("d{key}.f64")]);
                    assert!(error < tolerance, "{name} {form:?} {dtype:?}: d{key} is {error} off");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn linear_refuses_by_name_and_takes_no_rows() -> Result<()> {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
    let (x, w) = (zeros(&[2, 3])?, zeros(&[4, 3])?);
    refused("linear", ops::linear(&zeros(&[2, 3, 1, 1])?, &w, None), "flatten");
    refused("linear", ops::linear(&x, &zeros(&[3, 4])?, None), "same second dimension");
    refused("linear", ops::linear(&x, &w, Some(&zeros(&[3])?)), "shape [4]");
    refused("linear", ops::linear(&x, &w.to_dtype(DType::F64)?, None), "one type");
    let whole = |t: &Tensor| t.to_dtype(DType::U32);
    refused("linear", ops::linear(&whole(&x)?, &whole(&w)?, None), "floating-point");
    assert_eq!(ops::linear(&zeros(&[0, 3])?, &w, None)?.dims(), [0, 4]);
    Ok(())
}

// ReLU

#[test]
fn relu_forms_agree_and_gradients_are_right() -> Result<()> {
    let one = |form: Form, t: &[Tensor]| Ok(relu_as(form, &t[0])?);
    let sum = |form: Form, t: &[Tensor]| Ok(add_relu_as(form, &t[0], &t[1])?);
    for seed in 0..cases() {
        let mut rng = Rng::stream(seed, "relu", &[]);
        let shape = [pick(&mut rng, 1, 4), pick(&mut rng, 1, 5), pick(&mut rng, 1, 9)];
        let inputs = [random(&mut rng, &shape), random(&mut rng, &shape)];
        forms_agree(&mut rng, &inputs[..1], "relu", one)?;
        forms_agree(&mut rng, &inputs, "add_relu", sum)?;
        for form in FORMS {
            let error = gradient_error(&mut rng, &inputs[..1], |t| one(form, t))?;
            assert!(error < 1e-7, "relu: {error} {form:?}");
            let error = gradient_error(&mut rng, &inputs, |t| sum(form, t))?;
            assert!(error < 1e-7, "add_relu: {error} {form:?}");
        }
    }
    let large = [random(&mut Rng::new(1), &[70_001]), random(&mut Rng::new(2), &[70_001])];
    bits_agree(&large, |t| sum(Form::Kernel, t))
}

#[test]
fn relu_is_right_at_zero_nan_and_infinity() -> Result<()> {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let x = from(&[-1.0, -0.0, 0.0, 2.0, nan, inf, -inf]);
    for form in FORMS {
        let run = |t: &[Tensor]| Ok(relu_as(form, &t[0])?);
        let gy = from(&[3.0; 7]);
        let (y, grads) = output_and_grads(std::slice::from_ref(&x), Some(&gy), run)?;
        let y = values(&y);
        assert_eq!((&y[..4], y[5], y[6]), (&[0.0, 0.0, 0.0, 2.0][..], inf, 0.0), "{form:?}");
        assert!(y[4].is_nan(), "{form:?}");
        // PyTorch's: 0 where the output is at most 0.
        assert_eq!(values(&grads[0]), [0.0, 0.0, 0.0, 3.0, 3.0, 3.0, 0.0], "{form:?}");

        let y = values(&add_relu_as(form, &x, &from(&[1.0, 0.0, -1.0, nan, 1.0, -inf, 1.0]))?);
        assert_eq!((&y[..3], y[6]), (&[0.0; 3][..], 0.0), "{form:?}");
        assert!(y[3..6].iter().all(|y| y.is_nan()), "{form:?}");
    }
    let half = x.to_dtype(DType::BF16)?;
    assert_eq!(values(&relu_as(Form::Portable, &half)?)[..4], [0.0, 0.0, 0.0, 2.0]);
    refused("relu", relu_as(Form::Kernel, &half), "f32 and f64");
    refused("add_relu", ops::add_relu(&x, &from(&[1.0])), "same shape");
    Ok(())
}

// Dropout

#[test]
fn dropout_is_one_mask_in_every_form() -> Result<()> {
    for seed in 0..cases() {
        let mut rng = Rng::stream(seed, "dropout", &[]);
        let shape = [pick(&mut rng, 1, 9), pick(&mut rng, 1, 9)];
        let inputs = [random(&mut rng, &shape)];
        let p = [0.0, 0.2, 0.5, rng.uniform(), 1.0][rng.below(5)];
        let run = |form: Form, t: &[Tensor]| Ok(dropout_as(form, &t[0], p, &mut Rng::new(seed))?);
        forms_agree(&mut rng, &inputs, &format!("p = {p}"), run)?;
        for form in FORMS {
            let error = gradient_error(&mut rng, &inputs, |t| run(form, t))?;
            assert!(error < 1e-7, "{error} {form:?} p = {p}");
        }
    }
    let large = [random(&mut Rng::new(1), &[70_001])];
    bits_agree(&large, |t| Ok(ops::dropout(&t[0], 0.4, &mut Rng::new(3))?))
}

#[test]
fn dropout_keeps_its_share_and_the_mean() -> Result<()> {
    let n = 200_000;
    let ones = Tensor::ones(n, DType::F64, &Device::Cpu)?;
    let mut rng = Rng::new(11);
    for p in [0.1, 0.5, 0.8] {
        let first = values(&ops::dropout(&ones, p, &mut rng)?);
        let second = values(&ops::dropout(&ones, p, &mut rng)?);
        let kept = |y: &[f64]| y.iter().filter(|&&y| y != 0.0).count() as f64 / n as f64;
        assert!((kept(&first) - (1.0 - p)).abs() < 0.005, "{p}: kept {}", kept(&first));
        assert!(first.iter().all(|&y| y == 0.0 || y == 1.0 / (1.0 - p)));
        assert!((first.iter().sum::<f64>() / n as f64 - 1.0).abs() < 0.02);
        // Masks of two calls, and of neighbours within one, are independent.
        let both = |a: &[f64], b: &[f64]| {
            a.iter().zip(b).filter(|(a, b)| **a != 0.0 && **b != 0.0).count() as f64 / n as f64
        };
        assert!((both(&first, &second) - (1.0 - p).powi(2)).abs() < 0.005, "{p}");
        assert!((both(&first, &first[1..]) - (1.0 - p).powi(2)).abs() < 0.005, "{p}");
    }
    Ok(())
}

#[test]
fn dropout_at_its_ends() -> Result<()> {
    let x = random(&mut Rng::new(1), &[3, 50]);
    let mut rng = Rng::new(2);
    assert_eq!(values(&ops::dropout(&x, 0.0, &mut rng)?), values(&x));
    assert_ne!(rng.next_u64(), Rng::new(2).next_u64(), "every call takes a number");
    for form in FORMS {
        let y = dropout_as(form, &x, 1.0, &mut rng)?;
        assert!(values(&y).iter().all(|&y| y == 0.0), "{form:?}");
    }
    let half = dropout_as(Form::Portable, &x.to_dtype(DType::BF16)?, 0.5, &mut rng)?;
    assert_eq!(half.dtype(), DType::BF16);
    for p in [-0.1, 1.1, f64::NAN] {
        refused("dropout", ops::dropout(&x, p, &mut rng), "between 0 and 1");
    }
    Ok(())
}

// Cross-entropy

struct Loss {
    logits: [Tensor; 1],
    labels: Vec<u32>,
    params: CrossEntropyParams,
}

impl Loss {
    fn new(rng: &mut Rng) -> Loss {
        let (rows, classes) = (pick(rng, 1, 7), pick(rng, 1, 9));
        let labels = (0..rows).map(|_| rng.below(classes) as u32).collect();
        let weights = rng.chance(0.4).then(|| (0..classes).map(|_| rng.range(0.1, 2.0)).collect());
        let params = CrossEntropyParams {
            label_smoothing: [0.0, 0.1, rng.uniform()][rng.below(3)],
            class_weights: weights,
            reduction: if rng.chance(0.5) { Reduction::Mean } else { Reduction::Sum },
        };
        Loss { logits: [(random(rng, &[rows, classes]) * 4.0).unwrap()], labels, params }
    }

    fn run(&self, form: Form, t: &[Tensor]) -> Result<Tensor> {
        Ok(cross_entropy_as(form, &t[0], &self.labels, &self.params)?)
    }
}

#[test]
fn cross_entropy_forms_agree_and_gradients_are_right() -> Result<()> {
    for seed in 0..cases() {
        let mut rng = Rng::stream(seed, "cross-entropy", &[]);
        let case = Loss::new(&mut rng);
        let what = format!("{:?} {:?}", case.logits[0].dims(), case.params);
        let gy = random(&mut rng, &[]);
        let run = |form| output_and_grads(&case.logits, Some(&gy), |t| case.run(form, t));
        let (y, expected) = run(Form::Definition)?;
        assert_eq!(y.rank(), 0);
        for form in FORMS {
            let (out, grads) = run(form)?;
            let apart = |a: &Tensor, b: &Tensor| -> Result<f64> {
                (a - b)?.abs()?.flatten_all()?.max(0)?.to_scalar()
            };
            assert!(apart(&out, &y)? < 1e-12, "{form:?} {what}"); // of one class it is 0
            assert!(apart(&grads[0], &expected[0])? < 1e-13, "{form:?} {what}");
            let error = gradient_error(&mut rng, &case.logits, |t| case.run(form, t))?;
            assert!(error < 1e-6, "{error} {form:?} {what}");
        }
    }
    Ok(())
}

#[test]
fn cross_entropy_agrees_with_candle() -> Result<()> {
    for seed in 0..cases() {
        let mut rng = Rng::stream(seed, "cross-entropy candle", &[]);
        let case = Loss { params: Default::default(), ..Loss::new(&mut rng) };
        let labels = Tensor::new(&case.labels[..], &Device::Cpu)?;
        let candle = |t: &[Tensor]| candle_nn::loss::cross_entropy(&t[0], &labels);
        let (y, expected) = output_and_grads(&case.logits, None, candle)?;
        let (ours, grads) = output_and_grads(&case.logits, None, |t| case.run(Form::Kernel, t))?;
        assert!((values(&ours)[0] - values(&y)[0]).abs() < 1e-13);
        for (a, b) in values(&grads[0]).iter().zip(values(&expected[0])) {
            assert!((a - b).abs() < 1e-13);
        }
    }
    Ok(())
}

#[test]
fn cross_entropy_agrees_with_pytorch() -> Result<()> {
    let Some(recorded) = common::recorded_ops("cross_entropy") else { return Ok(()) };
    assert!(recorded.len() >= 4);
    for (name, p, t) in recorded {
        let sum = p["reduction"] == "sum";
        let params = CrossEntropyParams {
            label_smoothing: p["label_smoothing"].as_f64().unwrap(),
            class_weights: t.get("class_weight").map(values),
            reduction: if sum { Reduction::Sum } else { Reduction::Mean },
        };
        let labels = values(&t["labels"]).into_iter().map(|label| label as u32).collect();
        for (dtype, tolerance) in [(DType::F32, 2e-6), (DType::F64, 1e-12)] {
            let case = Loss {
                logits: [t["x"].to_dtype(dtype)?],
                labels: Vec::clone(&labels),
                params: params.clone(),
            };
            for form in FORMS {
                let (y, grads) = output_and_grads(&case.logits, None, |t| case.run(form, t))?;
                let error = rel_l2(&y, &t["y.f64"].reshape(())?);
                assert!(error < tolerance, "{name} {form:?} {dtype:?}: y is {error} off");
                let error = rel_l2(&grads[0], &t["dx.f64"]);
                assert!(error < tolerance, "{name} {form:?} {dtype:?}: dx is {error} off");
            }
        }
    }
    Ok(())
}

#[test]
fn cross_entropy_of_extreme_logits() -> Result<()> {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let smooth = CrossEntropyParams { label_smoothing: 0.1, ..Default::default() };
    let logits = |rows: [[f64; 3]; 2]| Tensor::new(&rows, &Device::Cpu);
    for form in FORMS {
        let loss = |rows, params: &CrossEntropyParams| -> Result<f64> {
            cross_entropy_as(form, &logits(rows)?, &[0, 1], params)?.to_scalar()
        };
        let plain = CrossEntropyParams::default();
        assert_eq!(loss([[1e4, 0.0, -1e4], [-1e6, 1e6, 0.0]], &plain)?, 0.0, "{form:?}");
        assert_eq!(loss([[0.0, 1e4, 0.0], [0.0, 0.0, 2e4]], &plain)?, 1.5e4, "{form:?}");
        let even = loss([[0.0, 0.0, -inf], [0.0, 0.0, -inf]], &plain)?;
        assert!((even - 2f64.ln()).abs() < 1e-15, "{form:?} {even}");
        assert_eq!(loss([[0.0, 0.0, -inf], [0.0, 0.0, 0.0]], &smooth)?, inf, "{form:?}");
        for at in 0..3 {
            for bad in [nan, inf] {
                let mut rows = [[0.0; 3]; 2];
                rows[1][at] = bad;
                assert!(loss(rows, &smooth)?.is_nan(), "{form:?} {bad} at {at}");
            }
            let mut rows = [[0.0; 3]; 2];
            rows[1][at] = nan;
            assert!(loss(rows, &plain)?.is_nan(), "{form:?} NaN at {at}");
        }
    }
    let half = logits([[1.0, 0.0, -1.0], [0.5, 2.0, 0.0]])?;
    let exact: f64 = ops::cross_entropy(&half, &[0, 1], &smooth)?.to_scalar()?;
    let half = Var::from_tensor(&half.to_dtype(DType::BF16)?)?;
    let loss = cross_entropy_as(Form::Portable, &half, &[0, 1], &smooth)?;
    assert!((values(&loss)[0] - exact).abs() < 0.01 && loss.dtype() == DType::BF16);
    assert_eq!(loss.backward()?.get(&half).map(|g| g.dtype()), Some(DType::BF16));
    Ok(())
}

#[test]
fn cross_entropy_does_not_depend_on_threads_and_refuses_by_name() -> Result<()> {
    let mut rng = Rng::new(7);
    let labels: Vec<u32> = (0..200).map(|_| rng.below(101) as u32).collect();
    let params = CrossEntropyParams { label_smoothing: 0.1, ..Default::default() };
    let logits = [random(&mut rng, &[200, 101])];
    bits_agree(&logits, |t| Ok(ops::cross_entropy(&t[0], &labels, &params)?))?;

    let x = random(&mut rng, &[2, 3]);
    let run = |labels: &[u32], params| ops::cross_entropy(&x, labels, &params);
    let ok = CrossEntropyParams::default;
    refused("cross_entropy", run(&[0, 3], ok()), "label 3 in row 1; labels must be below 3");
    refused("cross_entropy", run(&[0], ok()), "1 labels for logits [2, 3]");
    let smoothing = CrossEntropyParams { label_smoothing: 1.5, ..ok() };
    refused("cross_entropy", run(&[0, 1], smoothing), "label smoothing 1.5");
    for weights in [vec![1.0; 2], vec![1.0, -1.0, 1.0], vec![1.0, f64::NAN, 1.0]] {
        let weighted = CrossEntropyParams { class_weights: Some(weights), ..ok() };
        refused("cross_entropy", run(&[0, 1], weighted), "it needs 3 numbers");
    }
    let flat = random(&mut rng, &[6]);
    refused("cross_entropy", ops::cross_entropy(&flat, &[0], &ok()), "[N, C]");
    let none = Tensor::zeros((0, 3), DType::F64, &Device::Cpu)?;
    refused("cross_entropy", ops::cross_entropy(&none, &[], &ok()), "at least one row");
    Ok(())
}
