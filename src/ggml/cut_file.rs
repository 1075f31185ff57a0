//! What a program says when a file is cut while it is mapped: reading beyond its new end is a bus
//! error (SIGBUS), which ends a process without a word.
//!
//! Every map of [`super::map`] is entered into a fixed table, which a signal handler may read. The
//! handler is installed only where a program wants it: a library does not change how its host
//! handles signals.

use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Maps that are open at the same time and known; a process with more says nothing of the others.
const SLOTS: usize = 256;

/// A map: where it is, and the line that is said of it.
struct Slot {
    /// Its first address; 0 for no map, 1 while the slot is being filled or emptied.
    start: AtomicUsize,
    length: AtomicUsize,
    line: AtomicPtr<Vec<u8>>,
}

static MAPS: [Slot; SLOTS] = [const {
    Slot {
        start: AtomicUsize::new(0),
        length: AtomicUsize::new(0),
        line: AtomicPtr::new(std::ptr::null_mut()),
    }
}; SLOTS];

const FREE: usize = 0;
const BUSY: usize = 1;

/// A map in the table; it leaves with this.
#[derive(Debug)]
pub(super) struct Entry {
    slot: Option<usize>,
}

impl Entry {
    /// Enters the map of `path` at `bytes`.
    pub(super) fn new(path: &Path, bytes: &[u8]) -> Self {
        let free = |slot: &&Slot| {
            let claimed =
                slot.start
                    .compare_exchange(FREE, BUSY, Ordering::Acquire, Ordering::Relaxed);
            claimed.is_ok()
        };
        let Some((index, slot)) = MAPS.iter().enumerate().find(|(_, slot)| free(slot)) else {
            return Self { slot: None };
        };
        let name: String = path
            .display()
            .to_string()
            .chars()
            .map(|character| match character {
                control if control.is_control() => char::REPLACEMENT_CHARACTER,
                other => other,
            })
            .collect();
        let line = format!(
            "error: {name}: expected the {} bytes that it had when it was opened, found that it \
             was cut, or cannot be read any more; restore the file and start again\n",
            bytes.len()
        );
        let line = Box::into_raw(Box::new(line.into_bytes()));
        slot.line.store(line, Ordering::Relaxed);
        slot.length.store(bytes.len(), Ordering::Relaxed);
        slot.start.store(bytes.as_ptr() as usize, Ordering::Release);
        Self { slot: Some(index) }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Some(slot) = self.slot.map(|index| &MAPS[index]) else {
            return;
        };
        slot.start.store(BUSY, Ordering::Release);
        let line = slot.line.swap(std::ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: made by `Box::into_raw` in `new`, and taken out of the slot once. A handler that
        // reads it at the same time would need an access to a map that is being closed.
        drop(unsafe { Box::from_raw(line) });
        slot.start.store(FREE, Ordering::Release);
    }
}

/// The line about the map that `address` is in.
fn line_at(address: usize) -> Option<&'static [u8]> {
    MAPS.iter().find_map(|slot| {
        let start = slot.start.load(Ordering::Acquire);
        if start <= BUSY || !(start..start + slot.length.load(Ordering::Relaxed)).contains(&address)
        {
            return None;
        }
        let line = slot.line.load(Ordering::Relaxed);
        // SAFETY: a filled slot has a line, which lives until the map is closed; whoever reads in
        // the map keeps it open.
        unsafe { line.as_ref() }.map(Vec::as_slice)
    })
}

/// The handler that was there before.
static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(std::ptr::null_mut());

/// Has a bus error in a mapped file say which file was cut, and end the process with status 1.
/// Other bus errors go to the handler that was there before.
pub(crate) fn explain() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: all zeros are a valid `sigaction`: no handler, no flags.
        let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: asks for the handler there is, into a place of its type.
        if unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), &raw mut before) } != 0 {
            return;
        }
        PREVIOUS.store(Box::into_raw(Box::new(before)), Ordering::Release);
        action.sa_sigaction = on_bus_error as *const () as usize;
        // As Rust's own handler, which it may have to call: on the thread's stack for signals.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: the handler has the type that SA_SIGINFO asks for and calls only what a signal
        // handler may.
        unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) };
    });
}

/// The handler: it allocates nothing, takes no lock, and calls only functions that are safe in
/// signal handlers.
extern "C" fn on_bus_error(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the system passes a valid description of a signal.
    let address = unsafe { (*info).si_addr() } as usize;
    // SAFETY: as above; only what the processor found has an address.
    let is_fault = unsafe { (*info).si_code } > 0;
    if is_fault && let Some(line) = line_at(address) {
        // SAFETY: writes a text that lives; what cannot be written is lost. `_exit` runs no
        // destructors, which may wait for this thread.
        unsafe {
            libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len());
            libc::_exit(1);
        }
    }
    // SAFETY: stored before the handler was installed, never freed.
    let Some(previous) = (unsafe { PREVIOUS.load(Ordering::Acquire).as_ref() }) else {
        return;
    };
    match previous.sa_sigaction {
        libc::SIG_IGN if !is_fault => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: the default is restored; the signal comes again when this returns.
            unsafe {
                libc::signal(signal, libc::SIG_DFL);
                libc::raise(signal);
            }
        }
        handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: who installed it with SA_SIGINFO gave a function of this type.
            let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                unsafe { std::mem::transmute(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: without SA_SIGINFO it is a function of the signal alone.
            let handler: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(handler) };
            handler(signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_by_its_file_while_it_is_mapped() {
        let bytes = vec![0_u8; 100];
        let inside = bytes.as_ptr() as usize + 99;
        assert!(line_at(inside).is_none());
        let entry = Entry::new(Path::new("a\nb.gguf"), &bytes);
        let line = String::from_utf8(line_at(inside).unwrap().to_vec()).unwrap();
        assert!(line.starts_with("error: a\u{FFFD}b.gguf: expected the 100 bytes"));
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line_at(inside + 1).is_none());
        drop(entry);
        assert!(line_at(inside).is_none());
    }

    #[test]
    fn maps_beyond_the_table_are_let_be() {
        let bytes = [vec![0_u8; 8], vec![0_u8; 8]];
        for _ in 0..2 {
            let entries: Vec<Entry> = (0..=SLOTS)
                .map(|_| Entry::new(Path::new("many"), &bytes[0]))
                .collect();
            assert!(entries.iter().any(|entry| entry.slot.is_none()));
        }
        let entry = Entry::new(Path::new("one"), &bytes[1]);
        assert!(line_at(bytes[1].as_ptr() as usize).is_some());
        drop(entry);
    }
}
