//! Convolution: every form against the definition, candle, PyTorch and finite differences.

mod common;

use candle_core::{DType, Device, Result, Tensor};
use common::{cases, gradient_error, output_and_grads, pair, pick, random, rel_l2};
use convzoo::ops::conv2d::{Conv2dShape, definition};
use convzoo::ops::{self, Conv2dParams, Form, Im2col, conv2d_as};
use convzoo::rng::Rng;

const FORMS: [Form; 3] = [Form::Definition, Form::Kernel, Form::Portable];

/// A random convolution that fits, with its input, weight and bias.
struct Case {
    params: Conv2dParams,
    inputs: Vec<Tensor>,
}

impl Case {
    fn new(rng: &mut Rng) -> Case {
        let groups = if rng.chance(0.3) { pick(rng, 2, 3) } else { 1 };
        let channels = groups * pick(rng, 1, 3);
        let out = groups * pick(rng, 1, 3);
        let kernel = (pick(rng, 1, 4), pick(rng, 1, 4));
        let mut two = |low, high| (pick(rng, low, high), pick(rng, low, high));
        let (stride, padding, dilation) = (two(1, 3), two(0, 3), two(1, 2));
        let reach = |k: usize, d: usize, p: usize| (d * (k - 1) + 1).saturating_sub(2 * p).max(1);
        let height = reach(kernel.0, dilation.0, padding.0) + pick(rng, 0, 7);
        let width = reach(kernel.1, dilation.1, padding.1) + pick(rng, 0, 7);
        // Now and then so large that the kernel cuts it into several tiles.
        let (height, width) =
            if rng.chance(0.05) { (height + 30, width + 30) } else { (height, width) };
        let batch = pick(rng, 1, if height < 5 { 9 } else { 2 });
        let mut inputs = vec![
            random(rng, &[batch, channels, height, width]),
            random(rng, &[out, channels / groups, kernel.0, kernel.1]),
        ];
        if rng.chance(0.5) {
            inputs.push(random(rng, &[out]));
        }
        Case { params: Conv2dParams { stride, padding, dilation, groups }, inputs }
    }

    fn run(&self, form: Form, inputs: &[Tensor]) -> Result<Tensor> {
        Ok(conv2d_as(form, &inputs[0], &inputs[1], inputs.get(2), &self.params)?)
    }

    fn describe(&self) -> String {
        let shapes: Vec<_> = self.inputs.iter().map(|t| t.dims().to_vec()).collect();
        format!("{shapes:?} {:?}", self.params)
    }
}

#[test]
fn forms_agree_with_the_definition() -> Result<()> {
    for seed in 0..cases() {
        let mut rng = Rng::stream(seed, "conv2d forms", &[]);
        let case = Case::new(&mut rng);
        let y = case.run(Form::Definition, &case.inputs)?;
        let gy = random(&mut rng, y.dims());
        let run = |form| output_and_grads(&case.inputs, Some(&gy), |t| case.run(form, t));
        let (_, expected) = run(Form::Definition)?;
        for form in [Form::Kernel, Form::Portable] {
            let (out, grads) = run(form)?;
            assert!(rel_l2(&out, &y) < 1e-12, "{form:?} {}", case.describe());
            for (grad, expected) in grads.iter().zip(&expected) {
                assert!(rel_l2(grad, expected) < 1e-11, "{form:?} {}", case.describe());
            }
        }
    }
    Ok(())
}

#[test]
fn the_definition_is_the_sliding_window() -> Result<()> {
    for seed in 0..cases() {
        let case = Case::new(&mut Rng::stream(seed, "conv2d window", &[]));
        let [x, w] = [&case.inputs[0], &case.inputs[1]];
        let shape = Conv2dShape::new(x.dims(), w.dims(), &case.params)?;
        let bias = case.inputs.get(2).map(common::values);
        let y = definition::sliding_window(
            &shape,
            &common::values(x),
            &common::values(w),
            bias.as_deref(),
        );
        let y = Tensor::from_vec(y, &shape.output()[..], &Device::Cpu)?;
        let error = rel_l2(&case.run(Form::Definition, &case.inputs)?, &y);
        assert!(error < 1e-13, "{error} {}", case.describe());
    }
    Ok(())
}

#[test]
fn gradients_agree_with_finite_differences() -> Result<()> {
    for seed in 0..cases() {
        let mut rng = Rng::stream(seed, "conv2d gradients", &[]);
        let case = Case::new(&mut rng);
        for form in FORMS {
            let error = gradient_error(&mut rng, &case.inputs, |t| case.run(form, t))?;
            assert!(error < 1e-7, "{error} {form:?} {}", case.describe());
        }
    }
    Ok(())
}

#[test]
fn agrees_with_candle_where_candle_is_right() -> Result<()> {
    for seed in 0..cases() {
        let mut rng = Rng::stream(seed, "conv2d candle", &[]);
        let mut case = Case::new(&mut rng);
        case.inputs.truncate(2);
        let p = &mut case.params;
        (p.padding.1, p.stride.1, p.dilation.1) = (p.padding.0, p.stride.0, p.dilation.0);
        if Conv2dShape::new(case.inputs[0].dims(), case.inputs[1].dims(), p).is_err() {
            continue; // the squared settings no longer fit
        }
        let p = case.params;
        let candle =
            |t: &[Tensor]| t[0].conv2d(&t[1], p.padding.0, p.stride.0, p.dilation.0, p.groups);
        let y = candle(&case.inputs)?;
        let ours = case.run(Form::Kernel, &case.inputs)?;
        assert!(rel_l2(&ours, &y) < 1e-12, "{}", case.describe());
        if p.stride.0 == 1 {
            let gy = random(&mut rng, y.dims());
            let (_, expected) = output_and_grads(&case.inputs, Some(&gy), candle)?;
            let (_, grads) =
                output_and_grads(&case.inputs, Some(&gy), |t| case.run(Form::Kernel, t))?;
            for (grad, expected) in grads.iter().zip(&expected) {
                assert!(rel_l2(grad, expected) < 1e-11, "{}", case.describe());
            }
        }
    }
    Ok(())
}

#[test]
fn agrees_with_pytorch() -> Result<()> {
    let Some(recorded) = common::recorded_ops("conv2d") else { return Ok(()) };
    assert!(recorded.len() >= 19);
    for (name, p, t) in recorded {
        let params = Conv2dParams {
            stride: pair(&p["stride"]),
            padding: pair(&p["padding"]),
            dilation: pair(&p["dilation"]),
            groups: p["groups"].as_u64().unwrap() as usize,
        };
        let keys = if t.contains_key("b") { vec!["x", "w", "b"] } else { vec!["x", "w"] };
        for (dtype, tolerance) in [(DType::F32, 2e-6), (DType::F64, 1e-12)] {
            let inputs = keys.iter().map(|k| t[*k].to_dtype(dtype)).collect::<Result<Vec<_>>>()?;
            let gy = t["gy"].to_dtype(dtype)?;
            for form in FORMS {
                let case = Case { params, inputs: inputs.clone() };
                let (y, grads) = output_and_grads(&inputs, Some(&gy), |t| case.run(form, t))?;
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
fn col2im_is_the_adjoint_of_im2col() {
    for seed in 0..cases() {
        let mut rng = Rng::stream(seed, "adjoint", &[]);
        let case = Case::new(&mut rng);
        let shape = Conv2dShape::new(case.inputs[0].dims(), case.inputs[1].dims(), &case.params)
            .expect("made to fit");
        let window: Im2col = shape.window;
        let x = common::values(&random(&mut rng, &[window.pixels()]));
        let col = common::values(&random(&mut rng, &[window.rows() * window.cols()]));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let forward = dot(&ops::im2col(&window, &x), &col); // ⟨im2col(x), col⟩
        let backward = dot(&x, &ops::col2im(&window, &col)); // ⟨x, col2im(col)⟩
        assert!((forward - backward).abs() < 1e-10, "{forward} {backward} {window:?}");
    }
}

#[test]
fn the_bits_do_not_depend_on_the_threads() -> Result<()> {
    let mut rng = Rng::new(5);
    for _ in 0..20 {
        let case = Case::new(&mut rng);
        let inputs =
            case.inputs.iter().map(|t| t.to_dtype(DType::F32)).collect::<Result<Vec<_>>>()?;
        let bits = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| -> Result<Vec<Vec<f64>>> {
                let (y, mut all) = output_and_grads(&inputs, None, |t| case.run(Form::Kernel, t))?;
                all.push(y);
                Ok(all.iter().map(common::values).collect())
            })
        };
        let one = bits(1)?;
        assert_eq!(one, bits(2)?);
        assert_eq!(one, bits(4)?);
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused_by_name() -> Result<()> {
    let x = Tensor::zeros((1, 4, 5, 5), DType::F32, &Device::Cpu)?;
    let weight = |shape: [usize; 4]| Tensor::zeros(&shape, DType::F32, &Device::Cpu);
    let ok = Conv2dParams::default();
    let refused = |w: [usize; 4], params: Conv2dParams, word: &str| -> Result<()> {
        let error = ops::conv2d(&x, &weight(w)?, None, &params).unwrap_err().to_string();
        assert!(error.starts_with("conv2d: ") && error.contains(word), "{error}");
        Ok(())
    };
    refused([2, 3, 3, 3], ok, "second dimension must be 4")?;
    refused([2, 4, 7, 3], ok, "must fit")?;
    refused([2, 4, 3, 3], Conv2dParams { stride: (0, 1), ..ok }, "must not be 0")?;
    refused([2, 4, 3, 3], Conv2dParams { dilation: (4, 1), ..ok }, "must fit")?;
    refused([3, 2, 3, 3], Conv2dParams { groups: 2, ..ok }, "divisible by groups")?;
    refused([3, 2, 3, 3], Conv2dParams { groups: 0, ..ok }, "divisible by groups")?;
    let bias = Tensor::zeros(3, DType::F32, &Device::Cpu)?;
    let error = ops::conv2d(&x, &weight([2, 4, 3, 3])?, Some(&bias), &ok).unwrap_err();
    assert!(error.to_string().contains("shape [2]"), "{error}");
    let whole = Tensor::zeros((1, 4, 5, 5), DType::U32, &Device::Cpu)?;
    let w = Tensor::zeros((2, 4, 3, 3), DType::U32, &Device::Cpu)?;
    assert!(ops::conv2d(&whole, &w, None, &ok).is_err());
    Ok(())
}
