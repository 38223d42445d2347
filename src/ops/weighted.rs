//! CPU ops of an input, a weight and perhaps a bias: what an op has to say, and the candle custom op
//! made of it.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Shape, Tensor, WithDType};
#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, DType, backend::BackendStorage};

use super::Real;
use super::access::{self, by_dtype};
#[cfg(feature = "cuda")]
use super::cuda::gpu::{self, Gpu, Held, Memory};
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

    /// [`Weighted::forward`] on a GPU.
    #[cfg(feature = "cuda")]
    fn cuda_forward<'a>(
        &self,
        on: &Gpu<'a>,
        dtype: DType,
        x: &Memory<'a>,
        w: &Memory<'a>,
        b: Option<&Memory<'a>>,
    ) -> candle_core::Result<Memory<'a>>;

    /// [`Weighted::backward`] of `x`, `w` and `dy` on a GPU.
    #[cfg(feature = "cuda")]
    fn cuda_backward<'a>(
        &self,
        on: &Gpu<'a>,
        dtype: DType,
        inputs: [&Memory<'a>; 3],
        wants: Wants,
    ) -> candle_core::Result<[Option<Memory<'a>>; 3]>;
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
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return self.cuda_backward([x, w, &dy], b, wants);
        }
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

/// A tensor as candle hands it to an op on a GPU.
#[cfg(feature = "cuda")]
type OnGpu<'a> = (&'a CudaStorage, &'a Layout);

#[cfg(feature = "cuda")]
impl<O: Weighted> Custom<O> {
    fn cuda_forward(
        &self,
        x: OnGpu<'_>,
        w: OnGpu<'_>,
        b: Option<OnGpu<'_>>,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        let memory = |(storage, layout)| gpu::memory(O::NAME, storage, layout);
        let b = b.map(memory).transpose()?;
        let (on, dtype) = (Gpu::of(x.0), x.0.dtype());
        let y = self.0.cuda_forward(&on, dtype, &memory(x)?, &memory(w)?, b.as_ref())?;
        Ok((y.into_storage()?, self.0.output()))
    }

    fn cuda_backward(
        &self,
        [x, w, dy]: [&Tensor; 3],
        b: Option<&Tensor>,
        wants: Wants,
    ) -> candle_core::Result<[Option<Tensor>; 3]> {
        let held = |tensor| Held::new(O::NAME, tensor);
        let (xs, ws, dys) = (held(x)?, held(w)?, held(dy)?);
        let inputs = [&xs.memory()?, &ws.memory()?, &dys.memory()?];
        let on = Gpu::of(xs.storage()?);
        let [dx, dw, db] = self.0.cuda_backward(&on, x.dtype(), inputs, wants)?;
        let bias_shape = b.map_or(&[][..], Tensor::dims);
        Ok([
            dx.map(|memory| gpu::tensor(memory, x.dims())).transpose()?,
            dw.map(|memory| gpu::tensor(memory, w.dims())).transpose()?,
            db.map(|memory| gpu::tensor(memory, bias_shape)).transpose()?,
        ])
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

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        w: &CudaStorage,
        w_layout: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        self.cuda_forward((x, x_layout), (w, w_layout), None)
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

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        w: &CudaStorage,
        w_layout: &Layout,
        b: &CudaStorage,
        b_layout: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        self.cuda_forward((x, x_layout), (w, w_layout), Some((b, b_layout)))
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
