//! Threads that share out the chunks of one computation after another.
//!
//! Every thread, the calling one among them, claims the next chunk when it has finished its last, so a thread
//! that the system does not run delays only the chunk it holds. Waiting threads look for work briefly and
//! then sleep.

use std::cell::UnsafeCell;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a thread without work looks for some before it sleeps.
const PATIENCE: Duration = Duration::from_micros(40);
/// Looks between two readings of the clock.
const LOOKS: u32 = 64;
/// Stack of a worker: without optimization the kernels keep hundreds of vectors there. It is taken as it is used.
pub(crate) const STACK: usize = 2 << 20;

/// Bits of a ticket that count chunks.
const INDEX_BITS: u32 = 20;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;
/// Most chunks of one computation.
pub(crate) const MAX_CHUNKS: usize = INDEX_MASK as usize;

/// A chunk's work, without its lifetime: only used between the beginning and the end of a `run`.
type Work = *const (dyn Fn(usize) + Sync);

/// Threads that wait for computations.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held during a computation: there is one at a time.
    running: Mutex<()>,
}

struct Shared {
    /// Number of the computation, its chunks, and the next one to claim: one word, so that a claim can
    /// only succeed for the computation it was meant for.
    ticket: AtomicU64,
    /// The work of the current computation: written before its ticket, and read only by who holds a claimed
    /// chunk of it.
    work: UnsafeCell<Option<Work>>,
    /// Chunks of the current computation that are done.
    done: AtomicUsize,
    /// Whether a chunk panicked.
    panicked: AtomicBool,
    /// Workers that sleep or are about to.
    sleepers: AtomicU32,
    /// The caller when it sleeps until the last chunk is done.
    caller: Mutex<Option<Thread>>,
    stop: AtomicBool,
}

// SAFETY: `work` is the one part that is not shared by itself. The caller writes it while no chunk is claimed
// (`running` keeps other callers out), publishes the ticket after it, and the work is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; what `work` points to is only used during a `run`.
unsafe impl Send for Shared {}

impl Pool {
    /// A pool in which `threads` compute, the calling one included; at least one. Fewer when the system
    /// refuses to start them.
    pub(crate) fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            ticket: AtomicU64::new(0),
            work: UnsafeCell::new(None),
            done: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            sleepers: AtomicU32::new(0),
            caller: Mutex::new(None),
            stop: AtomicBool::new(false),
        });
        let workers = (1..threads)
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                thread::Builder::new()
                    .name(format!("gpt2-compute-{index}"))
                    .stack_size(STACK)
                    .spawn(move || shared.serve())
                    .ok()
            })
            .collect();
        Self {
            shared,
            workers,
            running: Mutex::new(()),
        }
    }

    /// Threads that compute, the calling one included.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work` once for every number below `chunks` (at most [`MAX_CHUNKS`]), on any thread, and
    /// returns when all are done.
    ///
    /// # Panics
    /// When a chunk panics: after the others are done.
    pub(crate) fn run(&self, chunks: usize, work: &(dyn Fn(usize) + Sync)) {
        assert!(chunks <= MAX_CHUNKS, "{chunks} chunks");
        if chunks <= 1 || self.workers.is_empty() {
            (0..chunks).for_each(work);
            return;
        }
        let _running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &self.shared;
        shared.done.store(0, Ordering::Relaxed);
        #[expect(
            clippy::transmute_ptr_to_ptr,
            reason = "a cast does not make the lifetime longer"
        )]
        // SAFETY: only the lifetime changes. Workers use the pointer only while they hold a claimed chunk, and
        // this function returns after the last claimed chunk is done.
        let erased: Work =
            unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Work>(work) };
        // SAFETY: every chunk of the last computation is done and none of this one is published, so nobody
        // reads it.
        unsafe { *shared.work.get() = Some(erased) };
        let number = (shared.ticket.load(Ordering::Relaxed) >> (2 * INDEX_BITS)).wrapping_add(1);
        let ticket = number << (2 * INDEX_BITS) | (chunks as u64) << INDEX_BITS;
        shared.ticket.store(ticket, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            for worker in &self.workers {
                worker.thread().unpark();
            }
        }
        shared.help();
        shared.wait(chunks);
        let panicked = shared.panicked.swap(false, Ordering::Relaxed);
        assert!(!panicked, "a part of the computation panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in &self.workers {
            worker.thread().unpark();
        }
        for worker in self.workers.drain(..) {
            // A worker's panic was reported by the computation it belonged to.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// Claims a chunk of the current computation.
    fn claim(&self) -> Option<usize> {
        let mut ticket = self.ticket.load(Ordering::Acquire);
        loop {
            let (chunks, next) = (ticket >> INDEX_BITS & INDEX_MASK, ticket & INDEX_MASK);
            if next >= chunks {
                return None;
            }
            match self.ticket.compare_exchange_weak(
                ticket,
                ticket + 1,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some(next as usize),
                Err(now) => ticket = now,
            }
        }
    }

    /// Works on chunks until all are claimed.
    fn help(&self) {
        while let Some(chunk) = self.claim() {
            // SAFETY: it was written before the ticket that the claim acquired, and stays as it is until this
            // chunk is done.
            let Some(work) = (unsafe { *self.work.get() }) else {
                unreachable!("work is written before its ticket")
            };
            // SAFETY: the caller of `run` keeps it alive until this chunk is done.
            let work = unsafe { &*work };
            if std::panic::catch_unwind(AssertUnwindSafe(|| work(chunk))).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            let chunks = (self.ticket.load(Ordering::Relaxed) >> INDEX_BITS & INDEX_MASK) as usize;
            if self.done.fetch_add(1, Ordering::SeqCst) + 1 == chunks {
                let caller = self.caller.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(caller) = &*caller {
                    caller.unpark();
                }
            }
        }
    }

    /// The caller's wait for chunks that others hold.
    fn wait(&self, chunks: usize) {
        let is_done = || self.done.load(Ordering::SeqCst) >= chunks;
        if look_for(is_done) {
            return;
        }
        *self.caller.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread::current());
        while !is_done() {
            thread::park();
        }
        *self.caller.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn has_work(&self) -> bool {
        let ticket = self.ticket.load(Ordering::SeqCst);
        ticket & INDEX_MASK < ticket >> INDEX_BITS & INDEX_MASK || self.stop.load(Ordering::Relaxed)
    }

    /// A worker's life.
    fn serve(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            self.help();
            if look_for(|| self.has_work()) {
                continue;
            }
            // Said before the last look: a caller who publishes work after it sees the sleeper.
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            while !self.has_work() {
                thread::park();
            }
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Looks whether something `is_there` for as long as [`PATIENCE`] lasts.
fn look_for(is_there: impl Fn() -> bool) -> bool {
    let mut start = None;
    loop {
        for _ in 0..LOOKS {
            if is_there() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_is_computed_once() {
        for threads in 1..5 {
            let pool = Pool::new(threads);
            assert_eq!(pool.threads(), threads);
            for round in 0..300 {
                let chunks = round % 37;
                let counts: Vec<AtomicUsize> = (0..chunks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(chunks, &|chunk| {
                    counts[chunk].fetch_add(1, Ordering::Relaxed);
                });
                assert!(
                    counts
                        .iter()
                        .all(|count| count.load(Ordering::Relaxed) == 1)
                );
            }
        }
    }

    #[test]
    fn sleeping_workers_wake_up_for_work() {
        let pool = Pool::new(3);
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(1));
            let sum = AtomicUsize::new(0);
            pool.run(100, &|chunk| {
                sum.fetch_add(chunk, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 4950);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_works_on() {
        let pool = Pool::new(2);
        let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| {
            pool.run(8, &|chunk| assert_ne!(chunk, 5));
        }));
        assert!(panicked.is_err());
        let sum = AtomicUsize::new(0);
        pool.run(8, &|chunk| {
            sum.fetch_add(chunk, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 28);
    }

    #[test]
    fn callers_on_several_threads_take_turns() {
        let pool = Pool::new(2);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let sum = AtomicUsize::new(0);
                        pool.run(10, &|chunk| {
                            sum.fetch_add(chunk, Ordering::Relaxed);
                        });
                        assert_eq!(sum.into_inner(), 45);
                    }
                });
            }
        });
    }
}
