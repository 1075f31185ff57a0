//! Ctrl-C, and SIGTERM as its like: the first ends the work with what there is, the second ends the
//! program.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::stream::note;

/// The signal that ended the work; 0 for none.
static CAME: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

/// Sets `stop`, beside the flags given before, at the first Ctrl-C or SIGTERM from now on.
pub(crate) fn stop_on_interrupt(stop: &Arc<AtomicBool>) {
    for signal in [SIGINT, SIGTERM] {
        let registered =
            flag::register_conditional_shutdown(signal, status_of(signal), Arc::clone(stop))
                .and_then(|_| flag::register(signal, Arc::clone(stop)))
                .and_then(|_| {
                    let value = usize::try_from(signal).unwrap_or_default();
                    flag::register_usize(signal, Arc::clone(&CAME), value)
                });
        if let Err(error) = registered {
            note!("warning: signal {signal} will end the program at once: {error}");
        }
    }
}

/// Sets `stop` at every Ctrl-C from now on, and never ends the program for it.
pub(crate) fn stop_each_time(stop: &Arc<AtomicBool>) {
    if let Err(error) = flag::register(SIGINT, Arc::clone(stop)) {
        note!("warning: Ctrl-C will end the program at once: {error}");
    }
}

/// From now on Ctrl-C and SIGTERM end the program at once while `idle` is set: there is nothing to
/// stop. To be called before [`stop_on_interrupt`].
pub(crate) fn end_while(idle: &Arc<AtomicBool>) {
    for signal in [SIGINT, SIGTERM] {
        // Otherwise the second signal ends it.
        let registered =
            flag::register_conditional_shutdown(signal, status_of(signal), Arc::clone(idle));
        drop(registered);
    }
}

/// A flag to set when a signal has been heard: from then on Ctrl-C and SIGTERM end the program at
/// once.
#[cfg(feature = "serve")]
pub(crate) fn end_at_second() -> Arc<AtomicBool> {
    let heard = Arc::default();
    end_while(&heard);
    heard
}

/// Whether the work that [`stop_on_interrupt`] was told of has been ended by a signal.
pub(crate) fn happened() -> bool {
    CAME.load(Ordering::Relaxed) != 0
}

/// The exit status of a program whose work was ended: that of Ctrl-C unless another signal came.
pub(crate) fn status() -> u8 {
    let signal = match CAME.load(Ordering::Relaxed) {
        0 => SIGINT,
        signal => signal as i32,
    };
    u8::try_from(status_of(signal)).unwrap_or(u8::MAX)
}

/// What a shell reports for a program that a signal ended.
fn status_of(signal: i32) -> i32 {
    128 + signal
}
