//! ggml's ids of tensor types, checked against this library's own table.

use super::sys;
use crate::error::{Error, Result};
use crate::gguf::TensorType;

/// ggml's number for `tensor_type`, which is the number GGUF files use.
///
/// # Errors
/// [`Error::Ggml`] when the linked ggml has no such type or lays its blocks out otherwise.
pub(crate) fn to_raw(tensor_type: TensorType) -> Result<sys::ggml_type> {
    let raw = tensor_type.id();
    let refuse = |message| {
        Err(Error::Ggml {
            operation: "tensor type",
            message,
        })
    };
    if raw >= sys::GGML_TYPE_COUNT {
        return refuse(format!("this ggml does not know {}", tensor_type.name()));
    }
    // SAFETY: `raw` is below GGML_TYPE_COUNT; both functions read a constant table.
    let (block_size, block_bytes) =
        unsafe { (sys::ggml_blck_size(raw) as usize, sys::ggml_type_size(raw)) };
    if (block_size, block_bytes) != (tensor_type.block_size(), tensor_type.block_bytes()) {
        return refuse(format!(
            "{}: expected blocks of {} elements in {} bytes, this ggml has {block_size} in \
             {block_bytes}",
            tensor_type.name(),
            tensor_type.block_size(),
            tensor_type.block_bytes()
        ));
    }
    Ok(raw)
}

/// The type with ggml's number `raw`.
///
/// # Errors
/// [`Error::Ggml`] when this library's table has no such number.
pub(crate) fn from_raw(raw: sys::ggml_type) -> Result<TensorType> {
    TensorType::from_id(raw).ok_or_else(|| Error::Ggml {
        operation: "tensor type",
        message: format!("no tensor type has number {raw}"),
    })
}
