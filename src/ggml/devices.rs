//! Devices by the names that people give them.

use super::device::{Device, Kind, inherited, registry_is_inherited};
use super::remote;
use crate::error::{Error, Result};

/// What names a device of another machine.
const REMOTE: &str = "rpc://";

impl Device {
    /// The name that selects the device: `cpu`, `cuda0`, `vulkan0`, `metal`, `blas`.
    pub(crate) fn argument(self) -> String {
        let name = self.name().to_lowercase();
        // ggml numbers Apple's GPU, of which there is one.
        if name == "mtl0" {
            "metal".to_owned()
        } else {
            name
        }
    }

    /// The devices called `name`: one of this machine, or all that a worker at `rpc://HOST:PORT`
    /// serves.
    ///
    /// # Errors
    /// [`Error::Argument`] when there is none, listing those there are; [`Error::Unsupported`] for
    /// a remote device in a build without the feature `rpc`, and in a child made by `fork()` for
    /// any but the CPU; [`Error::Worker`] when the other machine
    /// does not answer as a worker.
    pub(crate) fn called(name: &str) -> Result<Vec<Self>> {
        if let Some(address) = name.strip_prefix(REMOTE) {
            if registry_is_inherited() {
                return Err(inherited(name));
            }
            let devices = remote::devices(address)?;
            return Ok(devices.into_iter().map(Self::of_worker).collect());
        }
        let all = Self::all();
        let wanted = name.to_lowercase();
        let found = all.iter().find(|device| {
            device.argument() == wanted || device.name().eq_ignore_ascii_case(&wanted)
        });
        if let Some(&device) = found {
            return Ok(vec![device]);
        }
        if registry_is_inherited() {
            return Err(inherited(name));
        }
        let known: Vec<String> = all.into_iter().map(Self::argument).collect();
        let remote = if cfg!(feature = "rpc") {
            " or rpc://HOST:PORT"
        } else {
            ""
        };
        Err(Error::Argument(format!(
            "device {name}: expected one of {}{remote}; found none of that name on this machine \
             and in this build",
            known.join(", ")
        )))
    }

    /// The graphics processors of this machine.
    pub(crate) fn gpus() -> Vec<Self> {
        let mut all = Self::all();
        all.retain(|device| device.kind() == Kind::Gpu);
        all
    }
}
