//! 2-D max pooling, with its gradient.
//!
//! `y[n, c, p] = max of x[n, c, i] over the pixels i that window p has inside the picture`. The
//! gradient goes to that one pixel: the first of equal maxima in row-major order, or the last NaN
//! where a window has any.

pub mod cuda;
pub mod definition;
pub mod kernel;
mod portable;

use std::sync::{Arc, OnceLock};

#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, DType};
use candle_core::{Device, Tensor};

#[cfg(feature = "cuda")]
use super::cuda::gpu::{Gpu, Memory, form_runs};
use super::pooling::{self, Sliding};
use super::size::{check_room, checked_len};
use super::unary::{self, Unary};
use super::{Form, Im2col, Pair, Real, access};
#[cfg(feature = "cuda")]
use crate::Error;
use crate::Result;

const OP: &str = "max_pool2d";

/// Settings of max pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool2dParams {
    /// Height and width of the window.
    pub kernel: Pair,
    /// Steps of the window, downwards and to the right.
    pub stride: Pair,
    /// Rows and columns added on each side, which never win; at most half of the kernel.
    pub padding: Pair,
    /// Distance between the taps of the window.
    pub dilation: Pair,
    /// Whether a last window may stick out at the right or bottom.
    pub ceil_mode: bool,
}

impl Default for MaxPool2dParams {
    /// Windows of 2×2 side by side.
    fn default() -> Self {
        MaxPool2dParams {
            kernel: (2, 2),
            stride: (2, 2),
            padding: (0, 0),
            dilation: (1, 1),
            ceil_mode: false,
        }
    }
}

impl MaxPool2dParams {
    /// Square windows without padding.
    pub fn new(kernel: usize, stride: usize) -> Self {
        MaxPool2dParams { kernel: (kernel, kernel), stride: (stride, stride), ..Default::default() }
    }
}

/// The sizes of one max pooling, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool2dShape {
    /// Pictures in the batch, N.
    pub batch: usize,
    /// Channels, C.
    pub channels: usize,
    /// The windows over one plane.
    pub window: Im2col,
}

impl MaxPool2dShape {
    /// Checks that an input of shape `x` and `params` belong together.
    ///
    /// # Errors
    /// [`crate::Error::Op`], saying what was found and what is needed.
    pub fn new(x: &[usize], params: &MaxPool2dParams) -> Result<Self> {
        let MaxPool2dParams { kernel, stride, padding, dilation, ceil_mode } = *params;
        let (batch, channels, input) = pooling::planes(OP, x)?;
        let sliding = Sliding { kernel, stride, padding, dilation, ceil_mode };
        let shape = MaxPool2dShape { batch, channels, window: sliding.over(OP, input)? };
        checked_len(OP, &shape.output())?;
        Ok(shape)
    }

    /// The output's dimensions [N, C, OH, OW].
    pub fn output(&self) -> [usize; 4] {
        let (rows, cols) = self.window.output;
        [self.batch, self.channels, rows, cols]
    }

    /// Planes N·C.
    fn planes(&self) -> usize {
        self.batch * self.channels
    }
}

/// Largest values of `x` [N, C, H, W] under a sliding window, in the form that suits the device.
///
/// # Errors
/// Where shape, type or settings do not fit together.
pub fn max_pool2d(x: &Tensor, params: &MaxPool2dParams) -> Result<Tensor> {
    max_pool2d_as(Form::for_tensor(x), x, params)
}

/// [`max_pool2d`] in a form of your choice.
///
/// # Errors
/// Where shape, type or settings do not fit together.
pub fn max_pool2d_as(form: Form, x: &Tensor, params: &MaxPool2dParams) -> Result<Tensor> {
    let shape = check(form, x, params)?;
    match form {
        Form::Portable => Ok(portable::max_pool2d(&shape, x)?.0),
        _ => unary::apply(x, MaxPool2d::new(shape, form)),
    }
}

/// [`max_pool2d`], and where each maximum stood: flat positions in the unpadded H×W plane, u32, of
/// the output's shape.
///
/// # Errors
/// Where shape, type or settings do not fit together.
pub fn max_pool2d_with_indices(x: &Tensor, params: &MaxPool2dParams) -> Result<(Tensor, Tensor)> {
    max_pool2d_with_indices_as(Form::of(x), x, params)
}

/// [`max_pool2d_with_indices`] in a form of your choice.
///
/// # Errors
/// Where shape, type or settings do not fit together.
pub fn max_pool2d_with_indices_as(
    form: Form,
    x: &Tensor,
    params: &MaxPool2dParams,
) -> Result<(Tensor, Tensor)> {
    let shape = check(form, x, params)?;
    if form == Form::Portable {
        return Ok(portable::max_pool2d(&shape, x)?);
    }
    let indices = Arc::new(OnceLock::new());
    let y = unary::apply(x, MaxPool2d { indices: indices.clone(), ..MaxPool2d::new(shape, form) })?;
    let indices = indices.get().map_or(&[][..], Vec::as_slice);
    Ok((y, Tensor::from_slice(indices, &shape.output()[..], &Device::Cpu)?))
}

fn check(form: Form, x: &Tensor, params: &MaxPool2dParams) -> Result<MaxPool2dShape> {
    access::same_kind(OP, &[x])?;
    let shape = MaxPool2dShape::new(x.dims(), params)?;
    check_room(OP, x, &shape.output())?;
    if form == Form::Portable {
        let Im2col { kernel: (kh, kw), output: (oh, ow), .. } = shape.window;
        check_room(OP, x, &[shape.batch, shape.channels, kh, kw, oh, ow])?;
    }
    Ok(shape)
}

/// The op behind the definition and the kernel.
struct MaxPool2d {
    shape: MaxPool2dShape,
    form: Form,
    /// Where the maxima stood, from the forward pass for the backward pass.
    indices: Arc<OnceLock<Vec<u32>>>,
    /// The same on a GPU.
    #[cfg(feature = "cuda")]
    on_gpu: OnceLock<CudaStorage>,
}

impl MaxPool2d {
    fn new(shape: MaxPool2dShape, form: Form) -> Self {
        MaxPool2d {
            shape,
            form,
            indices: Default::default(),
            #[cfg(feature = "cuda")]
            on_gpu: OnceLock::new(),
        }
    }
}

impl Unary for MaxPool2d {
    const NAME: &'static str = OP;

    fn output(&self) -> [usize; 4] {
        self.shape.output()
    }

    fn forward<T: Real>(&self, x: &[T]) -> Vec<T> {
        let (y, indices) = match self.form {
            Form::Definition => definition::forward(&self.shape, x),
            _ => kernel::forward(&self.shape, x),
        };
        self.indices.get_or_init(|| indices);
        y
    }

    fn backward<T: Real>(&self, x: &[T], dy: &[T]) -> Vec<T> {
        let indices = self.indices.get_or_init(|| kernel::forward(&self.shape, x).1);
        match self.form {
            Form::Definition => definition::backward(&self.shape, indices, dy),
            _ => kernel::backward(&self.shape, indices, dy),
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
        let (y, indices) = cuda::forward(on, dtype, &self.shape, x)?;
        let indices = indices.into_storage()?;
        self.on_gpu.get_or_init(|| indices);
        Ok(y)
    }

    #[cfg(feature = "cuda")]
    fn cuda_backward<'a>(
        &'a self,
        on: &Gpu<'a>,
        dtype: DType,
        _x: &Memory<'a>,
        dy: &Memory<'a>,
    ) -> candle_core::Result<Memory<'a>> {
        let indices = self.on_gpu.get().ok_or_else(|| {
            Error::op(OP, "a backward pass", "the forward pass must have been run before")
        })?;
        cuda::backward(on, dtype, &self.shape, &Memory::Of(indices, 0), dy)
    }
}
