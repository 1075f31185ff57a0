//! Packs matrices for this library's kernels.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::placement::{Placement, PlannedTensor, Release};
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::machine::parallel;
use gpt2_kernels::linear;

/// Bytes of a file that are packed together: the pages of the original are released piece by piece,
/// so that there is hardly more than one copy in memory at any time.
const PIECE: usize = 1 << 20;

/// Rows of a matrix that are packed together.
struct Piece<'a> {
    format: linear::Format,
    rows: usize,
    columns: usize,
    /// Where they are in the file.
    start: usize,
    bytes: usize,
    packed: &'a mut [u8],
}

/// Packs the matrices that are planned so, in parallel, and releases their bytes in the file.
/// Returns the memory they are in; `None` when there are none.
///
/// # Errors
/// [`Error::Memory`] when the memory cannot be allocated.
pub(super) fn pack(
    gguf: &Gguf,
    planned: &mut [PlannedTensor<'_>],
    release: &Release<'_>,
) -> Result<Option<Arc<linear::Arena>>> {
    let mut matrices: Vec<(&mut PlannedTensor<'_>, linear::Format, Range<usize>)> = Vec::new();
    let mut end = 0usize;
    for planned in planned {
        let Placement::Packed(format) = planned.placement else {
            continue;
        };
        let [columns, rows, ..] = planned.tensor.shape();
        let bytes = linear::Matrix::packed_bytes(format, rows, columns);
        matrices.push((planned, format, end..end + bytes));
        end = (end + bytes).next_multiple_of(linear::ALIGNMENT);
    }
    if matrices.is_empty() {
        return Ok(None);
    }
    let mut arena = linear::Arena::new(end)
        .map_err(|error| Error::Memory(format!("{end} bytes for matrices: {error}")))?;
    let mut work = Vec::new();
    let mut rest = arena.bytes_mut();
    for (planned, format, range) in &matrices {
        let whole = range.len().next_multiple_of(linear::ALIGNMENT);
        let (mut packed, after) = rest.split_at_mut(whole.min(rest.len()));
        rest = after;
        let [columns, rows, ..] = planned.tensor.shape();
        let row_bytes = gguf.tensor_data(planned.info).len() / rows;
        let per_piece = (PIECE / row_bytes / linear::PANEL).max(1) * linear::PANEL;
        for first in (0..rows).step_by(per_piece) {
            let rows = per_piece.min(rows - first);
            let bytes = linear::Matrix::packed_bytes(*format, rows, columns);
            let (piece, after) = packed.split_at_mut(bytes);
            packed = after;
            work.push(Piece {
                format: *format,
                rows,
                columns,
                start: planned.info.offset as usize + first * row_bytes,
                bytes: rows * row_bytes,
                packed: piece,
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
            linear::Matrix::pack(format, rows, columns, &file[range.clone()], piece.packed);
            release(range);
        });
    });
    let arena = Arc::new(arena);
    let mut packed = Vec::with_capacity(matrices.len());
    for (planned, format, range) in &matrices {
        // Reading a piece maps the ends of its neighbours again.
        let start = planned.info.offset as usize;
        release(start..start + gguf.tensor_data(planned.info).len());
        let [columns, rows, ..] = planned.tensor.shape();
        let matrix = linear::Matrix::new(*format, rows, columns, Arc::clone(&arena), range.clone());
        packed.push(matrix);
    }
    // The table has the order of the forward pass, but for a tied head, which is first and used
    // last.
    linear::Matrix::set_execution_order(&mut packed);
    for ((planned, ..), matrix) in matrices.into_iter().zip(packed) {
        planned.packed = Some(Arc::new(matrix));
    }
    Ok(Some(arena))
}
