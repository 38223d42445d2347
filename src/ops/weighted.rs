//! CPU ops of an input, a weight and perhaps a bias: what an op has to say, and the candle custom op
//! made of it.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Shape, Tensor, WithDType};

use super::Real;
use super::access::{self, by_dtype};
use crate::Result;

/// Which gradients a backward pass is to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wants {
    /// That of the input; the first layer's, the picture's, is usually not wanted.
    pub input: bool,
    /// That of the weight; not wanted where it is frozen.
    pub weight: bool,
    /// That of the bias.
    pub bias: bool,
}

/// The gradients of a backward pass, each in the shape of what it is the gradient of.
#[derive(Debug, Default)]
pub struct Grads<T> {
    /// That of the input, where wanted.
    pub input: Option<Vec<T>>,
    /// That of the weight, where wanted.
    pub weight: Option<Vec<T>>,
    /// That of the bias, where wanted.
    pub bias: Option<Vec<T>>,
}

/// An op of an input, a weight and perhaps a bias, as functions on slices.
pub(super) trait Weighted: Send + Sync + 'static {
    /// The op's name, as in errors.
    const NAME: &'static str;

    /// The output's shape.
    fn output(&self) -> Shape;

    /// The output's values.
    fn forward<T: Real>(&self, x: &[T], w: &[T], b: Option<&[T]>) -> Vec<T>;

    /// The gradients that are wanted, from that of the output.
    fn backward<T: Real>(&self, x: &[T], w: &[T], dy: &[T], wants: Wants) -> Grads<T>;
}

/// `op` of `x`, `weight` and `bias`, with its gradients.
pub(super) fn apply<O: Weighted>(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    op: O,
) -> Result<Tensor> {
    let (x, weight, op) = (x.contiguous()?, weight.contiguous()?, Custom(op));
    Ok(match bias {
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, op)?,
        None => x.apply_op2(&weight, op)?,
    })
}

/// What candle is given.
struct Custom<O>(O);

/// A tensor as candle hands it to an op.
type Given<'a> = (&'a CpuStorage, &'a Layout);

fn slice<T: Real, O: Weighted>((storage, layout): Given<'_>) -> candle_core::Result<&[T]> {
    access::slice::<T>(O::NAME, storage, layout)
}

impl<O: Weighted> Custom<O> {
    fn forward(
        &self,
        x: Given<'_>,
        w: Given<'_>,
        b: Option<Given<'_>>,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let y = by_dtype!(O::NAME, access::dtype(x.0), T => {
            let (x, w) = (slice::<T, O>(x)?, slice::<T, O>(w)?);
            let y = self.0.forward(x, w, b.map(slice::<T, O>).transpose()?);
            Ok::<_, candle_core::Error>(T::to_cpu_storage_owned(y))
        })?;
        Ok((y, self.0.output()))
    }

    fn backward(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: Option<&Tensor>,
        dy: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; 3]> {
        let wants = Wants {
            input: x.track_op(),
            weight: w.track_op(),
            bias: b.is_some_and(Tensor::track_op),
        };
        let dy = dy.contiguous()?;
        by_dtype!(O::NAME, x.dtype(), T => {
            let (xs, ws) = (access::values::<T>(O::NAME, x)?, access::values::<T>(O::NAME, w)?);
            let dys = access::values::<T>(O::NAME, &dy)?;
            let Grads { input, weight, bias } = self.0.backward(&xs, &ws, &dys, wants);
            let bias_shape = b.map_or(&[][..], Tensor::dims);
            Ok([
                input.map(|values| access::tensor(values, x.dims())).transpose()?,
                weight.map(|values| access::tensor(values, w.dims())).transpose()?,
                bias.map(|values| access::tensor(values, bias_shape)).transpose()?,
            ])
        })
    }
}

impl<O: Weighted> CustomOp2 for Custom<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.forward((x, x_layout), (w, w_layout), None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, _] = self.backward(x, w, None, dy)?;
        Ok((dx, dw))
    }
}

impl<O: Weighted> CustomOp3 for Custom<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.forward((x, x_layout), (w, w_layout), Some((b, b_layout)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, db] = self.backward(x, w, Some(b), dy)?;
        Ok((dx, dw, db))
    }
}
