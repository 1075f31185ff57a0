//! ggml, made safe: devices, memory, tensors, graphs and quantization.
//!
//! This room knows nothing of GPT-2. ggml ends the process when it is misused, so everything it
//! would assert is checked here first and comes back as an error that names the operation and the
//! shapes. With `kernels` and the C interface, this is the only place with unsafe code.
#![allow(unsafe_code, reason = "this module is where C is called")]

#[cfg(test)]
mod attention_tests;
pub(crate) mod backend;
pub(crate) mod buffer;
pub(crate) mod context;
pub(crate) mod custom;
#[cfg(target_os = "linux")]
pub(crate) mod cut_file;
pub(crate) mod device;
pub(crate) mod devices;
pub(crate) mod gelu;
pub(crate) mod graph;
mod log;
pub(crate) mod map;
pub(crate) mod ops;
pub(crate) mod quantize;
#[cfg(feature = "rpc")]
mod remote;
#[cfg(not(feature = "rpc"))]
#[path = "remote_absent.rs"]
mod remote;
mod scheduler;
pub(crate) mod system;
mod transfer;
mod types;
pub(crate) mod variant;
pub mod worker;

/// ggml's C interface, as its headers declare it.
#[allow(
    clippy::all,
    clippy::pedantic,
    dead_code,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    reason = "generated, and more than is called"
)]
pub(crate) mod sys {
    #[cfg(not(any(feature = "bindgen", target_pointer_width = "32")))]
    include!("bindings.rs");
    #[cfg(any(feature = "bindgen", target_pointer_width = "32"))]
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::sys;

    #[test]
    fn the_linked_ggml_is_the_one_declared() {
        // SAFETY: ggml_version returns a pointer to a string constant.
        let version = unsafe { CStr::from_ptr(sys::ggml_version()) };
        assert_eq!(version.to_str(), Ok(env!("GPT2_EDGE_GGML_VERSION")));
    }

    /// The check that the committed declarations are what the headers say; only CI builds it.
    #[cfg(feature = "bindgen")]
    #[test]
    fn the_committed_declarations_are_up_to_date() {
        let fresh = include_str!(concat!(env!("OUT_DIR"), "/bindings.rs"));
        let committed = include_str!("bindings.rs");
        for (number, (fresh, committed)) in fresh.lines().zip(committed.lines()).enumerate() {
            assert_eq!(
                fresh,
                committed,
                "line {} of src/ggml/bindings.rs; see vendor/README.md",
                number + 1
            );
        }
        assert_eq!(
            fresh.len(),
            committed.len(),
            "src/ggml/bindings.rs is cut short; see vendor/README.md"
        );
    }
}
