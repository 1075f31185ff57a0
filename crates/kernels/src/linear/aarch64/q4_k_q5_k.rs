//! `q4_k` and `q5_k`, eight rows interleaved as `../packing.rs` says.

use std::arch::aarch64::*;

use super::vectors::Rows;
use super::{Job, Vectors, add_scaled, bytes, each_vector, eight_halves, signed_bytes, store_rows};

/// Bytes of a super-block of eight rows before its elements: scales and smallest values, and those of the groups.
const HEAD: usize = 160;
/// Bytes of fifth bits, where there are any.
const FIFTH: usize = 256;
/// Bytes of nibbles.
const NIBBLES: usize = 1024;
/// Bytes of a token in a super-block's step.
const STEP: usize = 308;

/// See [`Kernel`](super::Kernel).
#[inline(always)]
pub(super) unsafe fn panel_of_four<V: Vectors, const TOKENS: usize>(
    job: Job<'_>,
    output: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's condition.
    unsafe { panel::<V, TOKENS, false>(job, output, stride) }
}

/// See [`Kernel`](super::Kernel).
#[inline(always)]
pub(super) unsafe fn panel_of_five<V: Vectors, const TOKENS: usize>(
    job: Job<'_>,
    output: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's condition.
    unsafe { panel::<V, TOKENS, true>(job, output, stride) }
}

#[inline(always)]
unsafe fn panel<V: Vectors, const TOKENS: usize, const FIVE: bool>(
    job: Job<'_>,
    output: *mut f32,
    stride: usize,
) {
    let block_bytes = HEAD + NIBBLES + if FIVE { FIFTH } else { 0 };
    debug_assert!(job.panel.len() >= job.blocks * block_bytes);
    debug_assert!(job.tile.len() >= job.blocks * TOKENS * STEP);
    // SAFETY: every block of the panel and every step of the tile is as long as the constants say, as the caller
    // ensures.
    unsafe {
        let mut sums = [[vdupq_n_f32(0.0); 2]; TOKENS];
        let mut minimums = [[vdupq_n_f32(0.0); 2]; TOKENS];
        let mut block = job.panel.as_ptr();
        let mut step = job.tile.as_ptr();
        for _ in 0..job.blocks {
            let dots = products::<V, TOKENS, FIVE>(block, step);
            let minimum_dots = minimum_products::<TOKENS>(block.add(96), step.add(256 * TOKENS));
            let (scales, minimum_scales) = (eight_halves(block), eight_halves(block.add(16)));
            let token_scales = step.add(304 * TOKENS).cast::<f32>();
            for token in 0..TOKENS {
                let scale = vdupq_n_f32(token_scales.add(token).read_unaligned());
                let (dots, minimum_dots) = (dots[token], minimum_dots[token]);
                if FIVE {
                    for half in 0..2 {
                        let scaled = vmulq_f32(scales[half], vcvtq_f32_s32(dots[half]));
                        let minimum = vcvtq_f32_s32(minimum_dots[half]);
                        let result = vfmsq_f32(scaled, minimum_scales[half], minimum);
                        sums[token][half] = vfmaq_f32(sums[token][half], result, scale);
                    }
                } else {
                    add_scaled(&mut sums[token], dots, scales, scale);
                    add_scaled(&mut minimums[token], minimum_dots, minimum_scales, scale);
                }
            }
            block = block.add(block_bytes);
            step = step.add(STEP * TOKENS);
        }
        for token in 0..TOKENS {
            let mut all = sums[token];
            if !FIVE {
                for half in 0..2 {
                    all[half] = vsubq_f32(all[half], minimums[token][half]);
                }
            }
            store_rows(all, job.rows, output.add(token * stride));
        }
    }
}

/// Products of a super-block, each group's times its scale.
#[inline(always)]
unsafe fn products<V: Vectors, const TOKENS: usize, const FIVE: bool>(
    block: *const u8,
    step: *const u8,
) -> [Rows; TOKENS] {
    // SAFETY: as for `panel`.
    unsafe {
        let zero = vdupq_n_s32(0);
        let (low, five) = (vdupq_n_u8(15), vdupq_n_u8(31));
        let mut all = [[zero; 2]; TOKENS];
        // Groups come in pairs: one of low nibbles, one of the high ones beside them.
        for pair in 0..4 {
            let nibbles = block.add(HEAD + if FIVE { FIFTH } else { 0 } + 256 * pair);
            // Shifting left by so little is shifting right.
            let lower_bit = vdupq_n_s8(-2 * pair as i8);
            let upper_bit = vdupq_n_s8(-2 * pair as i8 - 1);
            let x = |group: usize, token: usize| {
                signed_bytes(step.add(32 * ((2 * pair + group) * TOKENS + token)))
            };
            let lower_x: [_; TOKENS] = std::array::from_fn(|token| x(0, token));
            let upper_x: [_; TOKENS] = std::array::from_fn(|token| x(1, token));
            let mut lower_dots = [V::start(zero); TOKENS];
            let mut upper_dots = [V::start(zero); TOKENS];
            each_vector!(|VECTOR, HALF, LANE| {
                let both = bytes(nibbles.add(32 * VECTOR));
                let mut lower = both;
                let mut upper = both.map(|both| vshrq_n_u8::<4>(both));
                if FIVE {
                    let fifth = bytes(block.add(HEAD + 32 * VECTOR));
                    for half in 0..2 {
                        let bit = vshlq_u8(fifth[half], lower_bit);
                        lower[half] = vandq_u8(vsliq_n_u8::<4>(lower[half], bit), five);
                        let bit = vshlq_u8(fifth[half], upper_bit);
                        upper[half] = vandq_u8(vsliq_n_u8::<4>(upper[half], bit), five);
                    }
                } else {
                    lower = lower.map(|lower| vandq_u8(lower, low));
                }
                let lower = lower.map(|weights| vreinterpretq_s8_u8(weights));
                let upper = upper.map(|weights| vreinterpretq_s8_u8(weights));
                for token in 0..TOKENS {
                    lower_dots[token] =
                        V::add::<LANE>(lower_dots[token], lower, lower_x[token][HALF]);
                    upper_dots[token] =
                        V::add::<LANE>(upper_dots[token], upper, upper_x[token][HALF]);
                }
            });
            // Eight scales of the one group, then of the other.
            let scales = vld1q_u8(block.add(32 + 16 * pair));
            let lower_scales = widened(vmovl_u8(vget_low_u8(scales)));
            let upper_scales = widened(vmovl_high_u8(scales));
            for token in 0..TOKENS {
                let lower = V::finish(lower_dots[token]);
                let upper = V::finish(upper_dots[token]);
                for half in 0..2 {
                    let sum = vmlaq_s32(all[token][half], lower[half], lower_scales[half]);
                    all[token][half] = vmlaq_s32(sum, upper[half], upper_scales[half]);
                }
            }
        }
        all
    }
}

#[inline(always)]
unsafe fn widened(scales: uint16x8_t) -> Rows {
    // SAFETY: NEON.
    unsafe {
        [
            vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(scales))),
            vreinterpretq_s32_u32(vmovl_high_u16(scales)),
        ]
    }
}

/// Sums of a super-block's groups, times the groups' smallest values.
#[inline(always)]
unsafe fn minimum_products<const TOKENS: usize>(
    minimums: *const u8,
    pairs: *const u8,
) -> [Rows; TOKENS] {
    // SAFETY: as for `panel`: there are 64 bytes, and four pairs of sums for each token.
    unsafe {
        let mut all = [[vdupq_n_s32(0); 2]; TOKENS];
        let sums: [int16x8_t; TOKENS] = std::array::from_fn(|token| {
            let pair = |pair: usize| {
                pairs
                    .add(4 * (pair * TOKENS + token))
                    .cast::<i32>()
                    .read_unaligned()
            };
            let four: [i32; 4] = std::array::from_fn(pair);
            vreinterpretq_s16_s32(vld1q_s32(four.as_ptr()))
        });
        macro_rules! group {
            ($($group:literal)*) => {$(
                let minimum = vreinterpretq_s16_u16(vmovl_u8(vld1_u8(minimums.add(8 * $group))));
                for token in 0..TOKENS {
                    let [first, last] = all[token];
                    all[token] = [
                        vmlal_laneq_s16::<$group>(first, vget_low_s16(minimum), sums[token]),
                        vmlal_high_laneq_s16::<$group>(last, minimum, sums[token]),
                    ];
                }
            )*};
        }
        group!(0 1 2 3 4 5 6 7);
        all
    }
}
