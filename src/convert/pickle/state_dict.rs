//! The tensors of a pickle: its root must be a dictionary of tensors by name.

use super::machine::Machine;
use super::value::Value;
use super::view::{Packed, location};
use crate::convert::stored_tensor::{MAX_NAME_BYTES, MAX_TENSORS, StoredTensor};
use crate::error::{Error, Result};

/// The tensors of the dictionary `root`; `packed` finds a storage's bytes by its key.
///
/// # Errors
/// [`Error::Unsupported`] when `root` is anything else; [`Error::Format`] for a tensor that is not
/// inside its storage.
pub(super) fn tensors<'p>(
    machine: &Machine,
    root: Value,
    packed: impl Fn(&str) -> Option<&'p Packed>,
) -> Result<Vec<StoredTensor>> {
    let entries = machine.dictionary(root).ok_or_else(|| {
        Error::Unsupported(format!(
            "the pickle is {}; expected a state dict of tensors",
            kind(root)
        ))
    })?;
    if entries.len() > MAX_TENSORS {
        return Err(Error::format(
            "state dict",
            format!("more than {MAX_TENSORS} tensors, which no GPT-2 has"),
        ));
    }
    let mut tensors = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let name = match key {
            Value::Text(name) if name.len() <= MAX_NAME_BYTES => name,
            other => {
                return Err(Error::Unsupported(format!(
                    "the state dict has {} for a name; expected a text of at most \
                     {MAX_NAME_BYTES} bytes",
                    kind(*other)
                )));
            }
        };
        let (tensor, storage) = machine.tensor(*value).ok_or_else(|| {
            Error::Unsupported(format!(
                "expected a tensor under '{name}', found {}; save the model's state dict alone",
                kind(*value)
            ))
        })?;
        let broken = |message: String| Error::format(format!("tensor '{name}'"), message);
        let inside = storage.inside.map(|(start, length)| Packed {
            range: start..start + length,
            deflated: false,
            bytes: length as u64,
        });
        let packed = inside
            .as_ref()
            .or_else(|| packed(storage.key))
            .ok_or_else(|| broken(format!("its storage '{}' is missing", storage.key)))?;
        let needed = storage.element.tensor_bytes(&[storage.elements]);
        if needed != Some(packed.bytes) {
            return Err(broken(format!(
                "its storage '{}' has {} bytes, expected {} elements of {}",
                storage.key, packed.bytes, storage.elements, storage.element.name
            )));
        }
        tensors.push(StoredTensor {
            name: (*name).to_owned(),
            element: storage.element,
            shape: tensor.shape.clone(),
            swapped: false,
            location: location(tensor, storage, packed).map_err(broken)?,
        });
    }
    Ok(tensors)
}

/// What a value is, for messages.
pub(super) fn kind(value: Value) -> &'static str {
    match value {
        Value::None => "nothing",
        Value::Bool(_) | Value::Integer(_) | Value::Number => "a number",
        Value::Text(_) | Value::Bytes(..) => "a text",
        Value::Sequence(_) => "a list",
        Value::Dictionary(_) => "a dictionary",
        Value::Global(_) => "a class",
        Value::Object(_) => "an object",
        Value::Storage(_) => "a storage",
        Value::Tensor(_) => "a tensor",
    }
}
