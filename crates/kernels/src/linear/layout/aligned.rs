//! Memory that begins where a line of the cache does.

use super::plain::{Layout, cast_mut};

/// Bytes of a line of the cache.
const LINE: usize = 64;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

/// Bytes aligned to a line of the cache, which are kept from one use to the next.
#[derive(Default)]
pub(in super::super) struct AlignedBuffer(Vec<Line>);

impl AlignedBuffer {
    /// Without any memory yet.
    pub(in super::super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// At least `bytes`, rounded up to whole lines; their values are what they were, or 0.
    pub(in super::super) fn resize(&mut self, bytes: usize) {
        self.0.resize(bytes.div_ceil(LINE), Line([0; LINE]));
    }

    /// All bytes.
    pub(in super::super) fn bytes(&self) -> &[u8] {
        // SAFETY: a line is `LINE` bytes without padding.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * LINE) }
    }

    /// All bytes, to be written.
    pub(in super::super) fn bytes_mut(&mut self) -> &mut [u8] {
        let bytes = self.0.len() * LINE;
        // SAFETY: a line is `LINE` bytes without padding, and any bytes are a line.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), bytes) }
    }

    /// All of it as values, to be written.
    pub(in super::super) fn values_mut<T: Layout>(&mut self) -> &mut [T] {
        cast_mut(self.bytes_mut())
    }
}
