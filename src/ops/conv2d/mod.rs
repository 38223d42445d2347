//! 2-D convolution (cross-correlation, as the field has it), with its gradients.
//!
//! `y[n, o] = b[o] + Σ_c w[o, c] ⋆ x[n, c]` with x [N, C, H, W], w [O, C/G, KH, KW], b \[O\] and
//! y [N, O, OH, OW]; of the C and O channels, each of the G groups sees only its own.

mod channels_last;
pub mod definition;
pub mod kernel;
mod pointwise;
mod portable;

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Shape, Tensor};

use super::access::{self, by_dtype};
use super::{Form, Im2col, Pair, Real};
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
        let groups = params.groups;
        if groups == 0 || channels % groups != 0 || out % groups != 0 {
            let found = format!("{channels} channels in, {out} out and {groups} groups");
            return Err(Error::op(OP, found, "both channel counts must be divisible by groups"));
        }
        if group_in * groups != channels {
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
        Ok(Conv2dShape { batch, groups, group_out: out / groups, window })
    }

    /// The output's dimensions [N, O, OH, OW].
    pub fn output(&self) -> [usize; 4] {
        let (rows, cols) = self.window.output;
        [self.batch, self.groups * self.group_out, rows, cols]
    }
}

/// Gradients of a convolution, each only where asked for.
#[derive(Debug, Default)]
pub struct Conv2dGrads<T> {
    /// Gradient of the input, [N, C, H, W].
    pub input: Option<Vec<T>>,
    /// Gradient of the weight, [O, C/G, KH, KW].
    pub weight: Option<Vec<T>>,
    /// Gradient of the bias, \[O\].
    pub bias: Option<Vec<T>>,
}

/// Which gradients somebody wants.
#[derive(Clone, Copy, Debug)]
pub struct Conv2dWants {
    /// Of the input; the first layer's, the picture's, is usually not wanted.
    pub input: bool,
    /// Of the weight; not wanted where it is frozen.
    pub weight: bool,
    /// Of the bias.
    pub bias: bool,
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
    conv2d_as(Form::of(x.device()), x, weight, bias, params)
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
    if form == Form::Portable {
        return Ok(portable::conv2d(&shape, x, weight, bias)?);
    }
    let op = Conv2d { shape, form };
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    Ok(match bias {
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, op)?,
        None => x.apply_op2(&weight, op)?,
    })
}

/// The custom op behind the definition and the kernel.
struct Conv2d {
    shape: Conv2dShape,
    form: Form,
}

impl Conv2d {
    fn forward<T: Real>(
        &self,
        x: (&CpuStorage, &Layout),
        w: (&CpuStorage, &Layout),
        b: Option<(&CpuStorage, &Layout)>,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = access::slice::<T>(OP, x.0, x.1)?;
        let w = access::slice::<T>(OP, w.0, w.1)?;
        let b = b.map(|(storage, layout)| access::slice::<T>(OP, storage, layout)).transpose()?;
        let y = match self.form {
            Form::Definition => definition::forward(&self.shape, x, w, b),
            _ => kernel::forward(&self.shape, x, w, b),
        };
        Ok((T::to_cpu_storage_owned(y), Shape::from(&self.shape.output()[..])))
    }

    fn backward<T: Real>(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: Option<&Tensor>,
        dy: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; 3]> {
        let wants = Conv2dWants {
            input: x.track_op(),
            weight: w.track_op(),
            bias: b.is_some_and(Tensor::track_op),
        };
        let dy = dy.contiguous()?;
        let (xs, ws) = (access::values::<T>(OP, x)?, access::values::<T>(OP, w)?);
        let dy = access::values::<T>(OP, &dy)?;
        let grads = match self.form {
            Form::Definition => definition::backward(&self.shape, &xs, &ws, &dy, wants),
            _ => kernel::backward(&self.shape, &xs, &ws, &dy, wants),
        };
        let bias_len = self.shape.output()[1];
        Ok([
            grads.input.map(|values| access::tensor(values, x.dims())).transpose()?,
            grads.weight.map(|values| access::tensor(values, w.dims())).transpose()?,
            grads.bias.map(|values| access::tensor(values, bias_len)).transpose()?,
        ])
    }
}

impl CustomOp2 for Conv2d {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        by_dtype!(OP, access::dtype(x), T => self.forward::<T>((x, x_layout), (w, w_layout), None))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, _] = by_dtype!(OP, x.dtype(), T => self.backward::<T>(x, w, None, dy))?;
        Ok((dx, dw))
    }
}

impl CustomOp3 for Conv2d {
    fn name(&self) -> &'static str {
        OP
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
        by_dtype!(OP, access::dtype(x), T => {
            self.forward::<T>((x, x_layout), (w, w_layout), Some((b, b_layout)))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, db] = by_dtype!(OP, x.dtype(), T => self.backward::<T>(x, w, Some(b), dy))?;
        Ok((dx, dw, db))
    }
}
