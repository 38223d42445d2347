//! Local response normalisation: every form against the definition, PyTorch and finite differences.

mod common;

use candle_core::{DType, Device, Result, Tensor};
use common::{cases, gradient_error, output_and_grads, pick, random, rel_l2, values};
use convzoo::ops::{self, Form, LrnParams, local_response_norm_as};
use convzoo::rng::Rng;

const FORMS: [Form; 3] = [Form::Definition, Form::Kernel, Form::Portable];

/// A random normalisation with its input.
fn random_case(rng: &mut Rng) -> (LrnParams, Tensor) {
    let params = LrnParams {
        size: pick(rng, 1, 7),
        alpha: rng.range(0.1, 2.0),
        beta: [0.5, 0.75, 1.0, rng.range(0.2, 1.5)][rng.below(4)],
        k: rng.range(0.5, 2.0),
    };
    let channels = pick(rng, 1, 9);
    // Now and then more than one block of pixels.
    let large = if rng.chance(0.1) { 10 } else { 0 };
    let (height, width) = (pick(rng, 1, 5) + large, pick(rng, 1, 5) + large);
    let batch = pick(rng, 1, 3);
    (params, random(rng, &[batch, channels, height, width]))
}

fn run_both(
    params: &LrnParams,
    form: Form,
    x: &Tensor,
    gy: Option<&Tensor>,
) -> Result<(Tensor, Tensor)> {
    let run = |t: &[Tensor]| Ok(local_response_norm_as(form, &t[0], params)?);
    let (y, grads) = output_and_grads(std::slice::from_ref(x), gy, run)?;
    Ok((y, grads[0].clone()))
}

#[test]
fn forms_agree_with_the_definition() -> Result<()> {
    for seed in 0..cases() {
        let mut rng = Rng::stream(seed, "lrn forms", &[]);
        let (params, x) = random_case(&mut rng);
        let gy = random(&mut rng, x.dims());
        let (y, dx) = run_both(&params, Form::Definition, &x, Some(&gy))?;
        for form in [Form::Kernel, Form::Portable] {
            let (out, grad) = run_both(&params, form, &x, Some(&gy))?;
            assert!(rel_l2(&out, &y) < 1e-13, "{form:?} {:?} {params:?}", x.dims());
            assert!(rel_l2(&grad, &dx) < 1e-12, "{form:?} {:?} {params:?}", x.dims());
        }
    }
    Ok(())
}

#[test]
fn gradients_agree_with_finite_differences() -> Result<()> {
    for seed in 0..cases() {
        let mut rng = Rng::stream(seed, "lrn gradients", &[]);
        let (params, x) = random_case(&mut rng);
        for form in FORMS {
            let error = gradient_error(&mut rng, std::slice::from_ref(&x), |t| {
                Ok(local_response_norm_as(form, &t[0], &params)?)
            })?;
            assert!(error < 1e-7, "{error} {form:?} {:?} {params:?}", x.dims());
        }
    }
    Ok(())
}

#[test]
fn agrees_with_pytorch() -> Result<()> {
    let Some(recorded) = common::recorded_ops("local_response_norm") else { return Ok(()) };
    assert!(recorded.len() >= 4);
    for (name, p, t) in recorded {
        let number = |key: &str| p[key].as_f64().expect("a number");
        let params = LrnParams {
            size: number("size") as usize,
            alpha: number("alpha"),
            beta: number("beta"),
            k: number("k"),
        };
        for (dtype, tolerance) in [(DType::F32, 2e-6), (DType::F64, 1e-12)] {
            let (x, gy) = (t["x"].to_dtype(dtype)?, t["gy"].to_dtype(dtype)?);
            for form in FORMS {
                let (y, dx) = run_both(&params, form, &x, Some(&gy))?;
                for (what, found) in [("y", y), ("dx", dx)] {
                    let error = rel_l2(&found, &t[&format!("{what}.f64")]);
                    assert!(error < tolerance, "{name} {form:?} {dtype:?}: {what} is {error} off");
                }
            }
        }
    }
    Ok(())
}

/// What a large value leaves behind must not reach channels that do not see it.
#[test]
fn a_channel_sees_its_window_alone() -> Result<()> {
    let params = LrnParams { size: 4, alpha: 1.0, beta: 0.75, k: 1.0 };
    for large in [1e18, f64::INFINITY, f64::NAN] {
        let mut x = vec![0.5; 9];
        x[2] = large;
        let x = Tensor::from_vec(x, (1, 9, 1, 1), &Device::Cpu)?.to_dtype(DType::F32)?;
        let small = Tensor::full(0.5f32, (1, 9, 1, 1), &Device::Cpu)?;
        for form in FORMS {
            let y = values(&local_response_norm_as(form, &x, &params)?);
            let alone = values(&local_response_norm_as(form, &small, &params)?);
            // Channel c adds up c-2 ..= c+1: channels 1 to 4 see channel 2.
            assert_eq!(y[0], alone[0], "{form:?} {large}");
            assert_eq!(y[5..], alone[5..], "{form:?} {large}");
            assert!((1..5).all(|c| y[c] != alone[c]), "{form:?} {large}");
        }
    }
    Ok(())
}

#[test]
fn the_bits_do_not_depend_on_the_threads() -> Result<()> {
    let mut rng = Rng::new(5);
    for _ in 0..20 {
        let (params, x) = random_case(&mut rng);
        let x = x.to_dtype(DType::F32)?;
        let bits = |threads| {
            let threads = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            threads.install(|| -> Result<_> {
                let (y, dx) = run_both(&params, Form::Kernel, &x, None)?;
                Ok((values(&y), values(&dx)))
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
    let x = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu);
    let refused = |x: Tensor, params: LrnParams, word: &str| {
        let error = ops::local_response_norm(&x, &params).unwrap_err().to_string();
        assert!(error.starts_with("local_response_norm: ") && error.contains(word), "{error}");
    };
    let ok = LrnParams::default();
    refused(x(&[1, 3, 2, 2], DType::F32)?, LrnParams { size: 0, ..ok }, "at least one channel");
    refused(x(&[3, 2, 2], DType::F32)?, ok, "four dimensions");
    refused(x(&[1, 3, 2, 2], DType::U32)?, ok, "floating-point");
    let huge = LrnParams { size: usize::MAX, ..ok };
    for form in FORMS {
        local_response_norm_as(form, &x(&[1, 3, 2, 2], DType::F32)?, &huge)?;
    }
    Ok(())
}
