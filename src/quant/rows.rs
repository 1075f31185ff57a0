//! Rows of f32 values to and from a tensor type.

use half::{bf16, f16};

use super::float16;
use crate::error::{Error, Result};
use crate::ggml::quantize as ggml;
use crate::gguf::TensorType;
use gpt2_kernels::quantize::{self as kernels, Quantizer};

/// The types that this library's kernels quantize to without an importance matrix.
const KERNELS: &[(TensorType, Quantizer)] = &[
    (TensorType::Q4_K, kernels::q4_k),
    (TensorType::Q5_K, kernels::q5_k),
    (TensorType::Q6_K, kernels::q6_k),
];

/// Quantizes rows of `columns` finite values from `source` into `target`.
///
/// `importance` holds one non-negative weight for each column (a row of an importance matrix),
/// which the quantizers of the small types use. May be called from many threads at once, on any
/// whole rows of a tensor: rows do not depend on each other. The bytes are those of ggml's
/// quantizers.
///
/// # Errors
/// [`Error::Argument`] when lengths do not match or `columns` is not a multiple of the type's block
/// size; [`Error::Ggml`] when weights cannot be stored in the type, or not without an importance
/// matrix.
pub fn quantize_rows(
    tensor_type: TensorType,
    source: &[f32],
    columns: usize,
    importance: Option<&[f32]>,
    target: &mut [u8],
) -> Result<()> {
    check_lengths(tensor_type, source.len(), columns, target.len())?;
    match tensor_type {
        TensorType::F32 => {
            for (to, from) in target.as_chunks_mut::<4>().0.iter_mut().zip(source) {
                *to = from.to_le_bytes();
            }
            return Ok(());
        }
        TensorType::F16 => {
            float16::encode::<f16>(source, target);
            return Ok(());
        }
        TensorType::BF16 => {
            float16::encode::<bf16>(source, target);
            return Ok(());
        }
        _ => {}
    }
    let own = KERNELS.iter().find(|(known, _)| *known == tensor_type);
    match (importance, own) {
        (None, Some((_, quantize))) => {
            quantize(source, target);
            Ok(())
        }
        _ => ggml::quantize_rows(tensor_type, source, columns, importance, target),
    }
}

/// Whether [`dequantize_rows`] knows the type.
pub fn can_dequantize(tensor_type: TensorType) -> bool {
    ggml::can_dequantize(tensor_type)
}

/// Dequantizes rows of `columns` elements of `tensor_type` from `source` into `target`.
///
/// # Errors
/// [`Error::Argument`] when lengths do not match or `columns` is not a multiple of the type's block
/// size; [`Error::Ggml`] for a type that cannot be dequantized.
pub fn dequantize_rows(
    tensor_type: TensorType,
    source: &[u8],
    columns: usize,
    target: &mut [f32],
) -> Result<()> {
    check_lengths(tensor_type, target.len(), columns, source.len())?;
    match tensor_type {
        TensorType::F32 => {
            for (to, from) in target.iter_mut().zip(source.as_chunks::<4>().0) {
                *to = f32::from_le_bytes(*from);
            }
        }
        TensorType::F16 => float16::decode::<f16>(source, target),
        TensorType::BF16 => float16::decode::<bf16>(source, target),
        other => return ggml::dequantize_rows(other, source, columns, target),
    }
    Ok(())
}

/// Checks that `values` are whole rows of `columns` and take `bytes` as `tensor_type`.
fn check_lengths(
    tensor_type: TensorType,
    values: usize,
    columns: usize,
    bytes: usize,
) -> Result<()> {
    let refuse = |message| Err(Error::Argument(message));
    if columns == 0 || !values.is_multiple_of(columns) {
        return refuse(format!(
            "expected whole rows of {columns} values, found {values}"
        ));
    }
    let row_bytes = tensor_type.row_bytes(columns as u64)?;
    let needed = row_bytes.checked_mul((values / columns) as u64);
    if needed != Some(bytes as u64) {
        return refuse(format!(
            "{values} values as {}: expected {} bytes, found {bytes}",
            tensor_type.name(),
            needed.map_or_else(|| "too many".to_owned(), |needed| needed.to_string())
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows with what makes a quantizer take another branch: zeros, one sign only, one large value,
    /// equal values, tiny and large ones.
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
    fn the_kernels_give_ggmls_bytes() {
        let rows = rows();
        for &(tensor_type, quantize) in KERNELS {
            let block = tensor_type.block_bytes();
            let bytes = rows.len() / 256 * block;
            let (mut ours, mut theirs) = (vec![0; bytes], vec![0; bytes]);
            quantize(&rows, &mut ours);
            ggml::quantize_rows(tensor_type, &rows, 256, None, &mut theirs).unwrap();
            for (index, (ours, theirs)) in ours.chunks(block).zip(theirs.chunks(block)).enumerate()
            {
                assert_eq!(ours, theirs, "{} block {index}", tensor_type.name());
            }
        }
    }

    #[test]
    fn f16_and_bf16_are_ggmls() {
        let rows = rows();
        for tensor_type in [TensorType::F16, TensorType::BF16] {
            let (mut ours, mut theirs) = (vec![0; 2 * rows.len()], vec![0; 2 * rows.len()]);
            quantize_rows(tensor_type, &rows, 256, None, &mut ours).unwrap();
            ggml::quantize_rows(tensor_type, &rows, 256, None, &mut theirs).unwrap();
            assert!(ours == theirs, "{}", tensor_type.name());
            let (mut back, mut expected) = (vec![0.0; rows.len()], vec![0.0; rows.len()]);
            dequantize_rows(tensor_type, &ours, 256, &mut back).unwrap();
            ggml::dequantize_rows(tensor_type, &ours, 256, &mut expected).unwrap();
            assert!(back == expected, "{}", tensor_type.name());
        }
    }

    #[test]
    fn lengths_that_do_not_match_are_refused() {
        let refusal = |values: usize, columns, bytes| {
            let source = vec![0.0; values];
            let mut target = vec![0; bytes];
            quantize_rows(TensorType::Q8_0, &source, columns, None, &mut target)
                .unwrap_err()
                .to_string()
        };
        assert!(refusal(64, 0, 68).contains("whole rows of 0"));
        assert!(refusal(96, 64, 102).contains("whole rows of 64 values, found 96"));
        assert!(refusal(64, 32, 67).contains("expected 68 bytes, found 67"));
        assert!(refusal(48, 48, 51).contains("48"));
    }
}
