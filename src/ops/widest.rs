//! Plain loops, compiled for the widest vectors that the CPU has.

#[cfg(target_arch = "x86_64")]
use super::nhwc::lanes::Isa;

/// Calls `work`, whose loops are compiled once for each instruction set: a closure marked
/// `#[inline(always)]`, as must be what it calls, or they stay as they are.
///
/// The bits are the same for each: the compiler reorders no sums and fuses no products.
#[inline(always)]
pub(super) fn widest<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx2,fma")]
        fn avx512<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        match Isa::best() {
            // SAFETY: an `Isa` is only made where the CPU has it.
            Isa::Avx512 => return unsafe { avx512(work) },
            Isa::Avx2 => return unsafe { avx2(work) },
            Isa::Plain => {}
        }
    }
    work()
}
