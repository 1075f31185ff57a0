//! ggml's messages, sent to `tracing`.

use std::ffi::{CStr, c_char, c_void};
use std::sync::Once;

use super::sys;

/// Sends ggml's messages to `tracing`, under the target `ggml`. Done once a process.
pub(crate) fn forward() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the callback is a function of the type ggml expects and uses no user data.
        unsafe { sys::ggml_log_set(Some(receive), std::ptr::null_mut()) };
    });
}

unsafe extern "C" fn receive(
    level: sys::ggml_log_level,
    text: *const c_char,
    _user_data: *mut c_void,
) {
    if text.is_null() {
        return;
    }
    // SAFETY: ggml passes a text that ends in NUL and lives for the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let text = text.trim_end();
    if text.is_empty() {
        return;
    }
    match level {
        sys::GGML_LOG_LEVEL_ERROR => tracing::error!(target: "ggml", "{text}"),
        sys::GGML_LOG_LEVEL_WARN => tracing::warn!(target: "ggml", "{text}"),
        sys::GGML_LOG_LEVEL_INFO => tracing::info!(target: "ggml", "{text}"),
        _ => tracing::debug!(target: "ggml", "{text}"),
    }
}
