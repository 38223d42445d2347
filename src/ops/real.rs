use candle_core::WithDType;

mod sealed {
    /// Kernels rely on what [`Real`](super::Real) says of slices: no other type says it.
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// The numbers that the ops compute with: `f32` and `f64`, and no others.
pub trait Real: sealed::Sealed + WithDType + num_traits::Float + std::iter::Sum {
    /// The nearest number to `value`.
    fn of(value: f64) -> Self;
    /// The same number as an `f64`.
    fn f64(self) -> f64;
    /// The slice itself if its type is f32: how a generic op finds the kernel for one type.
    fn as_f32(_values: &[Self]) -> Option<&[f32]> {
        None
    }
    /// [`Real::as_f32`] to write to.
    fn as_f32_mut(_values: &mut [Self]) -> Option<&mut [f32]> {
        None
    }
}

impl Real for f32 {
    fn of(value: f64) -> Self {
        value as f32
    }
    fn f64(self) -> f64 {
        f64::from(self)
    }
    fn as_f32(values: &[Self]) -> Option<&[f32]> {
        Some(values)
    }
    fn as_f32_mut(values: &mut [Self]) -> Option<&mut [f32]> {
        Some(values)
    }
}

impl Real for f64 {
    fn of(value: f64) -> Self {
        value
    }
    fn f64(self) -> f64 {
        self
    }
}
