//! Memory for a chunk of work, kept by each thread from one chunk to the next.

use std::cell::Cell;

/// Elements of a cache line.
const LINE: usize = 16;

thread_local! {
    static KEPT: Cell<(Vec<f32>, Vec<u8>)> = const { Cell::new((Vec::new(), Vec::new())) };
}

/// Working memory; returned to its thread when dropped.
pub(super) struct Scratch {
    floats: Vec<f32>,
    bytes: Vec<u8>,
}

impl Scratch {
    /// The memory of this thread.
    pub(super) fn take() -> Self {
        let (floats, bytes) = KEPT.take();
        Self { floats, bytes }
    }

    /// `count` floats, which begin at a cache line, and `bytes` bytes. Their contents are
    /// arbitrary.
    pub(super) fn parts(&mut self, count: usize, bytes: usize) -> (&mut [f32], &mut [u8]) {
        if self.floats.len() < count + LINE {
            self.floats.resize(count + LINE, 0.0);
        }
        if self.bytes.len() < bytes {
            self.bytes.resize(bytes, 0);
        }
        // The alignment may be unknown (under an interpreter): then there is none.
        let start = self
            .floats
            .as_ptr()
            .align_offset(LINE * size_of::<f32>())
            .min(LINE);
        (
            &mut self.floats[start..start + count],
            &mut self.bytes[..bytes],
        )
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        KEPT.set((
            std::mem::take(&mut self.floats),
            std::mem::take(&mut self.bytes),
        ));
    }
}
