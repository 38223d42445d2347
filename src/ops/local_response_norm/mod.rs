//! Local response normalisation across channels (Krizhevsky, Sutskever and Hinton, "ImageNet
//! Classification with Deep Convolutional Neural Networks", 2012, section 3.3), with its gradient.
//!
//! `y[c] = x[c] · s[c]^-β` with `s[c] = k + α/size · Σ x[j]²`, pixel by pixel, over the `size`
//! channels j from `c - size/2` to `c + (size-1)/2`, cut off at the ends. Dividing α by the size is
//! PyTorch's way; the paper's own α is not divided, so its α of 1e-4 is 5e-4 here.

pub mod cuda;
pub mod definition;
pub mod kernel;
mod portable;

use std::ops::Range;

#[cfg(feature = "cuda")]
use candle_core::DType;
use candle_core::Tensor;

#[cfg(feature = "cuda")]
use super::cuda::gpu::{Gpu, Memory, form_runs};
use super::size::checked_len;
use super::unary::{self, Unary};
use super::{Form, Real, access};
use crate::{Error, Result};

const OP: &str = "local_response_norm";

/// Settings of local response normalisation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LrnParams {
    /// Channels that are added up.
    pub size: usize,
    /// Factor of their mean square, α.
    pub alpha: f64,
    /// Exponent, β.
    pub beta: f64,
    /// What is added to the mean square, k.
    pub k: f64,
}

impl Default for LrnParams {
    /// PyTorch's defaults, over five channels as in the paper.
    fn default() -> Self {
        LrnParams { size: 5, alpha: 1e-4, beta: 0.75, k: 1.0 }
    }
}

/// The sizes and settings of one normalisation, checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LrnShape {
    /// Dimensions of input and output, [N, C, H, W].
    pub dims: [usize; 4],
    /// The settings.
    pub params: LrnParams,
}

impl LrnShape {
    /// Checks an input's shape `x` and `params`.
    ///
    /// # Errors
    /// [`Error::Op`], saying what was found and what is needed.
    pub fn new(x: &[usize], params: &LrnParams) -> Result<Self> {
        let &[batch, channels, height, width] = x else {
            let found = format!("shape {x:?}");
            return Err(Error::op(OP, found, "it needs four dimensions [N, C, H, W]"));
        };
        if params.size == 0 {
            return Err(Error::op(OP, "size 0", "it must add up at least one channel"));
        }
        checked_len(OP, x)?;
        Ok(LrnShape { dims: [batch, channels, height, width], params: *params })
    }

    /// Pixels of a plane, H·W.
    pub(crate) fn pixels(&self) -> usize {
        self.dims[2] * self.dims[3]
    }

    /// The channels whose squares are in `s[c]`.
    pub(crate) fn window(&self, c: usize) -> Range<usize> {
        let (before, after) = (self.params.size / 2, (self.params.size - 1) / 2);
        c.saturating_sub(before)..c.saturating_add(after).saturating_add(1).min(self.dims[1])
    }

    /// The channels j with `x[c]²` in `s[j]`; another window where the size is even.
    pub(crate) fn adjoint_window(&self, c: usize) -> Range<usize> {
        let (before, after) = ((self.params.size - 1) / 2, self.params.size / 2);
        c.saturating_sub(before)..c.saturating_add(after).saturating_add(1).min(self.dims[1])
    }
}

/// `x` [N, C, H, W], each value divided by a power of the mean square around it, in the form that
/// suits the device.
///
/// # Errors
/// Where shape, type or settings do not fit together.
pub fn local_response_norm(x: &Tensor, params: &LrnParams) -> Result<Tensor> {
    local_response_norm_as(Form::for_tensor(x), x, params)
}

/// [`local_response_norm`] in a form of your choice.
///
/// # Errors
/// Where shape, type or settings do not fit together.
pub fn local_response_norm_as(form: Form, x: &Tensor, params: &LrnParams) -> Result<Tensor> {
    access::same_kind(OP, &[x])?;
    let shape = LrnShape::new(x.dims(), params)?;
    match form {
        Form::Portable => Ok(portable::local_response_norm(&shape, x)?),
        _ => unary::apply(x, LocalResponseNorm { shape, form }),
    }
}

/// The op behind the definition and the kernel.
struct LocalResponseNorm {
    shape: LrnShape,
    form: Form,
}

impl Unary for LocalResponseNorm {
    const NAME: &'static str = OP;

    fn output(&self) -> [usize; 4] {
        self.shape.dims
    }

    fn forward<T: Real>(&self, x: &[T]) -> Vec<T> {
        match self.form {
            Form::Definition => definition::forward(&self.shape, x),
            _ => kernel::forward(&self.shape, x),
        }
    }

    fn backward<T: Real>(&self, x: &[T], dy: &[T]) -> Vec<T> {
        match self.form {
            Form::Definition => definition::backward(&self.shape, x, dy),
            _ => kernel::backward(&self.shape, x, dy),
        }
    }

    #[cfg(feature = "cuda")]
    fn cuda_forward<'a>(
        &'a self,
        on: &Gpu<'a>,
        dtype: DType,
        x: &Memory<'a>,
    ) -> candle_core::Result<Memory<'a>> {
        form_runs(OP, self.form)?;
        cuda::forward(on, dtype, &self.shape, x)
    }

    #[cfg(feature = "cuda")]
    fn cuda_backward<'a>(
        &'a self,
        on: &Gpu<'a>,
        dtype: DType,
        x: &Memory<'a>,
        dy: &Memory<'a>,
    ) -> candle_core::Result<Memory<'a>> {
        cuda::backward(on, dtype, &self.shape, x, dy)
    }
}
