//! What `fork()` leaves of this library in the child.
//!
//! A child has its parent's memory and one of its threads: the one that forked. A lock that another
//! thread held would stay locked there, so the locks of `locks`, which last for the process, are
//! taken before a fork and let go after it, on both sides. What belongs to one call, such as a
//! session at work, cannot be waited for: its user may call back for hours. It remembers its
//! [`Caller`] instead, of whom the child knows whether there is still such a thread.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

/// Forks since the handlers were registered.
static FORKS: AtomicU32 = AtomicU32::new(0);
/// The thread that forked last, the only one that came along.
static SURVIVOR: AtomicU32 = AtomicU32::new(0);

/// The number of the calling thread, from 1.
fn thread_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    thread_local! {
        static NUMBER: Cell<u32> = const { Cell::new(0) };
    }
    if NUMBER.get() == 0 {
        NUMBER.set(NEXT.fetch_add(1, Ordering::Relaxed));
    }
    NUMBER.get()
}

/// A thread of this process or of an ancestor; as a number never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Caller(u64);

impl Caller {
    /// The calling thread.
    pub(super) fn current() -> Self {
        let forks = FORKS.load(Ordering::Relaxed);
        Self(u64::from(forks) << 32 | u64::from(thread_number()))
    }

    pub(super) fn number(self) -> u64 {
        self.0
    }

    pub(super) fn of_number(number: u64) -> Self {
        Self(number)
    }

    /// Whether the thread is not there: it was another one's of the parent process.
    pub(super) fn is_lost(self) -> bool {
        let (forks, thread) = ((self.0 >> 32) as u32, self.0 as u32);
        forks != FORKS.load(Ordering::Relaxed) && thread != SURVIVOR.load(Ordering::Relaxed)
    }
}

#[cfg(unix)]
pub(super) use handlers::register;

/// There is no `fork()`.
#[cfg(not(unix))]
pub(super) fn register() {}

#[cfg(unix)]
mod handlers {
    use std::cell::UnsafeCell;
    use std::ffi::c_int;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{MutexGuard, RwLockWriteGuard};

    use super::{FORKS, SURVIVOR, thread_number};
    use crate::locks::{self, Receiver, Table};

    type Handler = Option<unsafe extern "C" fn()>;

    unsafe extern "C" {
        /// POSIX; every C library that Rust's own is linked with has it.
        fn pthread_atfork(prepare: Handler, parent: Handler, child: Handler) -> c_int;
    }

    /// Everything that is locked during a fork.
    struct Locked {
        _table: RwLockWriteGuard<'static, Table>,
        _started: MutexGuard<'static, bool>,
        _receiver: MutexGuard<'static, Option<Receiver>>,
        /// The thread that forks.
        thread: u32,
    }

    /// What the forking thread keeps between the handlers.
    struct Kept(UnsafeCell<Option<Locked>>);

    // SAFETY: used by the handlers only, each while its thread has the locks that are kept here.
    unsafe impl Sync for Kept {}

    static KEPT: Kept = Kept(UnsafeCell::new(None));

    unsafe extern "C" fn prepare() {
        let locked = Locked {
            _table: locks::write_table(),
            _started: locks::started(),
            _receiver: locks::receiver(),
            thread: thread_number(),
        };
        // SAFETY: this thread has the locks, so no other is between `prepare` and `release`.
        unsafe { *KEPT.0.get() = Some(locked) };
    }

    unsafe extern "C" fn in_the_parent() {
        // SAFETY: as in `prepare`, on the same thread.
        let locked = unsafe { (*KEPT.0.get()).take() };
        drop(locked);
    }

    unsafe extern "C" fn in_the_child() {
        // SAFETY: as in `prepare`; this is the only thread.
        let locked = unsafe { (*KEPT.0.get()).take() };
        FORKS.fetch_add(1, Ordering::Relaxed);
        let survivor = locked.as_ref().map_or(0, |locked| locked.thread);
        SURVIVOR.store(survivor, Ordering::Relaxed);
        drop(locked);
    }

    /// Makes sure that forks are prepared for. Not with a lock, which a fork could leave locked.
    pub(in super::super) fn register() {
        static REGISTERED: AtomicBool = AtomicBool::new(false);
        if REGISTERED.load(Ordering::Relaxed) || REGISTERED.swap(true, Ordering::Relaxed) {
            return;
        }
        // SAFETY: the handlers take and release locks and change atomics.
        let status =
            unsafe { pthread_atfork(Some(prepare), Some(in_the_parent), Some(in_the_child)) };
        // Without memory for the handlers a later call tries again.
        REGISTERED.store(status == 0, Ordering::Relaxed);
    }
}
