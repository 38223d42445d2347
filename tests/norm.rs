//! Batch normalisation: every form against the definition, candle, PyTorch and finite differences.

mod common;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::BatchNorm;
use common::{cases, gradient_error, output_and_grads, pick, random, rel_l2};
use convzoo::ops::{
    self, BatchNorm2dParams, BatchNormOutput, Form, batch_norm2d_as, batch_norm2d_eval_as,
};
use convzoo::rng::Rng;

const FORMS: [Form; 3] = [Form::Definition, Form::Kernel, Form::Portable];

/// A random batch normalisation; `inputs` are x, then what there is of weight, bias and residual.
struct Case {
    inputs: Vec<Tensor>,
    has: [bool; 3],
    params: BatchNorm2dParams,
    relu: bool,
    /// Running mean and variance, for an evaluation.
    running: Option<(Tensor, Tensor)>,
}

impl Case {
    fn new(rng: &mut Rng) -> Case {
        // Now and then many channels of few pixels, and few of many.
        let (channels, side) = match rng.below(10) {
            0 => (pick(rng, 30, 90), 3),
            1 => (pick(rng, 1, 3), 20),
            _ => (pick(rng, 1, 5), 6),
        };
        let shape = [pick(rng, 2, 5), channels, pick(rng, 1, side), pick(rng, 2, side)];
        let has = [rng.chance(0.7), rng.chance(0.7), rng.chance(0.5)];
        let offset = rng.range(-3.0, 3.0);
        let mut inputs = vec![(random(rng, &shape) + offset).unwrap()];
        for (has, shape) in has.iter().zip([&[channels][..], &[channels], &shape]) {
            inputs.extend(has.then(|| random(rng, shape)));
        }
        let mean = random(rng, &[channels]);
        let var = (random(rng, &[channels]) + 1.1).unwrap();
        let params = BatchNorm2dParams { eps: [1e-5, 1e-3, 0.1][rng.below(3)] };
        let (relu, training) = (rng.chance(0.5), rng.chance(0.7));
        Case { inputs, has, params, relu, running: (!training).then_some((mean, var)) }
    }

    /// x, then weight, bias and residual.
    fn split<'a>(&self, inputs: &'a [Tensor]) -> (&'a Tensor, [Option<&'a Tensor>; 3]) {
        let mut rest = inputs[1..].iter();
        (&inputs[0], self.has.map(|has| has.then(|| rest.next()).flatten()))
    }

    fn run(&self, form: Form, inputs: &[Tensor]) -> Result<Tensor> {
        let (x, [w, b, r]) = self.split(inputs);
        let Some((mean, var)) = &self.running else {
            return Ok(batch_norm2d_as(form, x, w, b, &self.params, r, self.relu)?.y);
        };
        let dtype = x.dtype();
        let (mean, var) = (&mean.to_dtype(dtype)?, &var.to_dtype(dtype)?);
        Ok(batch_norm2d_eval_as(form, x, (w, b), (mean, var), &self.params, r, self.relu)?)
    }

    fn describe(&self) -> String {
        let training = self.running.is_none();
        let shape = self.inputs[0].dims();
        format!("{shape:?} {:?} {:?} relu {} training {training}", self.has, self.params, self.relu)
    }
}

#[test]
fn forms_agree_with_the_definition() -> Result<()> {
    for seed in 0..cases() {
        let mut rng = Rng::stream(seed, "batch norm forms", &[]);
        let case = Case::new(&mut rng);
        let gy = random(&mut rng, case.inputs[0].dims());
        let run = |form| output_and_grads(&case.inputs, Some(&gy), |t| case.run(form, t));
        let (y, expected) = run(Form::Definition)?;
        for form in [Form::Kernel, Form::Portable] {
            let (out, grads) = run(form)?;
            assert!(rel_l2(&out, &y) < 1e-12, "{form:?} {}", case.describe());
            for (i, (grad, expected)) in grads.iter().zip(&expected).enumerate() {
                // Differences of almost equal sums: measured against the size of what is summed.
                let difference = (grad - expected)?.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt();
                let size = expected.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt();
                let error = difference / size.max(1.0);
                assert!(error < 1e-11, "{error} in gradient {i}, {form:?} {}", case.describe());
            }
        }
    }
    Ok(())
}

#[test]
fn gradients_agree_with_finite_differences() -> Result<()> {
    for seed in 0..cases() {
        let mut rng = Rng::stream(seed, "batch norm gradients", &[]);
        let case = Case::new(&mut rng);
        for form in FORMS {
            let error = gradient_error(&mut rng, &case.inputs, |t| case.run(form, t))?;
            assert!(error < 1e-6, "{error} {form:?} {}", case.describe());
        }
    }
    Ok(())
}

#[test]
fn statistics_are_those_of_the_batch() -> Result<()> {
    for seed in 0..cases() {
        let mut case = Case::new(&mut Rng::stream(seed, "batch norm statistics", &[]));
        case.running = None;
        let (x, [w, b, r]) = case.split(&case.inputs);
        let (batch, channels, h, w_pixels) = x.dims4()?;
        let per_channel = x.transpose(0, 1)?.reshape((channels, batch * h * w_pixels))?;
        let mean = per_channel.mean(1)?;
        let unbiased = per_channel.var(1)?;
        for form in FORMS {
            let out: BatchNormOutput = batch_norm2d_as(form, x, w, b, &case.params, r, case.relu)?;
            assert_eq!(out.count, batch * h * w_pixels);
            assert!(rel_l2(&out.mean, &mean) < 1e-12, "{form:?} {}", case.describe());
            assert!(rel_l2(&out.unbiased_var()?, &unbiased) < 1e-11, "{}", case.describe());
        }
    }
    Ok(())
}

#[test]
fn agrees_with_candle() -> Result<()> {
    for seed in 0..cases() {
        let mut rng = Rng::stream(seed, "batch norm candle", &[]);
        let mut case = Case::new(&mut rng);
        let (channels, shape) = (case.inputs[0].dim(1)?, case.inputs[0].dims().to_vec());
        (case.running, case.relu, case.has) = (None, false, [true, true, false]);
        case.inputs.truncate(1);
        case.inputs.extend([random(&mut rng, &[channels]), random(&mut rng, &[channels])]);
        let zeros = Tensor::zeros(channels, DType::F64, &Device::Cpu)?;
        let gy = random(&mut rng, &shape);
        let candle = |t: &[Tensor]| {
            let (w, b) = (t[1].clone(), t[2].clone());
            BatchNorm::new(channels, zeros.clone(), zeros.ones_like()?, w, b, case.params.eps)?
                .forward_train(&t[0])
        };
        let (y, expected) = output_and_grads(&case.inputs, Some(&gy), candle)?;
        let (ours, grads) =
            output_and_grads(&case.inputs, Some(&gy), |t| case.run(Form::Kernel, t))?;
        assert!(rel_l2(&ours, &y) < 1e-11, "{}", case.describe());
        // candle wraps weight and bias in variables of its own, which leaves the input's gradient.
        assert!((&grads[0] - &expected[0])?.abs()?.max_all()?.to_scalar::<f64>()? < 1e-9);
    }
    Ok(())
}

#[test]
fn agrees_with_pytorch() -> Result<()> {
    let Some(recorded) = common::recorded_ops("batch_norm") else { return Ok(()) };
    assert!(recorded.len() >= 5);
    for (name, p, t) in recorded {
        let number = |key: &str| p[key].as_f64().unwrap();
        let training = p["training"].as_bool().unwrap();
        let few = name.ends_with("two_values"); // which amplifies rounding
        let keys: Vec<_> = ["x", "w", "b"].into_iter().filter(|k| t.contains_key(*k)).collect();
        for (dtype, tolerance) in [(DType::F32, if few { 1e-5 } else { 2e-6 }), (DType::F64, 1e-12)]
        {
            let cast = |key: &str| t[key].to_dtype(dtype);
            let inputs = keys.iter().map(|k| cast(k)).collect::<Result<Vec<_>>>()?;
            let running = (cast("running_mean")?, cast("running_var")?);
            let case = Case {
                has: [keys.contains(&"w"), keys.contains(&"b"), false],
                inputs: inputs.clone(),
                params: BatchNorm2dParams { eps: number("eps") },
                relu: false,
                running: (!training).then(|| running.clone()),
            };
            for form in FORMS {
                let (y, grads) =
                    output_and_grads(&inputs, Some(&cast("gy")?), |t| case.run(form, t))?;
                let close = |what: &str, value: &Tensor| {
                    let error = rel_l2(value, &t[&format!("{what}.f64")]);
                    assert!(error < tolerance, "{name} {form:?} {dtype:?}: {what} is {error} off");
                };
                close("y", &y);
                for (key, grad) in keys.iter().zip(&grads) {
                    close(&format!("d{key}"), grad);
                }
                if training {
                    let (x, [w, b, _]) = case.split(&inputs);
                    let out = batch_norm2d_as(form, x, w, b, &case.params, None, false)?;
                    let after = |running, batch| {
                        ops::running_statistics_after(running, batch, number("momentum"))
                    };
                    close("running_mean_after", &after(&running.0, &out.mean)?);
                    close("running_var_after", &after(&running.1, &out.unbiased_var()?)?);
                    let (mean, var) =
                        (Var::from_tensor(&running.0)?, Var::from_tensor(&running.1)?);
                    out.update_running(&mean, &var, number("momentum"))?;
                    close("running_mean_after", &mean);
                    close("running_var_after", &var);
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_small_variance_beside_a_large_mean_is_kept() -> Result<()> {
    let mut rng = Rng::new(3);
    let x = (random(&mut rng, &[4, 3, 5, 7]) + 1e4)?.to_dtype(DType::F32)?;
    let exact = x.to_dtype(DType::F64)?;
    let params = BatchNorm2dParams::default();
    let run = |x: &Tensor, form| batch_norm2d_as(form, x, None, None, &params, None, false);
    let expected = run(&exact, Form::Definition)?;
    for form in [Form::Definition, Form::Kernel] {
        let out = run(&x, form)?;
        assert!(rel_l2(&out.var, &expected.var) < 1e-6, "{form:?}");
        assert!(rel_l2(&out.y, &expected.y) < 1e-3, "{form:?}"); // the mean is rounded to f32
    }
    // A constant channel becomes β, whatever its value.
    let constant = Tensor::full(1234.567f32, (2, 2, 3, 3), &Device::Cpu)?;
    assert_eq!(common::values(&run(&constant, Form::Kernel)?.y), vec![0.0; 36]);
    Ok(())
}

#[test]
fn nan_stays_in_its_channel() -> Result<()> {
    let mut values = common::values(&random(&mut Rng::new(4), &[2, 2, 2, 2]));
    values[1] = f64::NAN;
    let x = Tensor::from_vec(values, (2, 2, 2, 2), &Device::Cpu)?;
    for form in FORMS {
        let y = batch_norm2d_as(form, &x, None, None, &Default::default(), None, true)?.y;
        for (i, y) in common::values(&y).into_iter().enumerate() {
            assert_eq!(y.is_nan(), i / 4 % 2 == 0, "{form:?}, value {i} is {y}");
        }
    }
    Ok(())
}

#[test]
fn half_precision_runs_in_the_portable_form() -> Result<()> {
    let mut rng = Rng::new(6);
    let case = Case { running: None, ..Case::new(&mut rng) };
    let half = |dtype| case.inputs.iter().map(|t| t.to_dtype(dtype)).collect::<Result<Vec<_>>>();
    let (halves, expected) = (half(DType::BF16)?, case.run(Form::Definition, &case.inputs)?);
    let (y, grads) = output_and_grads(&halves, None, |t| case.run(Form::Portable, t))?;
    assert_eq!((y.dtype(), grads[0].dtype()), (DType::BF16, DType::BF16));
    assert!(rel_l2(&y, &expected) < 0.02);
    let (x, [w, b, r]) = case.split(&halves);
    let error = batch_norm2d_as(Form::Kernel, x, w, b, &case.params, r, false).unwrap_err();
    assert!(error.to_string().contains("f32 and f64"), "{error}");
    Ok(())
}

#[test]
fn the_bits_do_not_depend_on_the_threads() -> Result<()> {
    let mut rng = Rng::new(5);
    for _ in 0..30 {
        let case = Case::new(&mut rng);
        let inputs =
            case.inputs.iter().map(|t| t.to_dtype(DType::F32)).collect::<Result<Vec<_>>>()?;
        let gy = random(&mut rng, inputs[0].dims()).to_dtype(DType::F32)?;
        let bits = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| -> Result<Vec<Vec<u64>>> {
                let run = |t: &[Tensor]| case.run(Form::Kernel, t);
                let (y, mut all) = output_and_grads(&inputs, Some(&gy), run)?;
                all.push(y);
                let bits = |t| common::values(t).into_iter().map(f64::to_bits).collect();
                Ok(all.iter().map(bits).collect())
            })
        };
        let one = bits(1)?;
        assert_eq!(one, bits(2)?);
        assert_eq!(one, bits(4)?);
    }
    Ok(())
}

#[test]
fn what_is_not_contiguous_is_normalised_as_it_reads() -> Result<()> {
    let x = random(&mut Rng::new(8), &[3, 4, 5, 2]);
    let run = |x: &Tensor| -> Result<Vec<Tensor>> {
        let ones = output_and_grads(std::slice::from_ref(x), None, |t| {
            let turned = t[0].transpose(1, 3)?;
            Ok(ops::batch_norm2d(&turned, None, None, &Default::default(), Some(&turned), true)?.y)
        })?;
        Ok(vec![ones.0, ones.1[0].clone()])
    };
    let direct = |t: &[Tensor]| {
        Ok(ops::batch_norm2d(&t[0], None, None, &Default::default(), Some(&t[0]), true)?.y)
    };
    let (y, grads) = output_and_grads(&[x.transpose(1, 3)?.contiguous()?], None, direct)?;
    let turned = run(&x)?;
    assert!(rel_l2(&turned[0], &y) == 0.0);
    assert!(rel_l2(&turned[1].transpose(1, 3)?, &grads[0]) < 1e-14);
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused_by_name() -> Result<()> {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
    let (x, ok) = (zeros(&[2, 3, 4, 4])?, BatchNorm2dParams::default());
    let refused = |result: convzoo::Result<BatchNormOutput>, word: &str| {
        let error = result.map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with("batch_norm2d: ") && error.contains(word), "{error}");
    };
    refused(ops::batch_norm2d(&zeros(&[3, 4])?, None, None, &ok, None, false), "[N, C, H, W]");
    refused(ops::batch_norm2d(&x, Some(&zeros(&[4])?), None, &ok, None, false), "shape [3]");
    refused(ops::batch_norm2d(&x, None, Some(&zeros(&[1, 3])?), &ok, None, false), "a bias");
    refused(ops::batch_norm2d(&x, None, None, &ok, Some(&zeros(&[2, 3, 4, 1])?), false), "same");
    let one = zeros(&[1, 3, 1, 1])?;
    refused(ops::batch_norm2d(&one, None, None, &ok, None, false), "at least two");
    let negative = BatchNorm2dParams { eps: -1.0 };
    refused(ops::batch_norm2d(&x, None, None, &negative, None, false), "eps -1");
    let wide = zeros(&[3])?.to_dtype(DType::F64)?;
    refused(ops::batch_norm2d(&x, Some(&wide), None, &ok, None, false), "one type");
    let (mean, var) = (zeros(&[3])?, zeros(&[2])?);
    let error = ops::batch_norm2d_eval(&x, None, None, &mean, &var, &ok, None, false).unwrap_err();
    assert!(error.to_string().contains("running variance"), "{error}");
    let error = ops::running_statistics_after(&mean, &var, 0.1).unwrap_err();
    assert!(error.to_string().contains("[3] and [2]"), "{error}");
    Ok(())
}

#[test]
fn gradients_nobody_wants_are_not_made() -> Result<()> {
    let mut rng = Rng::new(9);
    let x = random(&mut rng, &[2, 3, 4, 4]);
    let weight = Var::from_tensor(&random(&mut rng, &[3]))?;
    let residual = Var::from_tensor(&random(&mut rng, &[2, 3, 4, 4]))?;
    for relu in [false, true] {
        let (w, r) = (Some(weight.as_tensor()), Some(residual.as_tensor()));
        let y = ops::batch_norm2d(&x, w, None, &Default::default(), r, relu)?.y;
        let grads = y.sum_all()?.backward()?;
        assert!(grads.get(&x).is_none());
        assert!(grads.get(&weight).is_some() && grads.get(&residual).is_some());
    }
    Ok(())
}
