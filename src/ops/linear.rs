//! The fully connected layer.
//!
//! ```text
//! forward    y = x · wᵀ + b     (N, I) · (I, O)
//! backward   dx = dy · w        (N, O) · (O, I)
//!            dw = dyᵀ · x       (O, N) · (N, I)
//!            db = Σ over N of dy
//! ```

#[cfg(feature = "cuda")]
use candle_core::DType;
use candle_core::{Shape, Tensor};
use rayon::prelude::*;

#[cfg(feature = "cuda")]
use super::cuda::gpu::{Gpu, Memory};
use super::size::checked_len;
use super::weighted::{self, Grads, Wants, Weighted};
use super::{Form, Mat, MatMut, Real, access, gemm, half};
use crate::{Error, Result};

const OP: &str = "linear";

/// `x · weightᵀ + bias` with `x` [N, I], `weight` [O, I] and `bias` \[O\], in the form that suits the
/// device.
///
/// # Errors
/// Where shapes or types do not fit together.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    linear_as(Form::of(x), x, weight, bias)
}

/// [`linear`] in a form of your choice.
///
/// # Errors
/// As for [`linear`].
pub fn linear_as(form: Form, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let sizes = Sizes::new(x.dims(), weight.dims(), bias.map(Tensor::dims))?;
    access::same_kind(OP, &[x, weight])?;
    if let Some(bias) = bias {
        access::same_kind(OP, &[weight, bias])?;
    }
    if form == Form::Portable {
        return Ok(portable(x, weight, bias)?);
    }
    weighted::apply(x, weight, bias, Linear { sizes, form })
}

/// Rows N, inputs I and outputs O.
#[derive(Clone, Copy)]
struct Sizes {
    n: usize,
    i: usize,
    o: usize,
}

impl Sizes {
    fn new(x: &[usize], w: &[usize], b: Option<&[usize]>) -> Result<Self> {
        let (&[n, i], &[o, weight_i]) = (x, w) else {
            let found = format!("input {x:?} and weight {w:?}");
            return Err(Error::op(OP, found, "it needs [N, I] and [O, I]; flatten pictures first"));
        };
        if i != weight_i {
            let found = format!("input {x:?} and weight {w:?}");
            return Err(Error::op(OP, found, "both need the same second dimension"));
        }
        match b {
            Some(b) if b != [o] => {
                let found = format!("a bias of shape {b:?}");
                Err(Error::op(OP, found, format!("it needs one of shape [{o}]")))
            }
            _ => {
                [[n, i], [o, i], [n, o]].iter().try_for_each(|s| checked_len(OP, s).map(drop))?;
                Ok(Sizes { n, i, o })
            }
        }
    }
}

/// `a · b`, row-major, as three loops.
fn definition<T: Real>(a: Mat<'_, T>, b: Mat<'_, T>) -> Vec<T> {
    let ((rows, inner), (_, columns)) = (a.shape(), b.shape());
    let mut c = Vec::with_capacity(rows * columns);
    for row in 0..rows {
        for column in 0..columns {
            c.push((0..inner).map(|i| a.at(row, i) * b.at(i, column)).sum());
        }
    }
    c
}

/// Products of fewer multiplications than this are not worth a second thread.
const SERIAL: usize = 1 << 17;
/// Into how many blocks a product is cut, at most.
const BLOCKS: usize = 32;
/// A result of so many rows is cut by rows, which needs no copy, even if it has more columns.
const MANY_ROWS: usize = 512;

/// `a · b`, row-major: blocks of it on several threads, each a serial product. How it is cut depends
/// on the shapes alone, so the bits do not depend on the number of threads.
fn kernel<T: Real>(a: Mat<'_, T>, b: Mat<'_, T>) -> Vec<T> {
    let ((rows, inner), (_, columns)) = (a.shape(), b.shape());
    let mut c = vec![T::zero(); rows * columns];
    if c.is_empty() || (rows * columns).saturating_mul(inner) < SERIAL {
        gemm(a, b, MatMut::new(&mut c, rows, columns), false);
    } else if rows >= columns.min(MANY_ROWS) {
        let height = rows.div_ceil(BLOCKS).next_multiple_of(32);
        c.par_chunks_mut(height * columns).enumerate().for_each(|(block, c)| {
            let (first, height) = (block * height, c.len() / columns);
            let c = MatMut::new(c, height, columns);
            gemm(a.block(first..first + height, 0..inner), b, c, false);
        });
    } else {
        let width = columns.div_ceil(BLOCKS).next_multiple_of(64);
        c.par_chunks_mut(rows * width).enumerate().for_each(|(block, c)| {
            let (first, width) = (block * width, c.len() / rows);
            let b = b.block(0..inner, first..first + width);
            gemm(a, b, MatMut::new(c, rows, width), false);
        });
        c = join_columns(c, rows, width);
    }
    c
}

/// The row-major matrix whose blocks of `width` columns (the last may be narrower) stand in `blocks`
/// one after the other.
fn join_columns<T: Real>(blocks: Vec<T>, rows: usize, width: usize) -> Vec<T> {
    if rows == 1 {
        return blocks; // already as it should be
    }
    let mut joined = vec![T::zero(); blocks.len()];
    joined.par_chunks_mut(blocks.len() / rows).enumerate().for_each(|(row, joined)| {
        for (to, block) in joined.chunks_mut(width).zip(blocks.chunks(rows * width)) {
            to.copy_from_slice(&block[row * to.len()..][..to.len()]);
        }
    });
    joined
}

fn portable(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> candle_core::Result<Tensor> {
    let y = half::matmul(x, &weight.t()?)?;
    match bias {
        Some(bias) => &y + half::spread(bias, y.shape())?,
        None => Ok(y),
    }
}

/// The op behind the definition and the kernel.
struct Linear {
    sizes: Sizes,
    form: Form,
}

impl Linear {
    fn product<T: Real>(&self, a: Mat<'_, T>, b: Mat<'_, T>) -> Vec<T> {
        match self.form {
            Form::Definition => definition(a, b),
            _ => kernel(a, b),
        }
    }
}

impl Weighted for Linear {
    const NAME: &'static str = OP;

    fn output(&self) -> Shape {
        Shape::from((self.sizes.n, self.sizes.o))
    }

    fn forward<T: Real>(&self, x: &[T], w: &[T], b: Option<&[T]>) -> Vec<T> {
        let Sizes { n, i, o } = self.sizes;
        let mut y = self.product(Mat::new(x, n, i), Mat::new(w, o, i).t());
        if let Some(b) = b {
            for row in y.chunks_exact_mut(o.max(1)) {
                row.iter_mut().zip(b).for_each(|(y, &b)| *y += b);
            }
        }
        y
    }

    fn backward<T: Real>(&self, x: &[T], w: &[T], dy: &[T], wants: Wants) -> Grads<T> {
        let Sizes { n, i, o } = self.sizes;
        let (xs, ws, dys) = (Mat::new(x, n, i), Mat::new(w, o, i), Mat::new(dy, n, o));
        Grads {
            input: wants.input.then(|| self.product(dys, ws)),
            weight: wants.weight.then(|| self.product(dys.t(), xs)),
            bias: wants.bias.then(|| column_sums(dy, o)),
        }
    }

    #[cfg(feature = "cuda")]
    fn cuda_forward<'a>(
        &self,
        _on: &Gpu<'a>,
        _dtype: DType,
        _x: &Memory<'a>,
        _w: &Memory<'a>,
        _b: Option<&Memory<'a>>,
    ) -> candle_core::Result<Memory<'a>> {
        Err(no_kernel().into())
    }

    #[cfg(feature = "cuda")]
    fn cuda_backward<'a>(
        &self,
        _on: &Gpu<'a>,
        _dtype: DType,
        _inputs: [&Memory<'a>; 3],
        _wants: Wants,
    ) -> candle_core::Result<[Option<Memory<'a>>; 3]> {
        Err(no_kernel().into())
    }
}

/// The portable form is one product by cuBLAS already.
#[cfg(feature = "cuda")]
fn no_kernel() -> Error {
    Error::op(OP, "tensors on a GPU", "there it runs in its portable form")
}

/// Sums over the rows of a matrix of `columns` columns, row after row.
fn column_sums<T: Real>(values: &[T], columns: usize) -> Vec<T> {
    let mut sums = vec![T::zero(); columns];
    for row in values.chunks_exact(columns.max(1)) {
        sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += value);
    }
    sums
}
