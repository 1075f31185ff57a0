//! `q5_k`, row by row as GGUF files hold it.

use std::arch::x86_64::*;

use super::super::layout::{BlockQ5K, Q8KTile, scale_and_min};
use super::super::microkernel::Job;
use super::helpers::{reduce_add, splat_f16};
use super::prefetch::prefetch_lines;
use super::vectors::PanelVectors;

/// How far ahead of its use memory is prefetched.
const AHEAD: usize = 1408;

/// See [`Microkernel`](super::Microkernel).
#[inline(always)]
pub(super) unsafe fn gemv<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    let (steps, blocks) = unsafe { (job.steps::<Q8KTile<TOKENS>>(), job.row_blocks::<BlockQ5K>()) };
    for (row, blocks) in blocks.chunks_exact(job.blocks).enumerate() {
        // SAFETY: the caller's condition.
        unsafe {
            let mut accumulators = [_mm256_setzero_ps(); TOKENS];
            let mut mins = [0.0f32; TOKENS];
            for (block, step) in blocks.iter().zip(steps) {
                let place = std::ptr::from_ref(block).cast::<u8>();
                prefetch_lines(place.wrapping_add(AHEAD), 3);
                super_block::<TOKENS>(block, step, &mut accumulators, &mut mins);
            }
            for token in 0..TOKENS {
                *job.output(token).add(row) = reduce_add(accumulators[token]) + mins[token];
            }
        }
    }
}

#[inline(always)]
unsafe fn super_block<const TOKENS: usize>(
    block: &BlockQ5K,
    step: &Q8KTile<TOKENS>,
    accumulators: &mut [__m256; TOKENS],
    mins: &mut [f32; TOKENS],
) {
    // SAFETY: the caller has the instructions.
    unsafe {
        let low = _mm256_set1_epi8(15);
        let fifth_bit = _mm256_set1_epi8(16);
        let mut lane_scales = [0i16; 8];
        let mut lane_mins = [0i16; 8];
        for group in 0..8 {
            let (scale, min) = scale_and_min(&block.scales, group);
            lane_scales[group] = i16::from(scale);
            lane_mins[group] = i16::from(min);
        }
        let fifth = _mm256_loadu_si256(block.qh.as_ptr().cast());
        let mut dots = [_mm256_setzero_si256(); TOKENS];
        for group in 0..8 {
            let nibbles = _mm256_loadu_si256(block.qs[32 * (group / 2)..][..32].as_ptr().cast());
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
                let bytes = _mm256_loadu_si256(step.qs[group][token].as_ptr().cast());
                let pairs = _mm256_maddubs_epi16(weights, bytes);
                *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(scales, pairs));
            }
        }
        let scale = splat_f16(block.d);
        let min_scale = _mm256_cvtss_f32(splat_f16(block.dmin));
        let lane_mins = _mm_loadu_si128(lane_mins.as_ptr().cast());
        for token in 0..TOKENS {
            let token_scale = step.d[token];
            let pair = |index: usize| {
                let [low, high] = step.pair_sums[index][token];
                i32::from(low as u16) | i32::from(high) << 16
            };
            let group_sums = _mm_set_epi32(pair(3), pair(2), pair(1), pair(0));
            let products = _mm_madd_epi16(lane_mins, group_sums);
            let products = _mm_hadd_epi32(products, products);
            let product = _mm_cvtsi128_si32(_mm_hadd_epi32(products, products));
            accumulators[token] = _mm256_fmadd_ps(
                _mm256_mul_ps(_mm256_set1_ps(token_scale), scale),
                _mm256_cvtepi32_ps(dots[token]),
                accumulators[token],
            );
            mins[token] = (-token_scale * min_scale).mul_add(product as f32, mins[token]);
        }
    }
}
