//! Copies of the process: `fork()` leaves a child without the threads of its parent.
//!
//! Whoever owns threads remembers [`forks`] from when they were started. Where it says another
//! number, the threads are those of an ancestor: they are not to be waited for, and what they had
//! locked stays locked.

use std::sync::atomic::{AtomicU32, Ordering};

/// Forks between the process that asked first and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// How many forks lie between the first process that called this and the calling one. Copies made
/// without the C library's `fork()` (a bare `clone`) are not counted.
pub fn forks() -> u32 {
    #[cfg(unix)]
    unix::count_from_now_on();
    FORKS.load(Ordering::Relaxed)
}

#[cfg(unix)]
mod unix {
    use std::ffi::c_int;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::FORKS;

    type Handler = Option<unsafe extern "C" fn()>;

    unsafe extern "C" {
        /// POSIX; every C library that Rust's own is linked with has it.
        fn pthread_atfork(prepare: Handler, parent: Handler, child: Handler) -> c_int;
    }

    unsafe extern "C" fn in_the_child() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }

    /// Registers the handler once. Not with a lock: in a child, one that another thread of the
    /// parent held would stay locked.
    pub(super) fn count_from_now_on() {
        static REGISTERED: AtomicBool = AtomicBool::new(false);
        if REGISTERED.load(Ordering::Relaxed) || REGISTERED.swap(true, Ordering::Relaxed) {
            return;
        }
        // SAFETY: the handler adds to an atomic, which is allowed in a child of many threads.
        let status = unsafe { pthread_atfork(None, None, Some(in_the_child)) };
        // Without memory for the handler a later call tries again.
        REGISTERED.store(status == 0, Ordering::Relaxed);
    }
}
