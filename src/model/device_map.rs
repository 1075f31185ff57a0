//! Which device each part of a model is on.

use crate::error::Result;
use crate::ggml::device::{Device, Kind};

/// The device of each layer and of the head. The CPU looks up embeddings.
#[derive(Debug, Clone)]
pub(crate) struct DeviceMap {
    cpu: Device,
    /// Of each layer, and last of the final layer norm and the head.
    parts: Vec<Device>,
    /// Accelerators of the CPU, such as BLAS libraries.
    accelerators: Vec<Device>,
}

impl DeviceMap {
    /// Everything on the CPU.
    ///
    /// # Errors
    /// [`crate::Error::Ggml`] when there is no CPU device.
    pub(crate) fn cpu_alone(layers: usize) -> Result<Self> {
        let cpu = Device::cpu()?;
        Ok(Self {
            cpu,
            parts: vec![cpu; layers + 1],
            accelerators: Vec::new(),
        })
    }

    /// Puts the last `on_gpu` layers, all by default, on the GPUs called `names`; the head counts
    /// as the last layer. Each GPU gets a share in proportion to its free memory. Without names,
    /// `on_gpu` means the GPUs of this machine.
    ///
    /// # Errors
    /// As [`Device::called`].
    pub(crate) fn choose(names: &[String], on_gpu: Option<usize>, layers: usize) -> Result<Self> {
        let mut named = Vec::new();
        for name in names {
            for device in Device::called(name)? {
                if !named.contains(&device) {
                    named.push(device);
                }
            }
        }
        let mut gpus: Vec<Device> = named.clone();
        gpus.retain(|device| device.kind() == Kind::Gpu);
        if let Some(requested @ 1..) = on_gpu {
            if named.is_empty() {
                gpus = Device::gpus();
            }
            if gpus.is_empty() {
                let found = if named.is_empty() { "found" } else { "named" };
                tracing::warn!("{requested} layers on GPUs has no effect: no GPU is {found}");
            }
        }
        let mut map = Self::cpu_alone(layers)?;
        map.accelerators = named;
        map.accelerators
            .retain(|device| device.kind() == Kind::Accelerator);
        let mut free = Vec::new();
        for gpu in &gpus {
            free.push(gpu.memory().0);
            gpu.check_alive()?;
        }
        let shares = distribute(layers + 1, on_gpu.unwrap_or(layers + 1), &free);
        for (part, share) in map.parts.iter_mut().zip(shares) {
            if let Some(index) = share {
                *part = gpus[index];
            }
        }
        Ok(map)
    }

    /// The CPU.
    pub(crate) fn cpu(&self) -> Device {
        self.cpu
    }

    /// The device of layer `index`.
    pub(crate) fn layer(&self, index: usize) -> Device {
        self.parts.get(index).copied().unwrap_or(self.cpu)
    }

    /// The device of the final layer norm and the head.
    pub(crate) fn head(&self) -> Device {
        self.parts.last().copied().unwrap_or(self.cpu)
    }

    /// Whether an accelerator may compute the CPU's products. It reads matrices in the layout of
    /// the file.
    pub(crate) fn has_accelerator(&self) -> bool {
        !self.accelerators.is_empty()
    }

    /// The devices with memory of their own, each once.
    pub(crate) fn gpus(&self) -> Vec<Device> {
        let mut gpus: Vec<Device> = Vec::new();
        for device in &self.parts {
            if *device != self.cpu && !gpus.contains(device) {
                gpus.push(*device);
            }
        }
        gpus
    }

    /// Every device but the CPU.
    pub(crate) fn others(&self) -> Vec<Device> {
        let mut others = self.gpus();
        others.extend(&self.accelerators);
        others
    }
}

/// The GPU of each of `parts`; the last `on_gpu` parts get one. Consecutive parts go to the GPUs in
/// order, in proportion to their free memory; in equal shares when no GPU reports its memory.
fn distribute(parts: usize, on_gpu: usize, free: &[usize]) -> Vec<Option<usize>> {
    let on_gpu = if free.is_empty() {
        0
    } else {
        on_gpu.min(parts)
    };
    let weights: Vec<f64> = if free.iter().all(|&bytes| bytes == 0) {
        vec![1.0; free.len()]
    } else {
        free.iter().map(|&bytes| bytes as f64).collect()
    };
    let total: f64 = weights.iter().sum();
    let mut shares = vec![None; parts - on_gpu];
    for index in 0..on_gpu {
        // The middle of the part on a scale of all free memory.
        let middle = (index as f64 + 0.5) / on_gpu as f64 * total;
        let mut end = 0.0;
        let gpu = weights.iter().position(|weight| {
            end += weight;
            middle < end
        });
        shares.push(Some(gpu.unwrap_or(free.len() - 1)));
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_parts_go_to_gpus() {
        let on = Some(0);
        assert_eq!(distribute(4, 2, &[100]), [None, None, on, on]);
        assert_eq!(distribute(3, 99, &[0]), [on, on, on]);
        assert_eq!(distribute(3, 0, &[100]), [None; 3]);
        assert_eq!(distribute(3, 3, &[]), [None; 3]);
    }

    #[test]
    fn several_gpus_share_by_their_memory() {
        let count =
            |shares: &[Option<usize>], gpu| shares.iter().filter(|s| **s == Some(gpu)).count();
        let shares = distribute(12, 12, &[300, 100]);
        assert_eq!((count(&shares, 0), count(&shares, 1)), (9, 3));
        assert!(
            shares.is_sorted(),
            "consecutive parts stay together: {shares:?}"
        );
        let equal = distribute(12, 6, &[0, 0, 0]);
        assert_eq!([0, 1, 2].map(|gpu| count(&equal, gpu)), [2, 2, 2]);
        assert_eq!(count(&distribute(12, 12, &[0, 50]), 1), 12);
    }
}
