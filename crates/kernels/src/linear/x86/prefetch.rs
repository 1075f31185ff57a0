//! Prefetching panels.

use std::arch::x86_64::*;

use super::vectors::PanelVectors;

/// Prefetches `lines` lines of each panel that are needed `ahead` bytes later, which beyond the
/// first panel's `end` is in those that come next: the processor itself looks ahead no further
/// than a page, and begins late.
#[inline(always)]
pub(super) fn prefetch<V: PanelVectors>(
    place: *const u8,
    end: *const u8,
    stride: usize,
    ahead: usize,
    lines: usize,
) {
    let mut place = place.wrapping_add(ahead);
    if V::PANELS > 1 && place >= end {
        place = place.wrapping_add((V::PANELS - 1) * stride);
    }
    for panel in 0..V::PANELS {
        prefetch_lines(place.wrapping_add(panel * stride), lines);
    }
}

/// Prefetches `lines` lines.
#[inline(always)]
pub(super) fn prefetch_lines(place: *const u8, lines: usize) {
    for line in 0..lines {
        // SAFETY: a hint, which outside of any memory is about nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place.wrapping_add(64 * line).cast()) };
    }
}
