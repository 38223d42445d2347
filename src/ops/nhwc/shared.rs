//! A slice that several threads write to, each its own places.

use std::marker::PhantomData;

/// Made of a mutable slice, which stays borrowed.
pub(super) struct Shared<'a> {
    first: *mut f32,
    len: usize,
    of: PhantomData<&'a mut [f32]>,
}

// SAFETY: it only hands out addresses; whoever writes through them says why no other thread does.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(super) fn new(values: &'a mut [f32]) -> Self {
        Shared { first: values.as_mut_ptr(), len: values.len(), of: PhantomData }
    }

    /// The address of value `at`.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn at(&self, at: usize) -> *mut f32 {
        assert!(at < self.len, "address outside its slice");
        self.first.wrapping_add(at)
    }
}
