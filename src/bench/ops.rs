//! Pooling, normalisation, ReLU and the fully connected layer, one by one.

use candle_core::{Tensor, Var};

use super::pass::{Apply, BOTH, FORWARD, Pass};
use super::{Case, Rate, Row, Settings, candle, entry};
use crate::Result;
use crate::ops::{self, AvgPool2dParams, BatchNorm2dParams, LrnParams, MaxPool2dParams};

/// An op on an input of a shape.
struct Op {
    name: &'static str,
    /// Of the input, then of the op's weights.
    shapes: &'static [&'static [usize]],
    ours: fn() -> Result<Apply>,
    /// candle's own, where it has one.
    builtin: Option<Builtin>,
}

/// A pooling of candle's: `Err` says why there is none.
type Builtin = fn(&Tensor) -> candle_core::Result<Tensor>;

const OPS: &[Op] = &[
    Op {
        name: "maxpool3x3s2p1_64_112",
        shapes: &[&[16, 64, 112, 112]],
        ours: || max_pool(MaxPool2dParams { padding: (1, 1), ..MaxPool2dParams::new(3, 2) }),
        builtin: Some(|_| candle_core::bail!("max pooling has no padding")),
    },
    Op {
        name: "maxpool2x2s2_64_224_b4",
        shapes: &[&[4, 64, 224, 224]],
        ours: || max_pool(MaxPool2dParams::new(2, 2)),
        builtin: Some(|x| x.max_pool2d(2)),
    },
    Op {
        name: "avgpool3x3s1p1_192_28",
        shapes: &[&[16, 192, 28, 28]],
        ours: || avg_pool(AvgPool2dParams { padding: (1, 1), ..AvgPool2dParams::new(3, 1) }),
        builtin: Some(|x| {
            let x = x.pad_with_zeros(2, 1, 1)?.pad_with_zeros(3, 1, 1)?;
            x.avg_pool2d_with_stride(3, 1)
        }),
    },
    Op {
        name: "global_avgpool_2048_7",
        shapes: &[&[16, 2048, 7, 7]],
        ours: || Ok(Box::new(|t| ops::adaptive_avg_pool2d(&t[0], (1, 1)))),
        builtin: Some(|x| x.avg_pool2d(7)),
    },
    Op {
        name: "batchnorm_train_64_112",
        shapes: &[&[16, 64, 112, 112], &[64], &[64]],
        ours: || batch_norm_train(64),
        builtin: None,
    },
    Op {
        name: "batchnorm_train_256_56",
        shapes: &[&[16, 256, 56, 56], &[256], &[256]],
        ours: || batch_norm_train(256),
        builtin: None,
    },
    Op {
        name: "batchnorm_eval_64_112",
        shapes: &[&[16, 64, 112, 112], &[64], &[64]],
        ours: || batch_norm_eval(64),
        builtin: None,
    },
    Op {
        name: "relu_64_112",
        shapes: &[&[16, 64, 112, 112]],
        ours: || Ok(Box::new(|t| ops::relu(&t[0]))),
        builtin: None,
    },
    Op {
        name: "lrn5_64_55",
        shapes: &[&[16, 64, 55, 55]],
        ours: || Ok(Box::new(|t| ops::local_response_norm(&t[0], &LrnParams::default()))),
        builtin: None,
    },
    Op {
        name: "linear_9216_4096",
        shapes: &[&[16, 9216], &[4096, 9216], &[4096]],
        ours: || Ok(Box::new(|t| ops::linear(&t[0], &t[1], Some(&t[2])))),
        builtin: None,
    },
];

/// Every op, forward, and forward and backward.
pub(super) fn cases() -> Vec<Case> {
    OPS.iter().map(|op| Case { section: "ops", name: op.name, run }).collect()
}

fn run(name: &'static str, settings: &Settings) -> Result<Vec<Row>> {
    let case = entry(OPS, name, |op| op.name)?;
    let (ours, plan) = (Pass::new(case.shapes, (case.ours)()?)?, settings.layer());
    let rate = Rate::Elements(case.shapes[0].iter().product());
    let builtin = settings.sides.candle().zip(case.builtin);
    let with = |builtin: Builtin| ours.with(Box::new(move |t| Ok(builtin(&t[0])?)));
    let theirs = builtin.map(|(backend, builtin)| (backend, with(builtin)));
    let mut rows = Vec::new();
    for op in [FORWARD, BOTH] {
        let row = Row::new("ops", name, settings.threads).on(op, case.shapes[0][0]);
        if settings.sides.ours() {
            rows.push(row.clone().timed(ours.time(op, plan)?, rate));
        }
        if let Some((backend, theirs)) = &theirs {
            rows.push(candle::row((row, backend), op, (&ours, theirs), plan, rate)?);
        }
    }
    Ok(rows)
}

fn max_pool(params: MaxPool2dParams) -> Result<Apply> {
    Ok(Box::new(move |t| ops::max_pool2d(&t[0], &params)))
}

fn avg_pool(params: AvgPool2dParams) -> Result<Apply> {
    Ok(Box::new(move |t| ops::avg_pool2d(&t[0], &params)))
}

/// Mean 0 and variance 1 of so many channels.
fn running(channels: usize) -> Result<(Var, Var)> {
    let (dtype, device) = (candle_core::DType::F32, candle_core::Device::Cpu);
    Ok((Var::zeros(channels, dtype, &device)?, Var::ones(channels, dtype, &device)?))
}

/// With the batch's statistics, which the running ones follow.
fn batch_norm_train(channels: usize) -> Result<Apply> {
    let (mean, var) = running(channels)?;
    let params = BatchNorm2dParams::default();
    Ok(Box::new(move |t| {
        let out = ops::batch_norm2d(&t[0], Some(&t[1]), Some(&t[2]), &params, None, false)?;
        out.update_running(&mean, &var, 0.1)?;
        Ok(out.y)
    }))
}

/// With the running statistics.
fn batch_norm_eval(channels: usize) -> Result<Apply> {
    let (mean, var) = running(channels)?;
    let (mean, var) = (mean.as_detached_tensor(), var.as_detached_tensor());
    let params = BatchNorm2dParams::default();
    Ok(Box::new(move |t| {
        let affine = (Some(&t[1]), Some(&t[2]));
        ops::batch_norm2d_eval(&t[0], affine.0, affine.1, &mean, &var, &params, None, false)
    }))
}
