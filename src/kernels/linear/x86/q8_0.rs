//! `q8_0`, eight rows interleaved: a vector holds the same four bytes of each.

use std::arch::x86_64::*;

use super::{Job, Vectors, eight_halves, store_rows};

/// Bytes of the blocks of eight rows: eight scales, then eight vectors.
const BLOCK: usize = 272;
/// How far ahead of its use memory is asked for.
const AHEAD: usize = 2176;

/// See [`Kernel`](super::Kernel): the order of sums that ggml has, every fourth of a block by itself.
#[inline(always)]
pub(super) unsafe fn panel<V: Vectors, const TOKENS: usize>(
    job: Job<'_>,
    output: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's condition.
    unsafe {
        // One pass over the weights where the registers hold all sums.
        let sums = if TOKENS == 1 {
            let [even, odd] = some_fourths::<V, TOKENS, 2>(job, 0);
            [even, odd]
        } else {
            let [even] = some_fourths::<V, TOKENS, 1>(job, 0);
            let [odd] = some_fourths::<V, TOKENS, 1>(job, 1);
            [even, odd]
        };
        for token in 0..TOKENS {
            let sum = _mm256_add_ps(sums[0][token], sums[1][token]);
            store_rows(sum, job.rows, output.add(token * stride));
        }
    }
}

/// Bytes of a token in a block's step beside sums of fourths.
const FOURTHS_STEP: usize = 68;

/// The sums of every second fourth from `first` on, and with `PARTS` = 2 from the one after it as well: of eight rows
/// for each token.
#[inline(always)]
unsafe fn some_fourths<V: Vectors, const TOKENS: usize, const PARTS: usize>(
    job: Job<'_>,
    first: usize,
) -> [[__m256; TOKENS]; PARTS] {
    debug_assert!(job.panel.len() >= job.blocks * BLOCK);
    debug_assert!(job.tile.len() >= job.blocks * TOKENS * FOURTHS_STEP);
    // SAFETY: the caller ensures that the panel and the tile have so many blocks and steps.
    unsafe {
        let mut sums = [[[_mm256_setzero_ps(); 4]; TOKENS]; PARTS];
        let mut block = job.panel.as_ptr();
        let mut step = job.tile.as_ptr();
        for _ in 0..job.blocks {
            if first == 0 {
                for line in 0..5 {
                    // Beyond the end it is a hint about nothing.
                    _mm_prefetch::<_MM_HINT_T0>(block.wrapping_add(AHEAD + 64 * line).cast());
                }
            }
            let row_scales = eight_halves(block);
            let token_scales = step.add(64 * TOKENS).cast::<f32>();
            let scales: [__m256; TOKENS] = std::array::from_fn(|token| {
                let token_scale = token_scales.add(token).read_unaligned();
                _mm256_mul_ps(row_scales, _mm256_set1_ps(token_scale))
            });
            for (part, sums) in sums.iter_mut().enumerate() {
                for second in 0..4 {
                    let fourth = first + part + 2 * second;
                    let weights = _mm256_loadu_si256(block.add(16 + 32 * fourth).cast());
                    let weights = V::signed_weights(weights);
                    for (token, sums) in sums.iter_mut().enumerate() {
                        let bytes = step.add(32 * token + 4 * fourth);
                        let excess = step.add(32 * (TOKENS + token) + 4 * fourth);
                        let dot = V::signed_dot(V::signed_start(excess), weights, bytes);
                        sums[second] =
                            _mm256_fmadd_ps(scales[token], _mm256_cvtepi32_ps(dot), sums[second]);
                    }
                }
            }
            block = block.add(BLOCK);
            step = step.add(FOURTHS_STEP * TOKENS);
        }
        sums.map(|sums| {
            sums.map(|sums| {
                _mm256_add_ps(
                    _mm256_add_ps(sums[0], sums[2]),
                    _mm256_add_ps(sums[1], sums[3]),
                )
            })
        })
    }
}

/// Bytes of a token in a block's step beside the sum of the block.
const BLOCK_STEP: usize = 40;

/// [`panel`] for many tokens: a block becomes one integer, which takes a third of the work away.
#[inline(always)]
pub(super) unsafe fn panel_of_many<V: Vectors, const TOKENS: usize>(
    job: Job<'_>,
    output: *mut f32,
    stride: usize,
) {
    debug_assert!(job.panel.len() >= job.blocks * BLOCK);
    debug_assert!(job.tile.len() >= job.blocks * TOKENS * BLOCK_STEP);
    // SAFETY: the caller ensures that the panel and the tile have so many blocks and steps.
    unsafe {
        let mut sums = [_mm256_setzero_ps(); TOKENS];
        let mut block = job.panel.as_ptr();
        let mut step = job.tile.as_ptr();
        for _ in 0..job.blocks {
            let words = step.add(32 * TOKENS);
            let mut dots: [__m256i; TOKENS] =
                std::array::from_fn(|token| V::signed_start(words.add(4 * (TOKENS + token))));
            for fourth in 0..8 {
                let weights = _mm256_loadu_si256(block.add(16 + 32 * fourth).cast());
                let weights = V::signed_weights(weights);
                for (token, dot) in dots.iter_mut().enumerate() {
                    *dot = V::signed_dot(*dot, weights, step.add(32 * token + 4 * fourth));
                }
            }
            let row_scales = eight_halves(block);
            for (token, sum) in sums.iter_mut().enumerate() {
                let token_scale = words.add(4 * token).cast::<f32>().read_unaligned();
                let scales = _mm256_mul_ps(row_scales, _mm256_set1_ps(token_scale));
                *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[token]), scales, *sum);
            }
            block = block.add(BLOCK);
            step = step.add(BLOCK_STEP * TOKENS);
        }
        for (token, &sum) in sums.iter().enumerate() {
            store_rows(sum, job.rows, output.add(token * stride));
        }
    }
}
