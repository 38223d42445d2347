//! 2-D average pooling, with its gradient.
//!
//! `y[n, c, p] = Σ x[n, c, i] / divisor[p]` over the pixels i that window p has inside the picture.
//! What the divisor counts is a matter of [`AvgPool2dParams`].

pub mod cuda;
pub mod definition;
pub mod kernel;
pub(super) mod portable;
mod spans;

#[cfg(feature = "cuda")]
use candle_core::DType;
use candle_core::Tensor;

#[cfg(feature = "cuda")]
use super::cuda::gpu::{Gpu, Memory, form_runs};
use super::pooling::{self, Sliding};
use super::size::{check_room, checked_len};
use super::unary::{self, Unary};
use super::{Form, Im2col, Pair, Real, access};
use crate::{Error, Result};

pub use spans::{Means, Span};

const OP: &str = "avg_pool2d";

/// Settings of average pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvgPool2dParams {
    /// Height and width of the window.
    pub kernel: Pair,
    /// Steps of the window, downwards and to the right.
    pub stride: Pair,
    /// Zeros added on each side; at most half of the kernel.
    pub padding: Pair,
    /// Whether a last window may stick out at the right or bottom.
    pub ceil_mode: bool,
    /// Whether the divisor counts padding. It never counts what a window covers beyond it.
    pub count_include_pad: bool,
    /// A divisor to use instead of the count.
    pub divisor_override: Option<usize>,
}

impl Default for AvgPool2dParams {
    /// Windows of 2×2 side by side.
    fn default() -> Self {
        AvgPool2dParams {
            kernel: (2, 2),
            stride: (2, 2),
            padding: (0, 0),
            ceil_mode: false,
            count_include_pad: true,
            divisor_override: None,
        }
    }
}

impl AvgPool2dParams {
    /// Square windows without padding.
    pub fn new(kernel: usize, stride: usize) -> Self {
        AvgPool2dParams { kernel: (kernel, kernel), stride: (stride, stride), ..Default::default() }
    }
}

/// The sizes of one average pooling, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvgPool2dShape {
    /// Pictures in the batch, N.
    pub batch: usize,
    /// Channels, C.
    pub channels: usize,
    /// The windows over one plane.
    pub window: Im2col,
    /// Whether the divisor counts padding.
    pub count_include_pad: bool,
    /// A divisor to use instead of the count.
    pub divisor_override: Option<usize>,
}

impl AvgPool2dShape {
    /// Checks that an input of shape `x` and `params` belong together.
    ///
    /// # Errors
    /// [`Error::Op`], saying what was found and what is needed.
    pub fn new(x: &[usize], params: &AvgPool2dParams) -> Result<Self> {
        let AvgPool2dParams { kernel, stride, padding, ceil_mode, .. } = *params;
        let (batch, channels, input) = pooling::planes(OP, x)?;
        if params.divisor_override == Some(0) {
            return Err(Error::op(OP, "divisor_override 0", "the divisor must not be 0"));
        }
        let sliding = Sliding { kernel, stride, padding, dilation: (1, 1), ceil_mode };
        let shape = AvgPool2dShape {
            batch,
            channels,
            window: sliding.over(OP, input)?,
            count_include_pad: params.count_include_pad,
            divisor_override: params.divisor_override,
        };
        checked_len(OP, &shape.output())?;
        Ok(shape)
    }

    /// The output's dimensions [N, C, OH, OW].
    pub fn output(&self) -> [usize; 4] {
        let (rows, cols) = self.window.output;
        [self.batch, self.channels, rows, cols]
    }

    /// What the sum over the window at row `oy` and column `ox` of the output is divided by.
    pub fn divisor(&self, oy: usize, ox: usize) -> usize {
        let window = &self.window;
        let covers = |place: usize, size: usize, kernel: usize, stride: usize, padding: usize| {
            let (start, end) = (place * stride, place * stride + kernel); // in the padded input
            if self.count_include_pad {
                end.min(size + 2 * padding) - start
            } else {
                end.min(size + padding) - start.max(padding)
            }
        };
        let (h, w) = window.input;
        self.divisor_override.unwrap_or_else(|| {
            covers(oy, h, window.kernel.0, window.stride.0, window.padding.0)
                * covers(ox, w, window.kernel.1, window.stride.1, window.padding.1)
        })
    }
}

/// Means of `x` [N, C, H, W] under a sliding window, in the form that suits the device.
///
/// # Errors
/// Where shape, type or settings do not fit together.
pub fn avg_pool2d(x: &Tensor, params: &AvgPool2dParams) -> Result<Tensor> {
    avg_pool2d_as(Form::for_tensor(x), x, params)
}

/// [`avg_pool2d`] in a form of your choice.
///
/// # Errors
/// Where shape, type or settings do not fit together.
pub fn avg_pool2d_as(form: Form, x: &Tensor, params: &AvgPool2dParams) -> Result<Tensor> {
    access::same_kind(OP, &[x])?;
    let shape = AvgPool2dShape::new(x.dims(), params)?;
    check_room(OP, x, &shape.output())?;
    if form == Form::Definition {
        check_room(OP, x, &[shape.window.rows(), shape.window.cols()])?;
    }
    match form {
        Form::Portable => Ok(portable::means(&Means::of(&shape), x)?),
        _ => unary::apply(x, AvgPool2d { shape, form }),
    }
}

/// The op behind the definition and the kernel.
struct AvgPool2d {
    shape: AvgPool2dShape,
    form: Form,
}

impl Unary for AvgPool2d {
    const NAME: &'static str = OP;

    fn output(&self) -> [usize; 4] {
        self.shape.output()
    }

    fn forward<T: Real>(&self, x: &[T]) -> Vec<T> {
        match self.form {
            Form::Definition => definition::forward(&self.shape, x),
            _ => kernel::forward(&Means::of(&self.shape), x),
        }
    }

    fn backward<T: Real>(&self, _x: &[T], dy: &[T]) -> Vec<T> {
        match self.form {
            Form::Definition => definition::backward(&self.shape, dy),
            _ => kernel::backward(&Means::of(&self.shape), dy),
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
        _x: &Memory<'a>,
        dy: &Memory<'a>,
    ) -> candle_core::Result<Memory<'a>> {
        cuda::backward(on, dtype, &self.shape, dy)
    }
}
