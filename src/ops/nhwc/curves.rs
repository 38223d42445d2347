//! Sigmoid and tanh, in arithmetic that compilers turn into vectors; the library's `exp` is a call for
//! every value. They stay within 3 and 6 units in the last place of the true value.

use std::f32::consts::LOG2_E;
use std::f64::consts::LN_2;

use super::conv::Maps;
use super::lanes::{Isa, for_each_isa};
use super::pixels::MapsMut;

/// eˣ = 2ⁿ·eʳ with n the whole number next to x / ln 2 and |r| ≤ ln 2 / 2, eʳ by its series. x is taken
/// between -87 and 88, where the result is a normal number; a NaN stays one.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// ln 2 in two parts, the first of which has so few digits that n times it is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = (LN_2 - LN_2_HIGH as f64) as f32;
    /// Added and taken away again, it rounds to a whole number, which its lowest bits then hold.
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = x * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let series = 1.0 / 720.0 + r * (1.0 / 5040.0);
    let series = 1.0 / 120.0 + r * series;
    let series = 1.0 / 24.0 + r * series;
    let series = 1.0 / 6.0 + r * series;
    let series = 0.5 + r * series;
    let series = 1.0 + (r + r * r * series);
    let power = (shifted.to_bits().wrapping_add(127)) << 23;
    f32::from_bits(power) * series
}

#[inline(always)]
fn sigmoid_of(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `1 - 2 / (e²ˣ + 1)`, and near 0, where that would lose digits, the series.
#[inline(always)]
fn tanh_of(x: f32) -> f32 {
    let square = x * x;
    let series = -17.0 / 315.0 + square * (62.0 / 2835.0 - square * (1382.0 / 155_925.0));
    let series = x + x * square * (-1.0 / 3.0 + square * (2.0 / 15.0 + square * series));
    let far = 1.0 - 2.0 / (exp(2.0 * x) + 1.0);
    if square < 0.09 { series } else { far }
}

/// `y = 1 / (1 + e⁻ˣ)`.
pub(crate) fn sigmoid(x: Maps<'_>, wide: usize, pixels: usize, mut y: MapsMut<'_>) {
    let isa = Isa::best();
    // SAFETY: no pointers; an `Isa` is only made where the CPU has it.
    y.each(pixels, wide, |p, y| unsafe { sigmoids(isa, x.pixel(p, wide), y) });
}

/// `y = tanh x`.
pub(crate) fn tanh(x: Maps<'_>, wide: usize, pixels: usize, mut y: MapsMut<'_>) {
    let isa = Isa::best();
    // SAFETY: no pointers; an `Isa` is only made where the CPU has it.
    y.each(pixels, wide, |p, y| unsafe { tanhs(isa, x.pixel(p, wide), y) });
}

for_each_isa! {
    unsafe fn sigmoids<V>(x: &[f32], y: &mut [f32]) {
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = sigmoid_of(x));
    }
}

for_each_isa! {
    unsafe fn tanhs<V>(x: &[f32], y: &mut [f32]) {
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = tanh_of(x));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Units in the last place between a value and the true one.
    fn ulps(found: f32, wanted: f64) -> f64 {
        let nearest = wanted as f32;
        let unit =
            f64::from(f32::from_bits(nearest.abs().to_bits() + 1)) - f64::from(nearest.abs());
        (f64::from(found) - wanted).abs() / unit
    }

    #[test]
    fn curves_are_those_of_the_library() {
        let mut x = -86.0f32;
        while x < 87.0 {
            let wide = f64::from(x);
            assert!(ulps(exp(x), wide.exp()) < 2.0, "exp {x}: {}", exp(x));
            assert!(
                ulps(sigmoid_of(x), 1.0 / (1.0 + (-wide).exp())) < 3.0,
                "sigmoid {x}: {}",
                sigmoid_of(x)
            );
            assert!(ulps(tanh_of(x), wide.tanh()) < 6.0, "tanh {x}: {}", tanh_of(x));
            x += 0.001_3;
        }
        assert!(sigmoid_of(-1e9) < 1e-37 && sigmoid_of(1e9) == 1.0);
        assert_eq!((tanh_of(-1e9), tanh_of(0.0), tanh_of(f32::INFINITY)), (-1.0, 0.0, 1.0));
        assert!(sigmoid_of(f32::NAN).is_nan() && tanh_of(f32::NAN).is_nan());
    }
}
