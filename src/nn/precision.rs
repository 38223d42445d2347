//! The type of the activations: 32 bits, or 16.

use std::fmt;

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::Result;

/// What a forward pass computes in. Parameters keep their own type, f32, in each case.
///
/// In half precision (mixed precision: Micikevicius et al., 2018) pictures, activations and the
/// weights of convolutions and linear layers are rounded to 16 bits, and sums of products are made in
/// f32. Batch norms, LRN, means, sigmoid and tanh work in f32 and round their result; logits are f32,
/// and so are the gradients of all parameters. That is what PyTorch's `autocast` does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// The type of the parameters; nothing is rounded.
    #[default]
    F32,
    /// bfloat16: the range of f32, 8 significant bits.
    Bf16,
    /// IEEE half precision: 11 significant bits, up to 65504.
    F16,
}

impl Precision {
    /// Whether it is that of the parameters.
    pub fn is_default(&self) -> bool {
        *self == Precision::F32
    }

    /// The type of 16 bits, where it is one.
    pub fn half(self) -> Option<DType> {
        match self {
            Precision::F32 => None,
            Precision::Bf16 => Some(DType::BF16),
            Precision::F16 => Some(DType::F16),
        }
    }

    /// `t` rounded to 16 bits; its gradient comes back in the type of `t`.
    pub(super) fn narrow(self, t: &Tensor) -> Result<Tensor> {
        Ok(self.half().map_or_else(|| Ok(t.clone()), |half| t.to_dtype(half))?)
    }

    /// What was rounded as f32.
    pub(super) fn widen(self, t: &Tensor) -> Result<Tensor> {
        Ok(self.half().map_or_else(|| Ok(t.clone()), |_| t.to_dtype(DType::F32))?)
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::F16 => "f16",
        })
    }
}
