//! What every source of weights offers, whatever its format.

use std::borrow::Cow;

use super::stored_tensor::FileConfig;
use crate::error::Result;
use crate::gguf::{Gguf, TensorType};

/// A tensor of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CheckpointTensor {
    /// Its name as the file has it.
    pub name: String,
    /// Its type as the file names it.
    pub dtype: String,
    /// The same as one of ggml's types, when there is one.
    pub tensor_type: Option<TensorType>,
    /// Its shape as stored, row-major: slowest axis first.
    pub shape: Vec<u64>,
    /// Whether its axes are in the reverse of `PyTorch`'s order.
    pub swapped: bool,
}

impl CheckpointTensor {
    /// Its shape in `PyTorch`'s order.
    pub(super) fn torch_shape(&self) -> Vec<u64> {
        let mut shape = self.shape.clone();
        if self.swapped {
            shape.reverse();
        }
        shape
    }
}

/// One or several files with weights. Only names and shapes are read before [`Self::data`] is
/// called.
pub(super) trait CheckpointReader: Send + Sync {
    /// Every tensor, in a fixed order.
    fn tensors(&self) -> &[CheckpointTensor];

    /// The elements of tensor `index`, row-major and little-endian; borrowed when the file has them
    /// in that form.
    ///
    /// # Errors
    /// [`Error::Format`](crate::Error::Format) when the file does not contain what its header says.
    fn data(&self, index: usize) -> Result<Cow<'_, [u8]>>;

    /// Releases the pages of tensor `index`.
    fn release(&self, index: usize);

    /// The configuration inside the weights' own file, of formats that have one.
    fn config(&self) -> Option<&FileConfig> {
        None
    }

    /// What the user should know of the files, a sentence each.
    fn notes(&self) -> &[String] {
        &[]
    }

    /// The header of a source that is a GGUF file already: its metadata is carried over, and its
    /// names and orientation are the output's own.
    fn gguf(&self) -> Option<&Gguf> {
        None
    }
}
