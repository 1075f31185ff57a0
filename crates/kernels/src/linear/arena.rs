//! Memory for the matrices of a model.

use memmap2::MmapMut;

/// Memory for the matrices of a model, in pages as large as the system has them: weights are read
/// from one end to the other for every token, and with small pages finding them takes longer than
/// reading them.
pub struct Arena {
    pages: MmapMut,
}

/// Where matrices begin in an arena: where lines of the cache do.
pub const ALIGNMENT: usize = 64;

impl Arena {
    /// `bytes` of zeros, which take memory when they are written.
    ///
    /// # Errors
    /// When the system has not that much.
    pub fn new(bytes: usize) -> std::io::Result<Self> {
        let pages = MmapMut::map_anon(bytes.max(1))?;
        #[cfg(target_os = "linux")]
        {
            // Where there are no large pages, small ones do.
            let _ = pages.advise(memmap2::Advice::HugePage);
        }
        Ok(Self { pages })
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> usize {
        self.pages.len()
    }

    /// Keeps the memory from being swapped out.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn lock(&self) -> std::io::Result<()> {
        #[cfg(unix)]
        self.pages.lock()?;
        Ok(())
    }

    /// The memory, to be divided and filled.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.pages
    }

    /// The memory.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.pages
    }
}
