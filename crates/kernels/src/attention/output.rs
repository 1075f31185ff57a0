//! The result, written in parts by several threads.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::simd::Simd;

/// Rows of f32 in which threads write to different places.
///
/// Elements are atomics, which costs nothing on any processor, since the order is relaxed. So a
/// thread that writes to the place of another writes a wrong value, and nothing worse happens.
pub(super) struct Output<'a> {
    elements: &'a [AtomicU32],
    row: usize,
}

impl<'a> Output<'a> {
    /// Over rows of `row` elements.
    pub(super) fn new(elements: &'a mut [f32], row: usize) -> Self {
        let (start, length) = (elements.as_mut_ptr(), elements.len());
        // SAFETY: an AtomicU32 has the size and the alignment of an f32, every bit pattern is valid
        // for both, and the slice is borrowed for as long as this view of it lives.
        let elements = unsafe { std::slice::from_raw_parts(start.cast(), length) };
        Self { elements, row }
    }

    /// Prefetches `count` elements of row `row` from column `column` on.
    #[inline(always)]
    pub(super) fn prefetch<S: Simd>(&self, simd: S, row: usize, column: usize, count: usize) {
        simd.prefetch(self.elements, row * self.row + column, count);
    }

    /// Writes `values` to row `row` from column `column` on.
    #[inline(always)]
    pub(super) fn write(&self, row: usize, column: usize, values: &[f32]) {
        let places = &self.elements[row * self.row + column..][..values.len()];
        for (place, value) in places.iter().zip(values) {
            place.store(value.to_bits(), Ordering::Relaxed);
        }
    }
}
