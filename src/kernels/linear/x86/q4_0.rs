//! `q4_0`, eight rows interleaved.

use std::arch::x86_64::*;

use super::{Job, Vectors, eight_halves, four_everywhere, store_rows};

/// Bytes of a block of eight rows.
const BLOCK: usize = 144;
/// How far ahead of its use memory is asked for.
const AHEAD: usize = 2048;

/// See [`Kernel`](super::Kernel).
#[inline(always)]
pub(super) unsafe fn panel<V: Vectors, const TOKENS: usize>(
    job: Job<'_>,
    output: *mut f32,
    stride: usize,
) {
    debug_assert!(job.panel.len() >= job.blocks * BLOCK);
    debug_assert!(job.tile.len() >= job.blocks * TOKENS * 40);
    // SAFETY: every block of the panel is 144 bytes and every step of the tile 40 a token, as the caller ensures.
    unsafe {
        let low = _mm256_set1_epi8(15);
        let mut sums = [_mm256_setzero_ps(); TOKENS];
        let mut block = job.panel.as_ptr();
        let mut step = job.tile.as_ptr();
        for _ in 0..job.blocks {
            if TOKENS <= 4 {
                // Beyond the end it is a hint about nothing.
                _mm_prefetch::<_MM_HINT_T0>(block.wrapping_add(AHEAD).cast());
                _mm_prefetch::<_MM_HINT_T0>(block.wrapping_add(AHEAD + 64).cast());
                _mm_prefetch::<_MM_HINT_T0>(block.wrapping_add(AHEAD + 128).cast());
            }
            let scales = eight_halves(block);
            let words = step.add(32 * TOKENS);
            // What weights that are 8 too large add, taken away.
            let excess = |token: usize| four_everywhere(words.add(4 * (TOKENS + token)));
            let mut dots: [__m256i; TOKENS] =
                std::array::from_fn(|token| V::small_start(excess(token)));
            for index in 0..4 {
                let both = _mm256_loadu_si256(block.add(16 + 32 * index).cast());
                let weights = [both, _mm256_srli_epi16::<4>(both)];
                for (half, weights) in weights.into_iter().enumerate() {
                    let weights = _mm256_and_si256(weights, low);
                    for (token, dot) in dots.iter_mut().enumerate() {
                        let bytes = step.add(32 * token + 16 * half + 4 * index);
                        *dot = V::small_dot(*dot, weights, bytes);
                    }
                }
            }
            for (token, sum) in sums.iter_mut().enumerate() {
                let dot = V::small_end(dots[token], excess(token));
                let scale = _mm256_set1_ps(words.add(4 * token).cast::<f32>().read_unaligned());
                *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_mul_ps(scales, scale), *sum);
            }
            block = block.add(BLOCK);
            step = step.add(40 * TOKENS);
        }
        for (token, &sum) in sums.iter().enumerate() {
            store_rows(sum, job.rows, output.add(token * stride));
        }
    }
}
