//! Which handles are alive.
//!
//! To C a handle is a pointer to something unknown. Here it is a number that is never followed,
//! only looked up: one that is null, was freed, or is of another kind is found out, whatever it
//! points at. Numbers are not used twice, so a freed handle does not become somebody else's.

use std::ptr;
use std::sync::Arc;

use super::locks::{read_table, write_table};
use super::status::{Failure, GPT2_ERROR_HANDLE, Outcome};

/// What a kind of handle stands for.
pub(super) trait Handle: Send + Sync + Sized + 'static {
    /// What C sees.
    type Opaque;
    /// What C calls it.
    const NAME: &'static str;
}

/// A new handle for `value`.
pub(super) fn open<T: Handle>(value: T) -> *mut T::Opaque {
    super::fork::register();
    let value = Arc::new(value);
    let mut table = write_table();
    // Not taken even where 32 bits have come round.
    let number = loop {
        let number = table.next;
        table.next = number.wrapping_add(1);
        if number != 0 && !table.alive.contains_key(&number) {
            break number;
        }
    };
    table.alive.insert(number, value);
    ptr::without_provenance_mut(number)
}

/// What `handle` stands for. It stays until this is dropped, even if the handle is freed meanwhile.
pub(super) fn find<T: Handle>(handle: *const T::Opaque) -> Outcome<Arc<T>> {
    let table = read_table();
    let found = table.alive.get(&handle.addr()).cloned();
    found
        .and_then(|found| found.downcast().ok())
        .ok_or_else(|| unknown::<T>(handle.addr()))
}

/// Takes `handle` out of the living; null is none, and no error. What it stood for is freed with
/// what comes back, which the caller drops.
pub(super) fn close<T: Handle>(handle: *const T::Opaque) -> Outcome<Option<Arc<T>>> {
    let number = handle.addr();
    if number == 0 {
        return Ok(None);
    }
    let mut table = write_table();
    let found = table.alive.get(&number).cloned();
    let found = found.and_then(|found| found.downcast().ok());
    if found.is_some() {
        table.alive.remove(&number);
    }
    drop(table);
    found.map(Some).ok_or_else(|| unknown::<T>(number))
}

/// Frees `handle`; null is none, and no error.
pub(super) fn free<T: Handle>(handle: *const T::Opaque) -> Outcome {
    // What it stands for may call back: not while others wait for the table.
    close::<T>(handle).map(drop)
}

/// Why a handle of this number is refused.
pub(super) fn unknown<T: Handle>(number: usize) -> Failure {
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

    struct Other;
    handle!(
        /// Another thing.
        gpt2_other = Other
    );

    #[test]
    fn a_freed_handle_is_found_out() {
        let first = open(Thing(1));
        let second = open(Thing(2));
        let kept = find::<Thing>(first).ok().unwrap();
        assert!(free::<Other>(first.cast()).is_err());
        assert!(free::<Thing>(first).is_ok());
        assert!(free::<Thing>(first).is_err());
        assert!(find::<Thing>(first).is_err());
        assert_eq!((kept.0, find::<Thing>(second).ok().unwrap().0), (1, 2));
        assert!(find::<Thing>(ptr::null()).is_err());
        assert!(free::<Thing>(ptr::null()).is_ok());
    }
}
