//! Dropout (Srivastava et al., 2014), inverted: what is kept grows by 1 / (1 − p), so nothing need
//! be done in evaluation.
//!
//! ```text
//! forward    y = m·x,   m = 0 with probability p, else 1 / (1 − p)
//! backward   dx = m·dy
//! ```
//!
//! The mask is not stored: `m[i]` is a hash of a seed and i, the same in every form, on every device
//! and for any number of threads.

pub mod cuda;

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor, WithDType};
#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, backend::BackendStorage};
use rayon::prelude::*;

use super::access::{self, by_dtype};
#[cfg(feature = "cuda")]
use super::cuda::gpu::{self, Gpu, Held};
use super::{Form, Real, half};
use crate::rng::{Rng, splitmix64};
use crate::{Error, Result};

const OP: &str = "dropout";
/// Values that one task of the kernel works on.
const TASK: usize = 1 << 13;

/// Sets each value of `x` to 0 with probability `p` and divides the others by `1 − p`; in the form
/// that suits the device. Takes one number from `rng`. For training: leave it out in evaluation.
///
/// # Errors
/// If `p` is not in 0..=1, or `x` is not a floating-point tensor.
pub fn dropout(x: &Tensor, p: f64, rng: &mut Rng) -> Result<Tensor> {
    dropout_as(Form::for_tensor(x), x, p, rng)
}

/// [`dropout`] in a form of your choice.
///
/// # Errors
/// As for [`dropout`].
pub fn dropout_as(form: Form, x: &Tensor, p: f64, rng: &mut Rng) -> Result<Tensor> {
    access::same_kind(OP, &[x])?;
    if !(0.0..=1.0).contains(&p) {
        return Err(Error::op(OP, format!("probability {p}"), "it must be between 0 and 1"));
    }
    let mask = Mask::new(p, rng.next_u64());
    if p == 0.0 {
        return Ok(x.clone());
    }
    Ok(match form {
        Form::Portable => portable(x, mask)?,
        _ => x.contiguous()?.apply_op1(Dropout { mask, form })?,
    })
}

/// The factors of one call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mask {
    seed: u64,
    /// Hashes below are dropped; of 53 bits.
    threshold: u64,
    /// Factor of what is kept.
    scale: f64,
}

impl Mask {
    /// Drops with probability `p`, as `seed` has it.
    pub fn new(p: f64, seed: u64) -> Self {
        let scale = if p < 1.0 { 1.0 / (1.0 - p) } else { 0.0 };
        Mask { seed, threshold: (p * (1u64 << 53) as f64) as u64, scale }
    }

    /// The factor of value `i`.
    #[inline(always)]
    pub fn factor<T: Real>(&self, i: usize) -> T {
        let hash = splitmix64(self.seed.wrapping_add(i as u64)) >> 11;
        T::of(if hash < self.threshold { 0.0 } else { self.scale })
    }
}

fn definition<T: Real>(mask: Mask, x: &[T]) -> Vec<T> {
    x.iter().enumerate().map(|(i, &x)| mask.factor::<T>(i) * x).collect()
}

fn kernel<T: Real>(mask: Mask, x: &[T]) -> Vec<T> {
    let x = x.par_iter().with_min_len(TASK).enumerate();
    x.map(|(i, &x)| mask.factor::<T>(i) * x).collect()
}

/// The mask is made here and moved to the device.
fn portable(x: &Tensor, mask: Mask) -> candle_core::Result<Tensor> {
    let factors = match x.dtype() {
        DType::F64 => Tensor::new(kernel(mask, &vec![1.0f64; x.elem_count()]), x.device())?,
        _ => Tensor::new(kernel(mask, &vec![1.0f32; x.elem_count()]), x.device())?,
    };
    let factors = factors.reshape(x.shape())?;
    half::in_working(x, |x| x * factors)
}

struct Dropout {
    mask: Mask,
    form: Form,
}

impl Dropout {
    fn apply<T: Real>(&self, x: &[T]) -> Vec<T> {
        match self.form {
            Form::Definition => definition(self.mask, x),
            _ => kernel(self.mask, x),
        }
    }
}

impl CustomOp1 for Dropout {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        by_dtype!(OP, access::dtype(x), T => {
            let y = self.apply(access::slice::<T>(OP, x, layout)?);
            Ok((T::to_cpu_storage_owned(y), layout.shape().clone()))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        gpu::form_runs(OP, self.form)?;
        let len = layout.shape().elem_count();
        let memory = gpu::memory(OP, x, layout)?;
        let y = cuda::apply(&Gpu::of(x), x.dtype(), len, &self.mask, &memory)?;
        Ok((y.into_storage()?, layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        if !x.track_op() {
            return Ok(None);
        }
        let dy = dy.contiguous()?;
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            let (held, len) = (Held::new(OP, &dy)?, dy.elem_count());
            let on = Gpu::of(held.storage()?);
            let dx = cuda::apply(&on, dy.dtype(), len, &self.mask, &held.memory()?)?;
            return gpu::tensor(dx, x.dims()).map(Some);
        }
        by_dtype!(OP, x.dtype(), T => {
            let dx = self.apply(&access::values::<T>(OP, &dy)?);
            access::tensor(dx, x.dims()).map(Some)
        })
    }
}
