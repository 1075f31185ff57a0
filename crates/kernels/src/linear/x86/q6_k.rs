//! `q6_k`, row by row as GGUF files hold it.

use std::arch::x86_64::*;

use super::super::layout::{BlockQ6K, Q8KTile};
use super::super::microkernel::Job;
use super::helpers::{reduce_add, splat_f16};
use super::prefetch::prefetch_lines;
use super::vectors::PanelVectors;

/// How far ahead of its use memory is prefetched.
const AHEAD: usize = 6144;

/// See [`Microkernel`](super::Microkernel).
#[inline(always)]
pub(super) unsafe fn gemv<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    let (steps, blocks) = unsafe { (job.steps::<Q8KTile<TOKENS>>(), job.row_blocks::<BlockQ6K>()) };
    for (row, blocks) in blocks.chunks_exact(job.blocks).enumerate() {
        // SAFETY: the caller's condition.
        unsafe {
            let mut accumulators = [_mm256_setzero_ps(); TOKENS];
            for (block, step) in blocks.iter().zip(steps) {
                if TOKENS <= 4 {
                    let place = std::ptr::from_ref(block).cast::<u8>();
                    prefetch_lines(place.wrapping_add(AHEAD), 4);
                }
                super_block::<TOKENS>(block, step, &mut accumulators);
            }
            for (token, &sum) in accumulators.iter().enumerate() {
                *job.output(token).add(row) = reduce_add(sum);
            }
        }
    }
}

#[inline(always)]
unsafe fn super_block<const TOKENS: usize>(
    block: &BlockQ6K,
    step: &Q8KTile<TOKENS>,
    accumulators: &mut [__m256; TOKENS],
) {
    // SAFETY: the caller has the instructions.
    unsafe {
        let (low, high) = (_mm256_set1_epi8(15), _mm256_set1_epi8(48));
        let scales = _mm_loadu_si128(block.scales.as_ptr().cast());
        let in_order = _mm256_cvtepi8_epi16(scales);
        // The first scale of each pair in the lower half, the second in the upper.
        let first_and_second = _mm_set_epi8(15, 13, 11, 9, 7, 5, 3, 1, 14, 12, 10, 8, 6, 4, 2, 0);
        let halves = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(scales, first_and_second));
        let mut dots = [_mm256_setzero_si256(); TOKENS];
        for half in 0..2 {
            let lower = &block.ql[64 * half..][..64];
            let lower = [
                _mm256_loadu_si256(lower.as_ptr().cast()),
                _mm256_loadu_si256(lower[32..].as_ptr().cast()),
            ];
            let upper = _mm256_loadu_si256(block.qh[32 * half..][..32].as_ptr().cast());
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
                    let bytes = _mm256_loadu_si256(step.qs[group][token].as_ptr().cast());
                    let pairs = _mm256_maddubs_epi16(weights, bytes);
                    *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(scales, pairs));
                }
            }
        }
        let scale = splat_f16(block.d);
        for (token, sum) in accumulators.iter_mut().enumerate() {
            // Every weight is 32 too large.
            let sixteenths = _mm256_loadu_si256(step.sums[token].as_ptr().cast());
            let excess = _mm256_slli_epi32::<5>(_mm256_madd_epi16(sixteenths, in_order));
            let dot = _mm256_sub_epi32(dots[token], excess);
            let token_scale = _mm256_set1_ps(step.d[token]);
            *sum = _mm256_fmadd_ps(
                _mm256_mul_ps(token_scale, scale),
                _mm256_cvtepi32_ps(dot),
                *sum,
            );
        }
    }
}
