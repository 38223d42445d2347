//! ReLU, alone and fused with the addition before it.
//!
//! ```text
//! forward    y = x if x > 0, else 0; NaN stays NaN
//! backward   dx = dy where y > 0, else 0: at 0 the gradient is 0
//! ```

pub mod cuda;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor, WithDType};
#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, backend::BackendStorage};
use rayon::prelude::*;

use super::access::{self, by_dtype};
#[cfg(feature = "cuda")]
use super::cuda::gpu::{self, Gpu, Held};
use super::{Form, Real};
use crate::{Error, Result};

/// Values that one task of the kernel works on.
const TASK: usize = 1 << 14;

/// ReLU of each value of `x`, in the form that suits the device.
///
/// # Errors
/// If `x` is not a floating-point tensor.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    relu_as(Form::for_tensor(x), x)
}

/// [`relu`] in a form of your choice.
///
/// # Errors
/// As for [`relu`].
pub fn relu_as(form: Form, x: &Tensor) -> Result<Tensor> {
    access::same_kind("relu", &[x])?;
    Ok(match form {
        Form::Portable => portable(x)?,
        _ => x.contiguous()?.apply_op1(Relu { form })?,
    })
}

/// `relu(a + b)` of two tensors of one shape, as at the end of a residual block; in the form that
/// suits the device.
///
/// # Errors
/// If shapes or types differ.
pub fn add_relu(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    add_relu_as(Form::for_tensor(a), a, b)
}

/// [`add_relu`] in a form of your choice.
///
/// # Errors
/// As for [`add_relu`].
pub fn add_relu_as(form: Form, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    access::same_kind("add_relu", &[a, b])?;
    if a.dims() != b.dims() {
        let found = format!("shapes {:?} and {:?}", a.dims(), b.dims());
        return Err(Error::op("add_relu", found, "both need the same shape"));
    }
    Ok(match form {
        Form::Portable => portable(&(a + b)?)?,
        _ => a.contiguous()?.apply_op2(&b.contiguous()?, AddRelu { form })?,
    })
}

/// Candle's own ReLU has a gradient of 1 at 0; a choice between `x` and zeros has none. `x <= 0` is
/// false for NaN, which therefore stays.
pub(super) fn portable(x: &Tensor) -> candle_core::Result<Tensor> {
    x.le(0.0)?.where_cond(&x.zeros_like()?, x)
}

#[inline(always)]
fn relu_of<T: Real>(x: T) -> T {
    if x <= T::zero() { T::zero() } else { x }
}

/// The gradient of the input, given the output `y`.
#[inline(always)]
fn gradient_of<T: Real>(y: T, dy: T) -> T {
    if y <= T::zero() { T::zero() } else { dy }
}

fn map<T: Real>(form: Form, a: &[T], f: impl Fn(T) -> T + Sync) -> Vec<T> {
    match form {
        Form::Definition => a.iter().map(|&a| f(a)).collect(),
        _ => a.par_iter().with_min_len(TASK).map(|&a| f(a)).collect(),
    }
}

fn map2<T: Real>(form: Form, a: &[T], b: &[T], f: impl Fn(T, T) -> T + Sync) -> Vec<T> {
    match form {
        Form::Definition => a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect(),
        _ => a.par_iter().with_min_len(TASK).zip(b).map(|(&a, &b)| f(a, b)).collect(),
    }
}

/// The gradient behind a ReLU whose output was `y`.
fn backward<T: Real>(
    op: &'static str,
    form: Form,
    y: &Tensor,
    dy: &Tensor,
) -> candle_core::Result<Tensor> {
    let dy = dy.contiguous()?;
    let (ys, dys) = (access::values::<T>(op, y)?, access::values::<T>(op, &dy)?);
    access::tensor(map2(form, &ys, &dys, gradient_of), y.dims())
}

/// The same on a GPU.
#[cfg(feature = "cuda")]
fn cuda_backward(op: &'static str, y: &Tensor, dy: &Tensor) -> candle_core::Result<Tensor> {
    let dy = dy.contiguous()?;
    let (ys, dys) = (Held::new(op, y)?, Held::new(op, &dy)?);
    let (on, len) = (Gpu::of(ys.storage()?), y.elem_count());
    gpu::tensor(cuda::backward(&on, y.dtype(), len, &ys.memory()?, &dys.memory()?)?, y.dims())
}

struct Relu {
    form: Form,
}

impl CustomOp1 for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        by_dtype!("relu", access::dtype(x), T => {
            let y = map(self.form, access::slice::<T>("relu", x, layout)?, relu_of);
            Ok((T::to_cpu_storage_owned(y), layout.shape().clone()))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        gpu::form_runs("relu", self.form)?;
        let len = layout.shape().elem_count();
        let memory = gpu::memory("relu", x, layout)?;
        let y = cuda::forward(&Gpu::of(x), x.dtype(), len, &memory)?;
        Ok((y.into_storage()?, layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        if !x.track_op() {
            return Ok(None);
        }
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return cuda_backward("relu", y, dy).map(Some);
        }
        by_dtype!("relu", x.dtype(), T => backward::<T>("relu", self.form, y, dy).map(Some))
    }
}

struct AddRelu {
    form: Form,
}

impl AddRelu {
    /// That of either input.
    fn gradient(&self, y: &Tensor, dy: &Tensor) -> candle_core::Result<Tensor> {
        #[cfg(feature = "cuda")]
        if y.device().is_cuda() {
            return cuda_backward("add_relu", y, dy);
        }
        by_dtype!("add_relu", y.dtype(), T => backward::<T>("add_relu", self.form, y, dy))
    }
}

impl CustomOp2 for AddRelu {
    fn name(&self) -> &'static str {
        "add_relu"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        by_dtype!("add_relu", access::dtype(a), T => {
            let a = access::slice::<T>("add_relu", a, a_layout)?;
            let b = access::slice::<T>("add_relu", b, b_layout)?;
            let y = map2(self.form, a, b, |a, b| relu_of(a + b));
            Ok((T::to_cpu_storage_owned(y), a_layout.shape().clone()))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        a: &CudaStorage,
        a_layout: &Layout,
        b: &CudaStorage,
        b_layout: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        gpu::form_runs("add_relu", self.form)?;
        let len = a_layout.shape().elem_count();
        let (on, dtype) = (Gpu::of(a), a.dtype());
        let (a, b) = (gpu::memory("add_relu", a, a_layout)?, gpu::memory("add_relu", b, b_layout)?);
        let y = cuda::add_forward(&on, dtype, len, &a, &b)?;
        Ok((y.into_storage()?, a_layout.shape().clone()))
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = self.gradient(y, dy)?;
        Ok((a.track_op().then(|| gradient.clone()), b.track_op().then_some(gradient)))
    }
}
