//! The two innermost kernels, everything else is bookkeeping around them. Both keep a tile of sums,
//! `rows` by `vectors · 16`, in registers.
//!
//! ```text
//! dot:    sums[r][o] += Σ_taps Σ_d  x[row r of the tap][d] · w[tap][d][o]     (forward, input gradient)
//! outer:  sums[r][o] += Σ_places    x[place][r]            · y[place][o]      (weight gradient)
//! ```
//!
//! `dot` reads its rows through pointers, one for each row and tap, so that a convolution needs no
//! im2col: the pointers are the column matrix.

#![allow(clippy::needless_range_loop)] // indices are those of the equations

use super::lanes::{Isa, LANES, Lanes, for_each_isa};

/// What happens to a tile's sums before they are stored.
#[derive(Clone, Copy)]
pub(super) struct Epilogue {
    /// Added to every row; null for none.
    pub bias: *const f32,
    /// Bytes from an output to what is added to it (a residual, or the output itself).
    pub residual: Option<isize>,
    /// Whether max(·, 0) comes last.
    pub relu: bool,
}

/// One tile of `dot`.
#[derive(Clone, Copy)]
pub(super) struct Dot {
    /// [taps][rows] pointers to `depth` values each.
    pub x: *const *const f32,
    /// [rows] pointers to what the next tile will read, to be fetched meanwhile; null for none.
    pub next: *const *const f32,
    /// The weight taps that the pointers are for.
    pub taps: *const u32,
    /// How many there are.
    pub tap_count: usize,
    /// Values of a tap.
    pub depth: usize,
    /// [all taps][depth][vectors · 16]
    pub w: *const f32,
    /// [rows] pointers to where the sums go.
    pub y: *const *mut f32,
    /// The tile's first column there.
    pub column: usize,
    /// What is done to them first.
    pub epilogue: Epilogue,
}

/// One tile of `outer`: for each picture and each run of places.
#[derive(Clone, Copy)]
pub(super) struct Outer {
    /// Row 0 of the tile in picture 0.
    pub x: *const f32,
    /// Column 0 of the tile in picture 0.
    pub y: *const f32,
    /// From picture to picture.
    pub x_picture: usize,
    /// From picture to picture.
    pub y_picture: usize,
    /// From place to place.
    pub x_step: usize,
    /// From place to place.
    pub y_step: usize,
    /// How many pictures.
    pub pictures: usize,
    /// (offset in x, offset in y, places), in values.
    pub runs: *const (usize, usize, usize),
    /// How many there are.
    pub run_count: usize,
    /// The sums, rows `sum_step` apart.
    pub sums: *mut f32,
    /// From row to row.
    pub sum_step: usize,
    /// Whether they are added to.
    pub add: bool,
}

/// Asks for the cache line at `from`, which need not exist.
#[inline(always)]
fn prefetch(from: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which reads nothing and faults nowhere; SSE is part of the target.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(from.cast());
    }
    let _ = from;
}

#[inline(always)]
unsafe fn dot_body<V: Lanes, const R: usize, const N: usize>(t: Dot) {
    // SAFETY (whole function): the caller promises that every pointer holds what `Dot` says.
    unsafe {
        let mut sums = [[V::splat(0.0); N]; R];
        for i in 0..t.tap_count {
            let rows: [*const f32; R] = std::array::from_fn(|r| *t.x.add(i * R + r));
            let mut w = t.w.add(*t.taps.add(i) as usize * t.depth * N * LANES);
            let fetch = i == 0 && !t.next.is_null();
            for d in 0..t.depth {
                if fetch && d % LANES == 0 {
                    (0..R).for_each(|r| prefetch((*t.next.add(r)).wrapping_add(d)));
                }
                let ws: [V; N] = std::array::from_fn(|v| V::load(w.add(v * LANES)));
                w = w.add(N * LANES);
                for r in 0..R {
                    let x = V::splat(*rows[r].add(d));
                    for v in 0..N {
                        sums[r][v] = x.fma(ws[v], sums[r][v]);
                    }
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            let y = (*t.y.add(r)).add(t.column);
            for (v, mut sum) in sums.into_iter().enumerate() {
                let y = y.add(v * LANES);
                if !t.epilogue.bias.is_null() {
                    sum = sum.add(V::load(t.epilogue.bias.add(v * LANES)));
                }
                if let Some(bytes) = t.epilogue.residual {
                    sum = sum.add(V::load(y.byte_offset(bytes)));
                }
                if t.epilogue.relu {
                    sum = V::splat(0.0).max(sum); // in this order a NaN stays one
                }
                sum.store(y);
            }
        }
    }
}

#[inline(always)]
unsafe fn outer_body<V: Lanes, const R: usize, const N: usize>(t: Outer) {
    // SAFETY (whole function): the caller promises that every pointer holds what `Outer` says.
    unsafe {
        let mut sums = [[V::splat(0.0); N]; R];
        if t.add {
            for (r, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = V::load(t.sums.add(r * t.sum_step + v * LANES));
                }
            }
        }
        for n in 0..t.pictures {
            let (x, y) = (t.x.add(n * t.x_picture), t.y.add(n * t.y_picture));
            for i in 0..t.run_count {
                let (x_at, y_at, places) = *t.runs.add(i);
                let (mut x, mut y) = (x.add(x_at), y.add(y_at));
                for _ in 0..places {
                    let ys: [V; N] = std::array::from_fn(|v| V::load(y.add(v * LANES)));
                    for r in 0..R {
                        let x = V::splat(*x.add(r));
                        for v in 0..N {
                            sums[r][v] = x.fma(ys[v], sums[r][v]);
                        }
                    }
                    x = x.wrapping_add(t.x_step);
                    y = y.wrapping_add(t.y_step);
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                sum.store(t.sums.add(r * t.sum_step + v * LANES));
            }
        }
    }
}

/// Calls a body with its number of rows as a constant, so that the sums live in registers.
macro_rules! by_rows {
    ($rows:expr, $body:ident, $V:ident, $vectors:literal, $t:expr) => {
        by_rows!($rows, $body, $V, $vectors, $t; 1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    };
    ($rows:expr, $body:ident, $V:ident, $vectors:literal, $t:expr; $($count:literal)*) => {
        match $rows {
            $($count => $body::<$V, $count, $vectors>($t),)*
            rows => unreachable!("a tile of {rows} rows"),
        }
    };
}

pub(super) use by_rows;

for_each_isa! {
    /// One vector wide, so that a tile may be any of the widths that remain.
    unsafe fn dot1<V>(rows: usize, t: Dot) {
        // SAFETY: the caller's.
        unsafe {
            by_rows!(rows, dot_body, V, 1, t)
        }
    }
}

for_each_isa! {
    unsafe fn dot2<V>(rows: usize, t: Dot) {
        // SAFETY: the caller's.
        unsafe {
            by_rows!(rows, dot_body, V, 2, t)
        }
    }
}

for_each_isa! {
    unsafe fn outer1<V>(rows: usize, t: Outer) {
        // SAFETY: the caller's.
        unsafe {
            by_rows!(rows, outer_body, V, 1, t)
        }
    }
}

for_each_isa! {
    unsafe fn outer2<V>(rows: usize, t: Outer) {
        // SAFETY: the caller's.
        unsafe {
            by_rows!(rows, outer_body, V, 2, t)
        }
    }
}

/// Computes a `dot` tile of 1 to 14 rows and 1 or 2 vectors.
///
/// # Safety
/// All pointers of `t` hold what their docs say, for this many rows and vectors.
pub(super) unsafe fn dot(isa: Isa, rows: usize, vectors: usize, t: Dot) {
    // SAFETY: the caller's.
    unsafe { if vectors == 2 { dot2(isa, rows, t) } else { dot1(isa, rows, t) } }
}

/// Computes an `outer` tile of 1 to 14 rows and 1 or 2 vectors.
///
/// # Safety
/// All pointers of `t` hold what their docs say, for this many rows and vectors.
pub(super) unsafe fn outer(isa: Isa, rows: usize, vectors: usize, t: Outer) {
    // SAFETY: the caller's.
    unsafe { if vectors == 2 { outer2(isa, rows, t) } else { outer1(isa, rows, t) } }
}
