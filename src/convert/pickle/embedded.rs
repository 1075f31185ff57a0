//! A storage inside a pickle: a stream of its own, as `PyTorch` wrote before 1.6.

use super::machine::Machine;
use super::value::{Storage, Value};
use crate::error::{Error, Result};

/// How the stream before `PyTorch` 1.6 begins: a pickle of protocol 2 with an integer of 10 bytes.
pub(super) const STREAM: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// The one storage of a stream that is inside a pickle, `start` bytes from its beginning.
///
/// # Errors
/// [`Error::Format`] when the bytes are anything else.
pub(super) fn storage_of(bytes: &[u8], start: usize) -> Result<Storage<'_>> {
    let broken = |message: &str| {
        Error::format(
            format!("storage inside the pickle, byte {start}"),
            message.to_owned(),
        )
    };
    let mut position = 0;
    let mut next = || {
        let mut machine = Machine::for_storage();
        let rest = bytes.get(position..).unwrap_or_default();
        let (value, length) = machine.run(rest)?;
        position += length;
        Ok((machine, value))
    };
    if !bytes.starts_with(STREAM) {
        return Err(broken("expected PyTorch's stream"));
    }
    for _ in ["magic number", "version", "system"] {
        next()?;
    }
    let (machine, root) = next()?;
    let (list, keys) = next()?;
    let (Value::Storage(number), Some([_])) = (root, list.sequence(keys)) else {
        return Err(broken("expected one storage"));
    };
    let storage = machine.storages().get(number).copied();
    let storage = storage.ok_or_else(|| broken("expected one storage"))?;
    let rest = bytes.get(position..).unwrap_or_default();
    let (count, rest) = rest
        .split_first_chunk::<8>()
        .ok_or_else(|| broken("the file ends before its elements; it is truncated"))?;
    let needed = storage.element.tensor_bytes(&[storage.elements]);
    if u64::from_le_bytes(*count) != storage.elements || needed != Some(rest.len() as u64) {
        return Err(broken("has another number of elements than it says"));
    }
    Ok(Storage {
        inside: Some((start + position + 8, rest.len())),
        ..storage
    })
}
