//! Ctrl-C: the first ends the work with what there is, the second ends the program.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};

use crate::stream::note;

/// What a shell reports for a program that SIGINT ended.
pub(crate) const STATUS: u8 = 130;

/// Whether Ctrl-C has ended the work.
static HAPPENED: AtomicBool = AtomicBool::new(false);

/// The flags of all work that is under way.
static FLAGS: Mutex<Vec<Arc<AtomicBool>>> = Mutex::new(Vec::new());

/// The flags of work that can be stopped again and again: the program goes on.
static LASTING_FLAGS: Mutex<Vec<Arc<AtomicBool>>> = Mutex::new(Vec::new());

/// Sets `stop`, beside the flags given before, at the first Ctrl-C from now on.
pub(crate) fn stop_on_interrupt(stop: Arc<AtomicBool>) {
    register(&FLAGS, stop);
}

/// Sets `stop` at every Ctrl-C from now on, and never ends the program for it.
pub(crate) fn stop_each_time(stop: Arc<AtomicBool>) {
    register(&LASTING_FLAGS, stop);
}

/// Whether the work that [`stop_on_interrupt`] was told of has been ended by Ctrl-C.
pub(crate) fn happened() -> bool {
    HAPPENED.load(Ordering::Relaxed)
}

fn register(flags: &Mutex<Vec<Arc<AtomicBool>>>, stop: Arc<AtomicBool>) {
    static INSTALLED: Once = Once::new();
    flags
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(stop);
    INSTALLED.call_once(|| {
        if let Err(error) = ctrlc::set_handler(interrupt) {
            note!("warning: Ctrl-C will end the program at once: {error}");
        }
    });
}

fn interrupt() {
    let lasting = LASTING_FLAGS.lock().unwrap_or_else(PoisonError::into_inner);
    for flag in lasting.iter() {
        flag.store(true, Ordering::Relaxed);
    }
    let flags = FLAGS.lock().unwrap_or_else(PoisonError::into_inner);
    if !flags.is_empty() {
        HAPPENED.store(true, Ordering::Relaxed);
    }
    let mut again = false;
    for flag in flags.iter() {
        again |= flag.swap(true, Ordering::Relaxed);
    }
    if again {
        process::exit(STATUS.into());
    }
}
