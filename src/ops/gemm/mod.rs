//! Matrix multiplication on slices: safe and checked, by a kernel of our own where the CPU has
//! AVX-512, by the `gemm` crate elsewhere.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;

use std::ops::Range;

use rayon::prelude::*;

use super::Real;

/// A matrix in a slice: element (r, c) stands at `r * row_stride + c * col_stride`.
#[derive(Clone, Copy, Debug)]
pub struct Mat<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T: Real> Mat<'a, T> {
    /// A row-major matrix; `data` must hold at least `rows * cols` values.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// Rows of `cols` values that begin `row_stride` apart.
    ///
    /// # Panics
    /// If `data` is too short.
    pub fn strided(data: &'a [T], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(fits(data.len(), rows, cols, row_stride), "matrix outside its slice");
        Mat { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transposed matrix, without moving anything.
    pub fn t(self) -> Self {
        Mat {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    /// The same layout over other values.
    fn with<U>(self, data: &'a [U]) -> Mat<'a, U> {
        let Mat { rows, cols, row_stride, col_stride, .. } = self;
        Mat { data, rows, cols, row_stride, col_stride }
    }

    /// The part of the matrix in these rows and columns, without moving anything.
    ///
    /// # Panics
    /// If there are no such rows or columns.
    pub fn block(self, rows: Range<usize>, cols: Range<usize>) -> Self {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "no such rows");
        assert!(cols.start <= cols.end && cols.end <= self.cols, "no such columns");
        // A block without elements may begin anywhere.
        let down = rows.start.saturating_mul(self.row_stride);
        let start = down.saturating_add(cols.start.saturating_mul(self.col_stride));
        let data = &self.data[start.min(self.data.len())..];
        Mat { data, rows: rows.len(), cols: cols.len(), ..self }
    }

    /// The element in row `r` and column `c`.
    ///
    /// # Panics
    /// If there is none.
    pub fn at(&self, r: usize, c: usize) -> T {
        assert!(r < self.rows && c < self.cols, "no such element");
        self.data[r * self.row_stride + c * self.col_stride]
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }
}

/// A row-major matrix to write to.
#[derive(Debug)]
pub struct MatMut<'a, T> {
    data: &'a mut [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

impl<'a, T: Real> MatMut<'a, T> {
    /// A row-major matrix; `data` must hold at least `rows * cols` values.
    pub fn new(data: &'a mut [T], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// Rows of `cols` values that begin `row_stride` apart.
    ///
    /// # Panics
    /// If `data` is too short or rows overlap.
    pub fn strided(data: &'a mut [T], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(fits(data.len(), rows, cols, row_stride), "matrix outside its slice");
        assert!(rows <= 1 || row_stride >= cols, "rows of a result must not overlap");
        MatMut { data, rows, cols, row_stride }
    }
}

/// Whether so many rows, so far apart, lie inside a slice; sizes whose product overflows do not.
fn fits(len: usize, rows: usize, cols: usize, row_stride: usize) -> bool {
    if rows == 0 || cols == 0 {
        return true;
    }
    let end = (rows - 1).checked_mul(row_stride).and_then(|last| last.checked_add(cols));
    end.is_some_and(|end| end <= len)
}

/// `c = a·b`, or `c += a·b` where `add`; on the calling thread, so the same bits every time.
///
/// # Panics
/// If the shapes do not match.
pub fn gemm<T: Real>(a: Mat<'_, T>, b: Mat<'_, T>, c: MatMut<'_, T>, add: bool) {
    assert!(a.cols == b.rows && a.rows == c.rows && b.cols == c.cols, "gemm shapes do not match");
    if c.rows == 0 || c.cols == 0 {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if avx512::available()
        && a.cols > 0
        && let (Some(left), Some(right)) = (T::as_f32(a.data), T::as_f32(b.data))
        && let Some(data) = T::as_f32_mut(c.data)
    {
        let MatMut { rows, cols, row_stride, .. } = c;
        let c = MatMut { data, rows, cols, row_stride };
        // SAFETY: AVX-512 is there.
        return unsafe { avx512::gemm(a.with(left), b.with(right), c, add) };
    }
    // SAFETY: `Mat` and `MatMut` hold slices that contain every element they address (checked when
    // made), the result is borrowed exclusively and its rows do not overlap, and the shapes match.
    unsafe {
        gemm::gemm(
            c.rows,
            c.cols,
            a.cols,
            c.data.as_mut_ptr(),
            1,
            c.row_stride as isize,
            add,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            T::one(),
            T::one(),
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// [`gemm`] with the rows of the result spread over rayon's threads. Every element is the same sum as
/// on one thread.
///
/// # Panics
/// If the shapes do not match.
pub(crate) fn gemm_on_threads<T: Real>(a: Mat<'_, T>, b: Mat<'_, T>, c: MatMut<'_, T>, add: bool) {
    /// Rows of a piece: enough that packing b again for each costs little.
    const ROWS: usize = 128;
    let MatMut { data, rows, cols, row_stride } = c;
    assert!(a.rows == rows, "gemm shapes do not match");
    data.par_chunks_mut(ROWS.saturating_mul(row_stride.max(1)))
        .zip(0..rows.div_ceil(ROWS))
        .for_each(|(data, piece)| {
            let rows = piece * ROWS..(piece * ROWS + ROWS).min(rows);
            let c = MatMut::strided(data, rows.len(), cols, row_stride);
            gemm(a.block(rows, 0..a.cols), b, c, add);
        });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Odd sizes, all layouts, adding or not, f32 (our kernel where the CPU has it) against f64.
    #[test]
    fn agrees_with_plain_loops() {
        let mut rng = crate::rng::Rng::new(9);
        for case in 0..200 {
            let mut size = |large: usize| 1 + rng.below(if case % 10 == 0 { large } else { 60 });
            let (m, n, k) = (size(300), size(1300), size(600));
            let mut values =
                |len| (0..len).map(|_| rng.range(-1.0, 1.0) as f32).collect::<Vec<_>>();
            let (a, b, mut c) = (values(m * k), values(k * n), values(m * (n + 3)));
            let (ta, tb, add) = (case & 1 > 0, case & 2 > 0, case & 4 > 0);
            let mat_a = if ta { Mat::new(&a, k, m).t() } else { Mat::new(&a, m, k) };
            let mat_b = if tb { Mat::new(&b, n, k).t() } else { Mat::new(&b, k, n) };
            let before = c.clone();
            gemm(mat_a, mat_b, MatMut::strided(&mut c, m, n, n + 3), add);
            for r in 0..m {
                for (col, &found) in c[r * (n + 3)..][..n + 3].iter().enumerate() {
                    let old = before[r * (n + 3) + col];
                    if col >= n {
                        assert_eq!(found, old, "what lies between the rows is not touched");
                        continue;
                    }
                    let product = |i| {
                        let a = if ta { a[i * m + r] } else { a[r * k + i] };
                        let b = if tb { b[col * k + i] } else { b[i * n + col] };
                        f64::from(a) * f64::from(b)
                    };
                    let sum = (0..k).map(product).sum::<f64>() + if add { old.into() } else { 0.0 };
                    assert!((f64::from(found) - sum).abs() < 2e-5, "{m}x{n}x{k} at {r}, {col}");
                }
            }
        }
    }

    /// Sizes whose products overflow are as much too large as others, and what has no elements is no
    /// harm however it is described.
    #[test]
    fn matrices_lie_inside_their_slices() {
        let refused =
            |make: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(make)).is_err();
        let (four, most) = ([1.0f32; 4], usize::MAX);
        for (rows, cols, stride) in [
            (257, 1, 1 << 56),
            (3, 2, most / 2 + 1),
            (2, most, 1),
            (most, most, most),
            (2, 3, 2),
            (5, 1, 1),
            (1, 5, 0),
            (most, 1, most),
        ] {
            assert!(refused(&|| _ = Mat::strided(&four, rows, cols, stride)), "{rows}x{cols}");
            let make = || _ = MatMut::strided(&mut four.clone(), rows, cols, stride);
            assert!(refused(&make), "{rows}x{cols}");
        }
        assert!(refused(&|| _ = Mat::new(&four, 1 << 33, 1 << 33)));
        assert!(refused(&|| _ = MatMut::strided(&mut four.clone(), 2, 2, 1)), "rows overlap");
        assert!(refused(&|| _ = Mat::new(&four, 2, 2).block(0..3, 0..1)));
        assert!(refused(&|| _ = Mat::new(&four, 2, 2).at(2, 0)));

        // One row has no stride to speak of; none at all has nothing to read.
        let (mut one, row) = ([0.0], Mat::strided(&four, 1, 4, most));
        gemm(row, row.t(), MatMut::strided(&mut one, 1, 1, most), false);
        assert_eq!(one, [4.0]);
        gemm_on_threads(row, row.t(), MatMut::strided(&mut one, 1, 1, most), true);
        assert_eq!(one, [8.0]);
        let empty = Mat::strided(&four, 2, 0, most);
        assert_eq!(empty.block(1..2, 0..0).shape(), (1, 0));
        let mut zeros = [1.0; 4];
        gemm(empty, Mat::strided(&four, 0, 2, most), MatMut::new(&mut zeros, 2, 2), false);
        assert_eq!(zeros, [0.0; 4]);
    }

    #[test]
    fn multiplies_strided_and_transposed() {
        let a = [1.0f64, 2.0, 3.0, 4.0, 5.0, 6.0]; // 2x3
        let b = [1.0f64, 0.0, 9.0, 0.0, 1.0, 9.0, 1.0, 1.0, 9.0]; // 3x2 in rows of 3
        let mut c = [10.0; 4];
        gemm(Mat::new(&a, 2, 3), Mat::strided(&b, 3, 2, 3), MatMut::new(&mut c, 2, 2), true);
        assert_eq!(c, [14.0, 15.0, 20.0, 21.0]);
        let mut d = [0.0; 9];
        gemm(Mat::new(&a, 2, 3).t(), Mat::new(&a, 2, 3), MatMut::new(&mut d, 3, 3), false);
        assert_eq!(d, [17.0, 22.0, 27.0, 22.0, 29.0, 36.0, 27.0, 36.0, 45.0]);
    }
}
