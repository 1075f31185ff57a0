//! Transposing four rows at a time, in squares of four, which the compiler keeps in registers.

use super::operands::MAX_HEAD_WIDTH;

/// Element c of row r goes to `columns[c * stride + r]`.
#[inline(always)]
pub(super) fn rows_to_columns(rows: [&[f32]; 4], columns: &mut [f32], stride: usize) {
    let [a, b, c, d] = rows;
    let width = a.len();
    let squares = a.as_chunks::<4>().0.iter().zip(b.as_chunks::<4>().0);
    let squares = squares.zip(c.as_chunks::<4>().0.iter().zip(d.as_chunks::<4>().0));
    for (((a, b), (c, d)), columns) in squares.zip(columns.chunks_mut(4 * stride)) {
        for column in 0..4 {
            let transposed = [a[column], b[column], c[column], d[column]];
            columns[column * stride..][..4].copy_from_slice(&transposed);
        }
    }
    for column in width / 4 * 4..width {
        let transposed = [a[column], b[column], c[column], d[column]];
        columns[column * stride..][..4].copy_from_slice(&transposed);
    }
}

/// Element r of each of `width` columns, which begin `stride` apart, goes to row r.
#[inline(always)]
pub(super) fn columns_to_rows(
    columns: &[f32],
    stride: usize,
    width: usize,
    rows: &mut [[f32; MAX_HEAD_WIDTH]; 4],
) {
    for first in (0..width / 4 * 4).step_by(4) {
        let mut square = [[0.0; 4]; 4];
        for (index, column) in square.iter_mut().enumerate() {
            column.copy_from_slice(&columns[(first + index) * stride..][..4]);
        }
        let [a, b, c, d] = square;
        for (index, row) in rows.iter_mut().enumerate() {
            let transposed = [a[index], b[index], c[index], d[index]];
            row[first..first + 4].copy_from_slice(&transposed);
        }
    }
    for column in width / 4 * 4..width {
        for (row, &value) in rows.iter_mut().zip(&columns[column * stride..][..4]) {
            row[column] = value;
        }
    }
}
