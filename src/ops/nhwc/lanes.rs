//! Sixteen f32 values at a time, by whatever instructions the CPU has.
//!
//! The kernels are written once over [`Lanes`] and compiled for each [`Isa`]: with AVX-512 the sixteen
//! lanes are one register, with AVX2 two, and otherwise an array that the compiler vectorises as it can.

use crate::ops::settings;

/// Values in a vector, whatever the CPU; channels are padded to a multiple of it.
pub(crate) const LANES: usize = 16;

/// `len` rounded up to whole vectors.
pub(crate) const fn padded(len: usize) -> usize {
    len.div_ceil(LANES) * LANES
}

/// The instruction sets that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only x86 has a choice"))]
pub(crate) enum Isa {
    /// AVX-512F.
    Avx512,
    /// AVX2 with FMA.
    Avx2,
    /// What every CPU of this target has.
    Plain,
}

impl Isa {
    /// The one that kernels use: the best this CPU has; `CONVZOO_ISA=avx2` or `plain` asks for less.
    pub fn best() -> Self {
        settings().isa
    }

    /// Its name, as `CONVZOO_ISA` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Avx512 => "avx512",
            Isa::Avx2 => "avx2",
            Isa::Plain => "plain",
        }
    }

    /// All that this CPU has, the best first.
    pub fn available() -> Vec<Isa> {
        let mut isas = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = std::arch::is_x86_feature_detected!("avx2")
                && std::arch::is_x86_feature_detected!("fma");
            // What is compiled for AVX-512 is compiled for both.
            if avx2 && std::arch::is_x86_feature_detected!("avx512f") {
                isas.push(Isa::Avx512);
            }
            if avx2 {
                isas.push(Isa::Avx2);
            }
        }
        isas.push(Isa::Plain);
        isas
    }

    /// Rows and vectors of the largest tile whose sums fit the registers.
    pub(crate) fn tile(self) -> (usize, usize) {
        match self {
            Isa::Avx512 => (14, 2), // 28 sums, 2 weights, 1 value
            Isa::Avx2 => (6, 1),    // 12 sums, 2 weights, 1 value
            Isa::Plain => (4, 1),
        }
    }
}

/// A vector of [`LANES`] values.
///
/// # Safety
/// Every method needs the CPU to have the instructions of its type; loads and stores need a pointer to
/// [`LANES`] values.
pub(super) trait Lanes: Copy {
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// `self · factor + sum`
    unsafe fn fma(self, factor: Self, sum: Self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// `other` where either is NaN.
    unsafe fn max(self, other: Self) -> Self;
    /// Where `self` is above `best` or NaN, `self` and `number`; elsewhere `best` and `before`.
    unsafe fn or_better(self, number: Self, best: Self, before: Self) -> (Self, Self);
    /// As bytes, of whole numbers from 0 to 255.
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        let mut values = [0.0; LANES];
        // SAFETY: the caller's promise, but for bytes.
        unsafe {
            self.store(values.as_mut_ptr());
            to.cast::<[u8; LANES]>().write(values.map(|value| value as u8));
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes;
    use std::arch::x86_64::*;

    impl Lanes for __m512 {
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            unsafe { _mm512_set1_ps(value) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { _mm512_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm512_storeu_ps(to, self) }
        }
        #[inline(always)]
        unsafe fn fma(self, factor: Self, sum: Self) -> Self {
            unsafe { _mm512_fmadd_ps(self, factor, sum) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { _mm512_add_ps(self, other) }
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            unsafe { _mm512_sub_ps(self, other) }
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe { _mm512_mul_ps(self, other) }
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            unsafe { _mm512_max_ps(self, other) }
        }
        #[inline(always)]
        unsafe fn or_better(self, number: Self, best: Self, before: Self) -> (Self, Self) {
            unsafe {
                let above = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self, best);
                let wins = above | _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self, self);
                let best = _mm512_mask_blend_ps(wins, best, self);
                (best, _mm512_mask_blend_ps(wins, before, number))
            }
        }
    }

    /// Two registers of eight.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2(__m256, __m256);

    impl Lanes for Avx2 {
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            let v = unsafe { _mm256_set1_ps(value) };
            Avx2(v, v)
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { Avx2(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe {
                _mm256_storeu_ps(to, self.0);
                _mm256_storeu_ps(to.add(8), self.1);
            }
        }
        #[inline(always)]
        unsafe fn fma(self, f: Self, s: Self) -> Self {
            unsafe { Avx2(_mm256_fmadd_ps(self.0, f.0, s.0), _mm256_fmadd_ps(self.1, f.1, s.1)) }
        }
        #[inline(always)]
        unsafe fn add(self, o: Self) -> Self {
            unsafe { Avx2(_mm256_add_ps(self.0, o.0), _mm256_add_ps(self.1, o.1)) }
        }
        #[inline(always)]
        unsafe fn sub(self, o: Self) -> Self {
            unsafe { Avx2(_mm256_sub_ps(self.0, o.0), _mm256_sub_ps(self.1, o.1)) }
        }
        #[inline(always)]
        unsafe fn mul(self, o: Self) -> Self {
            unsafe { Avx2(_mm256_mul_ps(self.0, o.0), _mm256_mul_ps(self.1, o.1)) }
        }
        #[inline(always)]
        unsafe fn max(self, o: Self) -> Self {
            unsafe { Avx2(_mm256_max_ps(self.0, o.0), _mm256_max_ps(self.1, o.1)) }
        }
        #[inline(always)]
        unsafe fn or_better(self, number: Self, best: Self, before: Self) -> (Self, Self) {
            #[inline(always)]
            unsafe fn half(x: __m256, n: __m256, best: __m256, tap: __m256) -> (__m256, __m256) {
                unsafe {
                    let above = _mm256_cmp_ps::<_CMP_GT_OQ>(x, best);
                    let wins = _mm256_or_ps(above, _mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
                    (_mm256_blendv_ps(best, x, wins), _mm256_blendv_ps(tap, n, wins))
                }
            }
            unsafe {
                let (a, b) = half(self.0, number.0, best.0, before.0);
                let (c, d) = half(self.1, number.1, best.1, before.1);
                (Avx2(a, c), Avx2(b, d))
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::Avx2;

/// An array; the compiler turns it into what registers there are.
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; LANES]);

impl Plain {
    #[inline(always)]
    fn with(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Plain(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl Lanes for Plain {
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Plain([value; LANES])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Plain(unsafe { from.cast::<[f32; LANES]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn fma(self, factor: Self, sum: Self) -> Self {
        // A fused product is a function call where the target has no instruction for it.
        let fused = cfg!(any(target_arch = "aarch64", target_feature = "fma"));
        Plain(std::array::from_fn(|i| match fused {
            true => self.0[i].mul_add(factor.0[i], sum.0[i]),
            false => self.0[i] * factor.0[i] + sum.0[i],
        }))
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.with(other, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.with(other, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.with(other, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.with(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn or_better(self, number: Self, best: Self, before: Self) -> (Self, Self) {
        let wins: [bool; LANES] =
            std::array::from_fn(|i| self.0[i] > best.0[i] || self.0[i].is_nan());
        let pick = |a: Plain, b: Plain| {
            Plain(std::array::from_fn(|i| if wins[i] { a.0[i] } else { b.0[i] }))
        };
        (pick(self, best), pick(number, before))
    }
}

/// Defines a function that is compiled once for every instruction set, and calls the one for `isa`,
/// its first argument. In the body `$V` is the type of vectors.
macro_rules! for_each_isa {
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident<$V:ident>($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)] // the letters of an equation
        $vis unsafe fn $name(isa: $crate::ops::nhwc::lanes::Isa, $($arg: $ty),*) {
            #[inline(always)]
            unsafe fn body<$V: $crate::ops::nhwc::lanes::Lanes>($($arg: $ty),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx2,fma")]
                unsafe fn avx512($($arg: $ty),*) {
                    // SAFETY: the caller's promise; AVX-512 is there.
                    unsafe { body::<std::arch::x86_64::__m512>($($arg),*) }
                }
                #[target_feature(enable = "avx2,fma")]
                unsafe fn avx2($($arg: $ty),*) {
                    // SAFETY: the caller's promise; AVX2 is there.
                    unsafe { body::<$crate::ops::nhwc::lanes::Avx2>($($arg),*) }
                }
                match isa {
                    // SAFETY: an `Isa` is only made where the CPU has it.
                    $crate::ops::nhwc::lanes::Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    $crate::ops::nhwc::lanes::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::ops::nhwc::lanes::Isa::Plain => {}
                }
            }
            let _ = isa;
            // SAFETY: the caller's promise; this needs no instruction that is not always there.
            unsafe { body::<$crate::ops::nhwc::lanes::Plain>($($arg),*) }
        }
    };
}
pub(super) use for_each_isa;
