//! The one place where Rust's errors and panics become C's codes and texts.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use gpt2::session::MAX_SEQUENCES;
use gpt2::{Error, ErrorKind};

/// What functions return: 0, or one of the negative codes.
pub type gpt2_status = i32;

/// Done.
pub const GPT2_OK: gpt2_status = 0;
/// An argument is outside what the function allows.
pub const GPT2_ERROR_ARGUMENT: gpt2_status = -1;
/// A file cannot be opened, read, mapped or written.
pub const GPT2_ERROR_IO: gpt2_status = -2;
/// A file is broken.
pub const GPT2_ERROR_FORMAT: gpt2_status = -3;
/// Not done by this library, or by this build of it.
pub const GPT2_ERROR_UNSUPPORTED: gpt2_status = -4;
/// More positions are needed than there are.
pub const GPT2_ERROR_CONTEXT_FULL: gpt2_status = -5;
/// Not enough memory.
pub const GPT2_ERROR_MEMORY: gpt2_status = -6;
/// Stopped by the caller.
pub const GPT2_ERROR_STOPPED: gpt2_status = -7;
/// A computation failed.
pub const GPT2_ERROR_BACKEND: gpt2_status = -8;
/// The caller's buffer is too small; the length it needs has been reported.
pub const GPT2_ERROR_BUFFER: gpt2_status = -9;
/// A handle is null, freed already, or of another kind.
pub const GPT2_ERROR_HANDLE: gpt2_status = -10;
/// The handle is in use by another thread, or by the function that is calling back.
pub const GPT2_ERROR_BUSY: gpt2_status = -11;
/// An internal error: a bug of this library.
pub const GPT2_ERROR_INTERNAL: gpt2_status = -12;

/// Why a call failed.
pub(super) struct Failure {
    code: gpt2_status,
    message: String,
}

/// What the inside of every function returns.
pub(super) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(super) fn new(code: gpt2_status, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    pub(super) fn argument(message: impl Into<String>) -> Self {
        Self::new(GPT2_ERROR_ARGUMENT, message)
    }

    fn panic(payload: &(dyn Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("no reason given");
        Self::new(
            GPT2_ERROR_INTERNAL,
            Error::Internal(text.to_owned()).to_string(),
        )
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error.kind() {
            ErrorKind::Io => GPT2_ERROR_IO,
            ErrorKind::Format => GPT2_ERROR_FORMAT,
            ErrorKind::Unsupported => GPT2_ERROR_UNSUPPORTED,
            ErrorKind::Argument => GPT2_ERROR_ARGUMENT,
            ErrorKind::ContextFull => GPT2_ERROR_CONTEXT_FULL,
            ErrorKind::Memory => GPT2_ERROR_MEMORY,
            ErrorKind::Backend => GPT2_ERROR_BACKEND,
            ErrorKind::Stopped => GPT2_ERROR_STOPPED,
            ErrorKind::Internal => GPT2_ERROR_INTERNAL,
        };
        let mut message = error.to_string();
        if let Some(advice) = advice(&error) {
            message.push_str("; ");
            message.push_str(&advice);
        }
        Self::new(code, message)
    }
}

/// Which field of this interface's options would help.
fn advice(error: &Error) -> Option<String> {
    match error {
        Error::TooFewSequences { needed, .. } if *needed <= MAX_SEQUENCES => {
            Some(format!("set gpt2_session_options.sequences to {needed}"))
        }
        Error::TooFewSequences { .. } => Some(format!(
            "gpt2_session_options.sequences is at most {MAX_SEQUENCES}"
        )),
        Error::NoSuchSequence { found, .. } if *found < MAX_SEQUENCES => Some(format!(
            "set gpt2_session_options.sequences to {} or more",
            found + 1
        )),
        Error::ContextFull {
            needed,
            model_limit,
            ..
        } if needed <= model_limit => Some(format!(
            "set gpt2_session_options.context to {needed} or more"
        )),
        _ => None,
    }
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// A C string of `text`, without the NULs that it may not hold.
pub(super) fn c_string(text: impl Into<Vec<u8>>) -> CString {
    let mut bytes: Vec<u8> = text.into();
    bytes.retain(|&byte| byte != 0);
    CString::new(bytes).unwrap_or_default()
}

/// Runs the inside of a function: every function of the interface that can fail goes through here,
/// so that no panic leaves Rust and every failure leaves its text.
pub(super) fn guard(work: impl FnOnce() -> Outcome) -> gpt2_status {
    let outcome = catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|payload| Err(Failure::panic(&*payload)));
    let Err(failure) = outcome else {
        return GPT2_OK;
    };
    // At the end of a thread its text may be dropped already; the code says enough then.
    let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = c_string(failure.message));
    failure.code
}

/// The text of the calling thread's last failure.
#[unsafe(no_mangle)]
pub extern "C" fn gpt2_last_error() -> *const c_char {
    LAST_ERROR
        .try_with(|last| last.borrow().as_ptr())
        .unwrap_or(c"".as_ptr())
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    fn last_error() -> String {
        // SAFETY: a C string that lives until this thread's next failure.
        unsafe { CStr::from_ptr(gpt2_last_error()) }
            .to_string_lossy()
            .into_owned()
    }

    #[test]
    fn panics_and_errors_become_codes_and_texts() {
        assert_eq!(guard(|| Ok(())), GPT2_OK);
        assert_eq!(guard(|| panic!("of {}", "mine")), GPT2_ERROR_INTERNAL);
        assert!(last_error().ends_with("of mine"), "{}", last_error());
        let refuse = || Err(Error::Unsupported("flying".to_owned()).into());
        assert_eq!(guard(refuse), GPT2_ERROR_UNSUPPORTED);
        assert_eq!(last_error(), "unsupported: flying");
        // Success leaves the text of the last failure; another thread has its own.
        assert_eq!(guard(|| Ok(())), GPT2_OK);
        assert_eq!(last_error(), "unsupported: flying");
        assert_eq!(std::thread::spawn(last_error).join().unwrap(), "");
        assert_eq!(
            guard(|| Err(Failure::argument("a\0b"))),
            GPT2_ERROR_ARGUMENT
        );
        assert_eq!(last_error(), "ab");
    }
}
