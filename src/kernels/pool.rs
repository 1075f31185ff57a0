//! Work handed out in chunks.

/// Runs chunks of work.
pub(crate) struct Pool {
    threads: usize,
}

impl Pool {
    /// A pool that is asked to use `threads` threads.
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            threads: threads.max(1),
        }
    }

    /// Threads that work at once.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `work` once with each of `0..chunks` and returns when all are done.
    pub(crate) fn run(&self, chunks: usize, work: &(dyn Fn(usize) + Sync)) {
        debug_assert!(self.threads > 0);
        (0..chunks).for_each(work);
    }
}
