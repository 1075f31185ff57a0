//! One tensor from its source to the output: rows in parallel, a bounded part at a time, each block
//! measured against its source while it is still in the cache.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use super::rows::SourceTensor;
use super::types::is_quantized;
use crate::checksum::Checksum;
use crate::error::{Error, Result};
use crate::ggml::quantize::{dequantize_rows, quantize_rows};
use crate::gguf::TensorType;

/// Elements one task handles at a time; as f32 they fit a core's own cache.
const BLOCK_ELEMENTS: usize = 1 << 15;
/// Elements whose result is collected before it is written.
const SLAB_ELEMENTS: usize = 1 << 23;

/// What became of a tensor.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Measured {
    /// Root mean square of the differences to the source, relative to the source's own.
    pub relative_error: f64,
    /// Checksum of the bytes written.
    pub checksum: u64,
}

/// A tensor's way into the file.
pub(super) struct Job<'a> {
    /// Its name, for messages.
    pub name: &'a str,
    /// Where it comes from.
    pub source: SourceTensor<'a>,
    /// What it becomes.
    pub target_type: TensorType,
    /// Weights of its columns.
    pub importance: Option<&'a [f32]>,
}

/// Sums over elements, from which the relative error follows.
#[derive(Debug, Clone, Copy, Default)]
struct Squares {
    difference: f64,
    source: f64,
}

impl Squares {
    fn plus(self, other: Self) -> Self {
        Self {
            difference: self.difference + other.difference,
            source: self.source + other.source,
        }
    }
}

/// Memory of one task, used again from block to block.
#[derive(Default)]
struct Scratch {
    rows: Vec<f32>,
    strip: Vec<f32>,
    back: Vec<f32>,
}

impl Job<'_> {
    /// Converts the tensor and hands its bytes to `write` in order.
    ///
    /// # Errors
    /// [`Error::Format`] when the source holds a number that is not finite, or one that the target
    /// cannot hold; what `write` returns.
    pub(super) fn run(&self, mut write: impl FnMut(&[u8]) -> Result<()>) -> Result<Measured> {
        let SourceTensor { rows, columns, .. } = self.source;
        let row_bytes = self.target_type.row_bytes(columns as u64)? as usize;
        let block_rows = (BLOCK_ELEMENTS / columns).clamp(1, rows);
        let slab_rows = (SLAB_ELEMENTS / columns / block_rows).max(1) * block_rows;
        let mut slab = Vec::new();
        let mut squares = Squares::default();
        let mut checksum = Checksum::default();
        let mut first = 0;
        while first < rows {
            let count = slab_rows.min(rows - first);
            slab.resize(count * row_bytes, 0);
            let parts: Vec<Squares> = slab
                .par_chunks_mut(block_rows * row_bytes)
                .enumerate()
                .map_init(Scratch::default, |scratch, (number, block)| {
                    self.convert_block(first + number * block_rows, block, scratch)
                })
                .collect::<Result<_>>()?;
            // Added up in order, so that the figure does not depend on the threads.
            squares = parts.into_iter().fold(squares, Squares::plus);
            checksum.update(&slab);
            write(&slab)?;
            first += count;
        }
        Ok(Measured {
            relative_error: relative(squares),
            checksum: checksum.finish(),
        })
    }

    /// Converts the rows from `first` on that `block` has room for.
    fn convert_block(
        &self,
        first: usize,
        block: &mut [u8],
        scratch: &mut Scratch,
    ) -> Result<Squares> {
        let columns = self.source.columns;
        let row_bytes = self.target_type.row_bytes(columns as u64)? as usize;
        let elements = block.len() / row_bytes * columns;
        scratch.rows.resize(elements, 0.0);
        self.source
            .read_rows(first, &mut scratch.rows, &mut scratch.strip)?;
        let source = scratch.rows.as_slice();
        let own = sum_of_squares(source);
        if !own.is_finite() {
            return Err(self.not_finite(first, source));
        }
        // Same type, same place: the bytes are taken as they are.
        if self.target_type == self.source.tensor_type && !self.source.transposed {
            block.copy_from_slice(self.source.raw_rows(first, block.len() / row_bytes)?);
            return Ok(Squares {
                difference: 0.0,
                source: own,
            });
        }
        encode(self.target_type, source, columns, self.importance, block)?;
        if self.target_type == TensorType::F32 {
            return Ok(Squares {
                difference: 0.0,
                source: own,
            });
        }
        scratch.back.resize(elements, 0.0);
        dequantize_rows(self.target_type, block, columns, &mut scratch.back)?;
        let difference = squared_difference(source, &scratch.back);
        if !difference.is_finite() {
            return Err(Error::format(
                format!("tensor '{}'", self.name),
                format!(
                    "holds numbers too large for {}; choose bf16 or f32 for it",
                    self.target_type.name()
                ),
            ));
        }
        Ok(Squares {
            difference,
            source: own,
        })
    }

    /// Says where the first number that is not finite stands.
    fn not_finite(&self, first: usize, source: &[f32]) -> Error {
        let place = format!("tensor '{}'", self.name);
        match source.iter().position(|number| !number.is_finite()) {
            Some(index) => Error::format(
                place,
                format!(
                    "the source holds {} in row {}, column {}; the checkpoint is damaged",
                    source.get(index).copied().unwrap_or_default(),
                    first + index / self.source.columns,
                    index % self.source.columns
                ),
            ),
            None => Error::format(
                place,
                "the source holds numbers whose squares overflow; the checkpoint is damaged",
            ),
        }
    }
}

/// f32 rows as `tensor_type`.
fn encode(
    tensor_type: TensorType,
    source: &[f32],
    columns: usize,
    importance: Option<&[f32]>,
    target: &mut [u8],
) -> Result<()> {
    match tensor_type {
        TensorType::F32 => {
            for (to, from) in target.as_chunks_mut::<4>().0.iter_mut().zip(source) {
                *to = from.to_le_bytes();
            }
            Ok(())
        }
        TensorType::F16 => {
            encode_halves(
                source,
                target,
                f16::ZERO,
                |from, to| to.convert_from_f32_slice(from),
                f16::to_le_bytes,
            );
            Ok(())
        }
        TensorType::BF16 => {
            encode_halves(
                source,
                target,
                bf16::ZERO,
                |from, to| to.convert_from_f32_slice(from),
                bf16::to_le_bytes,
            );
            Ok(())
        }
        other => quantize_rows(other, source, columns, importance, target),
    }
}

fn encode_halves<H: Copy>(
    source: &[f32],
    target: &mut [u8],
    zero: H,
    convert: impl Fn(&[f32], &mut [H]),
    to_bytes: impl Fn(H) -> [u8; 2],
) {
    const AT_ONCE: usize = 256;
    let mut halves = [zero; AT_ONCE];
    for (from, to) in source.chunks(AT_ONCE).zip(target.chunks_mut(2 * AT_ONCE)) {
        let Some(halves) = halves.get_mut(..from.len()) else {
            return;
        };
        convert(from, halves);
        for (pair, half) in to.as_chunks_mut::<2>().0.iter_mut().zip(halves) {
            *pair = to_bytes(*half);
        }
    }
}

/// Lanes of partial sums, so that the loops become vector instructions.
const LANES: usize = 16;
/// Elements summed in f32 before they go to f64.
const RUN: usize = 1024;

/// Σx², not finite when some x is not.
fn sum_of_squares(numbers: &[f32]) -> f64 {
    numbers
        .chunks(RUN)
        .map(|run| {
            let mut lanes = [0.0_f32; LANES];
            let (chunks, rest) = run.as_chunks::<LANES>();
            for chunk in chunks {
                for (lane, x) in lanes.iter_mut().zip(chunk) {
                    *lane += x * x;
                }
            }
            let sum: f32 = lanes.iter().sum();
            f64::from(sum + rest.iter().map(|x| x * x).sum::<f32>())
        })
        .sum()
}

/// Σ(a − b)².
fn squared_difference(a: &[f32], b: &[f32]) -> f64 {
    a.chunks(RUN)
        .zip(b.chunks(RUN))
        .map(|(a, b)| {
            let mut lanes = [0.0_f32; LANES];
            let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
            for (a, b) in a.iter().zip(b) {
                for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
                    *lane += (a - b) * (a - b);
                }
            }
            let rest: f32 = rest_a
                .iter()
                .zip(rest_b)
                .map(|(a, b)| (a - b) * (a - b))
                .sum();
            f64::from(lanes.iter().sum::<f32>() + rest)
        })
        .sum()
}

/// √(Σ(a − b)² / Σa²); 0 for a tensor of zeros.
fn relative(squares: Squares) -> f64 {
    if squares.source > 0.0 {
        (squares.difference / squares.source).sqrt()
    } else {
        0.0
    }
}

/// The largest relative error a type may show on weights before the result is taken for broken:
/// about three times what weights drawn from a normal distribution give.
pub(super) fn error_bound(tensor_type: TensorType) -> f64 {
    use TensorType as T;
    match tensor_type {
        T::F32 => 0.0,
        T::F16 => 0.002,
        T::BF16 => 0.01,
        T::Q8_0 => 0.05,
        T::Q6_K => 0.1,
        T::Q5_0 | T::Q5_1 | T::Q5_K => 0.2,
        T::Q4_0 | T::Q4_1 | T::Q4_K | T::IQ4_NL | T::IQ4_XS => 0.4,
        T::Q3_K => 0.6,
        other if is_quantized(other) => 0.9,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(numbers: &[f32]) -> Vec<u8> {
        numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    fn run(numbers: &[f32], target_type: TensorType) -> Result<(Measured, Vec<u8>)> {
        let bytes = bytes(numbers);
        let shape = (2, numbers.len() / 2);
        let source = SourceTensor::new("w", &bytes, TensorType::F32, shape, false)?;
        let mut out = Vec::new();
        let job = Job {
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
    fn half_floats_are_rounded_to_nearest() {
        let numbers = waves(600);
        let (measured, out) = run(&numbers, TensorType::F16).unwrap();
        let expected: Vec<u8> = numbers
            .iter()
            .flat_map(|x| f16::from_f32(*x).to_le_bytes())
            .collect();
        assert_eq!(out, expected);
        assert!(measured.relative_error > 0.0 && measured.relative_error < 5e-4);
    }

    #[test]
    fn every_type_stays_within_its_bound() {
        let numbers = waves(1024);
        for file_type in super::super::types::FILE_TYPES {
            let (measured, _) = run(&numbers, file_type.base).unwrap();
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
    fn numbers_that_are_not_finite_are_located() {
        let mut numbers = waves(64);
        if let Some(number) = numbers.get_mut(40) {
            *number = f32::NAN;
        }
        let message = run(&numbers, TensorType::Q8_0).unwrap_err().to_string();
        assert!(
            message.contains("'w'") && message.contains("row 1, column 8"),
            "{message}"
        );
    }

    #[test]
    fn numbers_beyond_half_floats_are_refused() {
        let mut numbers = waves(64);
        if let Some(number) = numbers.get_mut(3) {
            *number = 1e6;
        }
        let message = run(&numbers, TensorType::F16).unwrap_err().to_string();
        assert!(message.contains("too large for f16"), "{message}");
        assert!(run(&numbers, TensorType::BF16).is_ok());
    }
}
