//! Matrices for this library's kernels: which there are kernels for, and arranging them.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::{Home, Placed};
use crate::error::{Error, Result};
use crate::gguf::{Gguf, TensorInfo, TensorType};
use crate::machine::parallel;
use crate::spec::Hyperparameters;
use crate::spec::tensor_table::{Role, TensorSpec};
use gpt2_kernels::linear;

/// The types that the kernels know, and what they call them.
const FORMATS: [(TensorType, linear::Format); 6] = [
    (TensorType::F16, linear::Format::F16),
    (TensorType::Q4_0, linear::Format::Q4_0),
    (TensorType::Q8_0, linear::Format::Q8_0),
    (TensorType::Q4_K, linear::Format::Q4K),
    (TensorType::Q5_K, linear::Format::Q5K),
    (TensorType::Q6_K, linear::Format::Q6K),
];

/// The kernels' name of a type, if they know it.
pub(super) fn format_of(tensor_type: TensorType) -> Option<linear::Format> {
    let found = FORMATS.iter().find(|(known, _)| *known == tensor_type);
    found.map(|(_, format)| *format)
}

/// The type that a format of the kernels is.
pub(in crate::model) fn type_of(format: linear::Format) -> TensorType {
    let found = FORMATS.iter().find(|(_, known)| *known == format);
    found.map_or(TensorType::F32, |(tensor_type, _)| *tensor_type)
}

/// Whether this library has kernels for every matrix that is multiplied.
pub(crate) fn have_kernels(
    found: &[(TensorSpec, &TensorInfo)],
    hyperparameters: &Hyperparameters,
) -> bool {
    let tied = hyperparameters.predicts_tokens() && hyperparameters.tied_head;
    found.iter().all(|(spec, info)| {
        let multiplied = match spec.entry.role {
            Role::Vector | Role::PositionEmbedding | Role::TaskHead => false,
            Role::TokenEmbedding => tied,
            _ => true,
        };
        let columns = spec.shape.first().map_or(0, |&columns| columns as usize);
        !multiplied || format_of(info.tensor_type).is_some_and(|format| format.is_fast(columns))
    })
}

/// Bytes of a file that are arranged together: the pages of the original are given back piece by piece, so that
/// hardly more than one copy is ever in memory.
const PIECE: usize = 1 << 20;

/// Some rows of a matrix on their way to the kernels.
struct Piece<'a> {
    format: linear::Format,
    rows: usize,
    columns: usize,
    /// Where they are in the file.
    start: usize,
    bytes: usize,
    arranged: &'a mut [u8],
}

/// Arranges the kernels' matrices in memory of their own, several at a time, and gives their bytes in the file back.
/// Returns that memory, unless nothing was to be arranged.
pub(super) fn place_in_kernels(
    gguf: &Gguf,
    placed: &mut [Placed<'_>],
    release: &(dyn Fn(Range<usize>) + Sync),
) -> Result<Option<Arc<linear::Arena>>> {
    let mut matrices: Vec<(&mut Placed<'_>, linear::Format, Range<usize>)> = Vec::new();
    let mut end = 0usize;
    for placed in placed {
        let Home::Kernels(format) = placed.home else {
            continue;
        };
        let [columns, rows, ..] = placed.tensor.shape();
        let bytes = linear::Matrix::arranged_bytes(format, rows, columns);
        matrices.push((placed, format, end..end + bytes));
        end = (end + bytes).next_multiple_of(linear::ALIGNMENT);
    }
    if matrices.is_empty() {
        return Ok(None);
    }
    let mut arena = linear::Arena::new(end)
        .map_err(|error| Error::Memory(format!("{end} bytes for matrices: {error}")))?;
    let mut work = Vec::new();
    let mut rest = arena.bytes_mut();
    for (placed, format, range) in &matrices {
        let whole = range.len().next_multiple_of(linear::ALIGNMENT);
        let (mut arranged, after) = rest.split_at_mut(whole.min(rest.len()));
        rest = after;
        let [columns, rows, ..] = placed.tensor.shape();
        let row_bytes = gguf.tensor_data(placed.info).len() / rows;
        let per_piece = (PIECE / row_bytes / linear::PANEL).max(1) * linear::PANEL;
        for first in (0..rows).step_by(per_piece) {
            let rows = per_piece.min(rows - first);
            let bytes = linear::Matrix::arranged_bytes(*format, rows, columns);
            let (piece, after) = arranged.split_at_mut(bytes);
            arranged = after;
            work.push(Piece {
                format: *format,
                rows,
                columns,
                start: placed.info.offset as usize + first * row_bytes,
                bytes: rows * row_bytes,
                arranged: piece,
            });
        }
    }
    let file = (**gguf.file_bytes()).as_ref();
    parallel::install(|| {
        work.into_par_iter().for_each(|piece| {
            let range = piece.start..piece.start + piece.bytes;
            let Piece {
                format,
                rows,
                columns,
                ..
            } = piece;
            linear::Matrix::arrange(format, rows, columns, &file[range.clone()], piece.arranged);
            release(range);
        });
    });
    let arena = Arc::new(arena);
    let mut of_kernels = Vec::with_capacity(matrices.len());
    for (placed, format, range) in &matrices {
        // Reading one piece brings in the ends of its neighbours.
        let start = placed.info.offset as usize;
        release(start..start + gguf.tensor_data(placed.info).len());
        let [columns, rows, ..] = placed.tensor.shape();
        let matrix = linear::Matrix::new(*format, rows, columns, Arc::clone(&arena), range.clone());
        of_kernels.push(matrix);
    }
    // The table has them in the order of the forward pass; a tied head is its first and follows its last.
    linear::Matrix::put_in_order(&mut of_kernels);
    for ((placed, ..), matrix) in matrices.into_iter().zip(of_kernels) {
        placed.matrix = Some(Arc::new(matrix));
    }
    Ok(Some(arena))
}
