//! Ctrl-C: the first ends the work with what there is, the second ends the program.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a shell reports for a program that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// Sets `stop` at the first Ctrl-C from now on.
pub(crate) fn stop_on_interrupt(stop: Arc<AtomicBool>) {
    let handler = move || {
        if stop.swap(true, Ordering::Relaxed) {
            process::exit(INTERRUPTED);
        }
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        eprintln!("warning: Ctrl-C will end the program at once: {error}");
    }
}
