//! What a parser finds in a file: names, types, shapes and locations of tensors.

use std::ops::Range;

use serde_json::{Map, Value as Json};

use super::element_type::ElementType;
#[cfg(any(feature = "pickle", feature = "msgpack"))]
use crate::error::Error;
use crate::error::Result;

/// The most tensors accepted; a model of the most layers accepted has fewer.
pub(super) const MAX_TENSORS: usize = 1 << 17;
/// The longest name, or part of one, accepted from formats in which many tensors can share the
/// bytes of a name.
pub(super) const MAX_NAME_BYTES: usize = 256;

/// Finds the tensors in the bytes of a file. Reads no elements.
pub(super) type Parser = fn(&[u8]) -> Result<Parsed>;

/// What a parser finds in a file.
#[derive(Default)]
pub(super) struct Parsed {
    /// The tensors.
    pub tensors: Vec<StoredTensor>,
    /// What the file itself says of the model, under the names of `config.json`.
    pub config: Option<FileConfig>,
    /// What the user should know, a sentence each.
    pub notes: Vec<String>,
}

/// The configuration inside a file of weights.
#[derive(Debug, Clone)]
pub(super) struct FileConfig {
    /// Where it is in the file, for messages.
    pub place: &'static str,
    /// The fields, under the names of `config.json`.
    pub fields: Map<String, Json>,
}

impl From<Vec<StoredTensor>> for Parsed {
    fn from(tensors: Vec<StoredTensor>) -> Self {
        Self {
            tensors,
            ..Self::default()
        }
    }
}

/// A tensor as a parser finds it.
pub(super) struct StoredTensor {
    /// Its name, as a `PyTorch` checkpoint would have it.
    pub name: String,
    /// The type of its elements.
    pub element: &'static ElementType,
    /// Its shape as stored, slowest axis first.
    pub shape: Vec<u64>,
    /// See [`CheckpointTensor::swapped`](super::checkpoint_reader::CheckpointTensor::swapped).
    pub swapped: bool,
    /// Where its elements are.
    pub location: Location,
}

/// Where the elements of a tensor are.
pub(super) enum Location {
    /// In these bytes of the file, in order.
    Contiguous(Range<usize>),
    /// The same, and their masked CRC-32C as TensorFlow computes it.
    Summed(Range<usize>, u32),
    /// In pieces, or compressed: they are gathered when they are read.
    #[cfg_attr(
        not(any(feature = "pickle", feature = "msgpack")),
        expect(dead_code, reason = "the formats that need it are not compiled in")
    )]
    Scattered(Box<dyn Gather>),
}

/// Elements that are not contiguous in the file.
pub(super) trait Gather: Send + Sync {
    /// The bytes of the file that hold them, from the first to the last.
    fn range(&self) -> Range<usize>;

    /// The elements in order.
    ///
    /// # Errors
    /// [`Error::Format`](crate::Error::Format) when the file does not contain what its header says;
    /// [`Error::Memory`](crate::Error::Memory).
    fn gather(&self, file: &[u8]) -> Result<Vec<u8>>;
}

/// An empty vector with capacity for `bytes`.
///
/// # Errors
/// [`Error::Memory`] when the allocation fails.
#[cfg(any(feature = "pickle", feature = "msgpack"))]
pub(super) fn with_capacity(bytes: usize) -> Result<Vec<u8>> {
    let mut elements = Vec::new();
    elements
        .try_reserve_exact(bytes)
        .map_err(|error| Error::Memory(format!("{bytes} bytes for one tensor: {error}")))?;
    Ok(elements)
}
