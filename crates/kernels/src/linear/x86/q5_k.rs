//! `q5_k`, row by row as files hold it.

use std::arch::x86_64::*;

use super::super::packing::scale_and_minimum;
use super::vectors::Vectors;
use super::{Job, half_everywhere, sum_of_lanes};

/// Bytes of a super-block.
const BLOCK: usize = 176;
/// Bytes of a token in a super-block's step.
const STEP: usize = 308;
/// How far ahead of its use memory is asked for.
const AHEAD: usize = 1408;

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
            let mut minimums = [0.0f32; TOKENS];
            for _ in 0..job.blocks {
                if TOKENS <= 4 {
                    for line in 0..3 {
                        // Beyond the end it is a hint about nothing.
                        _mm_prefetch::<_MM_HINT_T0>(block.wrapping_add(AHEAD + 64 * line).cast());
                    }
                }
                super_block::<TOKENS>(block, step, &mut sums, &mut minimums);
                block = block.add(BLOCK);
                step = step.add(STEP * TOKENS);
            }
            for token in 0..TOKENS {
                *output.add(token * stride + row) = sum_of_lanes(sums[token]) + minimums[token];
            }
        }
    }
}

#[inline(always)]
unsafe fn super_block<const TOKENS: usize>(
    block: *const u8,
    step: *const u8,
    sums: &mut [__m256; TOKENS],
    minimums: &mut [f32; TOKENS],
) {
    // SAFETY: as for `panel`.
    unsafe {
        let low = _mm256_set1_epi8(15);
        let fifth_bit = _mm256_set1_epi8(16);
        let packed = std::slice::from_raw_parts(block.add(4), 12);
        let mut lane_scales = [0i16; 8];
        let mut lane_minimums = [0i16; 8];
        for group in 0..8 {
            let (scale, minimum) = scale_and_minimum(packed, group);
            lane_scales[group] = i16::from(scale);
            lane_minimums[group] = i16::from(minimum);
        }
        let fifth = _mm256_loadu_si256(block.add(16).cast());
        let mut dots = [_mm256_setzero_si256(); TOKENS];
        for group in 0..8 {
            let nibbles = _mm256_loadu_si256(block.add(48 + 32 * (group / 2)).cast());
            let nibbles = if group % 2 == 0 {
                nibbles
            } else {
                _mm256_srli_epi16::<4>(nibbles)
            };
            // Bit `group` becomes bit 4.
            let bits = if group < 4 {
                _mm256_sll_epi16(fifth, _mm_cvtsi32_si128(4 - group as i32))
            } else {
                _mm256_srl_epi16(fifth, _mm_cvtsi32_si128(group as i32 - 4))
            };
            let weights = _mm256_or_si256(
                _mm256_and_si256(nibbles, low),
                _mm256_and_si256(bits, fifth_bit),
            );
            let scales = _mm256_set1_epi16(lane_scales[group]);
            for (token, dot) in dots.iter_mut().enumerate() {
                let bytes = _mm256_loadu_si256(step.add(32 * (group * TOKENS + token)).cast());
                let pairs = _mm256_maddubs_epi16(weights, bytes);
                *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(scales, pairs));
            }
        }
        let scale = half_everywhere(block);
        let minimum_scale = _mm256_cvtss_f32(half_everywhere(block.add(2)));
        let lane_minimums = _mm_loadu_si128(lane_minimums.as_ptr().cast());
        for token in 0..TOKENS {
            let token_scale = step
                .add(304 * TOKENS + 4 * token)
                .cast::<f32>()
                .read_unaligned();
            let pair = |index: usize| {
                step.add(256 * TOKENS)
                    .cast::<i32>()
                    .add(index * TOKENS + token)
                    .read_unaligned()
            };
            let group_sums = _mm_set_epi32(pair(3), pair(2), pair(1), pair(0));
            let products = _mm_madd_epi16(lane_minimums, group_sums);
            let products = _mm_hadd_epi32(products, products);
            let product = _mm_cvtsi128_si32(_mm_hadd_epi32(products, products));
            sums[token] = _mm256_fmadd_ps(
                _mm256_mul_ps(_mm256_set1_ps(token_scale), scale),
                _mm256_cvtepi32_ps(dots[token]),
                sums[token],
            );
            minimums[token] =
                (-token_scale * minimum_scale).mul_add(product as f32, minimums[token]);
        }
    }
}
