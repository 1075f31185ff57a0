//! A slice that several threads write different parts of.

use std::marker::PhantomData;

use super::pool::Pool;

/// A mutable slice whose parts are handed to threads.
pub(crate) struct Parts<'a, T> {
    start: *mut T,
    length: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: parts are only handed out under the condition of `slice`, which keeps them apart.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    /// Takes the slice over for its lifetime.
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            length: slice.len(),
            slice: PhantomData,
        }
    }

    /// `length` elements from `first` on.
    ///
    /// # Panics
    /// When they are not all within the slice.
    ///
    /// # Safety
    /// No two parts that are in use at the same time may overlap.
    #[expect(clippy::mut_from_ref, reason = "the caller keeps parts apart")]
    pub(crate) unsafe fn slice(&self, first: usize, length: usize) -> &mut [T] {
        assert!(
            first <= self.length && length <= self.length - first,
            "{length} elements from {first} of {}",
            self.length
        );
        // SAFETY: within the slice, as just checked; the caller keeps parts from overlapping.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), length) }
    }
}

/// Shares `slice` among the threads of `pool` in chunks of `length` (the last may be shorter):
/// `work` gets each with the index of its first element.
pub fn in_chunks<T: Send>(
    pool: &Pool,
    slice: &mut [T],
    length: usize,
    work: &(dyn Fn(usize, &mut [T]) + Sync),
) {
    let all = slice.len();
    let parts = Parts::new(slice);
    pool.run(all.div_ceil(length), &|chunk| {
        let first = chunk * length;
        // SAFETY: chunks do not overlap.
        work(first, unsafe {
            parts.slice(first, length.min(all - first))
        });
    });
}
