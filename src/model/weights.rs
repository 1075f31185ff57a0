//! A model's tensors in memory: in place in the mapped file, or moved to a faster layout.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::Hyperparameters;
use super::in_gguf::find_in;
use super::tensor_table::{Role, TensorSpec};
use crate::error::{Error, Result};
use crate::ggml::buffer::{self, Buffer, HOST_ALIGNMENT};
use crate::ggml::context::{Context, Tensor};
use crate::ggml::device::{BufferType, Device};
use crate::ggml::quantize::{dequantize_rows, has_expansion};
use crate::gguf::{Gguf, TensorInfo, TensorType};
use crate::machine::parallel;

/// Scale and shift of a layer normalization, or the two tensors of a linear layer.
pub(crate) struct Pair {
    pub(crate) weight: Tensor,
    pub(crate) bias: Tensor,
}

/// The tensors of one block.
pub(crate) struct LayerWeights {
    pub(crate) attention_norm: Pair,
    pub(crate) attention_qkv: Pair,
    pub(crate) attention_output: Pair,
    pub(crate) feed_forward_norm: Pair,
    pub(crate) feed_forward_up: Pair,
    pub(crate) feed_forward_down: Pair,
}

/// Every tensor of a model, ready to be used by any number of sessions.
pub(crate) struct Weights {
    pub(crate) token_embedding: Tensor,
    pub(crate) position_embedding: Tensor,
    pub(crate) layers: Vec<LayerWeights>,
    pub(crate) output_norm: Pair,
    /// `[width, vocabulary]`, in models that predict tokens; the token embedding itself when the head is
    /// tied.
    pub(crate) head: Option<Tensor>,
    /// Bytes used where they lie in the file.
    pub(crate) mapped_bytes: usize,
    /// Bytes that were copied or rearranged into memory of their own.
    pub(crate) own_bytes: usize,
}

/// How weights are brought into memory.
#[derive(Clone, Copy)]
pub(crate) struct Placement {
    /// Use the file's bytes where they are, as far as the kernels can.
    pub(crate) in_place: bool,
    /// Move matrices into a layout that ggml multiplies faster, where it has one.
    pub(crate) repack: bool,
}

/// Where one tensor goes.
#[derive(Clone, Copy, PartialEq)]
enum Home {
    /// The file's own bytes.
    File,
    /// Memory of this type, which may rearrange.
    Own(BufferType),
}

/// A tensor of the table with its bytes in the file and the place it will have.
struct Placed<'a> {
    spec: TensorSpec,
    info: &'a TensorInfo,
    tensor: Tensor,
    home: Home,
}

impl Weights {
    /// Brings the tensors of `gguf` into memory for `device`. `release` is told each range of the
    /// file whose bytes are no longer needed.
    ///
    /// # Errors
    /// [`Error::Format`] when a tensor is missing or has another shape than the hyperparameters say,
    /// [`Error::Unsupported`] when the device cannot use its type, [`Error::Memory`] when a copy does
    /// not fit.
    pub(crate) fn load(
        gguf: &Gguf,
        hyperparameters: &Hyperparameters,
        device: Device,
        placement: Placement,
        release: &(dyn Fn(Range<usize>) + Sync),
    ) -> Result<Self> {
        // Nothing is taken on the word of the hyperparameters before every tensor is seen.
        let found = find_in(gguf, hyperparameters)?;
        let context = Context::new(found.len() + 1)?;
        let loader = Loader {
            device,
            memory: device.buffer_type()?,
            repacking: if placement.repack {
                device.repacking_buffer_types()
            } else {
                Vec::new()
            },
            in_place: placement.in_place,
        };
        let placed: Vec<Placed<'_>> = found
            .into_iter()
            .filter(|(spec, _)| spec.entry.role != Role::TaskHead)
            .map(|(spec, info)| loader.describe(gguf, &context, spec, info))
            .collect::<Result<_>>()?;
        loader.place_in_file(gguf, &placed)?;
        let mut own_bytes = 0;
        for memory in loader.repacking.iter().chain([&loader.memory]) {
            own_bytes += place_own(gguf, &placed, *memory, release)?;
        }
        let mapped = placed.iter().filter(|placed| placed.home == Home::File);
        let mapped_bytes = mapped.map(|placed| placed.tensor.bytes()).sum();
        Self::arrange(&placed, hyperparameters, mapped_bytes, own_bytes)
    }

    /// Gives each tensor its name in the graph.
    fn arrange(
        placed: &[Placed<'_>],
        hyperparameters: &Hyperparameters,
        mapped_bytes: usize,
        own_bytes: usize,
    ) -> Result<Self> {
        let by_name: HashMap<&str, &Tensor> = placed
            .iter()
            .map(|placed| (placed.spec.name.as_str(), &placed.tensor))
            .collect();
        let find = |name: &str| {
            by_name
                .get(name)
                .map(|&tensor| tensor.clone())
                .ok_or_else(|| Error::format(name, "the tensor table has no such tensor"))
        };
        let pair = |name: &str| -> Result<Pair> {
            Ok(Pair {
                weight: find(&format!("{name}.weight"))?,
                bias: find(&format!("{name}.bias"))?,
            })
        };
        let layer = |index: usize| -> Result<LayerWeights> {
            let part = |name: &str| pair(&format!("blk.{index}.{name}"));
            Ok(LayerWeights {
                attention_norm: part("attn_norm")?,
                attention_qkv: part("attn_qkv")?,
                attention_output: part("attn_output")?,
                feed_forward_norm: part("ffn_norm")?,
                feed_forward_up: part("ffn_up")?,
                feed_forward_down: part("ffn_down")?,
            })
        };
        let token_embedding = find("token_embd.weight")?;
        Ok(Self {
            position_embedding: find("position_embd.weight")?,
            layers: (0..hyperparameters.layers)
                .map(layer)
                .collect::<Result<_>>()?,
            output_norm: pair("output_norm")?,
            head: match hyperparameters.predicts_tokens() {
                true if hyperparameters.tied_head => Some(token_embedding.clone()),
                true => Some(find("output.weight")?),
                false => None,
            },
            token_embedding,
            mapped_bytes,
            own_bytes,
        })
    }
}

struct Loader {
    device: Device,
    memory: BufferType,
    repacking: Vec<BufferType>,
    in_place: bool,
}

impl Loader {
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
        match spec.entry.role {
            Role::Vector | Role::PositionEmbedding => {
                if !has_expansion(info.tensor_type) {
                    return Err(unsupported());
                }
            }
            // Its rows are looked up, which the rearranged layouts do not offer.
            Role::TokenEmbedding => {
                if !self
                    .device
                    .multiplies(self.memory, info.tensor_type, [columns, rows])?
                {
                    return Err(unsupported());
                }
            }
            _ => {
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

/// Copies the tensors whose home is `memory` into one buffer of it, several at a time, and gives their
/// bytes in the file back. Returns the buffer's bytes.
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
    if moving.is_empty() {
        return Ok(0);
    }
    let bytes = buffer::bytes_for(memory, moving.iter().map(|placed| &placed.tensor));
    let buffer = Buffer::allocate(memory, bytes)?;
    buffer.mark_weights();
    for placed in &moving {
        buffer.place_next(&placed.tensor)?;
    }
    let arrange = |placed: &&Placed<'_>| {
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
    parallel::install(|| moving.par_iter().try_for_each(arrange))?;
    Ok(bytes)
}
