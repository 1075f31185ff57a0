//! Prefetching what the next product reads: threads that wait for work do it, since memory would be
//! idle meanwhile.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::simd::prefetch_l2;

/// The most bytes that a thread prefetches: a part of its second-level cache.
const MAX_BYTES: usize = 128 * 1024;
/// Bytes of a cache line.
const LINE: usize = 64;

/// The chunks that a later computation reads, one after the other in memory. They are prefetched
/// and never read, so the memory may be gone, and a thread that sees fields of two targets only
/// prefetches in vain.
pub(super) struct Target {
    /// Where the first chunk begins; 0 when there is no target.
    address: AtomicUsize,
    chunk_bytes: AtomicUsize,
    chunks: AtomicUsize,
}

impl Target {
    /// No target.
    pub(super) const fn none() -> Self {
        Self {
            address: AtomicUsize::new(0),
            chunk_bytes: AtomicUsize::new(0),
            chunks: AtomicUsize::new(0),
        }
    }

    /// The target is `bytes`, in chunks of `chunk_bytes`.
    pub(super) fn set(&self, bytes: &[u8], chunk_bytes: usize) {
        let chunks = bytes.len().div_ceil(chunk_bytes);
        self.address.store(bytes.as_ptr().addr(), Ordering::Relaxed);
        self.chunk_bytes.store(chunk_bytes, Ordering::Relaxed);
        self.chunks.store(chunks, Ordering::Relaxed);
    }
}

/// How far a thread has prefetched.
#[derive(Default)]
pub(super) struct Progress {
    /// The target's address.
    address: usize,
    /// Bytes of the thread's share that were prefetched.
    bytes: usize,
}

impl Progress {
    /// Prefetches the next line of this thread's share, whose first chunk `first` finds from the
    /// number of chunks. False when nothing is left to prefetch.
    pub(super) fn advance(&mut self, target: &Target, first: impl Fn(usize) -> usize) -> bool {
        let address = target.address.load(Ordering::Relaxed);
        if address != self.address {
            *self = Self { address, bytes: 0 };
        }
        if address == 0 || self.bytes >= MAX_BYTES {
            return false;
        }
        let chunk = first(target.chunks.load(Ordering::Relaxed));
        let start = chunk.wrapping_mul(target.chunk_bytes.load(Ordering::Relaxed));
        let line = address.wrapping_add(start).wrapping_add(self.bytes);
        prefetch_l2(std::ptr::without_provenance(line));
        self.bytes += LINE;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_the_beginning_of_a_share_is_prefetched_once() {
        let target = Target::none();
        let mut progress = Progress::default();
        assert!(!progress.advance(&target, |_| 0), "there is no target");
        for memory in [vec![0u8; 1 << 20], vec![1u8; 1 << 20]] {
            target.set(&memory, 1 << 12);
            let mut lines = 0;
            while progress.advance(&target, |chunks| {
                assert_eq!(chunks, 256);
                chunks / 2
            }) {
                lines += 1;
            }
            assert_eq!(lines, MAX_BYTES / LINE);
        }
    }
}
