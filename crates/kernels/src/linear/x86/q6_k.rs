//! `q6_k`, row by row as files hold it.

use std::arch::x86_64::*;

use super::vectors::Vectors;
use super::{Job, half_everywhere, sum_of_lanes};

/// Bytes of a super-block.
const BLOCK: usize = 210;
/// Bytes of a token in a super-block's step.
const STEP: usize = 308;
/// How far ahead of its use memory is asked for.
const AHEAD: usize = 6144;

/// See [`Kernel`](super::Kernel).
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
        for row in 0..job.rows {
            let mut block = job.panel.as_ptr().add(row * job.blocks * BLOCK);
            let mut step = job.tile.as_ptr();
            let mut sums = [_mm256_setzero_ps(); TOKENS];
            for _ in 0..job.blocks {
                if TOKENS <= 4 {
                    for line in 0..4 {
                        // Beyond the end it is a hint about nothing.
                        _mm_prefetch::<_MM_HINT_T0>(block.wrapping_add(AHEAD + 64 * line).cast());
                    }
                }
                super_block::<TOKENS>(block, step, &mut sums);
                block = block.add(BLOCK);
                step = step.add(STEP * TOKENS);
            }
            for (token, &sum) in sums.iter().enumerate() {
                *output.add(token * stride + row) = sum_of_lanes(sum);
            }
        }
    }
}

#[inline(always)]
unsafe fn super_block<const TOKENS: usize>(
    block: *const u8,
    step: *const u8,
    sums: &mut [__m256; TOKENS],
) {
    // SAFETY: as for `panel`.
    unsafe {
        let (low, high) = (_mm256_set1_epi8(15), _mm256_set1_epi8(48));
        let scales = _mm_loadu_si128(block.add(192).cast());
        let in_order = _mm256_cvtepi8_epi16(scales);
        // The first scale of each pair in the lower half, the second in the upper.
        let first_and_second = _mm_set_epi8(15, 13, 11, 9, 7, 5, 3, 1, 14, 12, 10, 8, 6, 4, 2, 0);
        let halves = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(scales, first_and_second));
        let mut dots = [_mm256_setzero_si256(); TOKENS];
        for half in 0..2 {
            let lower = block.add(64 * half);
            let lower = [
                _mm256_loadu_si256(lower.cast()),
                _mm256_loadu_si256(lower.add(32).cast()),
            ];
            let upper = _mm256_loadu_si256(block.add(128 + 32 * half).cast());
            let two_bits = [
                _mm256_slli_epi16::<4>(upper),
                _mm256_slli_epi16::<2>(upper),
                upper,
                _mm256_srli_epi16::<2>(upper),
            ];
            for part in 0..4 {
                let nibbles = lower[part % 2];
                let nibbles = if part < 2 {
                    nibbles
                } else {
                    _mm256_srli_epi16::<4>(nibbles)
                };
                let weights = _mm256_or_si256(
                    _mm256_and_si256(nibbles, low),
                    _mm256_and_si256(two_bits[part], high),
                );
                let group = 4 * half + part;
                let place = (2 * group) as i16 | ((2 * group + 1) as i16) << 8;
                let scales = _mm256_shuffle_epi8(halves, _mm256_set1_epi16(place));
                for (token, dot) in dots.iter_mut().enumerate() {
                    let bytes = _mm256_loadu_si256(step.add(32 * (group * TOKENS + token)).cast());
                    let pairs = _mm256_maddubs_epi16(weights, bytes);
                    *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(scales, pairs));
                }
            }
        }
        let scale = half_everywhere(block.add(208));
        for (token, sum) in sums.iter_mut().enumerate() {
            // Every weight is 32 too large.
            let sixteenths = _mm256_loadu_si256(step.add(272 * TOKENS + 32 * token).cast());
            let excess = _mm256_slli_epi32::<5>(_mm256_madd_epi16(sixteenths, in_order));
            let dot = _mm256_sub_epi32(dots[token], excess);
            let token_scale = step.add(304 * TOKENS + 4 * token).cast::<f32>();
            let token_scale = _mm256_set1_ps(token_scale.read_unaligned());
            *sum = _mm256_fmadd_ps(
                _mm256_mul_ps(token_scale, scale),
                _mm256_cvtepi32_ps(dot),
                *sum,
            );
        }
    }
}
