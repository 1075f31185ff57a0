//! The result, written in parts by several threads.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::simd;

/// Rows of f32 in which threads write to different places.
///
/// Elements are atomics, which costs nothing on any processor: no order is asked for. So whoever writes
/// to another's place writes a wrong number, and nothing worse.
pub(super) struct Output<'a> {
    elements: &'a [AtomicU32],
    row: usize,
}

impl<'a> Output<'a> {
    /// Over rows of `row` elements.
    pub(super) fn new(elements: &'a mut [f32], row: usize) -> Self {
        let (start, length) = (elements.as_mut_ptr(), elements.len());
        // SAFETY: an AtomicU32 has the size and the alignment of an f32, every pattern of bits is valid
        // for both, and the slice is borrowed for as long as this view of it lives.
        let elements = unsafe { std::slice::from_raw_parts(start.cast(), length) };
        Self { elements, row }
    }

    /// Asks for the memory of `count` elements of row `row` from column `column` on.
    #[inline(always)]
    pub(super) fn prefetch(&self, row: usize, column: usize, count: usize) {
        simd::prefetch(self.elements, row * self.row + column, count);
    }

    /// Writes `numbers` to row `row` from column `column` on.
    #[inline(always)]
    pub(super) fn write(&self, row: usize, column: usize, numbers: &[f32]) {
        let places = &self.elements[row * self.row + column..][..numbers.len()];
        for (place, number) in places.iter().zip(numbers) {
            place.store(number.to_bits(), Ordering::Relaxed);
        }
    }
}
