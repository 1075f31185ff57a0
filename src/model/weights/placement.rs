//! Where each tensor of a model goes, decided before anything is copied.

use std::ops::Range;
use std::sync::Arc;

use super::formats::{all_can_be_packed, format_of};
use crate::error::{Error, Result};
use crate::ggml::buffer::HOST_ALIGNMENT;
use crate::ggml::context::{Context, Tensor};
use crate::ggml::device::{BufferType, Device};
use crate::gguf::{Gguf, TensorInfo, TensorType};
use crate::model::device_map::DeviceMap;
use crate::quant::can_dequantize;
use crate::spec::tensor_table::{Module, TensorId, TensorSpec};
use crate::spec::{Hyperparameters, ModelTensor, ModelTensors};
use gpt2_kernels::linear;

/// How weights are brought into memory.
#[derive(Clone, Copy)]
pub(crate) struct LoadOptions {
    /// Use the file's bytes in place where that is possible.
    pub(crate) in_place: bool,
    /// Let ggml repack matrices into layouts that are multiplied faster.
    pub(crate) repack: bool,
    /// Pack the matrices for this library's kernels when they have one for each.
    pub(crate) pack: bool,
}

/// Receives each range of the file whose bytes are no longer needed.
pub(super) type Release<'r> = dyn Fn(Range<usize>) + Sync + 'r;

/// Where one tensor goes.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Placement {
    /// It is used in place in the file.
    Mapped,
    /// It is copied to memory of this type, in which ggml may repack it.
    Copied(BufferType),
    /// It is packed for this library's kernels.
    Packed(linear::Format),
}

/// A tensor of the graph, described to ggml, with its bytes in the file and its placement.
pub(super) struct PlannedTensor<'a> {
    pub(super) id: TensorId,
    pub(super) info: &'a TensorInfo,
    pub(super) tensor: Tensor,
    pub(super) placement: Placement,
    /// The packed matrix, once it is there.
    pub(super) packed: Option<Arc<linear::Matrix>>,
}

/// What the graph does with a tensor, which decides what can be done to its layout.
#[derive(Clone, Copy, PartialEq)]
enum Use {
    /// It is added to or multiplied with activations element by element, as f32, or its rows are.
    Elementwise,
    /// Its rows are looked up.
    Lookup,
    /// Its rows are looked up, and activations are multiplied with it: the embedding of a tied
    /// head.
    LookupAndProduct,
    /// Activations are multiplied with it.
    Product,
}

/// Decides the placement of tensors.
pub(super) struct Planner<'d> {
    cpu: Device,
    devices: &'d DeviceMap,
    /// Whether the head is the token embedding.
    tied: bool,
    in_place: bool,
    /// Whether matrices are packed.
    pack: bool,
    /// The CPU's plain memory.
    memory: BufferType,
    /// Memory of the CPU in which ggml repacks matrices, the fastest first.
    repacking: Vec<BufferType>,
}

impl<'d> Planner<'d> {
    pub(super) fn new(
        tensors: &ModelTensors<'_>,
        hyperparameters: &Hyperparameters,
        devices: &'d DeviceMap,
        options: LoadOptions,
    ) -> Result<Self> {
        let cpu = devices.cpu();
        // Accelerators of the CPU read matrices in the layout of files alone.
        let repacks = options.repack && !devices.has_accelerator();
        Ok(Self {
            cpu,
            devices,
            tied: hyperparameters.predicts_tokens() && hyperparameters.tied_head,
            in_place: options.in_place,
            pack: options.pack
                && devices.others().is_empty()
                && all_can_be_packed(tensors, hyperparameters),
            memory: cpu.buffer_type()?,
            repacking: if repacks {
                cpu.repacking_buffer_types()
            } else {
                Vec::new()
            },
        })
    }

    /// Whether matrices are packed for this library's kernels.
    pub(super) fn packs(&self) -> bool {
        self.pack
    }

    /// The kinds of memory of this machine that tensors may be copied to.
    pub(super) fn host_memory(&self) -> impl Iterator<Item = BufferType> {
        self.repacking.iter().chain([&self.memory]).copied()
    }

    /// Describes the tensors of the graph in `context` and decides where they go.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the CPU cannot compute with a tensor's type.
    pub(super) fn plan<'a>(
        &self,
        gguf: &Gguf,
        context: &Arc<Context>,
        tensors: &ModelTensors<'a>,
    ) -> Result<Vec<PlannedTensor<'a>>> {
        let mut planned: Vec<PlannedTensor<'a>> = tensors
            .all()
            .iter()
            .filter(|tensor| tensor.spec.id.module != Module::TaskHead)
            .map(|tensor| self.plan_tensor(gguf, context, tensor))
            .collect::<Result<_>>()?;
        if let Some(embedding) = tensors.get(TensorId::TOKEN_EMBEDDING) {
            planned.extend(self.copy_of_tied_head(context, embedding)?);
        }
        Ok(planned)
    }

    fn plan_tensor<'a>(
        &self,
        gguf: &Gguf,
        context: &Arc<Context>,
        ModelTensor { spec, info }: &ModelTensor<'a>,
    ) -> Result<PlannedTensor<'a>> {
        // Vectors are computed with as f32; the few that are stored otherwise are dequantized.
        let tensor_type = if spec.is_vector() {
            TensorType::F32
        } else {
            info.tensor_type
        };
        let shape: Vec<usize> = spec.shape.iter().map(|&size| size as usize).collect();
        Ok(PlannedTensor {
            id: spec.id,
            info,
            tensor: context.tensor(&spec.name, tensor_type, &shape)?,
            placement: self.placement(gguf, spec, info)?,
            packed: None,
        })
    }

    fn placement(&self, gguf: &Gguf, spec: &TensorSpec, info: &TensorInfo) -> Result<Placement> {
        let used = self.use_of(spec);
        if let Some(memory) = self.device_memory(spec, info, used)? {
            return Ok(Placement::Copied(memory));
        }
        if let Some(format) = self.packed_format(info, used) {
            return Ok(Placement::Packed(format));
        }
        if let Some(memory) = self.repacking_memory(spec, info, used)? {
            return Ok(Placement::Copied(memory));
        }
        if !computes(self.cpu, self.memory, spec, info, used)? {
            return Err(Error::Unsupported(format!(
                "tensor {} is {}, which {} cannot compute with; convert the model to another type",
                spec.name,
                info.tensor_type.name(),
                self.cpu.name()
            )));
        }
        Ok(if self.can_be_used_in_place(gguf, spec, info) {
            Placement::Mapped
        } else {
            Placement::Copied(self.memory)
        })
    }

    fn use_of(&self, spec: &TensorSpec) -> Use {
        match spec.id.module {
            Module::TokenEmbedding if self.tied => Use::LookupAndProduct,
            Module::TokenEmbedding => Use::Lookup,
            Module::PositionEmbedding => Use::Elementwise,
            _ if spec.is_vector() => Use::Elementwise,
            _ => Use::Product,
        }
    }

    /// The memory of the device that computes with a tensor, unless that is the CPU.
    fn device_memory(
        &self,
        spec: &TensorSpec,
        info: &TensorInfo,
        used: Use,
    ) -> Result<Option<BufferType>> {
        let device = match (spec.id.layer, spec.id.module) {
            (_, Module::TokenEmbedding | Module::PositionEmbedding) => self.cpu,
            (Some(layer), _) => self.devices.layer(layer),
            (None, _) => self.devices.head(),
        };
        if device == self.cpu {
            return Ok(None);
        }
        let memory = device.buffer_type()?;
        if computes(device, memory, spec, info, used)? {
            return Ok(Some(memory));
        }
        warn_of_the_cpu(&spec.name, info.tensor_type, device);
        Ok(None)
    }

    /// The format in which a matrix is packed, if it is.
    fn packed_format(&self, info: &TensorInfo, used: Use) -> Option<linear::Format> {
        let multiplied = matches!(used, Use::Product | Use::LookupAndProduct);
        format_of(info.tensor_type).filter(|_| self.pack && multiplied)
    }

    /// The memory in which ggml repacks a matrix. Rows of repacked matrices cannot be looked up.
    fn repacking_memory(
        &self,
        spec: &TensorSpec,
        info: &TensorInfo,
        used: Use,
    ) -> Result<Option<BufferType>> {
        if used != Use::Product {
            return Ok(None);
        }
        for &memory in &self.repacking {
            if computes(self.cpu, memory, spec, info, used)? {
                return Ok(Some(memory));
            }
        }
        Ok(None)
    }

    fn can_be_used_in_place(&self, gguf: &Gguf, spec: &TensorSpec, info: &TensorInfo) -> bool {
        let address = gguf.tensor_data(info).as_ptr().addr();
        self.in_place
            && address.is_multiple_of(HOST_ALIGNMENT)
            && (!spec.is_vector() || info.tensor_type == TensorType::F32)
    }

    /// A copy of a tied head for the device that has the head; the token embedding's rows are
    /// looked up on the CPU. `None` when the CPU has the head too.
    fn copy_of_tied_head<'a>(
        &self,
        context: &Arc<Context>,
        ModelTensor { spec, info }: &ModelTensor<'a>,
    ) -> Result<Option<PlannedTensor<'a>>> {
        let device = self.devices.head();
        if !self.tied || device == self.cpu {
            return Ok(None);
        }
        let memory = device.buffer_type()?;
        if !computes(device, memory, spec, info, Use::Product)? {
            warn_of_the_cpu("the head", info.tensor_type, device);
            return Ok(None);
        }
        let name = TensorId::OUTPUT.gguf_name();
        Ok(Some(PlannedTensor {
            id: TensorId::OUTPUT,
            info,
            tensor: context.tensor(&name, info.tensor_type, &columns_and_rows(spec))?,
            placement: Placement::Copied(memory),
            packed: None,
        }))
    }
}

/// Whether `device` computes with the tensor in `memory` of its own.
fn computes(
    device: Device,
    memory: BufferType,
    spec: &TensorSpec,
    info: &TensorInfo,
    used: Use,
) -> Result<bool> {
    match used {
        Use::Elementwise => Ok(can_dequantize(info.tensor_type)),
        _ => device.multiplies(memory, info.tensor_type, columns_and_rows(spec)),
    }
}

/// The two axes of a matrix; one row for a vector.
fn columns_and_rows(spec: &TensorSpec) -> [usize; 2] {
    let rows = spec.shape.get(1).copied().unwrap_or(1);
    [spec.columns() as usize, rows as usize]
}

fn warn_of_the_cpu(name: &str, tensor_type: TensorType, device: Device) {
    tracing::warn!(
        "{} does not compute {name} as {}; the CPU computes it",
        device.name(),
        tensor_type.name()
    );
}
