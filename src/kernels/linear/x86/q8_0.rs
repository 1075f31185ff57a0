//! `q8_0`, the blocks of eight rows together.

use std::arch::x86_64::*;

use super::super::PANEL;
use super::{Job, Vectors, eight_halves, sum_of_lanes};

/// Bytes of the blocks of eight rows: eight scales, then 32 bytes of each row.
const BLOCK: usize = 272;
/// Bytes of a token in a block's step.
const STEP: usize = 68;
/// How far ahead of its use memory is asked for.
const AHEAD: usize = 2176;

/// See [`Kernel`](super::Kernel).
#[inline(always)]
pub(super) unsafe fn panel<V: Vectors, const TOKENS: usize>(
    job: Job<'_>,
    output: *mut f32,
    stride: usize,
) {
    debug_assert!(job.panel.len() >= job.blocks * BLOCK);
    debug_assert!(job.tile.len() >= job.blocks * TOKENS * STEP);
    // SAFETY: the caller ensures that the panel and the tile have so many blocks and steps.
    unsafe {
        if TOKENS == 1 {
            some_rows::<V, TOKENS, PANEL>(job, 0, output, stride);
        } else {
            some_rows::<V, TOKENS, 4>(job, 0, output, stride);
            some_rows::<V, TOKENS, 4>(job, 4, output, stride);
        }
    }
}

/// Rows from `first` on, as many as the registers hold sums of.
#[inline(always)]
unsafe fn some_rows<V: Vectors, const TOKENS: usize, const ROWS: usize>(
    job: Job<'_>,
    first: usize,
    output: *mut f32,
    stride: usize,
) {
    // SAFETY: as for `panel`.
    unsafe {
        let mut sums = [[_mm256_setzero_ps(); ROWS]; TOKENS];
        let mut block = job.panel.as_ptr();
        let mut step = job.tile.as_ptr();
        // A row's scale times a token's: one product for eight of them, read back one by one.
        let mut scales = [[0.0f32; PANEL]; TOKENS];
        for _ in 0..job.blocks {
            if first == 0 {
                for line in 0..5 {
                    // Beyond the end it is a hint about nothing.
                    _mm_prefetch::<_MM_HINT_T0>(block.wrapping_add(AHEAD + 64 * line).cast());
                }
            }
            let row_scales = eight_halves(block);
            let token_scales = step.add(64 * TOKENS).cast::<f32>();
            for (token, scales) in scales.iter_mut().enumerate() {
                let token_scale = _mm256_set1_ps(token_scales.add(token).read_unaligned());
                _mm256_storeu_ps(scales.as_mut_ptr(), _mm256_mul_ps(row_scales, token_scale));
            }
            let bytes: [__m256i; TOKENS] =
                std::array::from_fn(|token| _mm256_loadu_si256(step.add(32 * token).cast()));
            for row in 0..ROWS {
                let weights = block.add(16 + 32 * (first + row)).cast();
                let weights = V::signed_weights(_mm256_loadu_si256(weights));
                for token in 0..TOKENS {
                    let correction = step.add(32 * (TOKENS + token)).cast();
                    let dot = V::signed_dot(weights, bytes[token], correction);
                    sums[token][row] = _mm256_fmadd_ps(
                        _mm256_set1_ps(scales[token][first + row]),
                        _mm256_cvtepi32_ps(dot),
                        sums[token][row],
                    );
                }
            }
            block = block.add(BLOCK);
            step = step.add(STEP * TOKENS);
        }
        for (token, sums) in sums.iter().enumerate() {
            for (row, &sum) in sums.iter().enumerate() {
                if first + row < job.rows {
                    *output.add(token * stride + first + row) = sum_of_lanes(sum);
                }
            }
        }
    }
}
