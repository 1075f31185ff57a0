//! A model's tensors in memory: in place in the mapped file, or moved to a faster layout.

mod own;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

pub(crate) use own::have_kernels;
pub(super) use own::type_of;
use own::{format_of, place_in_kernels};

use super::device_map::DeviceMap;
use crate::error::{Error, Result};
use crate::ggml::buffer::{self, Buffer, HOST_ALIGNMENT};
use crate::ggml::context::{Context, Tensor};
use crate::ggml::device::{BufferType, Device};
use crate::gguf::{Gguf, TensorInfo, TensorType};
use crate::machine::parallel;
use crate::quant::{can_dequantize, dequantize_rows};
use crate::spec::Hyperparameters;
use crate::spec::in_gguf::find_in;
use crate::spec::tensor_table::{Role, TensorSpec};
use gpt2_kernels::linear;

/// Scale and shift of a layer normalization.
pub(crate) struct Norm {
    pub(crate) weight: Tensor,
    pub(crate) bias: Tensor,
}

/// The matrix and the bias of a linear layer.
pub(crate) struct Linear {
    pub(crate) weight: Matrix,
    pub(crate) bias: Tensor,
}

/// A weight matrix: `[columns, rows]`, inputs and outputs.
#[derive(Clone)]
pub(crate) enum Matrix {
    /// For ggml's products.
    Tensor(Tensor),
    /// For this library's kernels.
    Own(Arc<linear::Matrix>),
}

/// The tensors of one block.
pub(crate) struct LayerWeights {
    pub(crate) attention_norm: Norm,
    pub(crate) attention_qkv: Linear,
    pub(crate) attention_output: Linear,
    pub(crate) feed_forward_norm: Norm,
    pub(crate) feed_forward_up: Linear,
    pub(crate) feed_forward_down: Linear,
}

impl Matrix {
    /// The type of the elements.
    ///
    /// # Errors
    /// As [`Tensor::tensor_type`].
    pub(crate) fn tensor_type(&self) -> Result<TensorType> {
        match self {
            Self::Tensor(tensor) => tensor.tensor_type(),
            Self::Own(matrix) => Ok(type_of(matrix.format())),
        }
    }
}

/// Every tensor of a model, ready to be used by any number of sessions.
pub(crate) struct Weights {
    /// `[width, vocabulary]`: its rows are looked up.
    pub(crate) token_embedding: Matrix,
    pub(crate) position_embedding: Tensor,
    pub(crate) layers: Vec<LayerWeights>,
    pub(crate) output_norm: Norm,
    /// `[width, vocabulary]`, in models that predict tokens; the token embedding itself when the head is
    /// tied.
    pub(crate) head: Option<Matrix>,
    /// Whether every matrix is one of this library's kernels', so that their threads compute all steps.
    pub(crate) own_kernels: bool,
    /// Where those are.
    arena: Option<Arc<linear::Arena>>,
    /// Bytes used where they lie in the file.
    pub(crate) mapped_bytes: usize,
    /// Bytes that were copied or rearranged into host memory of their own.
    pub(crate) own_bytes: usize,
    /// Bytes in the memory of each other device.
    pub(crate) device_bytes: Vec<(Device, usize)>,
}

/// How weights are brought into memory.
#[derive(Clone, Copy)]
pub(crate) struct Placement {
    /// Use the file's bytes where they are, as far as the kernels can.
    pub(crate) in_place: bool,
    /// Move matrices into a layout that is multiplied faster, where there is one.
    pub(crate) repack: bool,
    /// Use this library's kernels where they know every matrix.
    pub(crate) own_kernels: bool,
}

/// Where one tensor goes.
#[derive(Clone, Copy, PartialEq)]
enum Home {
    /// The file's own bytes.
    File,
    /// Memory of this type, which may rearrange.
    Own(BufferType),
    /// A matrix of this library's kernels.
    Kernels(linear::Format),
}

/// A tensor of the table with its bytes in the file and the place it will have.
struct Placed<'a> {
    spec: TensorSpec,
    info: &'a TensorInfo,
    tensor: Tensor,
    home: Home,
    /// What the kernels read, once it is there.
    matrix: Option<Arc<linear::Matrix>>,
}

impl Weights {
    /// Brings the tensors of `gguf` into the memory of their devices. `release` is told each range of the
    /// file whose bytes are no longer needed.
    ///
    /// # Errors
    /// [`Error::Format`] when a tensor is missing or has another shape than the hyperparameters say,
    /// [`Error::Unsupported`] when the device cannot use its type, [`Error::Memory`] when a copy does
    /// not fit.
    pub(crate) fn load(
        gguf: &Gguf,
        hyperparameters: &Hyperparameters,
        devices: &DeviceMap,
        placement: Placement,
        release: &(dyn Fn(Range<usize>) + Sync),
    ) -> Result<Self> {
        // Nothing is taken on the word of the hyperparameters before every tensor is seen.
        let found = find_in(gguf, hyperparameters)?;
        let context = Context::new(found.len() + 2)?;
        let device = devices.cpu();
        let tied = hyperparameters.predicts_tokens() && hyperparameters.tied_head;
        let own_kernels = placement.own_kernels
            && devices.others().is_empty()
            && have_kernels(&found, hyperparameters);
        let loader = Loader {
            device,
            own_kernels,
            tied,
            devices,
            memory: device.buffer_type()?,
            // Helpers of the CPU know matrices only as ggml has them in files.
            repacking: if placement.repack && !devices.has_accelerator() {
                device.repacking_buffer_types()
            } else {
                Vec::new()
            },
            in_place: placement.in_place,
        };
        let mut placed: Vec<Placed<'_>> = found
            .into_iter()
            .filter(|(spec, _)| spec.entry.role != Role::TaskHead)
            .map(|(spec, info)| loader.describe(gguf, &context, spec, info))
            .collect::<Result<_>>()?;
        if let Some(head) = loader.tied_head(&context, &placed)? {
            placed.push(head);
        }
        loader.place_in_file(gguf, &placed)?;
        let arena = place_in_kernels(gguf, &mut placed, release)?;
        let mut own_bytes = arena.as_ref().map_or(0, |arena| arena.bytes());
        for memory in loader.repacking.iter().chain([&loader.memory]) {
            own_bytes += place_own(gguf, &placed, *memory, release)?;
        }
        let mut device_bytes = Vec::new();
        for device in devices.gpus() {
            let bytes = place_own(gguf, &placed, device.buffer_type()?, release)?;
            device_bytes.push((device, bytes));
        }
        let mapped = placed.iter().filter(|placed| placed.home == Home::File);
        let mapped_bytes = mapped.map(|placed| placed.tensor.bytes()).sum();
        let mut weights = Self::arrange(&placed, hyperparameters)?;
        (weights.mapped_bytes, weights.own_bytes) = (mapped_bytes, own_bytes);
        weights.device_bytes = device_bytes;
        weights.own_kernels = own_kernels;
        weights.arena = arena;
        Ok(weights)
    }

    /// Keeps the matrices that were arranged for the kernels from being swapped out.
    ///
    /// # Errors
    /// [`Error::Memory`] when the system refuses.
    pub(crate) fn lock(&self) -> Result<()> {
        self.arena.iter().try_for_each(|arena| {
            arena.lock().map_err(|source| Error::NotLocked {
                bytes: arena.bytes(),
                source,
            })
        })
    }

    /// Gives each tensor its name in the graph.
    fn arrange(placed: &[Placed<'_>], hyperparameters: &Hyperparameters) -> Result<Self> {
        let by_name: HashMap<&str, &Placed<'_>> = placed
            .iter()
            .map(|placed| (placed.spec.name.as_str(), placed))
            .collect();
        let find = |name: &str| {
            by_name
                .get(name)
                .ok_or_else(|| Error::format(name, "the tensor table has no such tensor"))
        };
        let tensor = |name: &str| Ok::<_, Error>(find(name)?.tensor.clone());
        let matrix = |name: &str| Ok::<_, Error>(find(name)?.matrix());
        let norm = |name: &str| -> Result<Norm> {
            Ok(Norm {
                weight: tensor(&format!("{name}.weight"))?,
                bias: tensor(&format!("{name}.bias"))?,
            })
        };
        let linear = |name: &str| -> Result<Linear> {
            Ok(Linear {
                weight: matrix(&format!("{name}.weight"))?,
                bias: tensor(&format!("{name}.bias"))?,
            })
        };
        let layer = |index: usize| -> Result<LayerWeights> {
            let part = |name: &str| format!("blk.{index}.{name}");
            Ok(LayerWeights {
                attention_norm: norm(&part("attn_norm"))?,
                attention_qkv: linear(&part("attn_qkv"))?,
                attention_output: linear(&part("attn_output"))?,
                feed_forward_norm: norm(&part("ffn_norm"))?,
                feed_forward_up: linear(&part("ffn_up"))?,
                feed_forward_down: linear(&part("ffn_down"))?,
            })
        };
        Ok(Self {
            position_embedding: tensor("position_embd.weight")?,
            layers: (0..hyperparameters.n_layer)
                .map(layer)
                .collect::<Result<_>>()?,
            output_norm: norm("output_norm")?,
            head: match hyperparameters.predicts_tokens() {
                // A device of its own has the tied head apart from the embedding.
                true if hyperparameters.tied_head && !by_name.contains_key(HEAD) => {
                    Some(matrix(EMBEDDING)?)
                }
                true => Some(matrix(HEAD)?),
                false => None,
            },
            token_embedding: matrix(EMBEDDING)?,
            own_kernels: false,
            arena: None,
            mapped_bytes: 0,
            own_bytes: 0,
            device_bytes: Vec::new(),
        })
    }
}

impl Placed<'_> {
    fn matrix(&self) -> Matrix {
        match &self.matrix {
            Some(matrix) => Matrix::Own(Arc::clone(matrix)),
            None => Matrix::Tensor(self.tensor.clone()),
        }
    }
}

/// The language-model head's name.
const HEAD: &str = "output.weight";
/// The token embedding's name.
const EMBEDDING: &str = "token_embd.weight";

struct Loader<'d> {
    /// The CPU.
    device: Device,
    /// Whether matrices go to this library's kernels.
    own_kernels: bool,
    /// Whether the head is the token embedding.
    tied: bool,
    devices: &'d DeviceMap,
    memory: BufferType,
    repacking: Vec<BufferType>,
    in_place: bool,
}

impl Loader<'_> {
    /// Describes a tensor of the file and decides where it goes.
    fn describe<'a>(
        &self,
        gguf: &Gguf,
        context: &Arc<Context>,
        spec: TensorSpec,
        info: &'a TensorInfo,
    ) -> Result<Placed<'a>> {
        let vector = spec.entry.role == Role::Vector;
        // The kernels read vectors as f32; the few that are stored otherwise are expanded.
        let tensor_type = if vector {
            TensorType::F32
        } else {
            info.tensor_type
        };
        let shape: Vec<usize> = spec.shape.iter().map(|&n| n as usize).collect();
        let tensor = context.tensor(&spec.name, tensor_type, &shape)?;
        let home = self.home(gguf, info, &spec, vector)?;
        Ok(Placed {
            spec,
            info,
            tensor,
            home,
            matrix: None,
        })
    }

    fn home(
        &self,
        gguf: &Gguf,
        info: &TensorInfo,
        spec: &TensorSpec,
        vector: bool,
    ) -> Result<Home> {
        let aligned = gguf
            .tensor_data(info)
            .as_ptr()
            .addr()
            .is_multiple_of(HOST_ALIGNMENT);
        let as_it_is =
            if self.in_place && aligned && (!vector || info.tensor_type == TensorType::F32) {
                Home::File
            } else {
                Home::Own(self.memory)
            };
        let unsupported = || {
            Error::Unsupported(format!(
                "tensor {} is {}, which {} cannot compute with; convert the model to another type",
                spec.name,
                info.tensor_type.name(),
                self.device.name()
            ))
        };
        let [columns, rows] = match spec.shape[..] {
            [columns, rows] => [columns as usize, rows as usize],
            [columns] => [columns as usize, 1],
            _ => return Err(unsupported()),
        };
        if let Some(home) = self.home_elsewhere(info, spec, [columns, rows])? {
            return Ok(home);
        }
        match spec.entry.role {
            Role::Vector | Role::PositionEmbedding => {
                if !can_dequantize(info.tensor_type) {
                    return Err(unsupported());
                }
            }
            // Its rows are looked up, which ggml's rearranged layouts do not offer.
            Role::TokenEmbedding => {
                if let (true, Some(format)) =
                    (self.own_kernels && self.tied, format_of(info.tensor_type))
                {
                    return Ok(Home::Kernels(format));
                }
                if !self
                    .device
                    .multiplies(self.memory, info.tensor_type, [columns, rows])?
                {
                    return Err(unsupported());
                }
            }
            _ => {
                if let (true, Some(format)) = (self.own_kernels, format_of(info.tensor_type)) {
                    return Ok(Home::Kernels(format));
                }
                for &memory in &self.repacking {
                    if self
                        .device
                        .multiplies(memory, info.tensor_type, [columns, rows])?
                    {
                        return Ok(Home::Own(memory));
                    }
                }
                if !self
                    .device
                    .multiplies(self.memory, info.tensor_type, [columns, rows])?
                {
                    return Err(unsupported());
                }
            }
        }
        Ok(as_it_is)
    }

    /// The memory of the device that computes with a tensor, unless that is the CPU.
    fn home_elsewhere(
        &self,
        info: &TensorInfo,
        spec: &TensorSpec,
        shape: [usize; 2],
    ) -> Result<Option<Home>> {
        let device = match (spec.layer, spec.entry.role) {
            (_, Role::TokenEmbedding | Role::PositionEmbedding) => self.device,
            (Some(layer), _) => self.devices.layer(layer),
            (None, _) => self.devices.head(),
        };
        if device == self.device {
            return Ok(None);
        }
        let memory = device.buffer_type()?;
        let computes = match spec.entry.role {
            Role::Vector => can_dequantize(info.tensor_type),
            _ => device.multiplies(memory, info.tensor_type, shape)?,
        };
        if computes {
            return Ok(Some(Home::Own(memory)));
        }
        tracing::warn!(
            "{} as {} on {} is not there; the CPU computes it",
            spec.name,
            info.tensor_type.name(),
            device.name()
        );
        Ok(None)
    }

    /// The tied head apart from the token embedding, whose rows are looked up on the CPU: a copy for another device that has
    /// the head.
    fn tied_head<'a>(
        &self,
        context: &Arc<Context>,
        placed: &[Placed<'a>],
    ) -> Result<Option<Placed<'a>>> {
        let device = self.devices.head();
        let embedding = placed
            .iter()
            .find(|placed| placed.spec.entry.role == Role::TokenEmbedding);
        let apart = self.tied && device != self.device;
        let Some(embedding) = embedding.filter(|_| apart) else {
            return Ok(None);
        };
        let [columns, rows, ..] = embedding.tensor.shape();
        let tensor_type = embedding.info.tensor_type;
        let mut spec = embedding.spec.clone();
        HEAD.clone_into(&mut spec.name);
        let head = |home| {
            Ok(Some(Placed {
                spec,
                info: embedding.info,
                tensor: context.tensor(HEAD, tensor_type, &[columns, rows])?,
                home,
                matrix: None,
            }))
        };
        let memory = device.buffer_type()?;
        if !device.multiplies(memory, tensor_type, [columns, rows])? {
            tracing::warn!(
                "the head as {} on {} is not there; the CPU computes it",
                tensor_type.name(),
                device.name()
            );
            return Ok(None);
        }
        head(Home::Own(memory))
    }

    /// Points the tensors that stay in the file at its bytes.
    fn place_in_file(&self, gguf: &Gguf, placed: &[Placed<'_>]) -> Result<()> {
        let mut staying = placed
            .iter()
            .filter(|placed| placed.home == Home::File)
            .peekable();
        if staying.peek().is_none() {
            return Ok(());
        }
        let file = Buffer::borrow(self.device, Arc::clone(gguf.file_bytes()))?;
        file.mark_weights();
        staying.try_for_each(|placed| file.place_at(&placed.tensor, placed.info.offset as usize))
    }
}

/// Copies the tensors whose home is `memory` into as few buffers of it as its limit allows, several at a time
/// where the CPU writes them, and gives their bytes in the file back. Returns the bytes taken.
fn place_own(
    gguf: &Gguf,
    placed: &[Placed<'_>],
    memory: BufferType,
    release: &(dyn Fn(Range<usize>) + Sync),
) -> Result<usize> {
    let moving: Vec<&Placed<'_>> = placed
        .iter()
        .filter(|placed| placed.home == Home::Own(memory))
        .collect();
    let mut bytes = 0;
    for group in groups(&moving, memory) {
        let size = buffer::bytes_for(memory, group.iter().map(|placed| &placed.tensor));
        let buffer = Buffer::allocate(memory, size)?;
        buffer.mark_weights();
        for placed in group {
            buffer.place_next(&placed.tensor)?;
        }
        bytes += size;
    }
    let fill = |placed: &&Placed<'_>| {
        let data = gguf.tensor_data(placed.info);
        let stored = placed.info.tensor_type;
        if stored == placed.tensor.tensor_type()? {
            placed.tensor.fill(data)?;
        } else {
            let mut expanded = vec![0.0f32; placed.tensor.elements()];
            dequantize_rows(stored, data, expanded.len(), &mut expanded)?;
            let bytes: Vec<u8> = expanded
                .iter()
                .flat_map(|value| value.to_ne_bytes())
                .collect();
            placed.tensor.fill(&bytes)?;
        }
        let start = placed.info.offset as usize;
        release(start..start + data.len());
        Ok(())
    };
    if memory.is_host() {
        parallel::install(|| moving.par_iter().try_for_each(fill))?;
    } else {
        // There is one way to the device.
        moving.iter().try_for_each(fill)?;
    }
    Ok(bytes)
}

/// Cuts a list of tensors such that each part fits into one buffer.
fn groups<'p, 'a>(moving: &'p [&'p Placed<'a>], memory: BufferType) -> Vec<&'p [&'p Placed<'a>]> {
    let (most, alignment) = (memory.most_bytes(), memory.alignment());
    let mut groups = Vec::new();
    let (mut start, mut bytes) = (0, 0usize);
    for (index, placed) in moving.iter().enumerate() {
        let size = memory
            .tensor_bytes(&placed.tensor)
            .next_multiple_of(alignment);
        if index > start && bytes.saturating_add(size) > most {
            groups.push(&moving[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes = bytes.saturating_add(size);
    }
    if start < moving.len() {
        groups.push(&moving[start..]);
    }
    groups
}
