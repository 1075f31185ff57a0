//! f16 with few tokens: row by row as GGUF files hold it.

use std::arch::x86_64::*;

use super::super::layout::F16Bytes;
use super::super::microkernel::Job;
use super::helpers::{load_f16x8, reduce_add};
use super::vectors::PanelVectors;

/// How many elements ahead of its use memory is prefetched.
const AHEAD: usize = 4096;
/// Vectors of a row that go on at the same time.
const LANES: usize = 4;

/// See [`Microkernel`](super::Microkernel): a dot product for each row and token.
#[inline(always)]
pub(super) unsafe fn gemv<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    let columns = job.blocks;
    // SAFETY: the caller's condition.
    let (rows, x) = unsafe {
        (
            job.row_blocks::<F16Bytes>(),
            job.tile::<f32>(TOKENS * columns),
        )
    };
    for (row, weights) in rows.chunks_exact(columns).enumerate() {
        // SAFETY: there are as many columns, a multiple of 16, of the row and of each token; the
        // rest is the caller's condition.
        unsafe {
            let (weights, x) = (weights.as_ptr(), x.as_ptr());
            let mut accumulators = [[_mm256_setzero_ps(); LANES]; TOKENS];
            let mut column = 0;
            while column + 8 * LANES <= columns {
                _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(column + AHEAD).cast());
                for lane in 0..LANES {
                    fma(
                        weights,
                        x,
                        column + 8 * lane,
                        columns,
                        lane,
                        &mut accumulators,
                    );
                }
                column += 8 * LANES;
            }
            while column < columns {
                fma(weights, x, column, columns, 0, &mut accumulators);
                column += 8;
            }
            for (token, accumulators) in accumulators.iter().enumerate() {
                let all = _mm256_add_ps(
                    _mm256_add_ps(accumulators[0], accumulators[2]),
                    _mm256_add_ps(accumulators[1], accumulators[3]),
                );
                *job.output(token).add(row) = reduce_add(all);
            }
        }
    }
}

#[inline(always)]
unsafe fn fma<const TOKENS: usize>(
    weights: *const F16Bytes,
    x: *const f32,
    column: usize,
    columns: usize,
    lane: usize,
    accumulators: &mut [[__m256; LANES]; TOKENS],
) {
    // SAFETY: the caller has the instructions and eight columns from this one on.
    unsafe {
        let weights = load_f16x8(weights.add(column));
        for (token, accumulators) in accumulators.iter_mut().enumerate() {
            let x = _mm256_loadu_ps(x.add(token * columns + column));
            accumulators[lane] = _mm256_fmadd_ps(weights, x, accumulators[lane]);
        }
    }
}
