//! A thread pool: threads share the chunks of one computation after another.
//!
//! Every thread, the calling one among them, has a share of neighbouring chunks and works through
//! it from the first to the last, so that it reads memory in one stream; then it steals from the
//! others' shares, the next chunk each time. A thread that the system does not schedule therefore
//! delays only the chunk it holds. Waiting threads spin briefly and then sleep.
//!
//! A child made by `fork()` has none of these threads. There the next computation starts others,
//! and what was left of the first ones is never touched again: a thread that is no more may have
//! held a lock.

use std::cell::UnsafeCell;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use super::fork::forks;
use super::prefetch::{Progress, Target};

/// How long a thread without work spins before it sleeps.
const SPIN_TIME: Duration = Duration::from_micros(40);
/// Spins between two readings of the clock.
const SPINS: u32 = 64;
/// Stack of a worker in bytes: without optimization the kernels keep hundreds of vectors there.
/// Pages are committed as they are used.
const STACK: usize = 2 << 20;

/// Bits of a chunk's index in a share's word.
const INDEX_BITS: u32 = 20;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;
/// The most chunks of one computation.
const MAX_CHUNKS: usize = INDEX_MASK as usize;

/// The work on a chunk, its lifetime erased: only used between the beginning and the end of a
/// `run`.
type Work = *const (dyn Fn(usize) + Sync);

/// Threads that wait for computations.
pub struct Pool {
    /// What threads prefetch while they wait.
    next: Arc<Target>,
    /// Threads that compute, the calling one included.
    threads: AtomicUsize,
    /// Held during a computation: there is one at a time.
    running: Mutex<Crew>,
}

/// The workers of a process, and what a caller leaves to the next.
struct Crew {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// The process they belong to, as [`forks`] counts.
    forks: u32,
    /// The number of the last computation.
    number: u64,
    prefetched: Progress,
}

/// Workers of an ancestor of this process: neither joined nor detached, since the system knows no
/// such threads.
struct Lost {
    _workers: Vec<JoinHandle<()>>,
    _shared: Arc<Shared>,
}

/// All of them, kept where tools that look for leaks see them.
static LOST: Mutex<Vec<Lost>> = Mutex::new(Vec::new());

struct Shared {
    next: Arc<Target>,
    /// What is left of each thread's share, the caller's first.
    shares: Vec<Share>,
    /// Chunks of the current computation: written before its shares.
    chunks: AtomicUsize,
    /// The work of the current computation: written before its shares, and read only by a thread
    /// that has claimed a chunk of it.
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

/// Number of the computation, the next chunk and the one after the last: one word, so that a claim
/// can only succeed for the computation it was meant for. Aligned so that no two owners share a
/// cache line.
#[repr(align(128))]
struct Share(AtomicU64);

impl Share {
    fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The share of computation `number` from chunk `first` up to `end`.
    fn publish(&self, number: u64, first: usize, end: usize) {
        let word = number << (2 * INDEX_BITS) | (first as u64) << INDEX_BITS | end as u64;
        self.0.store(word, Ordering::SeqCst);
    }

    /// The chunks that are left, first and end.
    fn bounds(word: u64) -> (u64, u64) {
        (word >> INDEX_BITS & INDEX_MASK, word & INDEX_MASK)
    }

    fn is_empty(&self) -> bool {
        let (first, end) = Self::bounds(self.0.load(Ordering::SeqCst));
        first >= end
    }

    /// Takes the first of the chunks that are left.
    fn claim(&self) -> Option<usize> {
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            let (first, end) = Self::bounds(word);
            if first >= end {
                return None;
            }
            let claimed = word + (1 << INDEX_BITS);
            match self
                .0
                .compare_exchange_weak(word, claimed, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Some(first as usize),
                Err(current) => word = current,
            }
        }
    }
}

// SAFETY: `work` is the only field that is not `Sync`. The caller writes it while no chunk is
// claimed (`running` keeps other callers out), publishes the shares after it, and the work is
// `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; what `work` points to is only used during a `run`.
unsafe impl Send for Shared {}

impl Crew {
    /// Starts the workers of a pool of `threads`; fewer when the system refuses to start them.
    fn start(threads: usize, next: &Arc<Target>) -> Self {
        let shared = Arc::new(Shared {
            next: Arc::clone(next),
            shares: (0..threads.max(1)).map(|_| Share::new()).collect(),
            chunks: AtomicUsize::new(0),
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
                    .spawn(move || shared.serve(index))
                    .ok()
            })
            .collect();
        Self {
            shared,
            workers,
            forks: forks(),
            number: 0,
            prefetched: Progress::default(),
        }
    }

    /// Whether the workers are threads of an ancestor of this process.
    fn is_lost(&self) -> bool {
        self.forks != forks()
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        if self.is_lost() {
            let lost = Lost {
                _workers: std::mem::take(&mut self.workers),
                _shared: Arc::clone(&self.shared),
            };
            match LOST.try_lock() {
                Ok(mut all) => all.push(lost),
                Err(_) => std::mem::forget(lost),
            }
            return;
        }
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

impl Pool {
    /// A pool in which `threads` compute, the calling one included; at least one. Fewer when the
    /// system refuses to start them.
    pub fn new(threads: usize) -> Self {
        let next = Arc::new(Target::none());
        let crew = Crew::start(threads, &next);
        Self {
            threads: AtomicUsize::new(crew.workers.len() + 1),
            next,
            running: Mutex::new(crew),
        }
    }

    /// Threads that compute, the calling one included.
    pub fn threads(&self) -> usize {
        self.threads.load(Ordering::Relaxed)
    }

    /// A later computation reads `bytes`, in chunks of `chunk_bytes`: threads that have to wait
    /// prefetch the beginning of their share.
    pub fn prefetch(&self, bytes: &[u8], chunk_bytes: usize) {
        self.next.set(bytes, chunk_bytes);
    }

    /// Calls `work` once for every index below `chunks` (at most 2²⁰ − 1), on any thread,
    /// and returns when all calls are done.
    ///
    /// # Panics
    /// When a call panics: after the others are done.
    pub fn run(&self, chunks: usize, work: &(dyn Fn(usize) + Sync)) {
        assert!(chunks <= MAX_CHUNKS, "{chunks} chunks");
        if chunks <= 1 || self.threads() <= 1 {
            (0..chunks).for_each(work);
            return;
        }
        let mut crew = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let crew = &mut *crew;
        if crew.is_lost() {
            *crew = Crew::start(self.threads(), &self.next);
            self.threads
                .store(crew.workers.len() + 1, Ordering::Relaxed);
        }
        let shared = &crew.shared;
        shared.done.store(0, Ordering::Relaxed);
        shared.chunks.store(chunks, Ordering::Relaxed);
        #[expect(
            clippy::transmute_ptr_to_ptr,
            reason = "a cast does not extend the lifetime"
        )]
        // SAFETY: only the lifetime changes. Workers use the pointer only while they hold a claimed
        // chunk, and this function returns after the last claimed chunk is done.
        let erased: Work =
            unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Work>(work) };
        // SAFETY: every chunk of the last computation is done and none of this one is published, so
        // no thread reads it.
        unsafe { *shared.work.get() = Some(erased) };
        // Bits that do not fit into a share's word are cut off.
        crew.number = crew.number.wrapping_add(1);
        let bound = |index| shared.first_of_share(index, chunks);
        for (index, share) in shared.shares.iter().enumerate() {
            share.publish(crew.number, bound(index), bound(index + 1));
        }
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            for worker in &crew.workers {
                worker.thread().unpark();
            }
        }
        shared.help(0);
        shared.wait(chunks, &mut crew.prefetched);
        let panicked = shared.panicked.swap(false, Ordering::Relaxed);
        assert!(!panicked, "a chunk of the computation panicked");
    }
}

impl Shared {
    /// Claims a chunk of the current computation for a thread: of its own share, or of the next
    /// that has some.
    fn claim(&self, thread: usize) -> Option<usize> {
        let (before, from_own) = self.shares.split_at(thread);
        from_own.iter().chain(before).find_map(Share::claim)
    }

    /// Works on chunks until all are claimed.
    fn help(&self, thread: usize) {
        let mut done = 0;
        while let Some(chunk) = self.claim(thread) {
            // SAFETY: it was written before the share that the claim acquired, and does not change
            // until this chunk is done.
            let Some(work) = (unsafe { *self.work.get() }) else {
                unreachable!("work is written before its shares")
            };
            // SAFETY: the caller of `run` keeps it alive until this chunk is done.
            let work = unsafe { &*work };
            if std::panic::catch_unwind(AssertUnwindSafe(|| work(chunk))).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            done += 1;
        }
        if done == 0 {
            return;
        }
        // Read before they are counted: after that the next computation may begin.
        let chunks = self.chunks.load(Ordering::Relaxed);
        if self.done.fetch_add(done, Ordering::SeqCst) + done == chunks {
            let caller = self.caller.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(caller) = &*caller {
                caller.unpark();
            }
        }
    }

    /// The caller's wait for chunks that others hold.
    fn wait(&self, chunks: usize, prefetched: &mut Progress) {
        let is_done = || self.done.load(Ordering::SeqCst) >= chunks;
        if spin_until(is_done, || self.prefetch(0, prefetched)) {
            return;
        }
        *self.caller.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread::current());
        while !is_done() {
            thread::park();
        }
        *self.caller.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The first chunk of a thread's share of `chunks`.
    fn first_of_share(&self, thread: usize, chunks: usize) -> usize {
        thread * chunks / self.shares.len()
    }

    /// Prefetches a line of a thread's share of the next computation; false when nothing is left.
    fn prefetch(&self, thread: usize, progress: &mut Progress) -> bool {
        progress.advance(&self.next, |chunks| self.first_of_share(thread, chunks))
    }

    fn has_work(&self) -> bool {
        self.shares.iter().any(|share| !share.is_empty()) || self.stop.load(Ordering::Relaxed)
    }

    /// The loop of a worker.
    fn serve(&self, thread: usize) {
        let mut prefetched = Progress::default();
        while !self.stop.load(Ordering::Relaxed) {
            self.help(thread);
            if spin_until(
                || self.has_work(),
                || self.prefetch(thread, &mut prefetched),
            ) {
                continue;
            }
            // Counted before the last check: a caller that publishes work after it sees the
            // sleeper.
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            while !self.has_work() {
                thread::park();
            }
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Spins until `condition` holds, for [`SPIN_TIME`] at most; whether it held. `meanwhile` does a
/// little work and says whether there was any.
fn spin_until(condition: impl Fn() -> bool, mut meanwhile: impl FnMut() -> bool) -> bool {
    let mut start = None;
    loop {
        for _ in 0..SPINS {
            if condition() {
                return true;
            }
            if !meanwhile() {
                std::hint::spin_loop();
            }
        }
        if start.get_or_insert_with(Instant::now).elapsed() > SPIN_TIME {
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
            for round in 0..5000 {
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
    fn chunks_of_a_late_thread_are_stolen() {
        for threads in [2, 3] {
            let pool = Pool::new(threads);
            for late in [0, 11] {
                let others = AtomicUsize::new(0);
                pool.run(12, &|chunk| {
                    if chunk != late {
                        others.fetch_add(1, Ordering::SeqCst);
                        return;
                    }
                    let start = Instant::now();
                    while others.load(Ordering::SeqCst) < 11 {
                        assert!(
                            start.elapsed() < Duration::from_secs(60),
                            "chunks were left to the late thread"
                        );
                        thread::yield_now();
                    }
                });
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
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
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
