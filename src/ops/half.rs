//! Half precision in the portable forms: values have 16 bits, sums are made in f32.
//!
//! A sum in bf16, whose numbers have 8 significant bits, stands still once it is some 256 times what is
//! added to it. So products, means, and gradients that are summed over pictures and pixels are
//! computed in f32 and rounded once, as the tensor cores of a GPU do it.

use candle_core::{DType, Result, Shape, Tensor};

/// Whether values of this type have 16 bits.
pub(crate) fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::BF16 | DType::F16)
}

/// The type to compute in: f32 for half precision, their own for others.
pub(crate) fn working(dtype: DType) -> DType {
    if is_half(dtype) { DType::F32 } else { dtype }
}

/// `f` of `x`, computed in [`working`] precision and rounded to the type of `x`.
pub(crate) fn in_working(x: &Tensor, f: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    f(&x.to_dtype(working(x.dtype()))?)?.to_dtype(x.dtype())
}

/// `t` broadcast to `shape`, in its own type; its gradient, a sum, is made in [`working`] precision.
pub(crate) fn spread(t: &Tensor, shape: impl Into<Shape>) -> Result<Tensor> {
    t.to_dtype(working(t.dtype()))?.broadcast_as(shape)?.to_dtype(t.dtype())
}

/// The product of matrices, or of batches of them, with sums in [`working`] precision.
///
/// cuBLAS does that by itself. On a CPU, candle does it for bf16, but keeps sums of parts in f16.
pub(crate) fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let dtype = a.dtype();
    if !a.device().is_cpu() || !is_half(dtype) {
        return a.matmul(b);
    }
    a.to_dtype(DType::F32)?.matmul(&b.to_dtype(DType::F32)?)?.to_dtype(dtype)
}
