//! What the library and ggml report while they work, handed to a function of the program.

use std::ffi::{c_char, c_void};
use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

use super::locks::{self, Receiver};
use super::status::{Failure, GPT2_ERROR_UNSUPPORTED, c_string, gpt2_status, guard};

/// Something failed.
pub const GPT2_LOG_ERROR: i32 = 1;
/// Something is not as it should be.
pub const GPT2_LOG_WARN: i32 = 2;
/// Something happened.
pub const GPT2_LOG_INFO: i32 = 3;
/// Details for debugging.
pub const GPT2_LOG_DEBUG: i32 = 4;
/// Everything.
pub const GPT2_LOG_TRACE: i32 = 5;

/// Is handed a line of the log.
pub type gpt2_log_callback =
    Option<unsafe extern "C" fn(level: i32, message: *const c_char, user_data: *mut c_void)>;

fn receiver() -> Option<Receiver> {
    *locks::receiver()
}

fn level_of(level: Level) -> i32 {
    match level {
        Level::ERROR => GPT2_LOG_ERROR,
        Level::WARN => GPT2_LOG_WARN,
        Level::INFO => GPT2_LOG_INFO,
        Level::DEBUG => GPT2_LOG_DEBUG,
        Level::TRACE => GPT2_LOG_TRACE,
    }
}

/// Sends `tracing`'s events to the receiver of the moment.
struct Forward;

impl Subscriber for Forward {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        receiver().is_some_and(|receiver| level_of(*metadata.level()) <= receiver.most)
    }

    // The receiver and its level may change at any time.
    fn register_callsite(&self, _: &'static Metadata<'static>) -> tracing::subscriber::Interest {
        tracing::subscriber::Interest::sometimes()
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let Some(receiver) = receiver() else {
            return;
        };
        let mut line = Line(format!("{}:", event.metadata().target()));
        event.record(&mut line);
        let line = c_string(line.0);
        // SAFETY: as the header asks of the function; the line lives for the call.
        unsafe {
            (receiver.callback)(
                level_of(*event.metadata().level()),
                line.as_ptr(),
                receiver.user_data,
            );
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// An event as one line.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

/// Names the function that is handed the log, up to a level; null for none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_set_log_callback(
    level: i32,
    callback: gpt2_log_callback,
    user_data: *mut c_void,
) -> gpt2_status {
    guard(|| {
        if !(GPT2_LOG_ERROR..=GPT2_LOG_TRACE).contains(&level) {
            return Err(Failure::argument(format!(
                "level: expected {GPT2_LOG_ERROR} to {GPT2_LOG_TRACE}, found {level}"
            )));
        }
        super::fork::register();
        let wanted = callback.map(|callback| Receiver {
            callback,
            user_data,
            most: level,
        });
        let mut started = locks::started();
        if wanted.is_some() && !*started {
            tracing::subscriber::set_global_default(Forward).map_err(|_| {
                Failure::new(
                    GPT2_ERROR_UNSUPPORTED,
                    "the log of this process goes to a Rust subscriber already",
                )
            })?;
            *started = true;
        }
        *locks::receiver() = wanted;
        Ok(())
    })
}
