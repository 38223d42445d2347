//! 2-D convolution (cross-correlation, as the field has it), with its gradients.
//!
//! `y[n, o] = b[o] + Σ_c w[o, c] ⋆ x[n, c]` with x [N, C, H, W], w [O, C/G, KH, KW], b \[O\] and
//! y [N, O, OH, OW]; of the C and O channels, each of the G groups sees only its own.

mod channels_last;
pub mod cuda;
pub mod definition;
mod gather;
pub mod kernel;
mod pointwise;
mod portable;

#[cfg(feature = "cuda")]
use candle_core::DType;
use candle_core::{Shape, Tensor};

#[cfg(feature = "cuda")]
use super::cuda::gpu::{Gpu, Memory, form_runs};
use super::size::{check_room, checked_len};
use super::weighted::{self, Grads, Wants, Weighted};
use super::{Form, Im2col, Pair, Real, access, pooling};
use crate::{Error, Result};

const OP: &str = "conv2d";

/// Settings of a convolution; PyTorch's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dParams {
    /// Steps of the window, downwards and to the right.
    pub stride: Pair,
    /// Zeros added on each side, above and below, left and right.
    pub padding: Pair,
    /// Distance between the taps of the kernel.
    pub dilation: Pair,
    /// Into how many groups the channels are split.
    pub groups: usize,
}

impl Default for Conv2dParams {
    fn default() -> Self {
        Conv2dParams { stride: (1, 1), padding: (0, 0), dilation: (1, 1), groups: 1 }
    }
}

/// The sizes of one convolution, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dShape {
    /// Pictures in the batch, N.
    pub batch: usize,
    /// Groups, G.
    pub groups: usize,
    /// Output channels of one group, O/G.
    pub group_out: usize,
    /// The windows over the C/G channels of one group.
    pub window: Im2col,
}

impl Conv2dShape {
    /// Checks that an input of shape `x`, a weight of shape `w` and `params` belong together.
    ///
    /// # Errors
    /// [`Error::Op`], saying what was found and what is needed.
    pub fn new(x: &[usize], w: &[usize], params: &Conv2dParams) -> Result<Self> {
        let (&[batch, channels, height, width], &[out, group_in, kh, kw]) = (x, w) else {
            let found = format!("input {x:?} and weight {w:?}");
            return Err(Error::op(OP, found, "it needs [N, C, H, W] and [O, C/groups, KH, KW]"));
        };
        if [channels, height, width, out].contains(&0) {
            let found = format!("input {x:?} and weight {w:?}");
            return Err(Error::op(OP, found, "channels, height and width must not be 0"));
        }
        let groups = params.groups;
        if groups == 0 || channels % groups != 0 || out % groups != 0 {
            let found = format!("{channels} channels in, {out} out and {groups} groups");
            return Err(Error::op(OP, found, "both channel counts must be divisible by groups"));
        }
        if group_in != channels / groups {
            let found = format!("input {x:?}, weight {w:?} and {groups} groups");
            let needed = format!("the weight's second dimension must be {}", channels / groups);
            return Err(Error::op(OP, found, needed));
        }
        let Conv2dParams { stride, padding, dilation, .. } = *params;
        let window = Im2col::new(group_in, (height, width), (kh, kw), stride, padding, dilation)
            .map_err(|error| match error {
                Error::Op { found, needed, .. } => Error::Op { op: OP, found, needed },
                other => other,
            })?;
        let shape = Conv2dShape { batch, groups, group_out: out / groups, window };
        for sides in [x, w, &shape.output()] {
            checked_len(OP, sides)?;
        }
        // What the weight's gradient is summed in, for all pictures of a part.
        checked_len(OP, &[batch, groups, window.rows(), window.cols()])?;
        Ok(shape)
    }

    /// Holds sizes that were not made by [`Conv2dShape::new`] to the same rules, and slices to the
    /// sizes: the kernels address memory by them.
    ///
    /// # Panics
    /// If these are no sizes of a convolution, or a slice is shorter than they say.
    fn assert_holds(&self, x: usize, w: usize, b: Option<usize>, dy: Option<usize>) {
        let Conv2dShape { batch, groups, group_out, window } = *self;
        let Im2col { channels, input, kernel, stride, padding, dilation, .. } = window;
        let out = groups.checked_mul(group_out);
        let sound = groups.checked_mul(channels).zip(out).and_then(|(channels, out)| {
            let params = Conv2dParams { stride, padding, dilation, groups };
            let x = [batch, channels, input.0, input.1];
            Conv2dShape::new(&x, &[out, window.channels, kernel.0, kernel.1], &params).ok()
        });
        assert!(sound == Some(*self), "no sizes of a convolution: {self:?}");
        let len = |sides: &[usize]| sides.iter().product::<usize>();
        assert!(x >= len(&[batch, groups, window.pixels()]), "x is shorter than its shape");
        assert!(w >= len(&[groups, group_out, window.rows()]), "w is shorter than its shape");
        assert!(b.is_none_or(|b| b == groups * group_out), "the bias has another length");
        assert!(dy.is_none_or(|dy| dy >= len(&self.output())), "dy is shorter than its shape");
    }

    /// The output's dimensions [N, O, OH, OW].
    pub fn output(&self) -> [usize; 4] {
        let (rows, cols) = self.window.output;
        [self.batch, self.groups * self.group_out, rows, cols]
    }
}

/// Convolution of `x` [N, C, H, W] with `weight` [O, C/groups, KH, KW] and `bias` \[O\], in the form
/// that suits the device.
///
/// # Errors
/// Where shapes, types or settings do not fit together.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    params: &Conv2dParams,
) -> Result<Tensor> {
    conv2d_as(Form::for_tensor(x), x, weight, bias, params)
}

/// [`conv2d`] in a form of your choice.
///
/// # Errors
/// Where shapes, types or settings do not fit together.
pub fn conv2d_as(
    form: Form,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    params: &Conv2dParams,
) -> Result<Tensor> {
    let shape = Conv2dShape::new(x.dims(), weight.dims(), params)?;
    access::same_kind(OP, &[x, weight])?;
    if let Some(bias) = bias {
        access::same_kind(OP, &[weight, bias])?;
        let out = shape.output()[1];
        if bias.dims() != [out] {
            let found = format!("a bias of shape {:?}", bias.dims());
            return Err(Error::op(OP, found, format!("it needs one of shape [{out}]")));
        }
    }
    check_room(OP, x, &shape.output())?;
    let window = &shape.window;
    match form {
        Form::Kernel => {}
        Form::Definition => check_room(OP, x, &[window.rows(), window.cols()])?,
        Form::Portable => {
            check_room(OP, x, &[shape.batch, shape.groups, window.rows(), window.cols()])?;
        }
    }
    if form == Form::Portable {
        // Its windows are gathered by positions of 32 bits in padded planes.
        let ((h, w), (top, left)) = (window.input, window.padding);
        pooling::check_plane(OP, (h + 2 * top, w + 2 * left))?;
        return Ok(portable::conv2d(&shape, x, weight, bias)?);
    }
    weighted::apply(x, weight, bias, Conv2d { shape, form })
}

/// The op behind the definition and the kernel.
struct Conv2d {
    shape: Conv2dShape,
    form: Form,
}

impl Weighted for Conv2d {
    const NAME: &'static str = OP;

    fn output(&self) -> Shape {
        Shape::from(&self.shape.output()[..])
    }

    fn forward<T: Real>(&self, x: &[T], w: &[T], b: Option<&[T]>) -> Vec<T> {
        match self.form {
            Form::Definition => definition::forward(&self.shape, x, w, b),
            _ => kernel::forward(&self.shape, x, w, b),
        }
    }

    fn backward<T: Real>(&self, x: &[T], w: &[T], dy: &[T], wants: Wants) -> Grads<T> {
        match self.form {
            Form::Definition => definition::backward(&self.shape, x, w, dy, wants),
            _ => kernel::backward(&self.shape, x, w, dy, wants),
        }
    }

    #[cfg(feature = "cuda")]
    fn cuda_forward<'a>(
        &self,
        on: &Gpu<'a>,
        dtype: DType,
        x: &Memory<'a>,
        w: &Memory<'a>,
        b: Option<&Memory<'a>>,
    ) -> candle_core::Result<Memory<'a>> {
        form_runs(OP, self.form)?;
        cuda::forward(on, dtype, (&self.shape, cuda::COLUMNS), x, w, b)
    }

    #[cfg(feature = "cuda")]
    fn cuda_backward<'a>(
        &self,
        on: &Gpu<'a>,
        dtype: DType,
        [x, w, dy]: [&Memory<'a>; 3],
        wants: Wants,
    ) -> candle_core::Result<[Option<Memory<'a>>; 3]> {
        cuda::backward(on, dtype, (&self.shape, cuda::COLUMNS), x, w, dy, wants)
    }
}
