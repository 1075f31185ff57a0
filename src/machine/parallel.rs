//! Threads for work that is not ggml's: packing weights, quantizing, summing up.
//!
//! None of them outlives the work it was started for: a program that forks, unloads the library or
//! ends right after a call finds no thread of it.

use std::thread::{Builder, JoinHandle};

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

use super::default_threads;

/// Stack of a thread, in bytes. Parallel iterators over rows and tensors need little.
pub(crate) const STACK: usize = 512 << 10;

/// Threads for parallel iterators, which have ended when this is dropped.
pub(crate) struct Threads {
    /// There until it is dropped.
    pool: Option<ThreadPool>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts `count` threads, as many as there are cores for 0, each with `stack` bytes of stack.
    ///
    /// # Errors
    /// When the system does not give them.
    pub(crate) fn start(count: usize, stack: usize) -> Result<Self, ThreadPoolBuildError> {
        let mut threads = Self {
            pool: None,
            handles: Vec::new(),
        };
        let pool = ThreadPoolBuilder::new()
            .num_threads(count)
            .spawn_handler(|thread| {
                let spawned = Builder::new().stack_size(stack).spawn(|| thread.run());
                threads.handles.push(spawned?);
                Ok(())
            })
            .build()?;
        threads.pool = Some(pool);
        Ok(threads)
    }

    /// Runs `work`, whose parallel iterators then use these threads.
    pub(crate) fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        drop(self.pool.take());
        for handle in self.handles.drain(..) {
            // A panic in the work has reached the caller.
            let _ = handle.join();
        }
    }
}

/// Runs `work`, whose parallel iterators then use as many threads as are worth it. Where the system
/// does not give them, everything runs on the calling thread: rayon's own pool would panic.
pub(crate) fn install<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    if let Ok(threads) = Threads::start(default_threads(), STACK) {
        return threads.install(work);
    }
    let alone = ThreadPoolBuilder::new().num_threads(1).use_current_thread();
    match alone.build() {
        Ok(pool) => pool.install(work),
        Err(_) => work(), // this thread has such a pool already
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rayon::prelude::*;

    use super::*;

    /// Counts itself down where a thread's own variables end, which is after all of its work.
    struct Alive<'a>(&'a AtomicUsize);

    impl Drop for Alive<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn no_thread_outlives_its_work() {
        static ALIVE: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static MARK: Alive<'static> = {
                ALIVE.fetch_add(1, Ordering::SeqCst);
                Alive(&ALIVE)
            };
        }
        for _ in 0..20 {
            let threads = Threads::start(3, STACK).unwrap();
            let sum: usize = threads.install(|| {
                (0..100usize)
                    .into_par_iter()
                    .map(|number| MARK.with(|_| number))
                    .sum()
            });
            assert_eq!(sum, 4950);
            assert!(ALIVE.load(Ordering::SeqCst) > 0);
            drop(threads);
            assert_eq!(ALIVE.load(Ordering::SeqCst), 0);
        }
    }
}
