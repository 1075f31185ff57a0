//! The locks that last for the process, and what each guards.
//!
//! They lie below `handles` and `log`, whose they are, so that `fork` can take them all without
//! importing those two, which call it. Whoever takes several takes them in the order of this file.
//! This file must not know what its users do with what is guarded.

use std::any::Any;
use std::collections::BTreeMap;
use std::ffi::{c_char, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::sync::{RwLockReadGuard, RwLockWriteGuard};

/// The living handles of all kinds, and the number of the next.
pub(super) struct Table {
    pub(super) alive: BTreeMap<usize, Arc<dyn Any + Send + Sync>>,
    pub(super) next: usize,
}

/// Who is handed the log, up to which level.
#[derive(Clone, Copy)]
pub(super) struct Receiver {
    pub(super) callback: unsafe extern "C" fn(i32, *const c_char, *mut c_void),
    pub(super) user_data: *mut c_void,
    pub(super) most: i32,
}

// SAFETY: the header asks for a function that may be called from any thread with its data.
unsafe impl Send for Receiver {}

static TABLE: RwLock<Table> = RwLock::new(Table {
    alive: BTreeMap::new(),
    next: 1,
});

/// Whether `tracing` sends its events to the log.
static STARTED: Mutex<bool> = Mutex::new(false);

static RECEIVER: Mutex<Option<Receiver>> = Mutex::new(None);

/// The table of handles, to look one up: nobody opens or closes one meanwhile.
pub(super) fn read_table() -> RwLockReadGuard<'static, Table> {
    TABLE.read().unwrap_or_else(PoisonError::into_inner)
}

/// The table of handles, to change it: nobody else opens, finds or closes one meanwhile.
pub(super) fn write_table() -> RwLockWriteGuard<'static, Table> {
    TABLE.write().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the log was started: nobody else names a receiver meanwhile.
pub(super) fn started() -> MutexGuard<'static, bool> {
    STARTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The log's receiver: nobody else names or looks up one meanwhile.
pub(super) fn receiver() -> MutexGuard<'static, Option<Receiver>> {
    RECEIVER.lock().unwrap_or_else(PoisonError::into_inner)
}
