//! The op layer: what the classic networks compute, with PyTorch's semantics.
//!
//! Every op comes in three [`Form`]s that tests hold together:
//!
//! * the **definition**, written by hand to be read: for convolution and pooling that is
//!   [`im2col`](im2col()) and its adjoint [`col2im`](col2im());
//! * the **kernel**, threaded and fast, the one that runs on a CPU; and, with the feature `cuda`,
//!   the one that runs there (see [`cuda`]);
//! * the **portable** form, made of candle's tensor operations alone, which runs everywhere.
//!
//! Three variables of the environment choose among the ways to compute: see [`check_environment`].
//! They change results by rounding alone. Most of it is that of 3×3 convolutions by Winograd's way,
//! whose errors are those of the brightest pixel of a tile of 6×6 in all of its outputs. The largest
//! error of an output, as a share of the sum of its products' magnitudes, where one half of a picture is
//! darker than the other, is no more than this (a test holds it):
//!
//! | darker by | Winograd's way | `CONVZOO_WINOGRAD=off` |
//! | --- | --- | --- |
//! | 1 | 1e-6 | 6e-7 |
//! | 10 | 4e-6 | 6e-7 |
//! | 100 | 4e-5 | 6e-7 |
//! | 1,000 | 4e-4 | 6e-7 |
//! | 10,000 | 4e-3 | 6e-7 |
//!
//! Over all outputs, in l2, it is 1e-6 in each row, and 5e-7 by the direct way.
//!
//! The first two are candle custom ops with a backward pass of their own, so an op can be used in
//! any candle program:
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use convzoo::ops::{self, Conv2dParams};
//!
//! # fn main() -> candle_core::Result<()> {
//! let image = Tensor::ones((1, 3, 9, 6), candle_core::DType::F32, &Device::Cpu)?;
//! let weight = Var::ones((8, 3, 3, 3), candle_core::DType::F32, &Device::Cpu)?;
//! let params = Conv2dParams { stride: (2, 1), padding: (1, 1), ..Default::default() };
//! let y = ops::conv2d(&image, &weight, None, &params)?;
//! assert_eq!(y.dims(), [1, 8, 5, 6]);
//! let grads = y.sum_all()?.backward()?;
//! assert_eq!(grads.get(&weight).unwrap().dims(), weight.dims());
//! # Ok(())
//! # }
//! ```

pub(crate) mod access;
pub mod adaptive_avg_pool2d;
pub mod avg_pool2d;
pub mod batch_norm;
pub mod conv2d;
mod cross_entropy;
pub mod cuda;
pub mod dropout;
mod fresh;
mod gemm;
pub(crate) mod half;
mod im2col;
mod linear;
pub mod local_response_norm;
pub mod max_pool2d;
mod memory;
pub(crate) mod nhwc;
mod pooling;
mod real;
pub mod relu;
mod settings;
pub(crate) mod size;
mod unary;
mod weighted;
mod widest;

pub use adaptive_avg_pool2d::{adaptive_avg_pool2d, adaptive_avg_pool2d_as};
pub use avg_pool2d::{AvgPool2dParams, AvgPool2dShape, avg_pool2d, avg_pool2d_as};
pub use batch_norm::{
    BatchNorm2dParams, BatchNormOutput, batch_norm2d, batch_norm2d_as, batch_norm2d_eval,
    batch_norm2d_eval_as, running_statistics_after,
};
pub use conv2d::{Conv2dParams, conv2d, conv2d_as};
pub use cross_entropy::{CrossEntropyParams, Reduction, cross_entropy, cross_entropy_as};
pub use dropout::{dropout, dropout_as};
pub use gemm::{Mat, MatMut, gemm};
pub use im2col::{Im2col, col2im, im2col};
pub use linear::{linear, linear_as};
pub use local_response_norm::{LrnParams, local_response_norm, local_response_norm_as};
pub use max_pool2d::{
    MaxPool2dParams, MaxPool2dShape, max_pool2d, max_pool2d_as, max_pool2d_with_indices,
    max_pool2d_with_indices_as,
};
pub use memory::keep_memory;
pub(crate) use nhwc::winograd::POINTS_USED as WINOGRAD_POINTS;
pub use real::Real;
pub use relu::{add_relu, add_relu_as, relu, relu_as};
pub use settings::check_environment;
pub(crate) use settings::settings;
pub use size::{Pair, ReceptiveField, conv_output_size, pool_output_size};

pub use weighted::{Grads, Wants};

use candle_core::{DType, Device, Tensor};

/// The three forms of an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// The readable one: im2col and plain loops. CPU, f32 and f64.
    Definition,
    /// The fast one. CPU, and CUDA but for `linear` and `cross_entropy`; f32 and f64.
    Kernel,
    /// Candle tensor operations alone. Every device, and half precision too.
    Portable,
}

impl Form {
    /// The form that runs on `x` when nothing else is asked for, where CUDA has no kernel.
    pub fn of(x: &Tensor) -> Self {
        match x.device() {
            Device::Cpu if !half::is_half(x.dtype()) => Form::Kernel,
            _ => Form::Portable,
        }
    }

    /// The form that runs on `x` when nothing else is asked for, where CUDA has a kernel. With
    /// `CONVZOO_CUDA_OPS=portable` there is none.
    pub fn for_tensor(x: &Tensor) -> Self {
        let kernels = x.device().is_cuda() && cfg!(feature = "cuda") && x.elem_count() > 0;
        let typed = matches!(x.dtype(), DType::F32 | DType::F64);
        if kernels && typed && !portable_on_cuda() { Form::Kernel } else { Form::of(x) }
    }
}

/// Whether `CONVZOO_CUDA_OPS` asks for the portable form on CUDA.
pub(crate) fn portable_on_cuda() -> bool {
    settings().portable_on_cuda
}
