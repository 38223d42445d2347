//! Pooling: every form against the definition, candle, PyTorch and finite differences.

mod common;

use candle_core::{DType, Device, Result, Tensor};
use common::{cases, gradient_error, output_and_grads, pair, pick, random, rel_l2, values};
use convzoo::ops::{self, AvgPool2dParams, Form, MaxPool2dParams, Pair};
use convzoo::rng::Rng;

const FORMS: [Form; 3] = [Form::Definition, Form::Kernel, Form::Portable];

/// One of the three poolings.
#[derive(Clone, Copy, Debug)]
enum Pool {
    Max(MaxPool2dParams),
    Avg(AvgPool2dParams),
    Adaptive(Pair),
}

impl Pool {
    fn run(&self, form: Form, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Pool::Max(params) => ops::max_pool2d_as(form, x, params)?,
            Pool::Avg(params) => ops::avg_pool2d_as(form, x, params)?,
            Pool::Adaptive(output) => ops::adaptive_avg_pool2d_as(form, x, *output)?,
        })
    }

    /// Output and gradient of x.
    fn run_both(&self, form: Form, x: &Tensor, gy: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        let inputs = std::slice::from_ref(x);
        let (y, grads) = output_and_grads(inputs, gy, |t| self.run(form, &t[0]))?;
        Ok((y, grads[0].clone()))
    }
}

/// A random pooling that fits a random shape [N, C, H, W].
fn random_pool(rng: &mut Rng) -> (Pool, Vec<usize>) {
    let (batch, channels) = (pick(rng, 1, 2), pick(rng, 1, 3));
    let kind = pick(rng, 0, 2);
    if kind == 2 {
        let input = (pick(rng, 1, 9), pick(rng, 1, 9));
        let output = (pick(rng, 1, 9), pick(rng, 1, 9));
        return (Pool::Adaptive(output), vec![batch, channels, input.0, input.1]);
    }
    let kernel = (pick(rng, 1, 5), pick(rng, 1, 5));
    let stride = (pick(rng, 1, 4), pick(rng, 1, 4));
    let padding = (pick(rng, 0, kernel.0 / 2), pick(rng, 0, kernel.1 / 2));
    let ceil_mode = rng.chance(0.5);
    let dilation = if kind == 0 { (pick(rng, 1, 2), pick(rng, 1, 2)) } else { (1, 1) };
    // In ceil mode a window may be wider than the picture, as long as one fits with stride - 1 more.
    let mut size = |k: usize, s: usize, p: usize, d: usize| {
        let slack = if ceil_mode { s - 1 } else { 0 };
        (d * (k - 1) + 1).saturating_sub(2 * p + slack).max(1) + pick(rng, 0, 9)
    };
    let height = size(kernel.0, stride.0, padding.0, dilation.0).max(dilation.0);
    let width = size(kernel.1, stride.1, padding.1, dilation.1).max(dilation.1);
    // Now and then so large that several threads share the work.
    let channels = if rng.chance(0.05) { 200 } else { channels };
    let pool = if kind == 0 {
        Pool::Max(MaxPool2dParams { kernel, stride, padding, dilation, ceil_mode })
    } else {
        let count_include_pad = rng.chance(0.5);
        let divisor_override = rng.chance(0.3).then(|| pick(rng, 1, 7));
        let count = (count_include_pad, divisor_override);
        Pool::Avg(AvgPool2dParams {
            kernel,
            stride,
            padding,
            ceil_mode,
            count_include_pad: count.0,
            divisor_override: count.1,
        })
    };
    (pool, vec![batch, channels, height, width])
}

/// Values for max pooling to stumble over: few different ones, infinities, NaN, or all of them.
fn awkward(rng: &mut Rng, shape: &[usize]) -> Tensor {
    let (nan, infinite) = (*pick_of(rng, &[0.0, 0.1, 0.5]), *pick_of(rng, &[0.0, 0.3, 0.95]));
    let mut value = || match () {
        _ if rng.chance(nan) => f64::NAN,
        _ if rng.chance(infinite) => f64::NEG_INFINITY,
        _ if rng.chance(0.02) => f64::INFINITY,
        _ => rng.below(3) as f64 - 1.0,
    };
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| value()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).expect("as many values as the shape has")
}

fn pick_of<'a, T>(rng: &mut Rng, items: &'a [T]) -> &'a T {
    &items[rng.below(items.len())]
}

/// Values all at least 1e-3 apart, so that a small step never changes which is the largest.
fn apart(rng: &mut Rng, shape: &[usize]) -> Tensor {
    let mut values: Vec<f64> = (0..shape.iter().product()).map(|i| i as f64 * 1e-3).collect();
    rng.shuffle(&mut values);
    Tensor::from_vec(values, shape, &Device::Cpu).expect("as many values as the shape has")
}

/// Whether two tensors have the same shape and values, NaN equal to NaN.
fn same(a: &Tensor, b: &Tensor) -> bool {
    let equal = |(a, b): (&f64, &f64)| a == b || (a.is_nan() && b.is_nan());
    a.dims() == b.dims() && values(a).iter().zip(&values(b)).all(equal)
}

#[test]
fn forms_agree_with_the_definition() -> Result<()> {
    for seed in 0..3 * cases() {
        let mut rng = Rng::stream(seed, "pooling forms", &[]);
        let (pool, shape) = random_pool(&mut rng);
        let x = random(&mut rng, &shape);
        let gy = random(&mut rng, pool.run(Form::Definition, &x)?.dims());
        let (y, dx) = pool.run_both(Form::Definition, &x, Some(&gy))?;
        for form in [Form::Kernel, Form::Portable] {
            let (out, grad) = pool.run_both(form, &x, Some(&gy))?;
            assert!(rel_l2(&out, &y) < 1e-13, "{form:?} {shape:?} {pool:?}");
            assert!(rel_l2(&grad, &dx) < 1e-13, "{form:?} {shape:?} {pool:?}");
        }
    }
    Ok(())
}

#[test]
fn ties_infinities_and_nan_go_where_the_definition_sends_them() -> Result<()> {
    for seed in 0..3 * cases() {
        let mut rng = Rng::stream(seed, "pooling ties", &[]);
        let (Pool::Max(params), shape) = random_pool(&mut rng) else { continue };
        let x = awkward(&mut rng, &shape);
        let (y, indices) = ops::max_pool2d_with_indices_as(Form::Definition, &x, &params)?;
        check_winners(&x, &params, &y, &indices)?;
        let gy = random(&mut rng, y.dims());
        let pool = Pool::Max(params);
        let (_, dx) = pool.run_both(Form::Definition, &x, Some(&gy))?;
        for form in [Form::Kernel, Form::Portable] {
            for dtype in [DType::F32, DType::F64] {
                let (x, gy) = (x.to_dtype(dtype)?, gy.to_dtype(dtype)?);
                let (out, found) = ops::max_pool2d_with_indices_as(form, &x, &params)?;
                assert!(same(&out, &y), "{form:?} {shape:?} {params:?}");
                assert!(same(&found, &indices), "{form:?} {shape:?} {params:?}");
                let (_, grad) = pool.run_both(form, &x, Some(&gy))?;
                assert!(rel_l2(&grad, &dx) < 1e-6, "{form:?} {shape:?} {params:?}");
            }
        }
    }
    Ok(())
}

/// Checks maxima and indices window by window, from what PyTorch says they are.
fn check_winners(x: &Tensor, p: &MaxPool2dParams, y: &Tensor, indices: &Tensor) -> Result<()> {
    let (_, _, h, w) = x.dims4()?;
    let (_, _, oh, ow) = y.dims4()?;
    let (x, y, indices) = (values(x), values(y), values(indices));
    let pixel = |place: usize, tap: usize, stride: usize, dilation: usize, padding: usize| {
        (place * stride + tap * dilation).checked_sub(padding)
    };
    for (at, (&y, &index)) in y.iter().zip(&indices).enumerate() {
        let (plane, oy, ox) = (at / (oh * ow), at / ow % oh, at % ow);
        let x = &x[plane * h * w..][..h * w];
        let mut window = Vec::new();
        for ky in 0..p.kernel.0 {
            for kx in 0..p.kernel.1 {
                let row = pixel(oy, ky, p.stride.0, p.dilation.0, p.padding.0);
                let col = pixel(ox, kx, p.stride.1, p.dilation.1, p.padding.1);
                if let (Some(row), Some(col)) = (row.filter(|&r| r < h), col.filter(|&c| c < w)) {
                    window.push(row * w + col);
                }
            }
        }
        let last_nan = window.iter().copied().rfind(|&i| x[i].is_nan());
        let largest = window.iter().map(|&i| x[i]).fold(f64::NEG_INFINITY, f64::max);
        let first_largest = window.iter().copied().find(|&i| x[i] == largest);
        let winner = last_nan.or(first_largest).expect("a window has a pixel");
        assert_eq!(index as usize, winner, "{p:?}");
        assert!(y == x[winner] || (y.is_nan() && x[winner].is_nan()), "{p:?}");
    }
    Ok(())
}

#[test]
fn gradients_agree_with_finite_differences() -> Result<()> {
    for seed in 0..3 * cases() {
        let mut rng = Rng::stream(seed, "pooling gradients", &[]);
        let (pool, shape) = random_pool(&mut rng);
        let x = apart(&mut rng, &shape);
        for form in FORMS {
            let error =
                gradient_error(&mut rng, std::slice::from_ref(&x), |t| pool.run(form, &t[0]))?;
            assert!(error < 1e-7, "{error} {form:?} {shape:?} {pool:?}");
        }
    }
    Ok(())
}

#[test]
fn agrees_with_candle_where_candle_is_right() -> Result<()> {
    let mut compared = 0;
    for seed in 0..3 * cases() {
        let mut rng = Rng::stream(seed, "pooling candle", &[]);
        let (pool, shape) = random_pool(&mut rng);
        let x = random(&mut rng, &shape);
        let fits = |kernel: Pair| kernel.0 <= shape[2] && kernel.1 <= shape[3];
        let (ours, candle) = match pool {
            Pool::Max(p) if fits(p.kernel) => {
                let p =
                    MaxPool2dParams { padding: (0, 0), dilation: (1, 1), ceil_mode: false, ..p };
                (ops::max_pool2d(&x, &p)?, x.max_pool2d_with_stride(p.kernel, p.stride)?)
            }
            Pool::Avg(p) if fits(p.kernel) => {
                let (padding, ceil_mode) = ((0, 0), false);
                let p = AvgPool2dParams { padding, ceil_mode, divisor_override: None, ..p };
                (ops::avg_pool2d(&x, &p)?, x.avg_pool2d_with_stride(p.kernel, p.stride)?)
            }
            _ => continue,
        };
        assert!(rel_l2(&ours, &candle) < 1e-14, "{shape:?} {pool:?}");
        compared += 1;
    }
    assert!(compared >= cases(), "only {compared} poolings fitted");
    Ok(())
}

#[test]
fn adaptive_pooling_is_average_pooling_where_windows_are_equal() -> Result<()> {
    for seed in 0..cases() {
        let mut rng = Rng::stream(seed, "adaptive", &[]);
        let (output, kernel) = (
            (pick(&mut rng, 1, 4), pick(&mut rng, 1, 4)),
            (pick(&mut rng, 1, 5), pick(&mut rng, 1, 5)),
        );
        let x = random(&mut rng, &[2, 3, output.0 * kernel.0, output.1 * kernel.1]);
        let average = AvgPool2dParams { kernel, stride: kernel, ..Default::default() };
        let expected = Pool::Avg(average).run_both(Form::Definition, &x, None)?;
        for form in FORMS {
            let (y, dx) = Pool::Adaptive(output).run_both(form, &x, None)?;
            assert!(rel_l2(&y, &expected.0) < 1e-13, "{form:?} {output:?} {kernel:?}");
            assert!(rel_l2(&dx, &expected.1) < 1e-13, "{form:?} {output:?} {kernel:?}");
        }
    }
    Ok(())
}

#[test]
fn infinities_stay_in_their_windows() -> Result<()> {
    let mut x = vec![1.0; 16];
    x[0] = f64::INFINITY;
    let x = Tensor::from_vec(x, (1, 1, 4, 4), &Device::Cpu)?;
    for form in FORMS {
        for pool in [Pool::Avg(AvgPool2dParams::default()), Pool::Adaptive((2, 2))] {
            let y = values(&pool.run(form, &x)?);
            assert_eq!(y, [f64::INFINITY, 1.0, 1.0, 1.0], "{form:?} {pool:?}");
        }
    }
    Ok(())
}

/// A recorded case's pooling.
fn recorded(op: &str, p: &serde_json::Value) -> Pool {
    let flag = |key: &str| p[key].as_bool().expect("a flag");
    match op {
        "max_pool2d" => Pool::Max(MaxPool2dParams {
            kernel: pair(&p["kernel_size"]),
            stride: pair(&p["stride"]),
            padding: pair(&p["padding"]),
            dilation: pair(&p["dilation"]),
            ceil_mode: flag("ceil_mode"),
        }),
        "avg_pool2d" => Pool::Avg(AvgPool2dParams {
            kernel: pair(&p["kernel_size"]),
            stride: pair(&p["stride"]),
            padding: pair(&p["padding"]),
            ceil_mode: flag("ceil_mode"),
            count_include_pad: flag("count_include_pad"),
            divisor_override: p["divisor_override"].as_u64().map(|n| n as usize),
        }),
        _ => Pool::Adaptive(pair(&p["output_size"])),
    }
}

#[test]
fn agrees_with_pytorch() -> Result<()> {
    for (op, at_least) in [("max_pool2d", 12), ("avg_pool2d", 6), ("adaptive_avg_pool2d", 4)] {
        let Some(cases) = common::recorded_ops(op) else { return Ok(()) };
        assert!(cases.len() >= at_least, "{op}");
        for (name, params, t) in cases {
            let pool = recorded(op, &params);
            for (dtype, suffix, tolerance) in
                [(DType::F32, "f32", 2e-6), (DType::F64, "f64", 1e-12)]
            {
                let (x, gy) = (t["x"].to_dtype(dtype)?, t["gy"].to_dtype(dtype)?);
                for form in FORMS {
                    let (y, dx) = pool.run_both(form, &x, Some(&gy))?;
                    if let Pool::Max(params) = pool {
                        let (_, indices) = ops::max_pool2d_with_indices_as(form, &x, &params)?;
                        assert!(same(&y, &t[&format!("y.{suffix}")]), "{name} {form:?}: y");
                        assert!(same(&indices, &t["indices"]), "{name} {form:?}: indices");
                    } else {
                        let error = rel_l2(&y, &t["y.f64"]);
                        assert!(error < tolerance, "{name} {form:?} {dtype:?}: y is {error} off");
                    }
                    let error = rel_l2(&dx, &t["dx.f64"]);
                    assert!(error < tolerance, "{name} {form:?} {dtype:?}: dx is {error} off");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn the_bits_do_not_depend_on_the_threads() -> Result<()> {
    let mut rng = Rng::new(5);
    for _ in 0..60 {
        let (pool, mut shape) = random_pool(&mut rng);
        (shape[1], shape[2], shape[3]) = (70, shape[2] + 20, shape[3] + 20);
        let x = random(&mut rng, &shape).to_dtype(DType::F32)?;
        let bits = |threads| {
            let threads = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            threads.install(|| -> Result<_> {
                let (y, dx) = pool.run_both(Form::Kernel, &x, None)?;
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
fn views_and_empty_batches_are_fine() -> Result<()> {
    let mut rng = Rng::new(9);
    let x = random(&mut rng, &[2, 7, 3, 6]);
    let pools = [
        Pool::Max(MaxPool2dParams { padding: (1, 1), ..MaxPool2dParams::new(3, 2) }),
        Pool::Avg(AvgPool2dParams { padding: (1, 1), ..AvgPool2dParams::new(3, 2) }),
        Pool::Adaptive((2, 5)),
    ];
    for pool in pools {
        let expected = pool.run_both(Form::Definition, &x.transpose(1, 2)?.contiguous()?, None)?;
        for form in FORMS {
            let (y, dx) = {
                let run = |t: &[Tensor]| pool.run(form, &t[0].transpose(1, 2)?);
                let (y, grads) = output_and_grads(std::slice::from_ref(&x), None, run)?;
                (y, grads[0].transpose(1, 2)?.contiguous()?)
            };
            assert!(rel_l2(&y, &expected.0) < 1e-13, "{form:?} {pool:?}");
            assert!(rel_l2(&dx, &expected.1) < 1e-13, "{form:?} {pool:?}");
        }
        let nobody = Tensor::zeros((0, 2, 5, 5), DType::F32, &Device::Cpu)?;
        assert_eq!(pool.run(Form::Definition, &nobody)?.elem_count(), 0, "{pool:?}");
        assert_eq!(pool.run(Form::Kernel, &nobody)?.elem_count(), 0, "{pool:?}");
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused_by_name() -> Result<()> {
    let refused = |pool: Pool, shape: &[usize], op: &str, word: &str| -> Result<()> {
        let x = Tensor::zeros(shape, DType::F32, &Device::Cpu)?;
        for form in FORMS {
            let error = pool.run(form, &x).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{op}: ")) && error.contains(word), "{error}");
        }
        Ok(())
    };
    let max = MaxPool2dParams::new(3, 2);
    let max_refused =
        |params, shape: &[usize], word: &str| refused(Pool::Max(params), shape, "max_pool2d", word);
    let x: &[usize] = &[1, 2, 5, 5];
    max_refused(max, &[1, 2, 2, 5], "must fit")?;
    max_refused(max, &[2, 5, 5], "four dimensions")?;
    max_refused(max, &[1, 2, 0, 5], "must not be 0")?;
    max_refused(MaxPool2dParams { stride: (1, 0), ..max }, x, "must not be 0")?;
    max_refused(MaxPool2dParams { kernel: (0, 1), ..max }, x, "must not be 0")?;
    max_refused(MaxPool2dParams { dilation: (0, 1), ..max }, x, "must not be 0")?;
    max_refused(MaxPool2dParams { padding: (2, 0), ..max }, x, "at most half")?;
    max_refused(MaxPool2dParams { dilation: (1, 3), ..max }, x, "must fit")?;
    let around =
        MaxPool2dParams { padding: (1, 1), dilation: (3, 3), ..MaxPool2dParams::new(2, 1) };
    max_refused(around, &[1, 1, 2, 2], "a tap inside")?;
    max_refused(MaxPool2dParams { kernel: (usize::MAX, 1), ..max }, x, "must fit")?;

    let avg = AvgPool2dParams::new(3, 2);
    let avg_refused =
        |params, shape: &[usize], word: &str| refused(Pool::Avg(params), shape, "avg_pool2d", word);
    avg_refused(avg, &[1, 2, 2, 5], "must fit")?;
    avg_refused(AvgPool2dParams { padding: (0, 2), ..avg }, x, "at most half")?;
    avg_refused(AvgPool2dParams { stride: (0, 1), ..avg }, x, "must not be 0")?;
    avg_refused(AvgPool2dParams { divisor_override: Some(0), ..avg }, x, "must not be 0")?;
    refused(Pool::Adaptive((0, 1)), x, "adaptive_avg_pool2d", "must not be 0")?;
    refused(Pool::Adaptive((usize::MAX, 2)), x, "adaptive_avg_pool2d", "2^32")?;
    refused(Pool::Adaptive((1, 1)), &[5, 5], "adaptive_avg_pool2d", "four dimensions")?;

    let whole = Tensor::zeros(x, DType::U32, &Device::Cpu)?;
    for pool in [Pool::Max(max), Pool::Avg(avg), Pool::Adaptive((1, 1))] {
        let error = pool.run(Form::Kernel, &whole).unwrap_err().to_string();
        assert!(error.contains("pool2d: got U32"), "{error}");
    }
    Ok(())
}
