//! The fully connected layer.
//!
//! ```text
//! forward    y = x · wᵀ + b     (N, I) · (I, O)
//! backward   dx = dy · w        (N, O) · (O, I)
//!            dw = dyᵀ · x       (O, N) · (N, I)
//!            db = Σ over N of dy
//! ```

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Shape, Tensor};
use rayon::prelude::*;

use super::access::{self, by_dtype};
use super::{Form, Mat, MatMut, Real, gemm};
use crate::{Error, Result};

const OP: &str = "linear";

/// `x · weightᵀ + bias` with `x` [N, I], `weight` [O, I] and `bias` \[O\], in the form that suits the
/// device.
///
/// # Errors
/// Where shapes or types do not fit together.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    linear_as(Form::of(x.device()), x, weight, bias)
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
    let op = Linear { sizes, form };
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    Ok(match bias {
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, op)?,
        None => x.apply_op2(&weight, op)?,
    })
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
            _ => Ok(Sizes { n, i, o }),
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
    if c.is_empty() || rows * columns * inner < SERIAL {
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
    let y = x.matmul(&weight.t()?)?;
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// The custom op behind the definition and the kernel.
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

    fn forward<T: Real>(
        &self,
        x: (&CpuStorage, &Layout),
        w: (&CpuStorage, &Layout),
        b: Option<(&CpuStorage, &Layout)>,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let Sizes { n, i, o } = self.sizes;
        let x = Mat::new(access::slice::<T>(OP, x.0, x.1)?, n, i);
        let w = Mat::new(access::slice::<T>(OP, w.0, w.1)?, o, i);
        let mut y = self.product(x, w.t());
        if let Some((storage, layout)) = b {
            let b = access::slice::<T>(OP, storage, layout)?;
            for row in y.chunks_exact_mut(o.max(1)) {
                row.iter_mut().zip(b).for_each(|(y, &b)| *y += b);
            }
        }
        Ok((T::to_cpu_storage_owned(y), Shape::from((n, o))))
    }

    fn backward<T: Real>(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: Option<&Tensor>,
        dy: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; 3]> {
        let Sizes { n, i, o } = self.sizes;
        let dy = dy.contiguous()?;
        let (xs, ws) = (access::values::<T>(OP, x)?, access::values::<T>(OP, w)?);
        let dys = access::values::<T>(OP, &dy)?;
        let (xs, ws, dy) = (Mat::new(&xs, n, i), Mat::new(&ws, o, i), Mat::new(&dys, n, o));
        let dx = x.track_op().then(|| access::tensor(self.product(dy, ws), (n, i)));
        let dw = w.track_op().then(|| access::tensor(self.product(dy.t(), xs), (o, i)));
        let db = b.filter(|b| b.track_op()).map(|_| access::tensor(column_sums(&dys, o), o));
        Ok([dx.transpose()?, dw.transpose()?, db.transpose()?])
    }
}

/// Sums over the rows of a matrix of `columns` columns, row after row.
fn column_sums<T: Real>(values: &[T], columns: usize) -> Vec<T> {
    let mut sums = vec![T::zero(); columns];
    for row in values.chunks_exact(columns.max(1)) {
        sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += value);
    }
    sums
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        by_dtype!(OP, access::dtype(x), T => self.forward::<T>((x, x_layout), (w, w_layout), None))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, _] = by_dtype!(OP, x.dtype(), T => self.backward::<T>(x, w, None, dy))?;
        Ok((dx, dw))
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        by_dtype!(OP, access::dtype(x), T => {
            self.forward::<T>((x, x_layout), (w, w_layout), Some((b, b_layout)))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, db] = by_dtype!(OP, x.dtype(), T => self.backward::<T>(x, w, Some(b), dy))?;
        Ok((dx, dw, db))
    }
}
