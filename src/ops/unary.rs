//! CPU ops of one input: what an op has to say, and the candle custom op made of it.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor, WithDType};
#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, DType, backend::BackendStorage};

use super::Real;
use super::access::{self, by_dtype};
#[cfg(feature = "cuda")]
use super::cuda::gpu::{self, Gpu, Held, Memory};
use crate::Result;

/// An op of one input that keeps its input's type, as functions on slices.
pub(super) trait Unary: Send + Sync + 'static {
    /// The op's name, as in errors.
    const NAME: &'static str;

    /// The output's dimensions.
    fn output(&self) -> [usize; 4];

    /// The output's values.
    fn forward<T: Real>(&self, x: &[T]) -> Vec<T>;

    /// The gradient of `x` from that of the output. Runs after `forward`, on the same op.
    fn backward<T: Real>(&self, x: &[T], dy: &[T]) -> Vec<T>;

    /// [`Unary::forward`] on a GPU.
    #[cfg(feature = "cuda")]
    fn cuda_forward<'a>(
        &'a self,
        on: &Gpu<'a>,
        dtype: DType,
        x: &Memory<'a>,
    ) -> candle_core::Result<Memory<'a>>;

    /// [`Unary::backward`] on a GPU.
    #[cfg(feature = "cuda")]
    fn cuda_backward<'a>(
        &'a self,
        on: &Gpu<'a>,
        dtype: DType,
        x: &Memory<'a>,
        dy: &Memory<'a>,
    ) -> candle_core::Result<Memory<'a>>;
}

/// `op` of `x`, with its gradient.
pub(super) fn apply<O: Unary>(x: &Tensor, op: O) -> Result<Tensor> {
    Ok(x.contiguous()?.apply_op1(Custom(op))?)
}

/// What candle is given.
struct Custom<O>(O);

impl<O: Unary> CustomOp1 for Custom<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let y = by_dtype!(O::NAME, access::dtype(x), T => {
            let y = self.0.forward(access::slice::<T>(O::NAME, x, layout)?);
            Ok::<_, candle_core::Error>(T::to_cpu_storage_owned(y))
        })?;
        Ok((y, Shape::from(&self.0.output()[..])))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        let y = self.0.cuda_forward(&Gpu::of(x), x.dtype(), &gpu::memory(O::NAME, x, layout)?)?;
        Ok((y.into_storage()?, Shape::from(&self.0.output()[..])))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let dy = dy.contiguous()?;
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return self.cuda_bwd(x, &dy).map(Some);
        }
        by_dtype!(O::NAME, x.dtype(), T => {
            let (xs, dys) = (access::values::<T>(O::NAME, x)?, access::values::<T>(O::NAME, &dy)?);
            Ok(Some(access::tensor(self.0.backward(&xs, &dys), x.dims())?))
        })
    }
}

#[cfg(feature = "cuda")]
impl<O: Unary> Custom<O> {
    fn cuda_bwd(&self, x: &Tensor, dy: &Tensor) -> candle_core::Result<Tensor> {
        let (xs, dys) = (Held::new(O::NAME, x)?, Held::new(O::NAME, dy)?);
        let on = Gpu::of(xs.storage()?);
        let dx = self.0.cuda_backward(&on, x.dtype(), &xs.memory()?, &dys.memory()?)?;
        gpu::tensor(dx, x.dims())
    }
}
