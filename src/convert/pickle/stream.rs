//! What `PyTorch` wrote before 1.6: five pickles one after another (a magic number, the version,
//! the system, the state dict, the keys of the storages), then each storage as its number of
//! elements (i64) and the elements.

use std::collections::HashMap;

use super::STREAM;
use super::checkpoint::contents;
use super::machine::Machine;
use super::value::{Storage, Value};
use super::view::Packed;
use crate::convert::element_type::ElementType;
use crate::convert::stored_tensor::Parsed;
use crate::error::{Error, Result};

/// The one version of the stream there was.
const VERSION: i64 = 1001;

/// The tensors of a stream.
///
/// # Errors
/// As in [`super::parse`].
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed> {
    let mut position = 0;
    let mut next = |what: &str| {
        let mut machine = Machine::new();
        let rest = bytes.get(position..).unwrap_or_default();
        let (value, length) = machine
            .run(rest)
            .map_err(|error| error.within(format!("{what} at byte {position}")))?;
        position += length;
        Ok((machine, value))
    };
    next("magic number")?;
    let (_, version) = next("version")?;
    if !matches!(version, Value::Integer(VERSION)) {
        return Err(Error::Unsupported(format!(
            "version {version:?} of PyTorch's stream; expected {VERSION}"
        )));
    }
    let (system, about) = next("system")?;
    let little_endian = |(key, value): &(Value, Value)| {
        matches!(
            (key, value),
            (Value::Text("little_endian"), Value::Bool(false))
        )
    };
    if system
        .dictionary(about)
        .unwrap_or_default()
        .iter()
        .any(little_endian)
    {
        return Err(Error::Unsupported(
            "a checkpoint in big-endian byte order".to_owned(),
        ));
    }
    let (machine, root) = next("state dict")?;
    // Their places would be counted from the state dict's own pickle.
    if machine
        .storages()
        .iter()
        .any(|storage| storage.inside.is_some())
    {
        return Err(Error::format("state dict", "has storages inside it"));
    }
    let (list, keys) = next("keys")?;
    let keys = list
        .sequence(keys)
        .ok_or_else(|| Error::format("keys", "expected a list of the storages' keys"))?;
    let storages = storages(bytes, position, &machine, keys)?;
    contents(&machine, root, |key| storages.get(key))
}

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

/// Where each storage's elements are.
fn storages<'a>(
    bytes: &[u8],
    mut position: usize,
    machine: &Machine<'a>,
    keys: &[Value<'a>],
) -> Result<HashMap<&'a str, Packed>> {
    let elements: HashMap<&str, &ElementType> = machine
        .storages()
        .iter()
        .map(|storage| (storage.key, storage.element))
        .collect();
    let mut places = HashMap::new();
    for key in keys {
        let Value::Text(key) = *key else {
            return Err(Error::format("keys", "expected texts"));
        };
        let broken = |message: &str| Error::format(format!("storage '{key}'"), message);
        let element = elements
            .get(key)
            .ok_or_else(|| broken("no tensor refers to it"))?;
        let rest = bytes.get(position..).unwrap_or_default();
        let (count, rest) = rest
            .split_first_chunk::<8>()
            .ok_or_else(|| broken("the file ends before it; it is truncated"))?;
        let length = u64::from_le_bytes(*count)
            .checked_mul(element.bytes)
            .filter(|length| *length <= rest.len() as u64)
            .ok_or_else(|| broken("is longer than the file; it is truncated"))?;
        position += 8;
        let range = position..position + length as usize;
        position = range.end;
        let packed = Packed {
            range,
            deflated: false,
            bytes: length,
        };
        if places.insert(key, packed).is_some() {
            return Err(broken("appears twice"));
        }
    }
    Ok(places)
}
