//! Which handles are alive.
//!
//! To C a handle is a pointer to something unknown. Here it is a number that is never followed,
//! only looked up: one that is null, was freed, or is of another kind is found out, whatever it
//! points at. Numbers are not used twice, so a freed handle does not become somebody else's.

use std::collections::BTreeMap;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::status::{Failure, GPT2_ERROR_HANDLE, Outcome};

/// What a kind of handle stands for.
pub(super) trait Handle: Send + Sync + Sized + 'static {
    /// What C sees.
    type Opaque;
    /// What C calls it.
    const NAME: &'static str;
    /// Those that are alive.
    fn table() -> &'static Table<Self>;
}

/// The living handles of a kind.
pub(super) struct Table<T>(RwLock<BTreeMap<usize, Arc<T>>>);

impl<T> Table<T> {
    pub(super) const fn new() -> Self {
        Self(RwLock::new(BTreeMap::new()))
    }
}

/// The number of the next handle of any kind.
static NEXT: AtomicUsize = AtomicUsize::new(1);

/// A new handle for `value`.
pub(super) fn open<T: Handle>(value: T) -> *mut T::Opaque {
    let mut alive = T::table().0.write().unwrap_or_else(PoisonError::into_inner);
    // Not taken even where 32 bits have come round.
    let number = loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        if number != 0 && !alive.contains_key(&number) {
            break number;
        }
    };
    alive.insert(number, Arc::new(value));
    ptr::without_provenance_mut(number)
}

/// What `handle` stands for. It stays until this is dropped, even if the handle is freed meanwhile.
pub(super) fn find<T: Handle>(handle: *const T::Opaque) -> Outcome<Arc<T>> {
    let alive = T::table().0.read().unwrap_or_else(PoisonError::into_inner);
    alive
        .get(&handle.addr())
        .cloned()
        .ok_or_else(|| unknown::<T>(handle.addr()))
}

/// Frees `handle`; null is none, and no error.
pub(super) fn close<T: Handle>(handle: *const T::Opaque) -> Outcome {
    if handle.is_null() {
        return Ok(());
    }
    let mut alive = T::table().0.write().unwrap_or_else(PoisonError::into_inner);
    let removed = alive.remove(&handle.addr());
    // What it stands for may call back: not while others wait for the table.
    drop(alive);
    removed.map(drop).ok_or_else(|| unknown::<T>(handle.addr()))
}

fn unknown<T: Handle>(number: usize) -> Failure {
    let found = if number == 0 {
        "NULL"
    } else {
        "one that was freed, or is of another kind"
    };
    Failure::new(
        GPT2_ERROR_HANDLE,
        format!("expected a live {}, found {found}", T::NAME),
    )
}

/// Declares what C sees of a handle, and ties it to what it stands for.
macro_rules! handle {
    ($(#[$documentation:meta])* $opaque:ident = $value:ty) => {
        $(#[$documentation])*
        #[repr(C)]
        #[derive(Debug)]
        #[cfg_attr(test, allow(unreachable_pub, reason = "tests declare some of their own"))]
        pub struct $opaque {
            _private: [u8; 0],
        }

        impl $crate::handles::Handle for $value {
            type Opaque = $opaque;
            const NAME: &'static str = stringify!($opaque);

            fn table() -> &'static $crate::handles::Table<Self> {
                static TABLE: $crate::handles::Table<$value> =
                    $crate::handles::Table::new();
                &TABLE
            }
        }
    };
}
pub(super) use handle;

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing(u32);
    handle!(
        /// A thing.
        gpt2_thing = Thing
    );

    #[test]
    fn a_freed_handle_is_found_out() {
        let first = open(Thing(1));
        let second = open(Thing(2));
        let kept = find::<Thing>(first).ok().unwrap();
        assert!(close::<Thing>(first).is_ok());
        assert!(close::<Thing>(first).is_err());
        assert!(find::<Thing>(first).is_err());
        assert_eq!((kept.0, find::<Thing>(second).ok().unwrap().0), (1, 2));
        assert!(find::<Thing>(ptr::null()).is_err());
        assert!(close::<Thing>(ptr::null()).is_ok());
    }
}
