//! Host memory for which the system gives pages as they are written. Knows nothing of what it holds.

use memmap2::MmapMut;

use crate::error::{Error, Result};

/// A stretch of zeros, at the start of a page.
pub(crate) struct Pages(MmapMut);

impl Pages {
    /// At least `bytes` of them, none of which takes memory yet.
    ///
    /// # Errors
    /// [`Error::Memory`] when the address space cannot be had.
    pub(crate) fn zeroed(bytes: usize) -> Result<Self> {
        let pages = MmapMut::map_anon(bytes.max(1));
        let pages = pages.map_err(|source| Error::Memory(format!("{bytes} bytes: {source}")))?;
        Ok(Self(pages))
    }

    /// Where they are.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// Asks the system for large pages, of which a processor needs to find fewer, now and when more is written; what is
    /// there is moved into them. It then takes memory for all of it, and may refuse: nothing depends on it.
    pub(crate) fn make_large(&self) {
        #[cfg(target_os = "linux")]
        {
            /// Linux 6.1 and later: moves what is there at once.
            const MADV_COLLAPSE: libc::c_int = 25;
            let _ = self.0.advise(memmap2::Advice::HugePage);
            let start = self.0.as_ptr().cast_mut().cast();
            // SAFETY: the range is this mapping's own; it keeps its address and its content.
            let refused = unsafe { libc::madvise(start, self.0.len(), MADV_COLLAPSE) } != 0;
            if refused {
                tracing::debug!("no large pages: {}", std::io::Error::last_os_error());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pages_hold_what_was_written_and_zeros() {
        const BYTES: usize = 9 << 20;
        let mut pages = Pages::zeroed(BYTES).unwrap();
        let value = |index: usize| (index / 4096 % 251) as u8;
        let (written, rest) = (BYTES / 2, BYTES / 2..BYTES);
        for (index, byte) in pages.bytes_mut()[..written].iter_mut().enumerate() {
            *byte = value(index);
        }
        pages.make_large();
        let bytes = pages.bytes_mut();
        assert!((0..written).all(|index| bytes[index] == value(index)));
        assert!(bytes[rest].iter().all(|&byte| byte == 0));
    }
}
