use candle_core::WithDType;

/// The numbers that the ops compute with: `f32` and `f64`.
pub trait Real: WithDType + num_traits::Float + std::iter::Sum {
    /// The nearest number to `value`.
    fn of(value: f64) -> Self;
    /// The same number as an `f64`.
    fn f64(self) -> f64;
}

impl Real for f32 {
    fn of(value: f64) -> Self {
        value as f32
    }
    fn f64(self) -> f64 {
        f64::from(self)
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
