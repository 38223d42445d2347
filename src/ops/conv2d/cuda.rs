//! Convolution on CUDA: the moves of `conv2d.cu` around products by cuBLAS.
//!
//! Many pictures make one product: their im2col matrices stand side by side, [C·KH·KW, n·OH·OW]. A
//! matrix of a whole batch may be too large, so there are parts of n pictures, one after the other.

use candle_core::{DType, Result};

use super::{Conv2dShape, OP};
use crate::ops::Wants;
use crate::ops::cuda::{Arg, Kernels, LANES, Launcher, Product, Source, maps, window, word};

/// The kernels.
pub const SOURCE: Source =
    Source { name: OP, path: "conv2d/conv2d.cu", text: include_str!("conv2d.cu") };

/// Values of an im2col matrix that pictures are put together for: 256 MiB of f32.
pub const COLUMNS: usize = 1 << 26;

/// y [N, O, OH, OW] of x [N, C, H, W], w [O, C/G, KH, KW] and b \[O\]; `columns` is what an im2col
/// matrix may have in values, where more than one picture is in it.
///
/// # Errors
/// Where the kernels cannot be run.
pub fn forward<L: Launcher>(
    on: &L,
    dtype: DType,
    (shape, columns): (&Conv2dShape, usize),
    x: &L::Buffer,
    w: &L::Buffer,
    b: Option<&L::Buffer>,
) -> Result<L::Buffer> {
    let kernels = Kernels { on, source: &SOURCE, dtype };
    let sizes = Sizes::of(shape);
    let mut y = kernels.alloc(shape.batch * sizes.out * sizes.places)?;
    for part in sizes.parts(columns) {
        let col = sizes.im2col(&kernels, part, x)?;
        let product = on.matmul(w, &col, sizes.forward(part))?;
        let args = vec![
            part.of(sizes.out)?,
            Arg::u32s(&[word(OP, sizes.places)?]),
            Arg::u32s(&[u32::from(b.is_some())]),
            Arg::Read(&product),
            Arg::Read(b.unwrap_or(w)), // not read where there is none
            Arg::Write(&mut y),
        ];
        kernels.run("columns_to_pictures", part.pictures * sizes.out * sizes.places, args)?;
    }
    Ok(y)
}

/// The gradients that are wanted of x, w and b, from `dy` [N, O, OH, OW].
///
/// # Errors
/// Where the kernels cannot be run.
pub fn backward<L: Launcher>(
    on: &L,
    dtype: DType,
    (shape, columns): (&Conv2dShape, usize),
    x: &L::Buffer,
    w: &L::Buffer,
    dy: &L::Buffer,
    wants: Wants,
) -> Result<[Option<L::Buffer>; 3]> {
    let kernels = Kernels { on, source: &SOURCE, dtype };
    let sizes = Sizes::of(shape);
    let pixels = shape.batch * sizes.channels * shape.window.input.0 * shape.window.input.1;
    let mut dx = wants.input.then(|| kernels.alloc(pixels)).transpose()?;
    let mut dw: Option<L::Buffer> = None;
    let parts = if wants.input || wants.weight { sizes.parts(columns) } else { Vec::new() };
    for part in parts {
        let dy = sizes.columns(&kernels, part, dy)?;
        if wants.weight {
            let col = sizes.im2col(&kernels, part, x)?;
            let of_part = on.matmul(&dy, &col, sizes.weight_gradient(part))?;
            dw = Some(match dw {
                None => of_part,
                Some(dw) => sizes.added(&kernels, dw, &of_part)?,
            });
        }
        if let Some(dx) = &mut dx {
            let dcol = on.matmul(w, &dy, sizes.input_gradient(part))?;
            sizes.col2im(&kernels, part, &dcol, dx)?;
        }
    }
    let db = wants.bias.then(|| sizes.bias_gradient(&kernels, dy)).transpose()?;
    Ok([dx, dw, db])
}

/// Pictures that are worked on together.
#[derive(Clone, Copy)]
struct Part {
    first: usize,
    pictures: usize,
}

impl Part {
    /// `struct Part`, for pictures of so many channels.
    fn of<'a, B>(self, channels: usize) -> crate::Result<Arg<'a, B>> {
        Ok(Arg::u32s(&[word(OP, self.first)?, word(OP, self.pictures)?, word(OP, channels)?]))
    }
}

/// Sizes of a convolution, as its products have them.
struct Sizes<'a> {
    shape: &'a Conv2dShape,
    /// C
    channels: usize,
    /// O
    out: usize,
    /// OH·OW
    places: usize,
    /// C/G·KH·KW
    rows: usize,
}

impl<'a> Sizes<'a> {
    fn of(shape: &'a Conv2dShape) -> Self {
        let (groups, window) = (shape.groups, &shape.window);
        Sizes {
            shape,
            channels: groups * window.channels,
            out: groups * shape.group_out,
            places: window.cols(),
            rows: window.rows(),
        }
    }

    /// The pictures, in parts.
    fn parts(&self, columns: usize) -> Vec<Part> {
        let of_one = (self.shape.groups * self.rows * self.places).max(1);
        let most = (columns / of_one).max(1);
        let batch = self.shape.batch;
        let part = |first| Part { first, pictures: most.min(batch - first) };
        (0..batch).step_by(most).map(part).collect()
    }

    /// w · col
    fn forward(&self, part: Part) -> Product {
        let n = part.pictures * self.places;
        self.product(self.shape.group_out, n, self.rows)
    }

    /// dy · colᵀ
    fn weight_gradient(&self, part: Part) -> Product {
        let k = part.pictures * self.places;
        Product { b_transposed: true, ..self.product(self.shape.group_out, self.rows, k) }
    }

    /// wᵀ · dy
    fn input_gradient(&self, part: Part) -> Product {
        let n = part.pictures * self.places;
        Product { a_transposed: true, ..self.product(self.rows, n, self.shape.group_out) }
    }

    fn product(&self, m: usize, n: usize, k: usize) -> Product {
        Product { batch: self.shape.groups, m, n, k, a_transposed: false, b_transposed: false }
    }

    fn im2col<L: Launcher>(
        &self,
        kernels: &Kernels<'_, L>,
        part: Part,
        x: &L::Buffer,
    ) -> Result<L::Buffer> {
        let len = self.shape.groups * self.rows * part.pictures * self.places;
        let mut col = kernels.alloc(len)?;
        let window = window(OP, &self.shape.window)?;
        let args = vec![window, part.of(self.channels)?, Arg::Read(x), Arg::Write(&mut col)];
        kernels.run("im2col", len, args)?;
        Ok(col)
    }

    fn col2im<L: Launcher>(
        &self,
        kernels: &Kernels<'_, L>,
        part: Part,
        dcol: &L::Buffer,
        dx: &mut L::Buffer,
    ) -> Result<()> {
        let (h, w) = self.shape.window.input;
        let window = window(OP, &self.shape.window)?;
        let args = vec![window, part.of(self.channels)?, Arg::Read(dcol), Arg::Write(dx)];
        kernels.run("col2im", part.pictures * self.channels * h * w, args)
    }

    /// A part of dy as columns [O, n·P].
    fn columns<L: Launcher>(
        &self,
        kernels: &Kernels<'_, L>,
        part: Part,
        dy: &L::Buffer,
    ) -> Result<L::Buffer> {
        let len = part.pictures * self.out * self.places;
        let mut columns = kernels.alloc(len)?;
        let args = vec![
            part.of(self.out)?,
            Arg::u32s(&[word(OP, self.places)?]),
            Arg::Read(dy),
            Arg::Write(&mut columns),
        ];
        kernels.run("pictures_to_columns", len, args)?;
        Ok(columns)
    }

    /// dw and a part's.
    fn added<L: Launcher>(
        &self,
        kernels: &Kernels<'_, L>,
        mut dw: L::Buffer,
        part: &L::Buffer,
    ) -> Result<L::Buffer> {
        kernels.run("add_to", self.out * self.rows, vec![Arg::Read(part), Arg::Write(&mut dw)])?;
        Ok(dw)
    }

    fn bias_gradient<L: Launcher>(
        &self,
        kernels: &Kernels<'_, L>,
        dy: &L::Buffer,
    ) -> Result<L::Buffer> {
        let threads = LANES as usize * self.out;
        let (mut partial, mut db) = (kernels.alloc(threads)?, kernels.alloc(self.out)?);
        let maps = maps(OP, [self.shape.batch, self.out, self.places])?;
        let args = vec![maps, Arg::u32s(&[LANES]), Arg::Read(dy), Arg::Write(&mut partial)];
        kernels.run("bias_sums", threads, args)?;
        let args = vec![Arg::u32s(&[LANES]), Arg::Read(&partial), Arg::Write(&mut db)];
        kernels.run("bias_gradient", self.out, args)?;
        Ok(db)
    }
}
