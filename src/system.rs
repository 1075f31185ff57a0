//! This machine and this build: devices, the CPU code in use, threads.
//!
//! ```
//! for device in gpt2::system::devices() {
//!     println!("{}: {}", device.argument, device.description);
//! }
//! ```

use crate::machine::memory::{Counts, Limit, limits, memory};

pub use crate::ggml::system::{CpuVariant, DeviceDescription, cpu_variant, ggml_version};
pub use crate::machine::default_threads;

/// The devices that this build can use, here and now. Of the processor's memory is said what this
/// process may still have: of what is free on the machine and within its memory cgroups.
pub fn devices() -> Vec<DeviceDescription> {
    let mut devices = crate::ggml::system::devices();
    if let Some(memory) = memory() {
        for device in devices.iter_mut().filter(|device| device.kind == "cpu") {
            device.memory_free = usize::try_from(memory.free).unwrap_or(usize::MAX);
            device.memory_total = usize::try_from(memory.total).unwrap_or(usize::MAX);
        }
    }
    devices
}

/// Has a bus error in a mapped file write one line to stderr that names the file, and end the
/// process with status 1: a file that is cut while it is mapped would end it without a word. For
/// programs, at their start: it sets a handler for SIGBUS, which passes on other
/// causes. Does nothing where the system is not Linux.
pub fn explain_cut_files() {
    #[cfg(target_os = "linux")]
    crate::ggml::cut_file::explain();
}

/// Makes this process use few addresses where `ulimit -v` or `ulimit -d` bounds them: threads
/// started from now on have small stacks unless they ask for larger ones, and share one heap. For
/// programs, at their start; does nothing where addresses are not bounded, or the system has no
/// such settings.
pub fn save_address_space() {
    let bounded = |limit: &Limit| limit.counts != Counts::Resident;
    if limits().iter().any(bounded) {
        crate::ggml::system::save_address_space();
    }
}
