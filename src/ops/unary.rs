//! CPU ops of one input: what an op has to say, and the candle custom op made of it.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor, WithDType};

use super::Real;
use super::access::{self, by_dtype};
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

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let dy = dy.contiguous()?;
        by_dtype!(O::NAME, x.dtype(), T => {
            let (xs, dys) = (access::values::<T>(O::NAME, x)?, access::values::<T>(O::NAME, &dy)?);
            Ok(Some(access::tensor(self.0.backward(&xs, &dys), x.dims())?))
        })
    }
}
