//! One tensor from its source to the output: rows in parallel, a bounded part at a time, the error
//! of each block measured while its source is still in the cache.

use rayon::prelude::*;

use super::source_rows::SourceTensor;
use crate::checksum::Checksum;
use crate::error::{Error, Result};
use crate::gguf::TensorType;
use crate::quant::measure::{SquaredError, squared_difference, sum_of_squares};
use crate::quant::{dequantize_rows, quantize_rows};

/// Elements one task handles at a time; as f32 they fit a core's own cache.
const BLOCK_ELEMENTS: usize = 1 << 15;
/// Elements that are encoded before they are written.
const SLAB_ELEMENTS: usize = 1 << 23;

/// What is known of a tensor once it is written.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Measured {
    /// Root mean square of the differences to the source, relative to that of the source.
    pub relative_error: f64,
    /// Checksum of the bytes written.
    pub checksum: u64,
}

/// A tensor that is to be encoded.
pub(super) struct EncodeJob<'a> {
    /// Its name, for messages.
    pub name: &'a str,
    /// Its elements in the checkpoint.
    pub source: SourceTensor<'a>,
    /// The type it gets.
    pub target_type: TensorType,
    /// One weight for each of its columns: a row of the importance matrix.
    pub importance: Option<&'a [f32]>,
}

/// Buffers of one thread, reused for every block.
#[derive(Default)]
struct Scratch {
    rows: Vec<f32>,
    strip: Vec<f32>,
    decoded: Vec<f32>,
}

impl EncodeJob<'_> {
    /// Encodes the tensor and passes its bytes to `write` in order.
    ///
    /// # Errors
    /// [`Error::Format`] when the source has a value that is not finite, or one outside the target
    /// type's range; the errors of `write`.
    pub(super) fn run(&self, mut write: impl FnMut(&[u8]) -> Result<()>) -> Result<Measured> {
        let SourceTensor { rows, columns, .. } = self.source;
        let row_bytes = self.target_type.row_bytes(columns as u64)? as usize;
        let columns = columns.max(1);
        let block_rows = (BLOCK_ELEMENTS / columns).min(rows).max(1);
        let slab_rows = (SLAB_ELEMENTS / columns / block_rows).max(1) * block_rows;
        let mut slab = Vec::new();
        let mut squares = SquaredError::default();
        let mut checksum = Checksum::default();
        let mut first = 0;
        while first < rows {
            let count = slab_rows.min(rows - first);
            slab.resize(count * row_bytes, 0);
            let parts: Vec<SquaredError> = slab
                .par_chunks_mut(block_rows * row_bytes)
                .enumerate()
                .map_init(Scratch::default, |scratch, (index, block)| {
                    self.encode_block(first + index * block_rows, block, scratch)
                })
                .collect::<Result<_>>()?;
            // Added in order, so that the result does not depend on the number of threads.
            squares = parts.into_iter().fold(squares, SquaredError::plus);
            checksum.update(&slab);
            write(&slab)?;
            first += count;
        }
        Ok(Measured {
            relative_error: squares.relative(),
            checksum: checksum.finish(),
        })
    }

    /// Encodes rows `first..` into `block`, which holds whole rows.
    fn encode_block(
        &self,
        first: usize,
        block: &mut [u8],
        scratch: &mut Scratch,
    ) -> Result<SquaredError> {
        let columns = self.source.columns;
        let row_bytes = self.target_type.row_bytes(columns as u64)? as usize;
        let elements = block.len() / row_bytes * columns;
        scratch.rows.resize(elements, 0.0);
        self.source
            .read_rows(first, &mut scratch.rows, &mut scratch.strip)?;
        let source = scratch.rows.as_slice();
        let source_squares = sum_of_squares(source);
        if !source_squares.is_finite() {
            return Err(self.not_finite(first, source));
        }
        // The same type in the same order: the bytes are copied.
        let is_as_stored = !self.source.transposed && self.source.products.is_empty();
        if self.target_type == self.source.tensor_type && is_as_stored {
            block.copy_from_slice(self.source.raw_rows(first, block.len() / row_bytes)?);
            return Ok(SquaredError {
                difference: 0.0,
                source: source_squares,
            });
        }
        quantize_rows(self.target_type, source, columns, self.importance, block)?;
        if self.target_type == TensorType::F32 {
            return Ok(SquaredError {
                difference: 0.0,
                source: source_squares,
            });
        }
        scratch.decoded.resize(elements, 0.0);
        dequantize_rows(self.target_type, block, columns, &mut scratch.decoded)?;
        let difference = squared_difference(source, &scratch.decoded);
        if !difference.is_finite() {
            return Err(Error::format(
                format!("tensor '{}'", self.name),
                format!(
                    "has values too large for {}; choose bf16 or f32 for it",
                    self.target_type.name()
                ),
            ));
        }
        Ok(SquaredError {
            difference,
            source: source_squares,
        })
    }

    /// Names the row and column of the first value that is not finite.
    fn not_finite(&self, first: usize, source: &[f32]) -> Error {
        let place = format!("tensor '{}'", self.name);
        match source.iter().position(|value| !value.is_finite()) {
            Some(index) => Error::format(
                place,
                format!(
                    "the source has {} in row {}, column {}; the checkpoint is damaged",
                    source.get(index).copied().unwrap_or_default(),
                    first + index / self.source.columns,
                    index % self.source.columns
                ),
            ),
            None => Error::format(
                place,
                "the source has values whose squares overflow; the checkpoint is damaged",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::quant::measure::error_bound;

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    fn run(values: &[f32], target_type: TensorType) -> Result<(Measured, Vec<u8>)> {
        let bytes = bytes(values);
        let shape = (2, values.len() / 2);
        let source = SourceTensor::new("w", &bytes, TensorType::F32, shape, false)?;
        let mut out = Vec::new();
        let job = EncodeJob {
            name: "w",
            source,
            target_type,
            importance: None,
        };
        let measured = job.run(|bytes| {
            out.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok((measured, out))
    }

    fn waves(count: usize) -> Vec<f32> {
        (0..count)
            .map(|index| (index as f32 * 0.7).sin() + 0.3 * (index as f32 * 0.13).cos())
            .collect()
    }

    #[test]
    fn f16_is_rounded_to_nearest() {
        let values = waves(600);
        let (measured, out) = run(&values, TensorType::F16).unwrap();
        let expected: Vec<u8> = values
            .iter()
            .flat_map(|x| f16::from_f32(*x).to_le_bytes())
            .collect();
        assert_eq!(out, expected);
        assert!(measured.relative_error > 0.0 && measured.relative_error < 5e-4);
    }

    #[test]
    fn every_type_stays_within_its_bound() {
        let values = waves(1024);
        for file_type in super::super::file_types::FILE_TYPES {
            let (measured, _) = run(&values, file_type.base).unwrap();
            let bound = error_bound(file_type.base);
            assert!(
                measured.relative_error <= bound,
                "{}: {} > {bound}",
                file_type.name(),
                measured.relative_error
            );
        }
    }

    #[test]
    fn values_that_are_not_finite_are_located() {
        let mut values = waves(64);
        if let Some(value) = values.get_mut(40) {
            *value = f32::NAN;
        }
        let message = run(&values, TensorType::Q8_0).unwrap_err().to_string();
        assert!(
            message.contains("'w'") && message.contains("row 1, column 8"),
            "{message}"
        );
    }

    #[test]
    fn values_beyond_f16_are_refused() {
        let mut values = waves(64);
        if let Some(value) = values.get_mut(3) {
            *value = 1e6;
        }
        let message = run(&values, TensorType::F16).unwrap_err().to_string();
        assert!(message.contains("too large for f16"), "{message}");
        assert!(run(&values, TensorType::BF16).is_ok());
    }
}
