//! What this build is made of and what it runs on, for `--version`, logs and reports.

use std::ffi::CStr;

use super::device::Device;
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
    /// The name to ask for it by, such as `CPU`.
    pub name: String,
    /// What it is, such as the processor's model.
    pub description: String,
    /// The instruction sets and options in use, such as `AVX2`.
    pub features: Vec<String>,
}

/// The devices that this build can use, here and now.
pub fn devices() -> Vec<DeviceDescription> {
    let describe = |device: Device| DeviceDescription {
        name: device.name(),
        description: device.description(),
        features: device.features(),
    };
    Device::all().into_iter().map(describe).collect()
}

/// Threads to use when nobody says: one for each physical core this process may run on.
pub fn default_threads() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    physical_cores()
        .map_or(allowed, |cores| cores.min(allowed))
        .max(1)
}

/// Cores that are not a second thread of another core, as Linux lists them.
fn physical_cores() -> Option<usize> {
    let mut siblings: Vec<String> = std::fs::read_dir("/sys/devices/system/cpu")
        .ok()?
        .filter_map(|entry| {
            let list = entry.ok()?.path().join("topology/thread_siblings_list");
            std::fs::read_to_string(list).ok()
        })
        .collect();
    siblings.sort_unstable();
    siblings.dedup();
    (!siblings.is_empty()).then_some(siblings.len())
}
