//! Threads for work that is not ggml's: rearranging weights, summing up.

use std::sync::OnceLock;

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::default_threads;

/// Stack of a thread, in bytes. Parallel iterators over rows and tensors need little.
pub(crate) const STACK: usize = 512 << 10;

/// Runs `work`, whose parallel iterators then use as many threads as are worth it. Where the system does
/// not give them, everything runs on the calling thread: rayon's own pool would panic.
pub(crate) fn install<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    static POOL: OnceLock<Option<ThreadPool>> = OnceLock::new();
    let build = || {
        let pool = ThreadPoolBuilder::new().stack_size(STACK);
        pool.num_threads(default_threads()).build().ok()
    };
    if let Some(pool) = POOL.get_or_init(build) {
        return pool.install(work);
    }
    let alone = ThreadPoolBuilder::new().num_threads(1).use_current_thread();
    match alone.build() {
        Ok(pool) => pool.install(work),
        Err(_) => work(), // this thread has such a pool already
    }
}
