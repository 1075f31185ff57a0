//! Children made by `fork()`, for programs of one test: a child has one thread, and what another
//! test had locked would stay locked there.
#![allow(unsafe_code, reason = "processes are copied")]

use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

unsafe extern "C" {
    fn fork() -> c_int;
    fn waitpid(process: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn alarm(seconds: u32) -> u32;
    fn _exit(status: c_int) -> !;
}

/// What the system reports of a child that runs `work`: 0 where it ends in time and does not panic.
pub(crate) fn in_child(work: impl FnOnce()) -> c_int {
    // SAFETY: the child uses what is made to be used there, and ends without running what the
    // parent has registered for its own end.
    unsafe {
        match fork() {
            0 => {
                alarm(120);
                let outcome = catch_unwind(AssertUnwindSafe(work));
                _exit(i32::from(outcome.is_err()));
            }
            child => {
                let mut status = -1;
                assert!(child > 0 && waitpid(child, &raw mut status, 0) == child);
                status
            }
        }
    }
}
