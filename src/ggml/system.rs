//! What this build is made of and what it runs on, for `--version`, logs and reports.

use std::ffi::CStr;

use super::device::{Device, Kind};
use super::sys;

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

/// The devices that this build can use, here and now.
pub fn devices() -> Vec<DeviceDescription> {
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
