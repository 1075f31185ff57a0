//! Reads a file: header, metadata, and the offset of each tensor.

use super::cursor::Cursor;
use super::metadata::{Metadata, find, sorted_by};
use super::{
    ALIGNMENT_KEY, Bytes, DEFAULT_ALIGNMENT, MAGIC, MAX_DIMENSIONS, MAX_NAME_BYTES,
    READABLE_VERSIONS, TensorType, check_alignment, quoted,
};
use crate::error::{Error, Result};
use crate::recognize::{FileKind, recognize};

/// The smallest tensor description: length and one byte of name, one dimension, type, offset.
const SMALLEST_TENSOR: u64 = 8 + 1 + 4 + 8 + 4 + 8;

/// A GGUF file whose header was read and checked. The data stays where it is.
#[derive(Clone)]
pub struct Gguf {
    bytes: Bytes,
    version: u32,
    alignment: u64,
    data_start: u64,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    /// Places in `tensors`, sorted by name.
    by_name: Vec<u32>,
}

/// What the header says of a tensor, checked: the data is inside the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name, at most 63 bytes.
    pub name: String,
    /// One to four extents, none of them 0, in ggml's order: columns, which are contiguous,
    /// first.
    pub shape: Vec<u64>,
    /// How the elements are stored.
    pub tensor_type: TensorType,
    /// Where the data begins, in bytes from the beginning of the file; aligned.
    pub offset: u64,
    /// Bytes of the data.
    pub bytes: u64,
}

impl TensorInfo {
    /// Elements in a row.
    pub fn columns(&self) -> u64 {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Rows of all higher dimensions together.
    pub fn rows(&self) -> u64 {
        self.shape.iter().skip(1).product()
    }

    /// Elements in all.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
}

impl Gguf {
    /// Reads the header of the file that `bytes` is, in time that follows the header's size; no
    /// tensor data is touched.
    ///
    /// # Errors
    /// [`Error::Format`] with the place in the file if it is not GGUF, truncated or inconsistent;
    /// [`Error::Unsupported`] for version 1, versions above 3 and big-endian files.
    pub fn parse(bytes: Bytes) -> Result<Self> {
        let length = (*bytes).as_ref().len() as u64;
        Self::parse_beginning(bytes, length)
    }

    /// Reads the header of a file of `length` bytes of which `bytes` is only the beginning; what
    /// lies beyond has no data.
    ///
    /// # Errors
    /// As [`Gguf::parse`], also when the header is longer than `bytes`.
    pub fn parse_beginning(bytes: Bytes, length: u64) -> Result<Self> {
        let shared = Bytes::clone(&bytes);
        let file = bytes.as_ref().as_ref();
        let mut cursor = Cursor::new(file);
        let version = read_version(&mut cursor, file)?;
        let tensor_count = cursor.u64("the count of tensors")?;
        let key_count = cursor.u64("the count of metadata keys")?;
        cursor.check_count(tensor_count, SMALLEST_TENSOR, "tensors")?;

        let metadata = Metadata::parse(&mut cursor, key_count, shared)?;
        let alignment = read_alignment(&metadata)?;
        let tensor_count = cursor.check_count(tensor_count, SMALLEST_TENSOR, "tensors")?;
        let mut tensors = Vec::new();
        for number in 0..tensor_count {
            tensors.push(read_tensor(&mut cursor, number, alignment)?);
        }
        let by_name = sorted_by(&tensors, |tensor| &tensor.name).map_err(|name| {
            Error::format(format!("tensor {}", quoted(name)), "it is there twice")
        })?;

        let data_start = (cursor.position() as u64).next_multiple_of(alignment);
        place_data(&mut tensors, data_start, length)?;
        Ok(Self {
            bytes,
            version,
            alignment,
            data_start,
            metadata,
            tensors,
            by_name,
        })
    }

    /// The version of the format, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What every tensor's offset is a multiple of, in bytes.
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// Where the tensors' data begins, in bytes from the beginning of the file. Without tensors
    /// this may be beyond the end.
    pub fn data_start(&self) -> u64 {
        self.data_start
    }

    /// The whole file.
    pub fn file_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The key-value pairs.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The tensors in the order of the header.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        find(&self.tensors, &self.by_name, name, |tensor| &tensor.name)
    }

    /// The data of `tensor`, one of [`Self::tensors`]; empty for one of a larger file.
    pub fn tensor_data(&self, tensor: &TensorInfo) -> &[u8] {
        let end = tensor.offset.saturating_add(tensor.bytes);
        let range = usize::try_from(tensor.offset)
            .ok()
            .zip(usize::try_from(end).ok());
        range
            .and_then(|(start, end)| self.bytes.as_ref().as_ref().get(start..end))
            .unwrap_or_default()
    }
}

impl std::fmt::Debug for Gguf {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Gguf")
            .field("version", &self.version)
            .field("alignment", &self.alignment)
            .field("metadata", &self.metadata)
            .field("tensors", &self.tensors)
            .finish_non_exhaustive()
    }
}

/// The magic bytes and the version behind them.
fn read_version(cursor: &mut Cursor<'_>, all: &[u8]) -> Result<u32> {
    let magic = cursor.take(MAGIC.len() as u64, "the magic number of GGUF")?;
    if let Some(kind) = recognize(all).filter(|kind| *kind != FileKind::Gguf) {
        return Err(Error::NotGguf {
            place: "byte 0".to_owned(),
            found: kind.what(),
            convertible: kind.is_checkpoint(),
        });
    }
    if magic != MAGIC {
        return Err(Error::format(
            "byte 0",
            format!(
                "this is not a GGUF file: expected the bytes \"GGUF\", found \"{}\"",
                magic.escape_ascii()
            ),
        ));
    }
    let version = cursor.u32("the version")?;
    if READABLE_VERSIONS.contains(&version) {
        return Ok(version);
    }
    // Big-endian files have the same magic bytes and the version byte-swapped.
    let reason = if (1..=*READABLE_VERSIONS.end()).contains(&version.swap_bytes()) {
        "this GGUF file is big-endian; turn it around with `gguf-convert-endian` of the Python \
         package gguf"
            .to_owned()
    } else {
        format!(
            "GGUF version {version}; versions {} to {} are read, convert the checkpoint again",
            READABLE_VERSIONS.start(),
            READABLE_VERSIONS.end()
        )
    };
    Err(Error::Unsupported(reason))
}

fn read_alignment(metadata: &Metadata) -> Result<u64> {
    let Some(alignment) = metadata.u32(ALIGNMENT_KEY)? else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    check_alignment(alignment.into())
        .map_err(|message| Error::format(format!("key {ALIGNMENT_KEY:?}"), message))?;
    Ok(alignment.into())
}

/// The description of tensor `number`; its offset is still relative to the data.
fn read_tensor(cursor: &mut Cursor<'_>, number: usize, alignment: u64) -> Result<TensorInfo> {
    let name = cursor
        .name("the name", MAX_NAME_BYTES)
        .map_err(|error| error.within(format!("tensor {number}")))?;
    read_layout(cursor, name, alignment)
        .map_err(|error| error.within(format!("tensor {}", quoted(name))))
}

fn read_layout(cursor: &mut Cursor<'_>, name: &str, alignment: u64) -> Result<TensorInfo> {
    let dimensions = cursor.u32("the number of dimensions")?;
    if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
        return Err(cursor.error(format!(
            "a tensor has 1 to {MAX_DIMENSIONS} dimensions, found {dimensions}"
        )));
    }
    let shape = (0..dimensions)
        .map(|_| cursor.u64("the shape"))
        .collect::<Result<Vec<u64>>>()?;
    if shape.contains(&0) {
        return Err(cursor.error(format!("the shape {shape:?} has a dimension of 0")));
    }
    let type_id = cursor.u32("the tensor type")?;
    let tensor_type = TensorType::from_id(type_id)
        .ok_or_else(|| cursor.error(format!("{type_id} is not a tensor type that ggml has")))?;
    let bytes = tensor_type
        .layout_bytes(&shape)
        .map_err(|message| cursor.error(message))?;
    let offset = cursor.u64("the offset of the data")?;
    if offset % alignment != 0 {
        return Err(cursor.error(format!(
            "the data's offset {offset} is not a multiple of the alignment {alignment}"
        )));
    }
    Ok(TensorInfo {
        name: name.to_owned(),
        shape,
        tensor_type,
        offset,
        bytes,
    })
}

/// Makes offsets absolute; refuses data outside the file and tensors that share bytes.
fn place_data(tensors: &mut [TensorInfo], data_start: u64, file_bytes: u64) -> Result<()> {
    for tensor in tensors.iter_mut() {
        let start = data_start.checked_add(tensor.offset);
        let end = start.and_then(|start| start.checked_add(tensor.bytes));
        match (start, end) {
            (Some(start), Some(end)) if end <= file_bytes => tensor.offset = start,
            _ => {
                return Err(Error::format(
                    format!("tensor {}", quoted(&tensor.name)),
                    format!(
                        "its {} bytes of data begin {} bytes after byte {data_start}, but the file \
                         ends at byte {file_bytes}; it is truncated or the offset is wrong",
                        tensor.bytes, tensor.offset
                    ),
                ));
            }
        }
    }
    let mut in_order: Vec<&TensorInfo> = tensors.iter().collect();
    in_order.sort_unstable_by_key(|tensor| tensor.offset);
    for (first, second) in in_order.iter().zip(in_order.iter().skip(1)) {
        if first.offset + first.bytes > second.offset {
            return Err(Error::format(
                format!("tensor {}", quoted(&second.name)),
                format!(
                    "its data begins at byte {}, inside the data of tensor {}",
                    second.offset,
                    quoted(&first.name)
                ),
            ));
        }
    }
    Ok(())
}
