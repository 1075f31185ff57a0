//! The weights of a model in memory: used in place in the mapped file, copied to the memory of
//! their device, or packed for this library's kernels.

mod formats;
mod own;
mod pack;
mod placement;

use std::collections::HashMap;
use std::sync::Arc;

pub(crate) use formats::all_can_be_packed;
pub(super) use formats::type_of;
pub(crate) use placement::LoadOptions;
use placement::{Placement, PlannedTensor, Planner, Release};

use super::device_map::DeviceMap;
use crate::error::{Error, Result};
use crate::ggml::buffer::Buffer;
use crate::ggml::context::{Context, Tensor};
use crate::ggml::device::Device;
use crate::gguf::{Gguf, TensorType};
use crate::spec::tensor_table::{Module, TensorId};
use crate::spec::{Hyperparameters, ModelTensors};
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

/// A weight matrix, `[inputs, outputs]`.
#[derive(Clone)]
pub(crate) enum Matrix {
    /// A tensor of ggml's.
    Ggml(Tensor),
    /// Packed for this library's kernels.
    Packed(Arc<linear::Matrix>),
}

/// The tensors of one layer.
pub(crate) struct LayerWeights {
    pub(crate) attn_norm: Norm,
    pub(crate) attn_qkv: Linear,
    pub(crate) attn_output: Linear,
    pub(crate) ffn_norm: Norm,
    pub(crate) ffn_up: Linear,
    pub(crate) ffn_down: Linear,
}

impl Matrix {
    /// The type of the elements.
    ///
    /// # Errors
    /// As [`Tensor::tensor_type`].
    pub(crate) fn tensor_type(&self) -> Result<TensorType> {
        match self {
            Self::Ggml(tensor) => tensor.tensor_type(),
            Self::Packed(matrix) => Ok(type_of(matrix.format())),
        }
    }
}

/// The tensors of a model's graph, shared by any number of sessions.
pub(crate) struct Weights {
    /// `[n_embd, vocab_size]`: its rows are looked up.
    pub(crate) token_embedding: Matrix,
    pub(crate) position_embedding: Tensor,
    pub(crate) layers: Vec<LayerWeights>,
    pub(crate) output_norm: Norm,
    /// `[n_embd, vocab_size]`, in models that predict tokens; the token embedding itself when the
    /// head is tied.
    pub(crate) head: Option<Matrix>,
    /// Whether every matrix that is multiplied is packed, so that the kernels' pool computes all
    /// steps.
    pub(crate) all_packed: bool,
    /// The packed matrices.
    arena: Option<Arc<linear::Arena>>,
    /// Bytes used in place in the file.
    pub(crate) mapped_bytes: usize,
    /// Bytes copied or packed into host memory.
    pub(crate) own_bytes: usize,
    /// Bytes in the memory of each other device.
    pub(crate) device_bytes: Vec<(Device, usize)>,
}

impl Weights {
    /// Whether [`batch_invariant`](linear::Options) makes a pass over `tokens` tokens take hardly
    /// longer.
    pub(crate) fn are_cheaply_batch_invariant(&self, tokens: usize) -> bool {
        let layers = self.layers.iter().flat_map(|layer| {
            let LayerWeights {
                attn_qkv,
                attn_output,
                ffn_up,
                ffn_down,
                ..
            } = layer;
            [attn_qkv, attn_output, ffn_up, ffn_down].map(|linear| &linear.weight)
        });
        layers.chain(&self.head).all(|matrix| match matrix {
            Matrix::Ggml(_) => false,
            Matrix::Packed(matrix) => matrix.format().is_cheaply_batch_invariant(tokens),
        })
    }

    /// Brings the `tensors` of `gguf` into the memory of their devices.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when a device cannot compute with a tensor's type, [`Error::Memory`]
    /// when a copy does not fit.
    pub(crate) fn load(
        gguf: &Gguf,
        tensors: &ModelTensors<'_>,
        hyperparameters: &Hyperparameters,
        devices: &DeviceMap,
        options: LoadOptions,
        release: &Release<'_>,
    ) -> Result<Self> {
        let context = Context::new(tensors.all().len() + 2)?;
        let planner = Planner::new(tensors, hyperparameters, devices, options)?;
        let mut planned = planner.plan(gguf, &context, tensors)?;
        use_in_place(devices.cpu(), gguf, &planned)?;
        let arena = pack::pack(gguf, &mut planned, release)?;
        let mut own_bytes = arena.as_ref().map_or(0, |arena| arena.bytes());
        for memory in planner.host_memory() {
            own_bytes += own::copy(gguf, &planned, memory, release)?;
        }
        let mut device_bytes = Vec::new();
        for device in devices.gpus() {
            let bytes = own::copy(gguf, &planned, device.buffer_type()?, release)?;
            device_bytes.push((device, bytes));
        }
        let mapped = planned
            .iter()
            .filter(|planned| planned.placement == Placement::Mapped);
        let mapped_bytes = mapped.map(|planned| planned.tensor.bytes()).sum();
        let by_id = ById::new(&planned);
        Ok(Self {
            token_embedding: by_id.matrix(TensorId::TOKEN_EMBEDDING)?,
            position_embedding: by_id.tensor(TensorId::POSITION_EMBEDDING)?,
            layers: (0..hyperparameters.n_layer)
                .map(|layer| by_id.layer(layer))
                .collect::<Result<_>>()?,
            output_norm: by_id.norm(None, Module::OutputNorm)?,
            head: by_id.head(hyperparameters)?,
            all_packed: planner.packs(),
            arena,
            mapped_bytes,
            own_bytes,
            device_bytes,
        })
    }

    /// Keeps the packed matrices from being swapped out.
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
}

/// Points the tensors that are used in place at their bytes in the file.
fn use_in_place(cpu: Device, gguf: &Gguf, planned: &[PlannedTensor<'_>]) -> Result<()> {
    let mut mapped = planned
        .iter()
        .filter(|planned| planned.placement == Placement::Mapped)
        .peekable();
    if mapped.peek().is_none() {
        return Ok(());
    }
    let file = Buffer::borrow(cpu, Arc::clone(gguf.file_bytes()))?;
    file.mark_weights();
    mapped.try_for_each(|planned| file.place_at(&planned.tensor, planned.info.offset as usize))
}

/// The planned tensors by their ids.
struct ById<'p, 'f>(HashMap<TensorId, &'p PlannedTensor<'f>>);

impl<'p, 'f> ById<'p, 'f> {
    fn new(planned: &'p [PlannedTensor<'f>]) -> Self {
        Self(
            planned
                .iter()
                .map(|planned| (planned.id, planned))
                .collect(),
        )
    }

    fn get(&self, id: TensorId) -> Result<&'p PlannedTensor<'f>> {
        self.0
            .get(&id)
            .copied()
            .ok_or_else(|| Error::Internal(format!("the tensor table has no {id:?}")))
    }

    fn tensor(&self, id: TensorId) -> Result<Tensor> {
        Ok(self.get(id)?.tensor.clone())
    }

    fn matrix(&self, id: TensorId) -> Result<Matrix> {
        let planned = self.get(id)?;
        Ok(match &planned.packed {
            Some(matrix) => Matrix::Packed(Arc::clone(matrix)),
            None => Matrix::Ggml(planned.tensor.clone()),
        })
    }

    fn norm(&self, layer: Option<usize>, module: Module) -> Result<Norm> {
        Ok(Norm {
            weight: self.tensor(TensorId::weight(layer, module))?,
            bias: self.tensor(TensorId::bias(layer, module))?,
        })
    }

    fn linear(&self, layer: usize, module: Module) -> Result<Linear> {
        Ok(Linear {
            weight: self.matrix(TensorId::weight(Some(layer), module))?,
            bias: self.tensor(TensorId::bias(Some(layer), module))?,
        })
    }

    fn layer(&self, layer: usize) -> Result<LayerWeights> {
        Ok(LayerWeights {
            attn_norm: self.norm(Some(layer), Module::AttnNorm)?,
            attn_qkv: self.linear(layer, Module::AttnQkv)?,
            attn_output: self.linear(layer, Module::AttnOutput)?,
            ffn_norm: self.norm(Some(layer), Module::FfnNorm)?,
            ffn_up: self.linear(layer, Module::FfnUp)?,
            ffn_down: self.linear(layer, Module::FfnDown)?,
        })
    }

    /// The language-model head. A tied one is the token embedding, unless another device has a
    /// copy.
    fn head(&self, hyperparameters: &Hyperparameters) -> Result<Option<Matrix>> {
        if !hyperparameters.predicts_tokens() {
            return Ok(None);
        }
        let copied = self.0.contains_key(&TensorId::OUTPUT);
        let id = if hyperparameters.tied_head && !copied {
            TensorId::TOKEN_EMBEDDING
        } else {
            TensorId::OUTPUT
        };
        self.matrix(id).map(Some)
    }
}
