//! Adaptive average pooling, with its gradient: whatever the input's size, the output has the size
//! asked for.
//!
//! Along each side, output i is the mean of the inputs from ⌊i·in/out⌋ up to, but not including,
//! ⌈(i+1)·in/out⌉. Neighbouring windows may overlap, and out may exceed in. An output of 1×1 is
//! global average pooling (Lin, Chen and Yan, "Network in Network", 2014).

pub mod cuda;
pub mod definition;

#[cfg(feature = "cuda")]
use candle_core::DType;
use candle_core::Tensor;

use super::avg_pool2d::{Means, Span, kernel, portable};
#[cfg(feature = "cuda")]
use super::cuda::gpu::{Gpu, Memory, form_runs};
use super::size::{check_room, checked_len};
use super::unary::{self, Unary};
use super::{Form, Pair, Real, access, pooling};
use crate::{Error, Result};

const OP: &str = "adaptive_avg_pool2d";

/// The sizes of one adaptive pooling, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdaptiveAvgPool2dShape {
    /// Pictures in the batch, N.
    pub batch: usize,
    /// Channels, C.
    pub channels: usize,
    /// Height and width of a plane.
    pub input: Pair,
    /// Height and width of an output plane.
    pub output: Pair,
}

impl AdaptiveAvgPool2dShape {
    /// Checks an input's shape `x` and the `output` height and width asked for.
    ///
    /// # Errors
    /// [`Error::Op`], saying what was found and what is needed.
    pub fn new(x: &[usize], output: Pair) -> Result<Self> {
        let (batch, channels, input) = pooling::planes(OP, x)?;
        if output.0 == 0 || output.1 == 0 {
            let found = format!("output {output:?}");
            return Err(Error::op(OP, found, "height and width must not be 0"));
        }
        pooling::check_plane(OP, output)?;
        checked_len(OP, &[batch, channels, output.0, output.1])?;
        Ok(AdaptiveAvgPool2dShape { batch, channels, input, output })
    }

    /// The output's dimensions [N, C, OH, OW].
    pub fn output(&self) -> [usize; 4] {
        [self.batch, self.channels, self.output.0, self.output.1]
    }

    pub(crate) fn means(&self) -> Means {
        let spans = |input, output| (0..output).map(|i| span(i, input, output)).collect();
        Means {
            input: self.input,
            rows: spans(self.input.0, self.output.0),
            cols: spans(self.input.1, self.output.1),
            divisor: None,
        }
    }
}

/// What output `i` of `output` averages of `input` pixels.
fn span(i: usize, input: usize, output: usize) -> Span {
    // Sides have less than 2^32 pixels: in 64 bits their product fits on every machine.
    let (i, input, output) = (i as u64, input as u64, output as u64);
    let (start, end) = (i * input / output, ((i + 1) * input).div_ceil(output));
    let (start, end) = (start as usize, end as usize);
    Span { start, end, count: end - start }
}

/// Means of `x` [N, C, H, W] over OH×OW windows that together cover it, in the form that suits the
/// device.
///
/// # Errors
/// Where shape or type do not fit, or the output is empty.
pub fn adaptive_avg_pool2d(x: &Tensor, output: Pair) -> Result<Tensor> {
    adaptive_avg_pool2d_as(Form::for_tensor(x), x, output)
}

/// [`adaptive_avg_pool2d`] in a form of your choice.
///
/// # Errors
/// Where shape or type do not fit, or the output is empty.
pub fn adaptive_avg_pool2d_as(form: Form, x: &Tensor, output: Pair) -> Result<Tensor> {
    access::same_kind(OP, &[x])?;
    let shape = AdaptiveAvgPool2dShape::new(x.dims(), output)?;
    check_room(OP, x, &shape.output())?;
    match form {
        Form::Portable => Ok(portable::means(&shape.means(), x)?),
        _ => unary::apply(x, AdaptiveAvgPool2d { shape, form }),
    }
}

/// The op behind the definition and the kernel, which average pooling has already.
struct AdaptiveAvgPool2d {
    shape: AdaptiveAvgPool2dShape,
    form: Form,
}

impl Unary for AdaptiveAvgPool2d {
    const NAME: &'static str = OP;

    fn output(&self) -> [usize; 4] {
        self.shape.output()
    }

    fn forward<T: Real>(&self, x: &[T]) -> Vec<T> {
        match self.form {
            Form::Definition => definition::forward(&self.shape, x),
            _ => kernel::forward(&self.shape.means(), x),
        }
    }

    fn backward<T: Real>(&self, _x: &[T], dy: &[T]) -> Vec<T> {
        match self.form {
            Form::Definition => definition::backward(&self.shape, dy),
            _ => kernel::backward(&self.shape.means(), dy),
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
