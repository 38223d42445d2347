//! 2-D batch normalisation (Ioffe and Szegedy, 2015), with its gradients, and what usually follows
//! it: the addition of a residual and ReLU, fused so that the picture is passed over once less.
//!
//! ```text
//! y = relu?(γ·(x − μ) / √(σ² + ε) + β + residual?)
//! ```
//!
//! with x, residual and y [N, C, H, W], and γ, β, μ and σ² \[C\]. In training μ and σ² are the mean
//! and the (biased) variance of each channel over the batch; in evaluation they are given.

pub mod cuda;
pub mod definition;
#[cfg(feature = "cuda")]
mod gpu;
pub mod kernel;
mod portable;

use std::sync::{Arc, OnceLock};

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Shape, Tensor, Var};

use super::access::{self, by_dtype};
use super::size::checked_len;
use super::{Form, Real};
use crate::{Error, Result};

const OP: &str = "batch_norm2d";

/// Settings of a batch normalisation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm2dParams {
    /// ε, added to the variance; 1e-5 in PyTorch and here.
    pub eps: f64,
}

impl Default for BatchNorm2dParams {
    fn default() -> Self {
        BatchNorm2dParams { eps: 1e-5 }
    }
}

/// What a batch normalisation gives in training.
#[derive(Clone, Debug)]
pub struct BatchNormOutput {
    /// The normalised pictures, [N, C, H, W].
    pub y: Tensor,
    /// Mean of each channel, \[C\]; f32 for half-precision pictures. No gradient flows through it.
    pub mean: Tensor,
    /// Variance of each channel, \[C\], biased: the sum of squares is divided by `count`.
    pub var: Tensor,
    /// Values of each channel, N·H·W.
    pub count: usize,
}

impl BatchNormOutput {
    /// The unbiased variance, \[C\], which is the one that running statistics are made of.
    ///
    /// # Errors
    /// Where candle fails.
    pub fn unbiased_var(&self) -> Result<Tensor> {
        let count = self.count as f64;
        Ok((&self.var * (count / (count - 1.0)))?)
    }

    /// Moves a layer's running mean and (unbiased) variance, \[C\] each, towards this batch's.
    ///
    /// # Errors
    /// If they have other shapes.
    pub fn update_running(&self, mean: &Var, var: &Var, momentum: f64) -> Result<()> {
        mean.set(&running_statistics_after(mean, &self.mean, momentum)?)?;
        var.set(&running_statistics_after(var, &self.unbiased_var()?, momentum)?)?;
        Ok(())
    }
}

/// `(1 − momentum)·running + momentum·batch`: a running mean, or a running variance if `batch` is
/// [`BatchNormOutput::unbiased_var`], after one more batch. PyTorch's momentum is 0.1.
///
/// # Errors
/// If `batch` and `running` differ in shape.
pub fn running_statistics_after(running: &Tensor, batch: &Tensor, momentum: f64) -> Result<Tensor> {
    if running.dims() != batch.dims() {
        let found = format!("running statistics {:?} and {:?}", running.dims(), batch.dims());
        return Err(Error::op(OP, found, "both need the same shape"));
    }
    let (running, batch) = (running.detach(), batch.detach().to_dtype(running.dtype())?);
    Ok(((running * (1.0 - momentum))? + (batch * momentum)?)?)
}

/// The sizes of one batch normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchNorm2dShape {
    /// Pictures in the batch, N.
    pub batch: usize,
    /// Channels, C.
    pub channels: usize,
    /// Pixels of one channel of one picture, H·W.
    pub pixels: usize,
}

impl BatchNorm2dShape {
    /// Values of each channel, N·H·W.
    pub fn count(&self) -> usize {
        self.batch * self.pixels
    }

    /// Channel `c` of picture `n`.
    fn plane<'a, T>(&self, values: &'a [T], n: usize, c: usize) -> &'a [T] {
        &values[(n * self.channels + c) * self.pixels..][..self.pixels]
    }
}

/// Mean and biased variance of each channel, \[C\].
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// μ.
    pub mean: Vec<f64>,
    /// σ².
    pub var: Vec<f64>,
}

/// One batch normalisation: everything but the tensors.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// The sizes.
    pub shape: BatchNorm2dShape,
    /// ε.
    pub eps: f64,
    /// Whether the statistics are the batch's own, so that gradients flow through them.
    pub training: bool,
    /// Whether ReLU follows.
    pub relu: bool,
}

/// What the backward pass needs of the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a, T> {
    /// The input, [N, C, H, W].
    pub x: &'a [T],
    /// γ, then β, [2, C].
    pub affine: &'a [T],
    /// The output, [N, C, H, W]; where it is not above 0, ReLU lets no gradient through.
    pub y: &'a [T],
    /// The statistics it was normalised with.
    pub statistics: &'a Statistics,
}

/// Which gradients somebody wants.
#[derive(Clone, Copy, Debug)]
pub struct Wants {
    /// Of the input.
    pub input: bool,
    /// Of γ and β.
    pub affine: bool,
    /// Of the residual.
    pub residual: bool,
}

/// Gradients of a batch normalisation, each only where asked for.
#[derive(Debug, Default)]
pub struct Grads<T> {
    /// Of the input, [N, C, H, W].
    pub input: Option<Vec<T>>,
    /// Of γ, then β, [2, C].
    pub affine: Option<Vec<T>>,
    /// Of the residual, [N, C, H, W].
    pub residual: Option<Vec<T>>,
}

/// Normalises each channel of `x` [N, C, H, W] by the batch's own statistics, scales by `weight` \[C\]
/// (γ, 1 if there is none), shifts by `bias` \[C\] (β), adds `residual` [N, C, H, W] and, if asked,
/// applies ReLU; in the form that suits the device.
///
/// # Errors
/// Where shapes, types or settings do not fit together, and if a channel has fewer than two values.
pub fn batch_norm2d(
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    params: &BatchNorm2dParams,
    residual: Option<&Tensor>,
    relu: bool,
) -> Result<BatchNormOutput> {
    batch_norm2d_as(Form::for_tensor(x), x, weight, bias, params, residual, relu)
}

/// [`batch_norm2d`] in a form of your choice.
///
/// # Errors
/// As for [`batch_norm2d`].
pub fn batch_norm2d_as(
    form: Form,
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    params: &BatchNorm2dParams,
    residual: Option<&Tensor>,
    relu: bool,
) -> Result<BatchNormOutput> {
    let args = Args { x, weight, bias, residual };
    let norm = args.check(params, true, relu)?;
    let count = norm.shape.count();
    if count < 2 {
        let found = format!("{count} value per channel, in shape {:?}", x.dims());
        return Err(Error::op(OP, found, "training needs at least two: a larger batch or picture"));
    }
    if form == Form::Portable {
        let (y, mean, var) = portable::training(&norm, &args)?;
        return Ok(BatchNormOutput { y, mean: mean.detach(), var: var.detach(), count });
    }
    let (y, found) = args.apply(norm, form, Found::default())?;
    let (mean, var) = found.tensors(x)?;
    Ok(BatchNormOutput { y, mean, var, count })
}

/// [`batch_norm2d`] by given statistics, \[C\] each, as a trained network is evaluated. Gradients
/// treat the statistics as constants.
///
/// # Errors
/// Where shapes, types or settings do not fit together.
#[allow(clippy::too_many_arguments)] // as many as the formula has letters
pub fn batch_norm2d_eval(
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    running_mean: &Tensor,
    running_var: &Tensor,
    params: &BatchNorm2dParams,
    residual: Option<&Tensor>,
    relu: bool,
) -> Result<Tensor> {
    let (form, running) = (Form::for_tensor(x), (running_mean, running_var));
    batch_norm2d_eval_as(form, x, (weight, bias), running, params, residual, relu)
}

/// [`batch_norm2d_eval`] in a form of your choice, with γ and β, and mean and variance, in pairs.
///
/// # Errors
/// Where shapes, types or settings do not fit together.
pub fn batch_norm2d_eval_as(
    form: Form,
    x: &Tensor,
    (weight, bias): (Option<&Tensor>, Option<&Tensor>),
    (running_mean, running_var): (&Tensor, &Tensor),
    params: &BatchNorm2dParams,
    residual: Option<&Tensor>,
    relu: bool,
) -> Result<Tensor> {
    let args = Args { x, weight, bias, residual };
    let norm = args.check(params, false, relu)?;
    for (name, t) in [("running mean", running_mean), ("running variance", running_var)] {
        check_channels(name, t, norm.shape.channels)?;
    }
    let (mean, var) = (running_mean.detach(), running_var.detach());
    if form == Form::Portable {
        return Ok(portable::evaluation(&norm, &args, &mean, &var)?);
    }
    let given = Found::given(&norm, x, &mean, &var)?;
    Ok(args.apply(norm, form, given)?.0)
}

/// The tensors of one call.
struct Args<'a> {
    x: &'a Tensor,
    weight: Option<&'a Tensor>,
    bias: Option<&'a Tensor>,
    residual: Option<&'a Tensor>,
}

impl Args<'_> {
    /// Checks that everything fits together.
    fn check(&self, params: &BatchNorm2dParams, training: bool, relu: bool) -> Result<Norm> {
        let (batch, channels, height, width) = access::dims4(OP, self.x)?;
        checked_len(OP, self.x.dims())?;
        let eps = params.eps;
        if !(eps >= 0.0 && eps.is_finite()) {
            return Err(Error::op(OP, format!("eps {eps}"), "it must be 0 or a positive number"));
        }
        for (name, t) in [("weight", self.weight), ("bias", self.bias)] {
            let Some(t) = t else { continue };
            access::fits(OP, self.x, t)?;
            check_channels(name, t, channels)?;
        }
        access::same_kind(OP, &[self.x])?;
        if let Some(residual) = self.residual {
            access::same_kind(OP, &[self.x, residual])?;
            if residual.dims() != self.x.dims() {
                let found = format!("input {:?}, residual {:?}", self.x.dims(), residual.dims());
                return Err(Error::op(OP, found, "both need the same shape"));
            }
        }
        let shape = BatchNorm2dShape { batch, channels, pixels: height * width };
        Ok(Norm { shape, eps, training, relu })
    }

    /// γ or β, or its default.
    fn channels(&self, given: Option<&Tensor>, default: f64) -> candle_core::Result<Tensor> {
        match given {
            Some(t) => Ok(t.clone()),
            None => {
                Tensor::full(default, self.x.dim(1)?, self.x.device())?.to_dtype(self.x.dtype())
            }
        }
    }

    /// γ and β as one tensor [2, C]: a custom op has at most three inputs.
    fn affine(&self) -> candle_core::Result<Tensor> {
        Tensor::stack(&[self.channels(self.weight, 1.0)?, self.channels(self.bias, 0.0)?], 0)
    }

    /// Runs the custom op. `found` has the statistics to use, or will have those of the batch.
    fn apply(
        &self,
        norm: Norm,
        form: Form,
        found: Found,
    ) -> candle_core::Result<(Tensor, Arc<Found>)> {
        let found = Arc::new(found);
        let op = BatchNorm { norm, form, found: found.clone() };
        let (x, affine) = (self.x.contiguous()?, self.affine()?);
        let y = match self.residual {
            Some(residual) => x.apply_op3(&affine, &residual.contiguous()?, op)?,
            None => x.apply_op2(&affine, op)?,
        };
        Ok((y, found))
    }
}

/// The statistics of one call: set from the start in evaluation, by the forward pass in training.
#[derive(Default)]
struct Found {
    on_cpu: OnceLock<Statistics>,
    /// Mean, variance and 1/√(σ² + ε), [3, C].
    #[cfg(feature = "cuda")]
    on_gpu: OnceLock<Tensor>,
}

impl Found {
    /// A given mean and variance.
    #[cfg_attr(not(feature = "cuda"), allow(unused_variables))]
    fn given(norm: &Norm, x: &Tensor, mean: &Tensor, var: &Tensor) -> candle_core::Result<Self> {
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            let on_gpu = OnceLock::from(gpu::given(norm, x, mean, var)?);
            return Ok(Found { on_gpu, ..Found::default() });
        }
        let values = |t: &Tensor| t.to_dtype(DType::F64)?.to_vec1();
        let statistics = Statistics { mean: values(mean)?, var: values(var)? };
        #[cfg_attr(not(feature = "cuda"), allow(clippy::needless_update))]
        let found = Found { on_cpu: OnceLock::from(statistics), ..Found::default() };
        Ok(found)
    }

    /// Mean and variance, \[C\], of the batch `x`.
    fn tensors(&self, x: &Tensor) -> candle_core::Result<(Tensor, Tensor)> {
        #[cfg(feature = "cuda")]
        if let Some(statistics) = self.on_gpu.get() {
            return Ok((statistics.get(0)?, statistics.get(1)?));
        }
        let of_channels = |values: &[f64]| Tensor::new(values, x.device())?.to_dtype(x.dtype());
        let statistics = self.on_cpu()?;
        Ok((of_channels(&statistics.mean)?, of_channels(&statistics.var)?))
    }

    fn on_cpu(&self) -> Result<&Statistics> {
        let needs = "the forward pass must have been run before";
        self.on_cpu.get().ok_or_else(|| Error::op(OP, "no statistics", needs))
    }
}

fn check_channels(name: &str, t: &Tensor, channels: usize) -> Result<()> {
    if t.dims() != [channels] {
        let found = format!("a {name} of shape {:?}", t.dims());
        return Err(Error::op(OP, found, format!("it needs one of shape [{channels}]")));
    }
    Ok(())
}

/// The custom op behind the definition and the kernel.
struct BatchNorm {
    norm: Norm,
    form: Form,
    found: Arc<Found>,
}

impl BatchNorm {
    fn forward<T: Real>(
        &self,
        (x, x_layout): (&CpuStorage, &Layout),
        affine: (&CpuStorage, &Layout),
        residual: Option<(&CpuStorage, &Layout)>,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let xs = access::slice::<T>(OP, x, x_layout)?;
        let affine = access::slice::<T>(OP, affine.0, affine.1)?;
        let residual = residual.map(|(s, l)| access::slice::<T>(OP, s, l)).transpose()?;
        let given = if self.norm.training { None } else { self.found.on_cpu.get() };
        let (y, statistics) = match self.form {
            Form::Definition => definition::forward(&self.norm, xs, affine, residual, given),
            _ => kernel::forward(&self.norm, xs, affine, residual, given),
        };
        self.found.on_cpu.get_or_init(|| statistics);
        Ok((T::to_cpu_storage_owned(y), x_layout.shape().clone()))
    }

    fn backward<T: Real>(
        &self,
        x: &Tensor,
        affine: &Tensor,
        residual: Option<&Tensor>,
        y: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; 3]> {
        let residual = residual.is_some_and(Tensor::track_op);
        let wants = Wants {
            input: x.track_op(),
            affine: affine.track_op(),
            residual: residual && self.norm.relu,
        };
        let dy = dy.contiguous()?;
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            let [dx, daffine, through] = gpu::backward(self, x, affine, y, &dy, wants)?;
            return Ok([dx, daffine, through.or(residual.then_some(dy))]);
        }
        let statistics = self.found.on_cpu()?;
        let grads = {
            let (x, affine) = (access::values::<T>(OP, x)?, access::values::<T>(OP, affine)?);
            let (y, dy) = (access::values::<T>(OP, y)?, access::values::<T>(OP, &dy)?);
            let saved = Saved { x: &x, affine: &affine, y: &y, statistics };
            match self.form {
                Form::Definition => definition::backward(&self.norm, saved, &dy, wants),
                _ => kernel::backward(&self.norm, saved, &dy, wants),
            }
        };
        Ok([
            grads.input.map(|values| access::tensor(values, x.dims())).transpose()?,
            grads.affine.map(|values| access::tensor(values, affine.dims())).transpose()?,
            match grads.residual {
                Some(values) => Some(access::tensor(values, x.dims())?),
                None => residual.then_some(dy), // without ReLU it is the output's, as it stands
            },
        ])
    }
}

impl CustomOp2 for BatchNorm {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        affine: &CpuStorage,
        affine_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        by_dtype!(OP, access::dtype(x), T => {
            self.forward::<T>((x, x_layout), (affine, affine_layout), None)
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        affine: &CudaStorage,
        affine_layout: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        gpu::forward(self, (x, x_layout), (affine, affine_layout), None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        affine: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let [dx, daffine, _] =
            by_dtype!(OP, x.dtype(), T => self.backward::<T>(x, affine, None, y, dy))?;
        Ok((dx, daffine))
    }
}

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        affine: &CpuStorage,
        affine_layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        by_dtype!(OP, access::dtype(x), T => {
            let residual = Some((residual, residual_layout));
            self.forward::<T>((x, x_layout), (affine, affine_layout), residual)
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        affine: &CudaStorage,
        affine_layout: &Layout,
        residual: &CudaStorage,
        residual_layout: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        let residual = Some((residual, residual_layout));
        gpu::forward(self, (x, x_layout), (affine, affine_layout), residual)
    }

    fn bwd(
        &self,
        x: &Tensor,
        affine: &Tensor,
        residual: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dx, daffine, dresidual] =
            by_dtype!(OP, x.dtype(), T => self.backward::<T>(x, affine, Some(residual), y, dy))?;
        Ok((dx, daffine, dresidual))
    }
}
