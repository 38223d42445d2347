//! Memory that goes from layer to layer: what one no longer needs, another takes.

/// Vectors that are free to be used again.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    free: Vec<Vec<f32>>,
}

impl Buffers {
    /// A vector of `len` values, whatever they are: the smallest free one that is large enough, but
    /// not more than twice as large, or a new one.
    pub(super) fn take(&mut self, len: usize) -> Vec<f32> {
        let fits = |capacity: usize| capacity >= len && capacity <= 2 * len;
        let best = (0..self.free.len())
            .filter(|&i| fits(self.free[i].capacity()))
            .min_by_key(|&i| self.free[i].capacity());
        let mut vector = best.map_or_else(Vec::new, |i| self.free.swap_remove(i));
        vector.resize(len, 0.0);
        vector
    }

    /// Takes a vector back.
    pub(super) fn give(&mut self, vector: Vec<f32>) {
        if vector.capacity() > 0 {
            self.free.push(vector);
        }
    }
}
