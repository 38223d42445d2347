//! f32 matrix multiplication for CPUs with AVX-512: the blocking of Goto and van de Geijn ("Anatomy
//! of High-Performance Matrix Multiplication", 2008) around an 8x48 micro-kernel.
//!
//! ```text
//! for each KC rows of B:        pack them into panels of 48 columns   (second-level cache)
//!   for each MC rows of A:      pack them into panels of 8 rows       (second-level cache)
//!     for each panel of B:      KC x 48
//!       for each panel of A:    24 accumulators in registers, KC steps
//! ```
//!
//! Every element of C is summed in the order of k, whatever tile it falls into.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{Mat, MatMut};

/// Rows of a micro-tile. Channel counts are multiples of 8, so no row is wasted.
const MR: usize = 8;
/// Columns of a micro-tile: three registers of 16.
const NR: usize = 48;
/// Steps along k between two visits to C.
const KC: usize = 256;
/// Rows of A packed at once.
const MC: usize = 32 * MR;
/// Columns of B packed at once: with the block of A they fit the second-level cache.
const NC: usize = 12 * NR;
/// Lanes of a register.
const LANES: usize = 16;

/// Whether this CPU has what the kernel needs.
pub(super) fn available() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
}

thread_local! {
    /// Packed panels of A and B, kept from call to call.
    static PANELS: std::cell::RefCell<(Vec<f32>, Vec<f32>)> = const {
        std::cell::RefCell::new((Vec::new(), Vec::new()))
    };
}

/// `c = a·b`, or `c += a·b` where `add`; the shapes were checked to match.
///
/// # Safety
/// AVX-512F must be [`available`].
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn gemm(a: Mat<'_, f32>, b: Mat<'_, f32>, c: MatMut<'_, f32>, add: bool) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    PANELS.with_borrow_mut(|(packed_a, packed_b)| {
        // A transposing store writes whole registers: up to a register beyond the last panel.
        packed_a.resize(MC * KC + LANES, 0.0);
        packed_b.resize(NC * KC + LANES, 0.0);
        for cols in blocks(n, NC) {
            for ks in blocks(k, KC) {
                let add = add || ks.start > 0;
                pack::<NR>(b.block(ks.clone(), cols.clone()).t(), packed_b);
                for rows in blocks(m, MC) {
                    pack::<MR>(a.block(rows.clone(), ks.clone()), packed_a);
                    let at = rows.start * c.row_stride + cols.start;
                    let (shape, stride) = ((rows.len(), cols.len(), ks.len()), c.row_stride);
                    // SAFETY: the block of `rows` and `cols` at `at` lies inside c, which `MatMut`
                    // has checked; the packs hold what `macro_kernel` reads.
                    unsafe {
                        let c = c.data.as_mut_ptr().add(at);
                        macro_kernel(packed_a, packed_b, c, stride, shape, add);
                    }
                }
            }
        }
    });
}

fn blocks(len: usize, step: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len).step_by(step).map(move |start| start..(start + step).min(len))
}

/// All micro-tiles of a packed block of A and one of B.
///
/// # Safety
/// AVX-512F; `c` addresses `shape.0` rows of `shape.1` values, `stride` apart; the packs hold panels
/// of `shape.2` steps for them.
#[target_feature(enable = "avx512f")]
unsafe fn macro_kernel(
    a: &[f32],
    b: &[f32],
    c: *mut f32,
    stride: usize,
    shape: (usize, usize, usize),
    add: bool,
) {
    let (rows, cols, depth) = shape;
    for col in (0..cols).step_by(NR) {
        let b = &b[col * depth..][..NR * depth];
        for row in (0..rows).step_by(MR) {
            let a = &a[row * depth..][..MR * depth];
            let tile = (MR.min(rows - row), NR.min(cols - col));
            // SAFETY: the tile at (row, col) lies inside c; a and b are whole panels.
            unsafe { micro_kernel(a, b, c.add(row * stride + col), stride, tile, add) };
        }
    }
}

/// One tile of C from a panel of A [depth, 8] and one of B [depth, 48].
///
/// # Safety
/// AVX-512F; `c` addresses `tile.0` rows of `tile.1` values, `stride` apart.
#[target_feature(enable = "avx512f")]
unsafe fn micro_kernel(
    a: &[f32],
    b: &[f32],
    c: *mut f32,
    stride: usize,
    tile: (usize, usize),
    add: bool,
) {
    let mut sums = [[_mm512_setzero_ps(); 3]; MR];
    for (a, b) in a.chunks_exact(MR).zip(b.chunks_exact(NR)) {
        // SAFETY: b has 48 values.
        let b: [__m512; 3] =
            std::array::from_fn(|i| unsafe { _mm512_loadu_ps(b.as_ptr().add(i * LANES)) });
        for (sums, &a) in sums.iter_mut().zip(a) {
            let a = _mm512_set1_ps(a);
            for (sum, &b) in sums.iter_mut().zip(&b) {
                *sum = _mm512_fmadd_ps(a, b, *sum);
            }
        }
    }
    for (r, sums) in sums.iter().enumerate().take(tile.0) {
        for (i, &sum) in sums.iter().enumerate() {
            let mask = lanes(tile.1.saturating_sub(i * LANES));
            // SAFETY: row r of the tile lies inside c, and the mask hides what is beyond its columns.
            unsafe {
                let at = c.wrapping_add(r * stride + i * LANES);
                let before =
                    if add { _mm512_maskz_loadu_ps(mask, at) } else { _mm512_setzero_ps() };
                _mm512_mask_storeu_ps(at, mask, _mm512_add_ps(before, sum));
            }
        }
    }
}

/// A mask of the first `count` lanes.
pub(in crate::ops) fn lanes(count: usize) -> __mmask16 {
    if count >= LANES { !0 } else { (1 << count) - 1 }
}

/// Packs a matrix into panels of `WIDTH` rows: panel p holds, for each column k in turn, the values
/// of rows p·WIDTH.. in that column; rows beyond the last are 0.
#[target_feature(enable = "avx512f")]
fn pack<const WIDTH: usize>(mat: Mat<'_, f32>, packed: &mut [f32]) {
    let depth = mat.cols;
    if mat.row_stride == 1 {
        return pack_columns::<WIDTH>(mat, packed);
    }
    for (panel, rows) in blocks(mat.rows, WIDTH).enumerate() {
        let packed = &mut packed[panel * WIDTH * depth..];
        let mat = mat.block(rows, 0..depth);
        if mat.col_stride == 1 {
            pack_transposed::<WIDTH>(mat, packed);
        } else {
            for (k, to) in packed.chunks_exact_mut(WIDTH).take(depth).enumerate() {
                to.fill(0.0);
                let from = mat.data[k * mat.col_stride..].iter().step_by(mat.row_stride);
                to[..mat.rows].iter_mut().zip(from).for_each(|(to, &from)| *to = from);
            }
        }
    }
}

/// All panels of a matrix whose columns lie together in memory: some columns at a time, so many as the
/// CPU fetches ahead of need.
fn pack_columns<const WIDTH: usize>(mat: Mat<'_, f32>, packed: &mut [f32]) {
    const AHEAD: usize = 8;
    for ks in blocks(mat.cols, AHEAD) {
        for (panel, rows) in blocks(mat.rows, WIDTH).enumerate() {
            let packed = &mut packed[(panel * mat.cols + ks.start) * WIDTH..];
            pack_rows::<WIDTH>(mat.block(rows, ks.clone()), &mut packed[..WIDTH * ks.len()]);
        }
    }
}

/// Part of a panel whose columns lie together in memory: copies.
fn pack_rows<const WIDTH: usize>(mat: Mat<'_, f32>, packed: &mut [f32]) {
    for (k, to) in packed.chunks_exact_mut(WIDTH).enumerate() {
        let from = &mat.data[k * mat.col_stride..][..mat.rows];
        match <&[f32; WIDTH]>::try_from(from) {
            Ok(whole) => to.copy_from_slice(whole), // a length known in advance: a few moves
            Err(_) => {
                to[..mat.rows].copy_from_slice(from);
                to[mat.rows..].fill(0.0);
            }
        }
    }
}

/// A panel whose rows lie together in memory: blocks of 16x16, transposed in registers. Where WIDTH
/// is less than a register, each store spills into the place of the next, which is written after.
#[target_feature(enable = "avx512f")]
fn pack_transposed<const WIDTH: usize>(mat: Mat<'_, f32>, packed: &mut [f32]) {
    let depth = mat.cols;
    for ks in blocks(depth, LANES) {
        for first in (0..WIDTH).step_by(LANES) {
            let mask = lanes(ks.len());
            let rows: [__m512; LANES] = std::array::from_fn(|r| {
                if first + r >= mat.rows {
                    return _mm512_setzero_ps();
                }
                let from = &mat.data[(first + r) * mat.row_stride + ks.start..][..ks.len()];
                // SAFETY: the mask hides what is beyond `from`.
                unsafe { _mm512_maskz_loadu_ps(mask, from.as_ptr()) }
            });
            for (k, column) in ks.clone().zip(transpose(rows)) {
                let to = &mut packed[k * WIDTH + first..][..LANES];
                // SAFETY: `to` has 16 values.
                unsafe { _mm512_storeu_ps(to.as_mut_ptr(), column) };
            }
        }
    }
}

/// Transposes 16 rows of 16 values, in four rounds that swap ever larger parts.
#[inline] // or its sixteen registers go through memory
#[target_feature(enable = "avx512f")]
pub(in crate::ops) fn transpose(r: [__m512; LANES]) -> [__m512; LANES] {
    let pd = |x| _mm512_castps_pd(x);
    let ps = |x| _mm512_castpd_ps(x);
    // Pairs of rows, then quads: t[4i + j] holds column j of each 128-bit lane of rows 4i..4i+4.
    let mut t = r;
    for i in (0..LANES).step_by(4) {
        let (lo0, hi0) = (_mm512_unpacklo_ps(r[i], r[i + 1]), _mm512_unpackhi_ps(r[i], r[i + 1]));
        let (lo1, hi1) =
            (_mm512_unpacklo_ps(r[i + 2], r[i + 3]), _mm512_unpackhi_ps(r[i + 2], r[i + 3]));
        t[i] = ps(_mm512_unpacklo_pd(pd(lo0), pd(lo1)));
        t[i + 1] = ps(_mm512_unpackhi_pd(pd(lo0), pd(lo1)));
        t[i + 2] = ps(_mm512_unpacklo_pd(pd(hi0), pd(hi1)));
        t[i + 3] = ps(_mm512_unpackhi_pd(pd(hi0), pd(hi1)));
    }
    // Lanes of 128 bits: output column 4l + j is lane l of t[j], t[4 + j], t[8 + j], t[12 + j].
    let mut out = r;
    for j in 0..4 {
        let even0 = _mm512_shuffle_f32x4::<0x88>(t[j], t[4 + j]); // lanes 0, 2 of both
        let odd0 = _mm512_shuffle_f32x4::<0xdd>(t[j], t[4 + j]); // lanes 1, 3
        let even1 = _mm512_shuffle_f32x4::<0x88>(t[8 + j], t[12 + j]);
        let odd1 = _mm512_shuffle_f32x4::<0xdd>(t[8 + j], t[12 + j]);
        out[j] = _mm512_shuffle_f32x4::<0x88>(even0, even1);
        out[4 + j] = _mm512_shuffle_f32x4::<0x88>(odd0, odd1);
        out[8 + j] = _mm512_shuffle_f32x4::<0xdd>(even0, even1);
        out[12 + j] = _mm512_shuffle_f32x4::<0xdd>(odd0, odd1);
    }
    out
}
