//! What serves one call at a time: sessions and samplers.
//!
//! A second call is refused, whichever thread makes it. Freeing waits for the call that is at work,
//! so that its callbacks come no more once the handle is gone; but not from a callback, where it
//! would wait for itself, or for another thread that waits in the same way: then the call frees
//! what is left when it returns. In a child made by `fork()` a call of another thread never ends,
//! and what it works with is given up.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::fork::Caller;
use super::handles::{Handle, unknown};
use super::status::{Failure, GPT2_ERROR_BUSY, GPT2_ERROR_INTERNAL, Outcome};

/// A value for one call at a time.
pub(super) struct Exclusive<T> {
    /// The number of the [`Caller`] at work; 0 for none. Set before the value is locked and reset
    /// after it is released.
    caller: AtomicU64,
    /// Nothing once it is freed.
    value: Mutex<Option<T>>,
    /// Whether no further call is let in.
    freed: AtomicBool,
}

thread_local! {
    /// How many calls of this thread are at work, each in a callback of the one before.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// A call at work; ends when it is dropped, by a panic as well.
struct Entered<'a>(&'a AtomicU64);

impl<'a> Entered<'a> {
    /// The caller that is at work already, if there is one.
    fn new(caller: &'a AtomicU64) -> Result<Self, Caller> {
        let own = Caller::current().number();
        match caller.compare_exchange(0, own, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => {
                DEPTH.set(DEPTH.get() + 1);
                Ok(Self(caller))
            }
            Err(other) => Err(Caller::of_number(other)),
        }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
        self.0.store(0, Ordering::Release);
    }
}

impl<T> Exclusive<T> {
    pub(super) fn new(value: T) -> Self {
        Self {
            caller: AtomicU64::new(0),
            value: Mutex::new(Some(value)),
            freed: AtomicBool::new(false),
        }
    }

    /// Works with the value, for this call alone; `H` is the handle it is found by.
    pub(super) fn with<H: Handle, R>(&self, work: impl FnOnce(&mut T) -> Outcome<R>) -> Outcome<R> {
        let _entered = Entered::new(&self.caller).map_err(|caller| busy::<H>(caller))?;
        let mut value = self.value.lock().map_err(|_| {
            Failure::new(
                GPT2_ERROR_INTERNAL,
                format!(
                    "the {} is in an undefined state after an internal error (a bug); free it",
                    H::NAME
                ),
            )
        })?;
        match &mut *value {
            Some(value) if !self.freed.load(Ordering::Relaxed) => work(value),
            // Freed since the handle was looked up.
            _ => Err(unknown::<H>(usize::MAX)),
        }
    }

    /// Frees the value, after the call that is at work; see above for when it does not wait.
    pub(super) fn free(&self) {
        self.freed.store(true, Ordering::Relaxed);
        let caller = Caller::of_number(self.caller.load(Ordering::Acquire));
        if DEPTH.get() > 0 || (caller.number() != 0 && caller.is_lost()) {
            return;
        }
        let mut value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        let freed = value.take();
        drop(value);
        drop(freed);
    }
}

fn busy<H: Handle>(caller: Caller) -> Failure {
    let name = H::NAME;
    let message = if caller.is_lost() {
        format!(
            "the {name} was at work on another thread when the process forked, and cannot be used \
             in the child; free it and make another"
        )
    } else {
        format!("the {name} is in use: by another thread, or by the call that calls back")
    };
    Failure::new(GPT2_ERROR_BUSY, message)
}
