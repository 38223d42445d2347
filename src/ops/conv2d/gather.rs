//! The windows of padded planes, gathered by candle, with a gradient that is gathered too.
//!
//! The gradient of a pixel is the sum over the windows that show it. candle's own makes that sum in one
//! thread a plane on a GPU, and in half precision rounds it at every step. Here each pixel fetches the
//! first of its windows' gradients, then the second, and so on, and they are added up in f32.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp2, Layout, MetalStorage, Result, Shape, Tensor,
};

use crate::ops::half::working;

/// Elements of `planes` [N, C, Q] at the places `taps`, which are below Q: [N, C, R].
pub(super) fn gather(planes: &Tensor, taps: Vec<u32>) -> Result<Tensor> {
    let places = Tensor::new(taps.as_slice(), planes.device())?;
    planes.apply_op2(&places, Gather { taps })
}

struct Gather {
    taps: Vec<u32>,
}

impl Gather {
    fn on<S: BackendStorage>(
        &self,
        (planes, layout): (&S, &Layout),
        (places, places_layout): (&S, &Layout),
    ) -> Result<(S, Shape)> {
        let (n, c, _) = layout.shape().dims3()?;
        let columns = planes.index_select(places, layout, places_layout, 2)?;
        Ok((columns, Shape::from((n, c, self.taps.len()))))
    }

    /// For each element of a plane of `len`, where the first of its taps is, then where the second is,
    /// and so on, one row of `len` each; one past the last tap where there are no more.
    fn rows(&self, len: usize) -> Vec<u32> {
        let mut seen = vec![0; len];
        self.taps.iter().for_each(|&tap| seen[tap as usize] += 1);
        let most = seen.iter().copied().max().unwrap_or(0);
        let mut rows = vec![self.taps.len() as u32; most * len];
        seen.fill(0);
        for (at, &tap) in self.taps.iter().enumerate() {
            let tap = tap as usize;
            rows[seen[tap] * len + tap] = at as u32;
            seen[tap] += 1;
        }
        rows
    }
}

impl CustomOp2 for Gather {
    fn name(&self) -> &'static str {
        "gather windows"
    }

    fn cpu_fwd(
        &self,
        planes: &CpuStorage,
        layout: &Layout,
        places: &CpuStorage,
        places_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.on((planes, layout), (places, places_layout))
    }

    fn cuda_fwd(
        &self,
        planes: &CudaStorage,
        layout: &Layout,
        places: &CudaStorage,
        places_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.on((planes, layout), (places, places_layout))
    }

    fn metal_fwd(
        &self,
        planes: &MetalStorage,
        layout: &Layout,
        places: &MetalStorage,
        places_layout: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        self.on((planes, layout), (places, places_layout))
    }

    fn bwd(
        &self,
        planes: &Tensor,
        _places: &Tensor,
        _columns: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let len = planes.dim(2)?;
        // One more element, 0, for pixels that fewer windows show.
        let grad = grad.pad_with_zeros(2, 0, 1)?.contiguous()?;
        let mut sum = planes.zeros_like()?.detach().to_dtype(working(planes.dtype()))?;
        for row in self.rows(len).chunks(len.max(1)) {
            let part = grad.index_select(&Tensor::new(row, planes.device())?, 2)?;
            sum = (sum + part.to_dtype(working(planes.dtype()))?)?;
        }
        Ok((Some(sum.to_dtype(planes.dtype())?), None))
    }
}
