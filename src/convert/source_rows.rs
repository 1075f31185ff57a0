//! Rows of a checkpoint's tensor as f32, in GGUF's orientation.

use super::lora::product::{Product, merge};
use crate::error::{Error, Result};
use crate::gguf::TensorType;
use crate::quant::dequantize_rows;

/// A tensor's elements as stored in the checkpoint.
#[derive(Clone, Copy)]
pub(super) struct SourceTensor<'a> {
    /// Row-major elements.
    pub data: &'a [u8],
    /// Their type.
    pub tensor_type: TensorType,
    /// Rows in GGUF's orientation.
    pub rows: usize,
    /// Columns in GGUF's orientation.
    pub columns: usize,
    /// Whether the elements are stored as `[columns, rows]`.
    pub transposed: bool,
    /// What is added to its rows.
    pub products: &'a [Product],
}

/// Elements along each side of the square that is transposed at once: a cache line of f32.
const TILE: usize = 16;

impl<'a> SourceTensor<'a> {
    /// Checks that the data is as long as the shape says.
    ///
    /// # Errors
    /// [`Error::Format`] naming the tensor.
    pub(super) fn new(
        name: &str,
        data: &'a [u8],
        tensor_type: TensorType,
        (rows, columns): (usize, usize),
        transposed: bool,
    ) -> Result<Self> {
        let needed = if transposed {
            tensor_type
                .row_bytes(rows as u64)?
                .checked_mul(columns as u64)
        } else {
            tensor_type
                .row_bytes(columns as u64)?
                .checked_mul(rows as u64)
        };
        if needed != Some(data.len() as u64) {
            return Err(Error::format(
                format!("tensor '{name}'"),
                format!("expected {needed:?} bytes of data, found {}", data.len()),
            ));
        }
        Ok(Self {
            data,
            tensor_type,
            rows,
            columns,
            transposed,
            products: &[],
        })
    }

    /// The bytes of rows `first..first + count` of a tensor that is not transposed.
    pub(super) fn raw_rows(&self, first: usize, count: usize) -> Result<&'a [u8]> {
        let row = self.tensor_type.row_bytes(self.columns as u64)? as usize;
        self.slice(first * row, count * row)
    }

    /// Writes rows `first..` into `target`, which holds whole rows. `strip` is scratch space.
    ///
    /// # Errors
    /// [`Error::Ggml`] when the elements cannot be dequantized.
    pub(super) fn read_rows(
        &self,
        first: usize,
        target: &mut [f32],
        strip: &mut Vec<f32>,
    ) -> Result<()> {
        self.stored_rows(first, target, strip)?;
        if !self.products.is_empty() {
            merge(self.products, first, self.columns, target);
        }
        Ok(())
    }

    /// The rows without what is added to them.
    fn stored_rows(&self, first: usize, target: &mut [f32], strip: &mut Vec<f32>) -> Result<()> {
        let count = target.len() / self.columns;
        if !self.transposed {
            return decode(
                self.tensor_type,
                self.raw_rows(first, count)?,
                self.columns,
                target,
            );
        }
        // `count` rows of the result are a strip of `count` columns of what is stored; it is taken
        // TILE stored rows at a time, each of which is one column of the result.
        let element = self.tensor_type.block_bytes();
        strip.resize(TILE * count, 0.0);
        let mut column = 0;
        while column < self.columns {
            let height = TILE.min(self.columns - column);
            for (offset, line) in strip.chunks_exact_mut(count).take(height).enumerate() {
                let start = ((column + offset) * self.rows + first) * element;
                decode(
                    self.tensor_type,
                    self.slice(start, count * element)?,
                    count,
                    line,
                )?;
            }
            scatter(strip, count, height, column, self.columns, target);
            column += height;
        }
        Ok(())
    }

    fn slice(&self, start: usize, length: usize) -> Result<&'a [u8]> {
        start
            .checked_add(length)
            .and_then(|end| self.data.get(start..end))
            .ok_or_else(|| Error::Internal("rows outside the tensor were read".to_owned()))
    }
}

/// Puts `height` lines of `count` elements as columns `column..` into rows of `columns` elements.
fn scatter(
    strip: &[f32],
    count: usize,
    height: usize,
    column: usize,
    columns: usize,
    target: &mut [f32],
) {
    for (row, line) in target.chunks_exact_mut(columns).enumerate() {
        let Some(cells) = line.get_mut(column..column + height) else {
            return;
        };
        for (cell, value) in cells.iter_mut().zip(strip.iter().skip(row).step_by(count)) {
            *cell = *value;
        }
    }
}

/// Elements of `tensor_type` as f32. Only checkpoints have f64.
fn decode(tensor_type: TensorType, bytes: &[u8], columns: usize, target: &mut [f32]) -> Result<()> {
    if tensor_type != TensorType::F64 {
        return dequantize_rows(tensor_type, bytes, columns, target);
    }
    for (to, from) in target.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *to = f64::from_le_bytes(*from) as f32;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    fn values(count: usize) -> Vec<f32> {
        (0..count).map(|index| index as f32 * 0.5 - 7.0).collect()
    }

    #[test]
    fn a_transposed_matrix_is_read_from_every_row_on() {
        let (rows, columns) = (37, 53);
        // Stored as [columns, rows].
        let stored = values(rows * columns);
        let bytes: Vec<u8> = stored.iter().flat_map(|x| x.to_le_bytes()).collect();
        let source =
            SourceTensor::new("test", &bytes, TensorType::F32, (rows, columns), true).unwrap();
        for (first, count) in [(0, 37), (0, 1), (5, 32), (36, 1)] {
            let mut target = vec![f32::NAN; count * columns];
            source
                .read_rows(first, &mut target, &mut Vec::new())
                .unwrap();
            for row in 0..count {
                for column in 0..columns {
                    assert_eq!(
                        target[row * columns + column],
                        stored[column * rows + first + row]
                    );
                }
            }
        }
    }

    #[test]
    fn every_float_type_is_read() {
        let expected = values(600);
        let f64s: Vec<u8> = expected
            .iter()
            .flat_map(|x| f64::from(*x).to_le_bytes())
            .collect();
        let f16s: Vec<u8> = expected
            .iter()
            .flat_map(|x| f16::from_f32(*x).to_le_bytes())
            .collect();
        let bf16s: Vec<u8> = expected
            .iter()
            .flat_map(|x| bf16::from_f32(*x).to_le_bytes())
            .collect();
        for (tensor_type, bytes, tolerance) in [
            (TensorType::F64, f64s, 0.0),
            (TensorType::F16, f16s, 0.0),
            (TensorType::BF16, bf16s, 1.0),
        ] {
            let source = SourceTensor::new("test", &bytes, tensor_type, (2, 300), false).unwrap();
            let mut target = vec![0.0; 600];
            source.read_rows(0, &mut target, &mut Vec::new()).unwrap();
            for (found, expected) in target.iter().zip(&expected) {
                assert!((found - expected).abs() <= tolerance, "{tensor_type:?}");
            }
        }
    }

    #[test]
    fn data_of_another_length_is_refused() {
        let message = SourceTensor::new("wte", &[0; 12], TensorType::F32, (2, 2), false)
            .err()
            .unwrap()
            .to_string();
        assert!(
            message.contains("wte") && message.contains("12"),
            "{message}"
        );
    }
}
