//! The CUDA kernels and what launches them, run on the CPU: against the definitions, on random
//! shapes, threads in both orders, once more under the address and undefined-behaviour sanitizers.

mod common;
#[path = "cuda/emulator.rs"]
mod emulator;

use candle_core::DType;
use common::{cases, pick};
use convzoo::ops::adaptive_avg_pool2d::{self, AdaptiveAvgPool2dShape};
use convzoo::ops::avg_pool2d::{self, AvgPool2dShape};
use convzoo::ops::batch_norm::{self, BatchNorm2dShape, Norm, Saved, Statistics, Wants};
use convzoo::ops::conv2d::{self, Conv2dShape};
use convzoo::ops::cuda::{Arg, Kernel, Launcher};
use convzoo::ops::dropout::{self, Mask};
use convzoo::ops::local_response_norm::{self, LrnShape};
use convzoo::ops::max_pool2d::{self, MaxPool2dShape};
use convzoo::ops::relu;
use convzoo::ops::{
    self, AvgPool2dParams, Conv2dParams, LrnParams, MaxPool2dParams, conv_output_size,
};
use convzoo::rng::Rng;
use emulator::{Buffer, Build, Emulator};

/// Random cases in f64 and f32 in turn, on both builds.
fn on_both_builds(op: &str, case: impl Fn(&Emulator, DType, &mut Rng)) {
    for build in [Build::Plain, Build::Sanitized] {
        let emulator = match Emulator::new(build) {
            Ok(emulator) => emulator,
            Err(reason) => return println!("skipped: {reason}"),
        };
        let mut rng = Rng::stream(7, op, &[]);
        for number in 0..cases() {
            let dtype = if number % 2 == 0 { DType::F64 } else { DType::F32 };
            case(&emulator, dtype, &mut rng);
        }
    }
}

/// Values that the type holds exactly; whole numbers now and then, so that there are ties and zeros.
fn random(rng: &mut Rng, len: usize) -> Vec<f64> {
    let whole = rng.below(2) == 0;
    let value = |rng: &mut Rng| match whole {
        true => rng.below(7) as f64 - 3.0,
        false => f64::from(rng.range(-1.0, 1.0) as f32),
    };
    (0..len).map(|_| value(rng)).collect()
}

/// The kernels' values beside those of the definition, which has worked in f64 on the same input.
#[track_caller]
fn assert_close(found: &Buffer, wanted: &[f64], what: impl std::fmt::Debug) {
    let values = found.values();
    assert_eq!(values.len(), wanted.len(), "{what:?}");
    let nan = |values: &[f64]| values.iter().map(|value| value.is_nan()).collect::<Vec<_>>();
    assert_eq!(nan(&values), nan(wanted), "{what:?}");
    let square = |x: f64| if x.is_nan() { 0.0 } else { x * x };
    let error: f64 = values.iter().zip(wanted).map(|(a, b)| square(a - b)).sum();
    let norm: f64 = wanted.iter().copied().map(square).sum();
    let bound = if found.dtype == DType::F64 { 1e-11 } else { 2e-5 };
    assert!(error.sqrt() <= bound * norm.sqrt().max(1e-2), "{what:?}: {error} of {norm}");
}

/// Batch, channels, height and width; now and then more values a channel than there are lanes in a
/// sum over one.
fn sizes(rng: &mut Rng) -> [usize; 4] {
    let side = if rng.below(8) == 0 { 28 } else { 11 };
    [pick(rng, 1, 3), pick(rng, 1, 4), pick(rng, side - 10, side), pick(rng, side - 10, side)]
}

fn pair(rng: &mut Rng, low: usize, high: usize) -> (usize, usize) {
    (pick(rng, low, high), pick(rng, low, high))
}

#[test]
fn max_pooling() {
    on_both_builds("max_pool2d", |on, dtype, rng| {
        let kernel = pair(rng, 1, 4);
        let params = MaxPool2dParams {
            kernel,
            stride: pair(rng, 1, 3),
            padding: (rng.below(kernel.0 / 2 + 1), rng.below(kernel.1 / 2 + 1)),
            dilation: pair(rng, 1, 2),
            ceil_mode: rng.below(2) == 0,
        };
        let Ok(shape) = MaxPool2dShape::new(&sizes(rng), &params) else { return };
        let mut x = random(rng, shape.batch * shape.channels * shape.window.pixels());
        if rng.below(4) == 0 {
            let spoiled = rng.below(x.len());
            x[spoiled] = f64::NAN;
        }
        let dy = random(rng, shape.output().iter().product());
        let (y, indices) = max_pool2d::definition::forward(&shape, &x);
        let dx = max_pool2d::definition::backward(&shape, &indices, &dy);
        let (x, dy) = (Buffer::new(dtype, &x), Buffer::new(dtype, &dy));
        let (found, at) = max_pool2d::cuda::forward(on, dtype, &shape, &x).unwrap();
        assert_close(&found, &y, shape);
        let indices: Vec<f64> = indices.iter().map(|&index| f64::from(index)).collect();
        assert_eq!(at.values(), indices, "{shape:?}");
        let found = max_pool2d::cuda::backward(on, dtype, &shape, &at, &dy).unwrap();
        assert_close(&found, &dx, shape);
    });
}

#[test]
fn average_pooling() {
    on_both_builds("avg_pool2d", |on, dtype, rng| {
        let kernel = pair(rng, 1, 4);
        let params = AvgPool2dParams {
            kernel,
            stride: pair(rng, 1, 3),
            padding: (rng.below(kernel.0 / 2 + 1), rng.below(kernel.1 / 2 + 1)),
            ceil_mode: rng.below(2) == 0,
            count_include_pad: rng.below(2) == 0,
            divisor_override: (rng.below(4) == 0).then(|| pick(rng, 1, 9)),
        };
        let Ok(shape) = AvgPool2dShape::new(&sizes(rng), &params) else { return };
        let x = random(rng, shape.batch * shape.channels * shape.window.pixels());
        let dy = random(rng, shape.output().iter().product());
        let y = avg_pool2d::definition::forward(&shape, &x);
        let dx = avg_pool2d::definition::backward(&shape, &dy);
        let (x, dy) = (Buffer::new(dtype, &x), Buffer::new(dtype, &dy));
        assert_close(&avg_pool2d::cuda::forward(on, dtype, &shape, &x).unwrap(), &y, shape);
        assert_close(&avg_pool2d::cuda::backward(on, dtype, &shape, &dy).unwrap(), &dx, shape);
    });
}

#[test]
fn adaptive_average_pooling() {
    on_both_builds("adaptive_avg_pool2d", |on, dtype, rng| {
        let shape = AdaptiveAvgPool2dShape::new(&sizes(rng), pair(rng, 1, 13)).unwrap();
        let x = random(rng, shape.batch * shape.channels * shape.input.0 * shape.input.1);
        let dy = random(rng, shape.output().iter().product());
        let y = adaptive_avg_pool2d::definition::forward(&shape, &x);
        let dx = adaptive_avg_pool2d::definition::backward(&shape, &dy);
        let (x, dy) = (Buffer::new(dtype, &x), Buffer::new(dtype, &dy));
        let found = adaptive_avg_pool2d::cuda::forward(on, dtype, &shape, &x).unwrap();
        assert_close(&found, &y, shape);
        let found = adaptive_avg_pool2d::cuda::backward(on, dtype, &shape, &dy).unwrap();
        assert_close(&found, &dx, shape);
    });
}

#[test]
fn response_normalisation() {
    on_both_builds("local_response_norm", |on, dtype, rng| {
        let [n, _, h, w] = sizes(rng);
        let params = LrnParams {
            size: pick(rng, 1, 7),
            alpha: rng.range(1e-4, 1.0),
            beta: rng.range(0.3, 1.2),
            k: rng.range(0.5, 2.0),
        };
        let shape = LrnShape::new(&[n, pick(rng, 1, 9), h, w], &params).unwrap();
        let len = shape.dims.iter().product();
        let (x, dy) = (random(rng, len), random(rng, len));
        let y = local_response_norm::definition::forward(&shape, &x);
        let dx = local_response_norm::definition::backward(&shape, &x, &dy);
        let (x, dy) = (Buffer::new(dtype, &x), Buffer::new(dtype, &dy));
        let found = local_response_norm::cuda::forward(on, dtype, &shape, &x).unwrap();
        assert_close(&found, &y, shape);
        let found = local_response_norm::cuda::backward(on, dtype, &shape, &x, &dy).unwrap();
        assert_close(&found, &dx, shape);
    });
}

#[test]
fn batch_normalisation() {
    on_both_builds("batch_norm2d", |on, dtype, rng| {
        let [batch, channels, h, w] = sizes(rng);
        let shape = BatchNorm2dShape { batch, channels, pixels: h * w };
        let norm = Norm { shape, eps: 1e-3, training: rng.below(3) > 0, relu: rng.below(2) == 0 };
        let len = shape.count() * channels;
        let (x, affine, dy) = (random(rng, len), random(rng, 2 * channels), random(rng, len));
        let residual = (rng.below(2) == 0).then(|| random(rng, len));
        let given = Statistics {
            mean: random(rng, channels),
            var: random(rng, channels).iter().map(|value| value.abs() + 0.25).collect(),
        };
        let given = (!norm.training).then_some(given);
        let (y, statistics) = batch_norm::definition::forward(
            &norm,
            &x,
            &affine,
            residual.as_deref(),
            given.as_ref(),
        );

        let [on_x, on_affine, on_dy] = [&x, &affine, &dy].map(|values| Buffer::new(dtype, values));
        let on_residual = residual.map(|values| Buffer::new(dtype, &values));
        let on_statistics = match &given {
            None => batch_norm::cuda::batch_statistics(on, dtype, &norm, &on_x).unwrap(),
            Some(Statistics { mean, var }) => {
                let (mean, var) = (Buffer::new(dtype, mean), Buffer::new(dtype, var));
                batch_norm::cuda::given_statistics(on, dtype, &norm, &mean, &var).unwrap()
            }
        };
        let inverse = statistics.var.iter().map(|var| 1.0 / (var + norm.eps).sqrt()).collect();
        let wanted = [statistics.mean.clone(), statistics.var.clone(), inverse].concat();
        assert_close(&on_statistics, &wanted, norm);
        let residual = on_residual.as_ref();
        let (dtype_, stats) = (dtype, &on_statistics);
        let found =
            batch_norm::cuda::forward(on, dtype_, &norm, &on_x, &on_affine, stats, residual);
        let on_y = found.unwrap();
        assert_close(&on_y, &y, norm);

        let wants = Wants {
            input: rng.below(4) > 0,
            affine: rng.below(4) > 0,
            residual: residual.is_some() && norm.relu,
        };
        // Where rounding has moved an output across 0, its gradient is another: take the kernels'.
        let y = on_y.values();
        let saved = Saved { x: &x, affine: &affine, y: &y, statistics: &statistics };
        let grads = batch_norm::definition::backward(&norm, saved, &dy, wants);
        let saved = batch_norm::cuda::Saved {
            x: &on_x,
            affine: &on_affine,
            y: &on_y,
            statistics: &on_statistics,
            dy: &on_dy,
        };
        let found = batch_norm::cuda::backward(on, dtype, &norm, &saved, wants).unwrap();
        for (found, wanted) in found.iter().zip([grads.input, grads.affine, grads.residual]) {
            assert_eq!(found.is_some(), wanted.is_some(), "{norm:?} {wants:?}");
            if let (Some(found), Some(wanted)) = (found, wanted) {
                assert_close(found, &wanted, (norm, wants));
            }
        }
    });
}

#[test]
fn convolution() {
    on_both_builds("conv2d", |on, dtype, rng| {
        let groups = pick(rng, 1, 3);
        let [n, _, h, w] = sizes(rng);
        let x_dims = [n, groups * pick(rng, 1, 3), h, w];
        let (kh, kw) = pair(rng, 1, 4);
        let w_dims = [groups * pick(rng, 1, 3), x_dims[1] / groups, kh, kw];
        let params = Conv2dParams {
            stride: pair(rng, 1, 3),
            padding: (rng.below(3), rng.below(3)),
            dilation: pair(rng, 1, 2),
            groups,
        };
        let Ok(shape) = Conv2dShape::new(&x_dims, &w_dims, &params) else { return };
        let (x, w) = (random(rng, x_dims.iter().product()), random(rng, w_dims.iter().product()));
        let bias = (rng.below(2) == 0).then(|| random(rng, w_dims[0]));
        let dy = random(rng, shape.output().iter().product());
        let wants =
            ops::Wants { input: rng.below(4) > 0, weight: rng.below(4) > 0, bias: bias.is_some() };
        let y = conv2d::definition::forward(&shape, &x, &w, bias.as_deref());
        let grads = conv2d::definition::backward(&shape, &x, &w, &dy, wants);
        // Room for one picture, for some, and for all.
        let columns = [1, 500, conv2d::cuda::COLUMNS][rng.below(3)];
        let [x, w, dy] = [&x, &w, &dy].map(|values| Buffer::new(dtype, values));
        let bias = bias.map(|values| Buffer::new(dtype, &values));
        let (sizes, bias) = ((&shape, columns), bias.as_ref());
        let found = conv2d::cuda::forward(on, dtype, sizes, &x, &w, bias).unwrap();
        assert_close(&found, &y, sizes);
        let found = conv2d::cuda::backward(on, dtype, sizes, &x, &w, &dy, wants).unwrap();
        for (found, wanted) in found.iter().zip([grads.input, grads.weight, grads.bias]) {
            assert_eq!(found.is_some(), wanted.is_some(), "{sizes:?} {wants:?}");
            if let (Some(found), Some(wanted)) = (found, wanted) {
                assert_close(found, &wanted, (sizes, wants));
            }
        }
    });
}

#[test]
fn rectification_and_dropout() {
    on_both_builds("relu", |on, dtype, rng| {
        let len = pick(rng, 1, 600);
        let (mut a, b, dy) = (random(rng, len), random(rng, len), random(rng, len));
        if rng.below(4) == 0 {
            a[0] = f64::NAN;
        }
        let relu_of = |x: f64| if x <= 0.0 { 0.0 } else { x };
        let y: Vec<f64> = a.iter().copied().map(relu_of).collect();
        let sum: Vec<f64> = a.iter().zip(&b).map(|(a, b)| relu_of(a + b)).collect();
        let gradient = |y: &f64, dy: &f64| if *y <= 0.0 { 0.0 } else { *dy };
        let dx: Vec<f64> = y.iter().zip(&dy).map(|(y, dy)| gradient(y, dy)).collect();
        let mask = Mask::new(rng.range(0.0, 1.0), rng.next_u64());
        let dropped: Vec<f64> =
            b.iter().enumerate().map(|(i, b)| mask.factor::<f64>(i) * b).collect();

        let [a, b, on_dy] = [&a, &b, &dy].map(|values| Buffer::new(dtype, values));
        let found = relu::cuda::forward(on, dtype, len, &a).unwrap();
        assert_close(&found, &y, len);
        assert_close(&relu::cuda::backward(on, dtype, len, &found, &on_dy).unwrap(), &dx, len);
        assert_close(&relu::cuda::add_forward(on, dtype, len, &a, &b).unwrap(), &sum, len);
        assert_close(&dropout::cuda::apply(on, dtype, len, &mask, &b).unwrap(), &dropped, mask);
    });
}

/// What the other tests rest on.
#[test]
fn the_emulator_sees_what_is_wrong() {
    let emulator = match Emulator::new(Build::Sanitized) {
        Ok(emulator) => emulator,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let kernel = |name| Kernel { source: &relu::cuda::SOURCE, name, dtype: DType::F32 };
    let x = Buffer::new(DType::F32, &[1.0, -1.0, 2.0]);
    let mut y = emulator.alloc(DType::F32, 3).unwrap();
    let launch = |name, args: &mut [Arg<'_, Buffer>]| emulator.launch(kernel(name), 3, args);
    let error = launch("relu_forward", &mut [Arg::Read(&x)]).unwrap_err().to_string();
    assert!(error.contains("number of parameters"), "{error}");
    let error = launch("relu_forward", &mut [Arg::Read(&x), Arg::Read(&x)]).unwrap_err();
    assert!(error.to_string().contains("memory to write"), "{error}");
    assert!(launch("no_kernel", &mut []).is_err());
    launch("relu_forward", &mut [Arg::Read(&x), Arg::Write(&mut y)]).unwrap();
    assert_eq!(y.values(), [1.0, 0.0, 2.0]);
    // One value too far: the sanitizer ends the process in the middle of the answer.
    let args = &mut [Arg::Read(&x), Arg::Write(&mut y)];
    assert!(emulator.launch(kernel("relu_forward"), 4, args).is_err());
}

/// Sizes that the kernels' 32 bits do not hold are refused, not cut.
#[test]
fn sizes_beyond_32_bits_are_refused() {
    let Ok(emulator) = Emulator::new(Build::Plain) else { return };
    let params =
        Conv2dParams { dilation: (1 << 33, 1), padding: (1 << 32, 0), ..Default::default() };
    assert!(conv_output_size(3, 2, 1, 1 << 32, 1 << 33) == Some(3));
    let shape = Conv2dShape::new(&[1, 1, 3, 3], &[1, 1, 2, 1], &params).unwrap();
    let [x, w] = [9, 2].map(|len| Buffer::new(DType::F32, &vec![1.0; len]));
    assert!(conv2d::cuda::forward(&emulator, DType::F32, (&shape, 1), &x, &w, None).is_err());
}

/// A GPU waits for nothing: by their text, neither its ops, nor the walk through the layers, nor the
/// optimisers bring values back to the CPU. When the loop does is tested beside it.
#[test]
fn nothing_is_read_back_within_a_pass() {
    let package = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::from(
        [
            "nn/forward.rs",
            "nn/precision.rs",
            "ops/cuda/gpu.rs",
            "ops/half.rs",
            "ops/conv2d/gather.rs",
            "train/optim/device.rs",
        ]
        .map(|file| package.join("src").join(file)),
    );
    assert!(files.iter().all(|file| file.is_file()), "{files:?}");
    for entry in std::fs::read_dir(package.join("src/ops")).unwrap() {
        let of_gpus = ["cuda.rs", "gpu.rs", "portable.rs"];
        files.extend(of_gpus.map(|name| entry.as_ref().unwrap().path().join(name)));
    }
    files.retain(|file| file.is_file());
    assert!(files.len() > 15, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for call in ["to_vec0", "to_vec1", "to_vec2", "to_vec3", "to_scalar", "dtoh", "to_cpu"] {
            assert!(!text.contains(call), "{} calls {call}", file.display());
        }
    }
}
