//! The KV cache: the keys and values of the tokens of each sequence. Which cell holds which token
//! is kept by [`super::cells`].

use crate::error::{Error, Result};
use crate::ggml::buffer::{self, Buffer};
use crate::ggml::context::{Context, Tensor};
use crate::ggml::device::Device;
use crate::gguf::TensorType;

use super::device_map::DeviceMap;
use crate::spec::Hyperparameters;

/// Number of a sequence in a session, from 0.
pub type SequenceId = usize;

/// The most sequences a cache holds: one bit each in [`SequenceSet`].
pub const MAX_SEQUENCES: usize = 64;

/// A set of sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct SequenceSet(u64);

impl SequenceSet {
    /// The set of one sequence.
    ///
    /// # Errors
    /// [`Error::Argument`] when `sequence` is not below [`MAX_SEQUENCES`].
    pub fn of(sequence: SequenceId) -> Result<Self> {
        Self::default().with(sequence)
    }

    /// This set and `sequence`.
    ///
    /// # Errors
    /// [`Error::Argument`] when `sequence` is not below [`MAX_SEQUENCES`].
    pub fn with(self, sequence: SequenceId) -> Result<Self> {
        if sequence < MAX_SEQUENCES {
            Ok(Self(self.0 | 1 << sequence))
        } else {
            Err(Error::Argument(format!(
                "expected a sequence below {MAX_SEQUENCES}, found {sequence}"
            )))
        }
    }

    /// Whether `sequence` is in the set.
    pub fn contains(self, sequence: SequenceId) -> bool {
        sequence < MAX_SEQUENCES && self.0 >> sequence & 1 == 1
    }

    /// Whether every sequence of `other` is in this set.
    pub fn includes(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The sequences of both sets.
    #[must_use]
    pub fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The sequences of either set.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether no sequence is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// One more than the highest sequence in the set; 0 for the empty set.
    pub fn end(self) -> usize {
        (u64::BITS - self.0.leading_zeros()) as usize
    }

    /// The sequences in the set, ascending.
    pub fn iter(self) -> impl Iterator<Item = SequenceId> {
        (0..MAX_SEQUENCES).filter(move |&sequence| self.contains(sequence))
    }

    /// Adds a sequence below [`MAX_SEQUENCES`].
    pub(super) fn insert(&mut self, sequence: SequenceId) {
        self.0 |= 1 << sequence;
    }

    pub(super) fn remove(&mut self, sequence: SequenceId) {
        self.0 &= !(1 << sequence);
    }
}

/// The tensors of the cache. One layout for every kind of attention: a row for each cell, `[n_embd,
/// cells]` for the keys and for the values of each layer.
pub(crate) struct KvCache {
    pub(crate) keys: Vec<Tensor>,
    pub(crate) values: Vec<Tensor>,
    /// Bytes on each device.
    bytes: Vec<(Device, usize)>,
}

impl KvCache {
    /// A cache of `cells` rows of `tensor_type` for each layer, on the layer's device. On the CPU
    /// the system provides the memory as rows are written.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when `head_size` is not a multiple of the type's block size,
    /// [`Error::Memory`] when the memory cannot be allocated.
    pub(crate) fn new(
        devices: &DeviceMap,
        hyperparameters: &Hyperparameters,
        cells: usize,
        tensor_type: TensorType,
    ) -> Result<Self> {
        let head = hyperparameters.head_size();
        if !head.is_multiple_of(tensor_type.block_size()) {
            return Err(Error::Unsupported(format!(
                "a {} cache needs a head size that is a multiple of {}, this model's is {head}; \
                 use f16 or f32",
                tensor_type.name(),
                tensor_type.block_size()
            )));
        }
        let layers = hyperparameters.n_layer;
        let context = Context::new(2 * layers + 1)?;
        let shape = [hyperparameters.n_embd, cells];
        let describe = |kind: &str| -> Result<Vec<Tensor>> {
            (0..layers)
                .map(|layer| context.tensor(&format!("cache.{layer}.{kind}"), tensor_type, &shape))
                .collect()
        };
        let (keys, values) = (describe("keys")?, describe("values")?);
        let mut cache_devices = Vec::with_capacity(layers);
        for layer in 0..layers {
            cache_devices.push(device_of(
                devices,
                layer,
                tensor_type,
                hyperparameters.n_embd,
            )?);
        }
        let mut bytes = Vec::new();
        for device in devices.gpus().into_iter().chain([devices.cpu()]) {
            let on_device = |tensors: &[Tensor]| -> Vec<Tensor> {
                let tensors = tensors.iter().zip(&cache_devices);
                let tensors = tensors.filter(|(_, of)| **of == device);
                tensors.map(|(tensor, _)| tensor.clone()).collect()
            };
            let (keys, values) = (on_device(&keys), on_device(&values));
            let memory = device.buffer_type()?;
            let size = buffer::bytes_for(memory, keys.iter().chain(&values));
            if size == 0 {
                continue;
            }
            let buffer = if device == devices.cpu() {
                Buffer::zeroed(device, size)?
            } else {
                let buffer = Buffer::allocate(memory, size)?;
                // Cells that were never written are masked, but 0 · NaN would be NaN.
                buffer.clear()?;
                buffer
            };
            for tensor in keys.iter().chain(&values) {
                buffer.place_next(tensor)?;
            }
            bytes.push((device, size));
        }
        Ok(Self {
            keys,
            values,
            bytes,
        })
    }

    /// Keys and values of each layer, in this order.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Tensor> {
        self.keys
            .iter()
            .zip(&self.values)
            .flat_map(|(keys, values)| [keys, values])
    }

    /// Bytes of the cache on each device.
    pub(crate) fn bytes(&self) -> &[(Device, usize)] {
        &self.bytes
    }
}

/// The device that has the cache of `layer`: the layer's own, unless it cannot write rows of that
/// type.
fn device_of(
    devices: &DeviceMap,
    layer: usize,
    tensor_type: TensorType,
    n_embd: usize,
) -> Result<Device> {
    let device = devices.layer(layer);
    if device == devices.cpu() || device.stores(tensor_type, n_embd)? {
        return Ok(device);
    }
    tracing::warn!(
        "{} does not support a {} cache; that of layer {layer} is on the CPU",
        device.name(),
        tensor_type.name()
    );
    Ok(devices.cpu())
}
