//! What the next product will read: threads that wait for work ask for it, since memory would rest meanwhile.

#[cfg(target_arch = "aarch64")]
use std::arch::asm;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most bytes that a thread asks for: a part of its second cache.
const MOST_BYTES: usize = 128 * 1024;
/// Bytes of a line of the cache.
const LINE: usize = 64;

/// The chunks of an upcoming computation, one after the other in memory. What is there is asked for and never read, so
/// it may be gone, and a thread that sees numbers of two computations only asks in vain.
pub(super) struct Upcoming {
    /// Where the first chunk begins; 0 where nothing is known.
    address: AtomicUsize,
    chunk_bytes: AtomicUsize,
    chunks: AtomicUsize,
}

impl Upcoming {
    /// Nothing is known.
    pub(super) const fn unknown() -> Self {
        Self {
            address: AtomicUsize::new(0),
            chunk_bytes: AtomicUsize::new(0),
            chunks: AtomicUsize::new(0),
        }
    }

    /// It will read `bytes`, in chunks of `chunk_bytes`.
    pub(super) fn set(&self, bytes: &[u8], chunk_bytes: usize) {
        let chunks = bytes.len().div_ceil(chunk_bytes);
        self.address.store(bytes.as_ptr().addr(), Ordering::Relaxed);
        self.chunk_bytes.store(chunk_bytes, Ordering::Relaxed);
        self.chunks.store(chunks, Ordering::Relaxed);
    }
}

/// How far a thread has asked.
#[derive(Default)]
pub(super) struct Asked {
    /// Where what it asks for begins.
    address: usize,
    /// Bytes of its share that it has asked for.
    bytes: usize,
}

impl Asked {
    /// Asks for the next line of this thread's share, whose first chunk `first` finds from how many there are. False
    /// where there is no more to ask for.
    pub(super) fn ask(&mut self, upcoming: &Upcoming, first: impl Fn(usize) -> usize) -> bool {
        let address = upcoming.address.load(Ordering::Relaxed);
        if address != self.address {
            *self = Self { address, bytes: 0 };
        }
        if address == 0 || self.bytes >= MOST_BYTES {
            return false;
        }
        let chunk = first(upcoming.chunks.load(Ordering::Relaxed));
        let start = chunk.wrapping_mul(upcoming.chunk_bytes.load(Ordering::Relaxed));
        ask_for(address.wrapping_add(start).wrapping_add(self.bytes));
        self.bytes += LINE;
        true
    }
}

/// Asks for a line of memory to be brought into the second cache.
#[inline(always)]
fn ask_for(address: usize) {
    let address = std::ptr::without_provenance::<i8>(address);
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: it reads nothing and fails nowhere, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address) };
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: it reads nothing and fails nowhere, whatever the address.
    unsafe {
        asm!("prfm pldl2keep, [{0}]", in(reg) address, options(readonly, nostack, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_a_shares_beginning_is_asked_for_once() {
        let upcoming = Upcoming::unknown();
        let mut asked = Asked::default();
        assert!(!asked.ask(&upcoming, |_| 0), "nothing is known");
        for memory in [vec![0u8; 1 << 20], vec![1u8; 1 << 20]] {
            upcoming.set(&memory, 1 << 12);
            let mut times = 0;
            while asked.ask(&upcoming, |chunks| {
                assert_eq!(chunks, 256);
                chunks / 2
            }) {
                times += 1;
            }
            assert_eq!(times, MOST_BYTES / LINE);
        }
    }
}
