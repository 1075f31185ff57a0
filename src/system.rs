//! This machine and this build: devices, the CPU code in use, threads.
//!
//! ```
//! for device in gpt2::system::devices() {
//!     println!("{}: {}", device.argument, device.description);
//! }
//! ```

use crate::machine::memory::{Counts, Limit, limits};

pub use crate::ggml::system::{CpuVariant, DeviceDescription, cpu_variant, devices, ggml_version};
pub use crate::machine::default_threads;

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
