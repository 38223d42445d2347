//! Results that are written once.
//!
//! `vec![0.0; n]` in memory that has been used before writes all of it, on one thread, and the kernel
//! then writes it again. Here each task makes zeros of its own part, which is then in its cache when
//! the kernel writes to it.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};

use num_traits::Zero;
use rayon::prelude::*;

/// A vector to be, whose parts become zeros when a task takes them.
pub(super) struct Fresh<T> {
    /// Empty until all of it is made.
    values: Vec<T>,
    len: usize,
    /// How many values have become zeros since the parts were last given out.
    made: AtomicUsize,
}

/// Several parts, each all 0 when it comes; they are counted together in the end.
pub(super) struct Hand<'a, T> {
    parts: std::vec::IntoIter<&'a mut [MaybeUninit<T>]>,
    filled: usize,
    made: &'a AtomicUsize,
}

/// Some values that follow each other.
pub(super) struct Part<'a, T> {
    room: &'a mut [MaybeUninit<T>],
    made: &'a AtomicUsize,
}

impl<T: Copy + Zero + Send + Sync> Fresh<T> {
    /// Room for `len` values.
    pub fn new(len: usize) -> Self {
        Fresh { values: Vec::with_capacity(len), len, made: AtomicUsize::new(0) }
    }

    /// All of it, in parts of `size` values, dealt out to `hands` in turn.
    pub fn dealt(&mut self, size: usize, hands: usize) -> Vec<Hand<'_, T>> {
        let (room, made) = self.begin();
        let mut parts: Vec<Vec<_>> = (0..hands).map(|_| Vec::new()).collect();
        let dealt = room.chunks_mut(size.max(1)).enumerate();
        dealt.for_each(|(i, part)| parts[i % hands].push(part));
        let hand = |parts: Vec<_>| Hand { parts: parts.into_iter(), filled: 0, made };
        parts.into_iter().map(hand).collect()
    }

    /// All of it, in parts of `size` values: not too small, for threads meet where they are counted.
    pub fn par_parts(&mut self, size: usize) -> impl IndexedParallelIterator<Item = Part<'_, T>> {
        let (room, made) = self.begin();
        room.par_chunks_mut(size.max(1)).map(move |room| Part { room, made })
    }

    fn begin(&mut self) -> (&mut [MaybeUninit<T>], &AtomicUsize) {
        *self.made.get_mut() = 0;
        (&mut self.values.spare_capacity_mut()[..self.len], &self.made)
    }

    /// The vector.
    ///
    /// # Panics
    /// If some part has not been taken.
    pub fn whole(mut self) -> Vec<T> {
        assert_eq!(*self.made.get_mut(), self.len, "a part of the result has not been made");
        // SAFETY: there is room for `len` values, and as many were written: a part can be made but
        // once, and parts do not overlap.
        unsafe { self.values.set_len(self.len) };
        self.values
    }
}

impl<'a, T: Copy + Zero> Part<'a, T> {
    /// The values, all 0.
    pub fn zeros(self) -> &'a mut [T] {
        self.made.fetch_add(self.room.len(), Ordering::Relaxed);
        zeros(self.room)
    }
}

impl<'a, T: Copy + Zero> Iterator for Hand<'a, T> {
    type Item = &'a mut [T];

    fn next(&mut self) -> Option<&'a mut [T]> {
        let values = zeros(self.parts.next()?);
        self.filled += values.len();
        Some(values)
    }
}

impl<T> Drop for Hand<'_, T> {
    fn drop(&mut self) {
        self.made.fetch_add(self.filled, Ordering::Relaxed);
    }
}

fn zeros<T: Copy + Zero>(room: &mut [MaybeUninit<T>]) -> &mut [T] {
    room.fill(MaybeUninit::new(T::zero()));
    // SAFETY: all of them have just been written.
    unsafe { &mut *(std::ptr::from_mut(room) as *mut [T]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_the_whole() {
        let mut values = Fresh::<u32>::new(10);
        for (i, hand) in values.dealt(3, 2).into_iter().enumerate() {
            hand.for_each(|part| part[0] = 1 + i as u32);
        }
        assert_eq!(values.whole(), [1, 0, 0, 2, 0, 0, 1, 0, 0, 2]);
        let mut values = Fresh::<f32>::new(6);
        values.par_parts(3).for_each(|part| part.zeros()[2] = 1.0);
        assert_eq!(values.whole(), [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
        assert!(Fresh::<f32>::new(0).whole().is_empty());
    }

    #[test]
    #[should_panic(expected = "has not been made")]
    fn a_part_that_was_left_out_is_noticed() {
        let mut values = Fresh::<f32>::new(9);
        values.par_parts(3).skip(1).for_each(|part| _ = part.zeros());
        values.whole();
    }
}
