//! How custom ops read tensors: as checked slices, without a copy.

use std::marker::PhantomData;
use std::ops::Deref;

use candle_core::{CpuStorage, DType, Layout, Storage, Tensor};

use super::{Real, half};
use crate::{Error, Result};

/// The type of a storage's values.
pub(crate) fn dtype(storage: &CpuStorage) -> DType {
    candle_core::backend::BackendStorage::dtype(storage)
}

/// Runs `$body` with `$T` as the Rust type of `$dtype`; other types than f32 and f64 are an error.
macro_rules! by_dtype {
    ($op:expr, $dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            candle_core::DType::F32 => {
                type $T = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $T = f64;
                $body
            }
            other => {
                Err($crate::Error::op($op, format!("{other:?}"), "it works on f32 and f64").into())
            }
        }
    };
}
pub(crate) use by_dtype;

/// The values of a contiguous CPU tensor as its op's forward pass gets them.
pub(crate) fn slice<'a, T: Real>(
    op: &'static str,
    storage: &'a CpuStorage,
    layout: &Layout,
) -> candle_core::Result<&'a [T]> {
    let all = T::cpu_storage_as_slice(storage)?;
    layout.contiguous_offsets().and_then(|(start, end)| all.get(start..end)).ok_or_else(|| {
        Error::op(op, format!("layout {layout:?}"), "it needs whole, contiguous values").into()
    })
}

/// The values of a CPU tensor, borrowed for as long as the result lives; for backward passes. The
/// tensor must be contiguous (call `.contiguous()` first).
pub(crate) fn values<'a, T: Real>(
    op: &'static str,
    tensor: &'a Tensor,
) -> candle_core::Result<impl Deref<Target = [T]> + 'a> {
    let (storage, layout) = tensor.storage_and_layout();
    let needs = "it needs a contiguous tensor on the CPU";
    let refuse = || candle_core::Error::from(Error::op(op, format!("layout {layout:?}"), needs));
    let (start, end) = layout.contiguous_offsets().ok_or_else(refuse)?;
    match &*storage {
        Storage::Cpu(cpu) if T::cpu_storage_as_slice(cpu)?.len() >= end => {}
        _ => return Err(refuse()),
    }
    Ok(Values { storage, range: start..end, of: PhantomData })
}

/// A read lock on a tensor's storage, seen as the slice that [`values`] has checked.
struct Values<Guard, T> {
    storage: Guard,
    range: std::ops::Range<usize>,
    of: PhantomData<T>,
}

impl<Guard: Deref<Target = Storage>, T: Real> Deref for Values<Guard, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        let Storage::Cpu(cpu) = &*self.storage else { return &[] };
        T::cpu_storage_as_slice(cpu).map_or(&[], |all| &all[self.range.clone()])
    }
}

/// A CPU tensor that owns `values`.
pub(crate) fn tensor<T: Real>(
    values: Vec<T>,
    shape: impl Into<candle_core::Shape>,
) -> candle_core::Result<Tensor> {
    Tensor::from_vec(values, shape.into(), &candle_core::Device::Cpu)
}

/// Refuses tensors of different types or on different devices, and an environment that asks for kernels
/// that there are not: every op comes by here.
pub(crate) fn same_kind(op: &'static str, tensors: &[&Tensor]) -> Result<()> {
    super::check_environment()?;
    for pair in tensors.windows(2) {
        if pair[0].dtype() != pair[1].dtype() {
            let found = format!("{:?} and {:?}", pair[0].dtype(), pair[1].dtype());
            return Err(Error::op(op, found, "its tensors must be of one type"));
        }
        if !pair[0].device().same_device(pair[1].device()) {
            let found = format!("{:?} and {:?}", pair[0].device(), pair[1].device());
            return Err(Error::op(op, found, "its tensors must be on one device"));
        }
    }
    match tensors.first().map(|t| t.dtype()) {
        None | Some(DType::F32 | DType::F64 | DType::BF16 | DType::F16) => Ok(()),
        Some(other) => {
            Err(Error::op(op, format!("{other:?}"), "it works on floating-point tensors"))
        }
    }
}

/// [`same_kind`] of `x` and a parameter of it, but that the parameter may be f32 where `x` is half.
pub(crate) fn fits(op: &'static str, x: &Tensor, param: &Tensor) -> Result<()> {
    let wider = half::is_half(x.dtype()) && param.dtype() == DType::F32;
    match wider && x.device().same_device(param.device()) {
        true => Ok(()),
        false => same_kind(op, &[x, param]),
    }
}

/// The four dimensions of an NCHW tensor.
pub(crate) fn dims4(op: &'static str, x: &Tensor) -> Result<(usize, usize, usize, usize)> {
    x.dims4().map_err(|_| {
        Error::op(op, format!("shape {:?}", x.dims()), "it needs four dimensions [N, C, H, W]")
    })
}
