//! `q8_0`, row by row as files hold it.

use std::arch::x86_64::*;

use super::{Job, Vectors, half_everywhere, sum_of_lanes};

/// Bytes of a block.
const BLOCK: usize = 34;
/// Bytes of a token in a block's step.
const STEP: usize = 68;
/// Rows that share what is read of the tokens.
const ROWS: usize = 4;

/// See [`super::Kernel`].
#[inline(always)]
pub(super) unsafe fn panel<V: Vectors, const TOKENS: usize>(
    job: Job<'_>,
    output: *mut f32,
    stride: usize,
) {
    debug_assert!(job.panel.len() >= job.rows * job.blocks * BLOCK);
    debug_assert!(job.tile.len() >= job.blocks * TOKENS * STEP);
    // SAFETY: the caller ensures that the panel has so many rows of so many blocks, and the tile as many steps.
    unsafe {
        let mut row = 0;
        while row + ROWS <= job.rows {
            some_rows::<V, TOKENS, ROWS>(job, row, output, stride);
            row += ROWS;
        }
        while row < job.rows {
            some_rows::<V, TOKENS, 1>(job, row, output, stride);
            row += 1;
        }
    }
}

#[inline(always)]
unsafe fn some_rows<V: Vectors, const TOKENS: usize, const ROWS: usize>(
    job: Job<'_>,
    first: usize,
    output: *mut f32,
    stride: usize,
) {
    // SAFETY: as for `panel`.
    unsafe {
        let row_bytes = job.blocks * BLOCK;
        let mut sums = [[_mm256_setzero_ps(); TOKENS]; ROWS];
        let mut block = job.panel.as_ptr().add(first * row_bytes);
        let mut step = job.tile.as_ptr();
        for _ in 0..job.blocks {
            let corrections = step.add(32 * TOKENS);
            let token_scales = step.add(64 * TOKENS).cast::<f32>();
            for (row, sums) in sums.iter_mut().enumerate() {
                let block = block.add(row * row_bytes);
                if TOKENS <= 4 {
                    // The rows that follow these; beyond the end it is a hint about nothing.
                    _mm_prefetch::<_MM_HINT_T0>(block.wrapping_add(ROWS * row_bytes).cast());
                }
                let scale = half_everywhere(block);
                let weights = _mm256_loadu_si256(block.add(2).cast());
                for (token, sum) in sums.iter_mut().enumerate() {
                    let bytes = _mm256_loadu_si256(step.add(32 * token).cast());
                    let correction = corrections.add(32 * token).cast();
                    let dot = V::signed_dot(weights, bytes, correction);
                    let token_scale = _mm256_set1_ps(token_scales.add(token).read_unaligned());
                    let scale = _mm256_mul_ps(scale, token_scale);
                    *sum = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(dot), *sum);
                }
            }
            block = block.add(BLOCK);
            step = step.add(STEP * TOKENS);
        }
        for (row, sums) in sums.iter().enumerate() {
            for (token, &sum) in sums.iter().enumerate() {
                *output.add(token * stride + first + row) = sum_of_lanes(sum);
            }
        }
    }
}
