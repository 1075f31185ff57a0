//! A GGUF file as the source, to be quantized to another type.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use super::checkpoint_reader::{CheckpointReader, CheckpointTensor};
use crate::error::{Error, Result};
use crate::ggml::map::MappedFile;
use crate::gguf::{Gguf, refuse_part};

/// A mapped GGUF file.
pub(super) struct GgufSource {
    map: Arc<MappedFile>,
    gguf: Gguf,
    tensors: Vec<CheckpointTensor>,
}

impl GgufSource {
    /// Maps and parses the file.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let map = Arc::new(MappedFile::open(path)?);
        let gguf =
            Gguf::parse(map.clone()).map_err(|error| error.within(path.display().to_string()))?;
        refuse_part(&gguf, Some(path))?;
        let tensors = gguf
            .tensors()
            .iter()
            .map(|info| CheckpointTensor {
                name: info.name.clone(),
                dtype: info.tensor_type.name().to_owned(),
                tensor_type: Some(info.tensor_type),
                shape: info.shape.iter().rev().copied().collect(),
                swapped: false,
            })
            .collect();
        Ok(Self { map, gguf, tensors })
    }
}

impl CheckpointReader for GgufSource {
    fn tensors(&self) -> &[CheckpointTensor] {
        &self.tensors
    }

    fn data(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        self.gguf
            .tensors()
            .get(index)
            .map(|info| Cow::Borrowed(self.gguf.tensor_data(info)))
            .ok_or_else(|| Error::Internal(format!("the file has no tensor {index}")))
    }

    fn release(&self, index: usize) {
        if let Some(info) = self.gguf.tensors().get(index) {
            let start = info.offset as usize;
            self.map
                .release(start..start.saturating_add(info.bytes as usize));
        }
    }

    fn gguf(&self) -> Option<&Gguf> {
        Some(&self.gguf)
    }
}
