//! What this build is made of and what it runs on, for `--version`, logs and reports.

use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering};

use super::device::{Device, Kind};
use super::sys;
pub use super::variant::{CpuVariant, cpu_variant};

/// The version of the ggml that is linked in.
pub fn ggml_version() -> String {
    // SAFETY: gives a constant text.
    unsafe { CStr::from_ptr(sys::ggml_version()) }
        .to_string_lossy()
        .into_owned()
}

/// A device of a compiled backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceDescription {
    /// ggml's name of it, such as `CPU`.
    pub name: String,
    /// What [`crate::session::ModelOptions::devices`] and `--device` call it, such as `cpu`.
    pub argument: String,
    /// What sort it is: `cpu`, `gpu`, `integrated gpu` or `accelerator`.
    pub kind: &'static str,
    /// Bytes of its memory that are free now; 0 when it does not say.
    pub memory_free: usize,
    /// Bytes of its memory in all; 0 when it does not say.
    pub memory_total: usize,
    /// What it is, such as the processor's model.
    pub description: String,
    /// The instruction sets and options in use, such as `AVX2`.
    pub features: Vec<String>,
}

/// The devices that this build can use, as ggml describes them.
pub(crate) fn devices() -> Vec<DeviceDescription> {
    let describe = |device: Device| {
        let (memory_free, memory_total) = device.memory();
        DeviceDescription {
            name: device.name(),
            argument: device.argument(),
            kind: match device.kind() {
                Kind::Cpu => "cpu",
                Kind::Gpu if device.is_integrated() => "integrated gpu",
                Kind::Gpu => "gpu",
                Kind::Accelerator => "accelerator",
            },
            memory_free,
            memory_total,
            description: device.description(),
            features: device.features(),
        }
    };
    Device::all().into_iter().map(describe).collect()
}

/// Stack of ggml's threads where addresses are scarce, in bytes; they use a few KiB of it.
const SMALL_STACK: usize = 1 << 20;

/// Whether [`save_address_space`] took effect.
static SMALL_STACKS: AtomicBool = AtomicBool::new(false);

/// Makes this process spare with addresses, for which `ulimit -v` counts them: threads started from
/// now on have small stacks, unless they request larger ones, and share one heap. For programs, at
/// their start; does nothing where the system has no such settings.
pub(crate) fn save_address_space() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: both calls set process-wide defaults of the C library; the attributes are
        // initialized before they are used and destroyed after.
        let done = unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 1);
            let mut attributes: libc::pthread_attr_t = std::mem::zeroed();
            libc::pthread_attr_init(&raw mut attributes) == 0 && {
                let set = libc::pthread_attr_setstacksize(&raw mut attributes, SMALL_STACK) == 0
                    && pthread_setattr_default_np(&raw const attributes) == 0;
                libc::pthread_attr_destroy(&raw mut attributes);
                set
            }
        };
        SMALL_STACKS.store(done, Ordering::Relaxed);
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
unsafe extern "C" {
    /// glibc's, which the crate `libc` does not declare.
    fn pthread_setattr_default_np(attributes: *const libc::pthread_attr_t) -> std::ffi::c_int;
}

/// Address space of each of ggml's threads' stacks, in bytes.
pub(crate) fn thread_stack_bytes() -> usize {
    if SMALL_STACKS.load(Ordering::Relaxed) {
        SMALL_STACK
    } else {
        8 << 20 // the default on Linux
    }
}
