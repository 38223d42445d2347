//! Between candle's tensors on a GPU and [`super::cuda`].

use candle_core::backend::BackendStorage;
use candle_core::{CudaStorage, Layout, Result, Shape, Tensor};

use super::cuda::{self, Saved};
use super::{BatchNorm, Norm, OP, Wants};
use crate::Error;
use crate::ops::cuda::gpu::{self, Gpu, Held};

/// A tensor as an op's forward pass gets it.
type Input<'a> = (&'a CudaStorage, &'a Layout);

/// What given mean and variance come to, [3, C], in the type of x.
pub(super) fn given(norm: &Norm, x: &Tensor, mean: &Tensor, var: &Tensor) -> Result<Tensor> {
    let dtype = x.dtype();
    let (mean, var) = (mean.to_dtype(dtype)?.contiguous()?, var.to_dtype(dtype)?.contiguous()?);
    let (mean, var) = (Held::new(OP, &mean)?, Held::new(OP, &var)?);
    let on = Gpu::of(mean.storage()?);
    let statistics = cuda::given_statistics(&on, dtype, norm, &mean.memory()?, &var.memory()?)?;
    gpu::tensor(statistics, (3, norm.shape.channels))
}

pub(super) fn forward(
    op: &BatchNorm,
    (x, x_layout): Input<'_>,
    (affine, affine_layout): Input<'_>,
    residual: Option<Input<'_>>,
) -> Result<(CudaStorage, Shape)> {
    gpu::form_runs(OP, op.form)?;
    let (on, dtype, norm) = (Gpu::of(x), x.dtype(), &op.norm);
    let (x, affine) = (gpu::memory(OP, x, x_layout)?, gpu::memory(OP, affine, affine_layout)?);
    let residual =
        residual.map(|(storage, layout)| gpu::memory(OP, storage, layout)).transpose()?;
    if norm.training {
        let found = cuda::batch_statistics(&on, dtype, norm, &x)?;
        let found = gpu::tensor(found, (3, norm.shape.channels))?;
        op.found.on_gpu.get_or_init(|| found);
    }
    let statistics = Held::new(OP, statistics(op)?)?;
    let statistics = statistics.memory()?;
    let y = cuda::forward(&on, dtype, norm, &x, &affine, &statistics, residual.as_ref())?;
    Ok((y.into_storage()?, x_layout.shape().clone()))
}

/// The gradients of x, of gamma and beta, and of the residual behind a ReLU that are wanted.
pub(super) fn backward(
    op: &BatchNorm,
    x: &Tensor,
    affine: &Tensor,
    y: &Tensor,
    dy: &Tensor,
    wants: Wants,
) -> Result<[Option<Tensor>; 3]> {
    let (xs, affines) = (Held::new(OP, x)?, Held::new(OP, affine)?);
    let (ys, dys) = (Held::new(OP, y)?, Held::new(OP, dy)?);
    let statistics = Held::new(OP, statistics(op)?)?;
    let saved = Saved {
        x: &xs.memory()?,
        affine: &affines.memory()?,
        y: &ys.memory()?,
        statistics: &statistics.memory()?,
        dy: &dys.memory()?,
    };
    let on = Gpu::of(xs.storage()?);
    let [dx, daffine, dresidual] = cuda::backward(&on, x.dtype(), &op.norm, &saved, wants)?;
    Ok([
        dx.map(|memory| gpu::tensor(memory, x.dims())).transpose()?,
        daffine.map(|memory| gpu::tensor(memory, affine.dims())).transpose()?,
        dresidual.map(|memory| gpu::tensor(memory, x.dims())).transpose()?,
    ])
}

fn statistics(op: &BatchNorm) -> Result<&Tensor> {
    let needs = "the forward pass must have been run before";
    op.found.on_gpu.get().ok_or_else(|| Error::op(OP, "no statistics on the GPU", needs).into())
}
