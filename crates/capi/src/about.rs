//! Which library this is.

use std::ffi::{CString, c_char};
use std::fmt::Write as _;
use std::sync::OnceLock;

use super::status::c_string;
use gpt2::system;

/// A part of this package's version; 0 for one that is not a number.
const fn part(text: &str) -> u32 {
    let bytes = text.as_bytes();
    let mut number = 0;
    let mut index = 0;
    while index < bytes.len() {
        number = number * 10 + (bytes[index] - b'0') as u32;
        index += 1;
    }
    number
}

/// The first part of the version.
pub const GPT2_VERSION_MAJOR: u32 = part(env!("CARGO_PKG_VERSION_MAJOR"));
/// The second part of the version.
pub const GPT2_VERSION_MINOR: u32 = part(env!("CARGO_PKG_VERSION_MINOR"));
/// The third part of the version.
pub const GPT2_VERSION_PATCH: u32 = part(env!("CARGO_PKG_VERSION_PATCH"));

/// The version of the library that is linked, as `GPT2_VERSION` of the header is made.
#[unsafe(no_mangle)]
pub extern "C" fn gpt2_version() -> u32 {
    GPT2_VERSION_MAJOR << 16 | GPT2_VERSION_MINOR << 8 | GPT2_VERSION_PATCH
}

/// The version, ggml's, the devices and the processor's features in use, as text.
#[unsafe(no_mangle)]
pub extern "C" fn gpt2_build_info() -> *const c_char {
    static TEXT: OnceLock<CString> = OnceLock::new();
    let describe = || {
        let mut text = format!(
            "gpt2-edge {}\nggml {}\n",
            env!("CARGO_PKG_VERSION"),
            system::ggml_version()
        );
        for device in system::devices() {
            let _ = writeln!(text, "backend {}: {}", device.name, device.description);
            if !device.features.is_empty() {
                let features = device.features.join(" ");
                let _ = writeln!(text, "{} features: {features}", device.name);
            }
        }
        c_string(text)
    };
    std::panic::catch_unwind(|| TEXT.get_or_init(describe).as_ptr()).unwrap_or(c"".as_ptr())
}
