//! `q4_k`, eight rows interleaved.

use std::arch::x86_64::*;

use super::{Job, Vectors, eight_halves, store_rows};

/// Bytes of a super-block of eight rows.
const BLOCK: usize = 1184;
/// Bytes of a token in a super-block's step.
const STEP: usize = 308;
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
    debug_assert!(job.tile.len() >= job.blocks * TOKENS * STEP);
    // SAFETY: every block of the panel and every step of the tile is as long as the constants say, as the caller
    // ensures.
    unsafe {
        let low = _mm256_set1_epi8(15);
        let mut sums = [_mm256_setzero_ps(); TOKENS];
        let mut minimums = [_mm256_setzero_ps(); TOKENS];
        let mut block = job.panel.as_ptr();
        let mut step = job.tile.as_ptr();
        for _ in 0..job.blocks {
            let pairs = step.add(256 * TOKENS);
            let token_scales = step.add(304 * TOKENS).cast::<f32>();
            let mut dots = [_mm256_setzero_si256(); TOKENS];
            let mut minimum_dots = [_mm256_setzero_si256(); TOKENS];
            for pair in 0..4 {
                let nibbles = block.add(160 + 256 * pair);
                if TOKENS <= 4 {
                    for line in 0..5 {
                        // Beyond the end it is a hint about nothing.
                        _mm_prefetch::<_MM_HINT_T0>(nibbles.wrapping_add(AHEAD + 64 * line).cast());
                    }
                }
                for half in 0..2 {
                    let group = 2 * pair + half;
                    let scales = _mm_loadl_epi64(block.add(32 + 8 * group).cast());
                    let scales = _mm256_cvtepu8_epi32(scales);
                    let mut weights = [_mm256_setzero_si256(); 8];
                    for (index, weights) in weights.iter_mut().enumerate() {
                        let both = _mm256_loadu_si256(nibbles.add(32 * index).cast());
                        let both = if half == 0 {
                            both
                        } else {
                            _mm256_srli_epi16::<4>(both)
                        };
                        *weights = _mm256_and_si256(both, low);
                    }
                    for (token, dot) in dots.iter_mut().enumerate() {
                        let bytes = step.add(32 * (group * TOKENS + token));
                        *dot = V::scaled_dot_of_eight(*dot, &weights, bytes, scales);
                    }
                }
                let minimum =
                    _mm256_cvtepu8_epi16(_mm_loadu_si128(block.add(96 + 16 * pair).cast()));
                for (token, dot) in minimum_dots.iter_mut().enumerate() {
                    let sums = pairs.cast::<i32>().add(pair * TOKENS + token);
                    let sums = _mm256_set1_epi32(sums.read_unaligned());
                    *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(minimum, sums));
                }
                // ggml's product of four tokens adds up every 64 elements.
                if TOKENS >= 4 {
                    add_scaled(
                        block,
                        token_scales,
                        &dots,
                        &minimum_dots,
                        &mut sums,
                        &mut minimums,
                    );
                    dots = [_mm256_setzero_si256(); TOKENS];
                    minimum_dots = [_mm256_setzero_si256(); TOKENS];
                }
            }
            if TOKENS < 4 {
                add_scaled(
                    block,
                    token_scales,
                    &dots,
                    &minimum_dots,
                    &mut sums,
                    &mut minimums,
                );
            }
            block = block.add(BLOCK);
            step = step.add(STEP * TOKENS);
        }
        for token in 0..TOKENS {
            let sum = _mm256_sub_ps(sums[token], minimums[token]);
            store_rows(sum, job.rows, output.add(token * stride));
        }
    }
}

/// Adds integers times the scales of rows and tokens.
#[inline(always)]
unsafe fn add_scaled<const TOKENS: usize>(
    block: *const u8,
    token_scales: *const f32,
    dots: &[__m256i; TOKENS],
    minimum_dots: &[__m256i; TOKENS],
    sums: &mut [__m256; TOKENS],
    minimums: &mut [__m256; TOKENS],
) {
    // SAFETY: a block begins with its scales, and there is a scale for each token.
    unsafe {
        let (scales, minimum_scales) = (eight_halves(block), eight_halves(block.add(16)));
        for token in 0..TOKENS {
            let scale = _mm256_set1_ps(token_scales.add(token).read_unaligned());
            sums[token] = _mm256_fmadd_ps(
                _mm256_cvtepi32_ps(dots[token]),
                _mm256_mul_ps(scales, scale),
                sums[token],
            );
            minimums[token] = _mm256_fmadd_ps(
                _mm256_cvtepi32_ps(minimum_dots[token]),
                _mm256_mul_ps(minimum_scales, scale),
                minimums[token],
            );
        }
    }
}
