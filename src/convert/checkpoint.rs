//! What a source of weights offers, whatever its format, and how one is chosen for a path.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::formats::weights_in;
use super::gguf_source::GgufSource;
use super::mapped::MappedCheckpoint;
use crate::error::{Error, Result};
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
    /// Whether its axes stand in the reverse of `PyTorch`'s order.
    pub swapped: bool,
}

impl CheckpointTensor {
    /// The shape `PyTorch` would give it.
    pub(super) fn torch_shape(&self) -> Vec<u64> {
        let mut shape = self.shape.clone();
        if self.swapped {
            shape.reverse();
        }
        shape
    }
}

/// A file (or several) with weights. Reads nothing but names until data is asked for.
pub(super) trait CheckpointReader: Send + Sync {
    /// Every tensor, in a fixed order.
    fn tensors(&self) -> &[CheckpointTensor];

    /// The elements of tensor number `index`, row-major and little-endian: borrowed when the file
    /// holds them so.
    ///
    /// # Errors
    /// [`Error::Format`] when the file does not hold what it announced.
    fn data(&self, index: usize) -> Result<Cow<'_, [u8]>>;

    /// Says that tensor number `index` is not needed for now, so that its memory can go.
    fn release(&self, index: usize);

    /// The header of a source that is a GGUF file already: its metadata is carried over, and its
    /// names and orientation are the output's own.
    fn gguf(&self) -> Option<&Gguf> {
        None
    }
}

/// A source found at a path.
pub(super) struct Source {
    /// The weights.
    pub reader: Box<dyn CheckpointReader>,
    /// The folder with configuration and tokenizer.
    pub folder: PathBuf,
    /// What messages call the source, and what the model is named after.
    pub name: String,
}

impl Source {
    /// Opens a Hugging Face folder, a weights file in one, or a GGUF file.
    ///
    /// # Errors
    /// [`Error::Io`] when nothing is there; [`Error::Unsupported`] for a format that is not read;
    /// [`Error::Format`] for a broken file.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(|source| Error::io(path, source))?;
        let file = if metadata.is_dir() {
            weights_in(path)?
        } else {
            path.to_path_buf()
        };
        let folder = match file.parent() {
            Some(parent) if parent != Path::new("") => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        let file_name = file
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let reader: Box<dyn CheckpointReader> = match extension(&file_name) {
            "gguf" => Box::new(GgufSource::open(&file)?),
            "json" => Box::new(MappedCheckpoint::open_sharded(&file)?),
            _ => Box::new(MappedCheckpoint::open(&file)?),
        };
        let name = if reader.gguf().is_some() {
            file_name.trim_end_matches(".gguf").to_owned()
        } else {
            folder_name(&folder)
        };
        Ok(Self {
            reader,
            folder,
            name,
        })
    }
}

fn extension(file_name: &str) -> &str {
    file_name
        .rsplit_once('.')
        .map_or("", |(_, extension)| extension)
}

/// The last component of the folder's full path.
fn folder_name(folder: &Path) -> String {
    folder
        .canonicalize()
        .ok()
        .and_then(|full| {
            full.file_name()
                .map(|name| name.to_string_lossy().into_owned())
        })
        .unwrap_or_else(|| "gpt2".to_owned())
}
