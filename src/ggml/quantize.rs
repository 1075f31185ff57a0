//! ggml's quantizers, made safe: rows of values to and from its tensor types.
//!
//! [`crate::quant`] decides which code quantizes which type and is what the other rooms call.

use std::ffi::c_void;

use super::{sys, types};
use crate::error::{Error, Result};
use crate::gguf::TensorType;

/// Checks the lengths and gives the bytes of `rows × columns` elements.
fn expect_bytes(
    operation: &'static str,
    tensor_type: TensorType,
    elements: usize,
    columns: usize,
) -> Result<usize> {
    let refuse = |message| Err(Error::Ggml { operation, message });
    if columns == 0 || !elements.is_multiple_of(columns) {
        return refuse(format!(
            "{elements} elements are not a multiple of {columns} columns"
        ));
    }
    let row = tensor_type.row_bytes(columns as u64)? as usize;
    match (elements / columns).checked_mul(row) {
        Some(bytes) => Ok(bytes),
        None => refuse(format!(
            "{elements} elements: the size in bytes is out of range"
        )),
    }
}

/// Types that ggml makes no rows of: those of activations, integers and f64.
const NOT_QUANTIZED_TO: &[TensorType] = &[
    TensorType::Q8_1,
    TensorType::Q8_K,
    TensorType::I8,
    TensorType::I16,
    TensorType::I32,
    TensorType::I64,
    TensorType::F64,
];

/// Quantizes rows of `columns` finite values from `source` into `target`; see
/// [`crate::quant::quantize_rows`].
///
/// # Errors
/// [`Error::Ggml`] when lengths do not match, `columns` is not a multiple of the block size, or
/// ggml does not quantize to the type, or not without an importance matrix.
pub(crate) fn quantize_rows(
    tensor_type: TensorType,
    source: &[f32],
    columns: usize,
    importance: Option<&[f32]>,
    target: &mut [u8],
) -> Result<()> {
    const OPERATION: &str = "quantize";
    let refuse = |message| {
        Err(Error::Ggml {
            operation: OPERATION,
            message,
        })
    };
    let bytes = expect_bytes(OPERATION, tensor_type, source.len(), columns)?;
    if target.len() != bytes {
        return refuse(format!(
            "expected {bytes} bytes for the result, found {}",
            target.len()
        ));
    }
    if let Some(importance) = importance
        && importance.len() != columns
    {
        return refuse(format!(
            "expected {columns} importances, found {}",
            importance.len()
        ));
    }
    // ggml aborts on these.
    if NOT_QUANTIZED_TO.contains(&tensor_type) {
        return refuse(format!(
            "{} rows cannot be made from f32",
            tensor_type.name()
        ));
    }
    let raw = types::to_raw(tensor_type)?;
    // SAFETY: reads a constant table; `raw` is a valid type.
    if importance.is_none() && unsafe { sys::ggml_quantize_requires_imatrix(raw) } {
        return refuse(format!("{} needs an importance matrix", tensor_type.name()));
    }
    if source.is_empty() {
        return Ok(());
    }
    let written = quantize_by_ggml(raw, source, columns, importance, target);
    if written != bytes {
        return refuse(format!("expected {bytes} bytes from ggml, found {written}"));
    }
    Ok(())
}

/// Bytes written. The caller has checked that everything fits.
fn quantize_by_ggml(
    raw: sys::ggml_type,
    source: &[f32],
    columns: usize,
    importance: Option<&[f32]>,
    target: &mut [u8],
) -> usize {
    // SAFETY: source and target were checked to hold exactly `rows` rows of `columns` elements in
    // their types, and importance, when given, one value for each column. ggml guards its lazily
    // made tables with a lock of its own.
    unsafe {
        sys::ggml_quantize_chunk(
            raw,
            source.as_ptr(),
            target.as_mut_ptr().cast::<c_void>(),
            0,
            (source.len() / columns) as i64,
            columns as i64,
            importance.map_or(std::ptr::null(), <[f32]>::as_ptr),
        )
    }
}

/// Whether rows of `tensor_type` can be dequantized.
pub(crate) fn can_dequantize(tensor_type: TensorType) -> bool {
    let dequantizes = |raw| {
        // SAFETY: ggml_get_type_traits gives a pointer into a constant table.
        unsafe { (*sys::ggml_get_type_traits(raw)).to_float }.is_some()
    };
    tensor_type == TensorType::F32 || types::to_raw(tensor_type).is_ok_and(dequantizes)
}

/// Dequantizes rows of `columns` elements of `tensor_type` from `source` into `target`.
///
/// # Errors
/// [`Error::Ggml`] when lengths do not match or the type cannot be dequantized.
pub(crate) fn dequantize_rows(
    tensor_type: TensorType,
    source: &[u8],
    columns: usize,
    target: &mut [f32],
) -> Result<()> {
    const OPERATION: &str = "dequantize";
    let refuse = |message| {
        Err(Error::Ggml {
            operation: OPERATION,
            message,
        })
    };
    let bytes = expect_bytes(OPERATION, tensor_type, target.len(), columns)?;
    if source.len() != bytes {
        return refuse(format!("expected {bytes} bytes, found {}", source.len()));
    }
    if tensor_type == TensorType::F32 {
        for (to, from) in target.iter_mut().zip(source.as_chunks::<4>().0) {
            *to = f32::from_le_bytes(*from);
        }
        return Ok(());
    }
    let raw = types::to_raw(tensor_type)?;
    // SAFETY: ggml_get_type_traits gives a pointer into a constant table.
    let Some(dequantize) = (unsafe { (*sys::ggml_get_type_traits(raw)).to_float }) else {
        return refuse(format!("{} cannot be dequantized", tensor_type.name()));
    };
    // SAFETY: source holds exactly the blocks of target's elements, as checked above.
    unsafe {
        dequantize(
            source.as_ptr().cast::<c_void>(),
            target.as_mut_ptr(),
            target.len() as i64,
        );
    };
    Ok(())
}
