//! The GGUF file format: versions 2 and 3, little-endian, read and written.
//!
//! A file is a header of typed key-value pairs and tensor descriptions, followed by the tensors'
//! data, each aligned. [`Gguf`] reads one over any bytes (a memory map, a vector, a static);
//! [`GgufHeader`] and [`GgufWriter`] write one. The facts of the format are those of ggml's
//! `gguf.h` and the [specification](https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
//!
//! This room knows bytes, not models: which keys and tensors a GPT-2 has is `model`'s business. It
//! imports nothing of ggml and has no unsafe code. What it reads is untrusted: every count, length
//! and offset is checked against the bytes that are there before it is used, and memory grows with
//! what was read, never with what a field claims.

mod cursor;
mod header;
mod metadata;
mod reader;
mod split;
mod types;
mod value;
mod writer;

pub use header::{GgufHeader, PlannedTensor};
pub use metadata::Metadata;
pub use reader::{Gguf, TensorInfo};
pub(crate) use split::refuse_part;
pub use types::TensorType;
pub use value::{Array, ArrayIter, ArrayRef, Strings, Value, ValueRef, ValueType};
pub use writer::GgufWriter;

/// A whole file in memory: a map, a vector or a static. `as_ref` must return the same bytes every
/// time.
pub type Bytes = std::sync::Arc<dyn AsRef<[u8]> + Send + Sync>;

/// The four bytes a file begins with.
const MAGIC: [u8; 4] = *b"GGUF";
/// The version this library writes.
const VERSION: u32 = 3;
/// The versions this library reads; they differ only in that 3 may be big-endian.
const READABLE_VERSIONS: std::ops::RangeInclusive<u32> = 2..=3;
/// The key that sets the alignment of tensor data; a `u32`.
const ALIGNMENT_KEY: &str = "general.alignment";
/// The alignment without that key.
const DEFAULT_ALIGNMENT: u64 = 32;
/// The alignments allowed: the specification wants a multiple of 8; the upper bound is ours, so
/// that padding cannot be made to dwarf the data.
const ALIGNMENTS: std::ops::RangeInclusive<u64> = 8..=1 << 20;
/// The longest key in bytes, from the specification.
const MAX_KEY_BYTES: u64 = 65_535;
/// The longest tensor name in bytes: ggml keeps 64 with the closing NUL.
const MAX_NAME_BYTES: u64 = 63;
/// The most dimensions a tensor has in ggml.
const MAX_DIMENSIONS: u32 = 4;

/// Why `alignment` cannot be used, if it cannot.
fn check_alignment(alignment: u64) -> Result<(), String> {
    if alignment.is_power_of_two() && ALIGNMENTS.contains(&alignment) {
        return Ok(());
    }
    Err(format!(
        "the alignment must be a power of two from {} to {}, found {alignment}",
        ALIGNMENTS.start(),
        ALIGNMENTS.end()
    ))
}

/// Why `name` cannot be a key or tensor name of at most `longest` bytes, if it cannot: the end of a
/// sentence that begins with the name.
fn check_name(name: &str, longest: u64) -> Result<(), String> {
    if name.is_empty() {
        return Err("is empty".to_owned());
    }
    if name.len() as u64 > longest {
        return Err(format!(
            "is {} bytes long, at most {longest} are allowed",
            name.len()
        ));
    }
    if name.contains('\0') {
        return Err("contains a NUL byte".to_owned());
    }
    Ok(())
}

/// `name` in quotes for a message: control characters escaped, the tail of a long one left out.
fn quoted(name: &str) -> String {
    const LONGEST: usize = 80;
    match name.char_indices().nth(LONGEST) {
        None => format!("{name:?}"),
        Some((end, _)) => format!("{:?}…", name.get(..end).unwrap_or_default()),
    }
}
