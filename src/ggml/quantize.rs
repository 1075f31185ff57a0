//! Rows of numbers to and from ggml's quantized types.

use std::ffi::c_void;

use super::{sys, types};
use crate::error::{Error, Result};
use crate::gguf::TensorType;
use gpt2_kernels::quantize;

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
            "{elements} elements are not whole rows of {columns}"
        ));
    }
    let row = tensor_type.row_bytes(columns as u64)? as usize;
    match (elements / columns).checked_mul(row) {
        Some(bytes) => Ok(bytes),
        None => refuse(format!("{elements} elements are too many")),
    }
}

/// Types that no rows can be made of: of activations, integers and doubles.
const NOT_QUANTIZED_TO: &[TensorType] = &[
    TensorType::Q8_1,
    TensorType::Q8_K,
    TensorType::I8,
    TensorType::I16,
    TensorType::I32,
    TensorType::I64,
    TensorType::F64,
];

/// Types that this library's kernels quantize to, faster than ggml and with the same bytes.
const OWN: &[(TensorType, quantize::Quantizer)] = &[
    (TensorType::Q4_K, quantize::q4_k),
    (TensorType::Q5_K, quantize::q5_k),
    (TensorType::Q6_K, quantize::q6_k),
];

/// Quantizes rows of `columns` finite numbers from `source` into `target`.
///
/// `importance` holds one non-negative weight for each column (an importance matrix's row), which the
/// quantizers of the small types use. May be called from many threads at once, on any part of a
/// tensor that is whole rows: rows do not depend on each other.
///
/// # Errors
/// [`Error::Ggml`] when lengths do not fit each other, the columns are not whole blocks, or the type
/// is not one to store weights in or can only be made with an importance matrix and none is given.
pub fn quantize_rows(
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
    // ggml aborts when it is asked for one of these.
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
    if importance.is_none()
        && let Some((_, quantizer)) = OWN.iter().find(|(own, _)| *own == tensor_type)
    {
        quantizer(source, target);
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
    // their types, and importance, when given, one number a column. ggml guards its lazily made
    // tables with a lock of its own.
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

/// Whether rows of `tensor_type` can be expanded to f32.
pub fn has_expansion(tensor_type: TensorType) -> bool {
    let expands = |raw| {
        // SAFETY: ggml_get_type_traits gives a pointer into a constant table.
        unsafe { (*sys::ggml_get_type_traits(raw)).to_float }.is_some()
    };
    tensor_type == TensorType::F32 || types::to_raw(tensor_type).is_ok_and(expands)
}

/// Expands rows of `columns` elements of `tensor_type` from `source` into `target`, as f32.
///
/// # Errors
/// [`Error::Ggml`] when lengths do not fit each other or the type has no expansion to f32.
pub fn dequantize_rows(
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
    let Some(expand) = (unsafe { (*sys::ggml_get_type_traits(raw)).to_float }) else {
        return refuse(format!("{} cannot be expanded to f32", tensor_type.name()));
    };
    // SAFETY: source holds exactly the blocks of target's elements, as checked above.
    unsafe {
        expand(
            source.as_ptr().cast::<c_void>(),
            target.as_mut_ptr(),
            target.len() as i64,
        );
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows with what makes a quantizer take another way: zeros, one sign only, one large number, equal
    /// numbers, tiny and large ones.
    fn rows() -> Vec<f32> {
        let mut state = 7u32;
        let mut uniform = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let mut rows = Vec::new();
        for scale in [1.0, 0.02, 1e-6, 1e-18, 1e-30, 1e4, 0.0] {
            for shape in 0..6 {
                for index in 0..256 {
                    let x: f32 = scale * (uniform() + uniform() + uniform());
                    rows.push(match shape {
                        1 => x.abs(),
                        2 => -x.abs(),
                        3 if index % 37 == 0 => 300.0 * x,
                        4 => scale,
                        5 if index / 16 % 2 == 0 => 0.0,
                        _ => x,
                    });
                }
            }
        }
        rows
    }

    #[test]
    fn our_quantizers_give_ggmls_bytes() {
        let rows = rows();
        for &(tensor_type, quantizer) in OWN {
            let block = tensor_type.block_bytes();
            let bytes = rows.len() / 256 * block;
            let (mut ours, mut theirs) = (vec![0; bytes], vec![0; bytes]);
            quantizer(&rows, &mut ours);
            let raw = types::to_raw(tensor_type).unwrap();
            assert_eq!(quantize_by_ggml(raw, &rows, 256, None, &mut theirs), bytes);
            for (number, (ours, theirs)) in ours.chunks(block).zip(theirs.chunks(block)).enumerate()
            {
                assert_eq!(ours, theirs, "{} block {number}", tensor_type.name());
            }
        }
    }
}
