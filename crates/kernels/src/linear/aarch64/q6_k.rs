//! `q6_k`, eight rows interleaved as `../packing.rs` says.

use std::arch::aarch64::*;

use super::vectors::Rows;
use super::{Job, Vectors, bytes, each_vector, eight_halves, store_rows};

/// Bytes of a super-block of eight rows: scales, those of 16 groups, nibbles and pairs of bits.
const BLOCK: usize = 1680;
/// Where the groups' scales begin, the nibbles, the pairs of bits.
const SCALES: usize = 16;
const NIBBLES: usize = SCALES + 128;
const UPPER_BITS: usize = NIBBLES + 1024;
/// Bytes of a token in a super-block's step.
const STEP: usize = 308;

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
        let mut sums = [[vdupq_n_f32(0.0); 2]; TOKENS];
        let mut block = job.panel.as_ptr();
        let mut step = job.tile.as_ptr();
        for _ in 0..job.blocks {
            let mut dots = [[vdupq_n_s32(0); 2]; TOKENS];
            for half in 0..2 {
                for sixteen in 0..2 {
                    add_quarter::<V, TOKENS>(block, step, half, sixteen, &mut dots);
                }
            }
            let excess = excess::<TOKENS>(block.add(SCALES), step.add(272 * TOKENS));
            let scales = eight_halves(block);
            let token_scales = step.add(304 * TOKENS).cast::<f32>();
            for token in 0..TOKENS {
                let scale = vdupq_n_f32(token_scales.add(token).read_unaligned());
                for half in 0..2 {
                    let dot = vsubq_s32(dots[token][half], excess[token][half]);
                    let scaled = vmulq_f32(scales[half], vcvtq_f32_s32(dot));
                    sums[token][half] = vfmaq_f32(sums[token][half], scaled, scale);
                }
            }
            block = block.add(BLOCK);
            step = step.add(STEP * TOKENS);
        }
        for (token, &sums) in sums.iter().enumerate() {
            store_rows(sums, job.rows, output.add(token * stride));
        }
    }
}

/// Adds the products of four groups of 16: in one half of a super-block every part of 32 has the first or the second
/// of its groups in the same bytes, two parts in low nibbles, two in high ones.
#[inline(always)]
unsafe fn add_quarter<V: Vectors, const TOKENS: usize>(
    block: *const u8,
    step: *const u8,
    half: usize,
    sixteen: usize,
    all: &mut [Rows; TOKENS],
) {
    // SAFETY: as for `panel`.
    unsafe {
        let six = vdupq_n_u8(63);
        let place = |base: usize, vector: usize| block.add(base + 32 * vector);
        let first = 4 * sixteen;
        let mut dots = [[V::start(vdupq_n_s32(0)); 4]; TOKENS];
        let x: [[int8x16_t; 4]; TOKENS] = std::array::from_fn(|token| {
            std::array::from_fn(|part| {
                let group = (4 * half + part) * TOKENS + token;
                vreinterpretq_s8_u8(vld1q_u8(step.add(32 * group + 16 * sixteen)))
            })
        });
        each_vector!(|VECTOR, HALF, LANE| {
            if HALF == 0 {
                let nibbles =
                    [0, 8].map(|more| bytes(place(NIBBLES, 16 * half + more + first + VECTOR)));
                let upper = bytes(place(UPPER_BITS, 8 * half + first + VECTOR));
                // Inserting shifts what is too much out of the byte or leaves it to be masked.
                let mut weights = [[six; 2]; 4];
                for rows in 0..2 {
                    let [a, b] = [nibbles[0][rows], nibbles[1][rows]];
                    let upper = upper[rows];
                    let bits = [upper, vshrq_n_u8::<2>(upper), vshrq_n_u8::<4>(upper)];
                    weights[0][rows] = vandq_u8(vsliq_n_u8::<4>(a, bits[0]), six);
                    weights[1][rows] = vandq_u8(vsliq_n_u8::<4>(b, bits[1]), six);
                    let [a, b] = [vshrq_n_u8::<4>(a), vshrq_n_u8::<4>(b)];
                    weights[2][rows] = vandq_u8(vsliq_n_u8::<4>(a, bits[2]), six);
                    weights[3][rows] = vsliq_n_u8::<4>(b, vshrq_n_u8::<6>(upper));
                }
                for part in 0..4 {
                    let weights = weights[part].map(|weights| vreinterpretq_s8_u8(weights));
                    for token in 0..TOKENS {
                        dots[token][part] =
                            V::add::<LANE>(dots[token][part], weights, x[token][part]);
                    }
                }
            }
        });
        for part in 0..4 {
            let group = 2 * (4 * half + part) + sixteen;
            let scales = vmovl_s8(vld1_s8(block.add(SCALES + 8 * group).cast()));
            let scales = [vmovl_s16(vget_low_s16(scales)), vmovl_high_s16(scales)];
            for token in 0..TOKENS {
                let dots = V::finish(dots[token][part]);
                for rows in 0..2 {
                    all[token][rows] = vmlaq_s32(all[token][rows], dots[rows], scales[rows]);
                }
            }
        }
    }
}

/// What weights add that are all 32 too large.
#[inline(always)]
unsafe fn excess<const TOKENS: usize>(scales: *const u8, sums: *const u8) -> [Rows; TOKENS] {
    // SAFETY: as for `panel`: there are 128 scales, and 16 sums for each token.
    unsafe {
        let mut all = [[vdupq_n_s32(0); 2]; TOKENS];
        macro_rules! group {
            ($half:literal: $($group:literal)*) => {$(
                let scale = vmovl_s8(vld1_s8(scales.add(8 * (8 * $half + $group)).cast()));
                for token in 0..TOKENS {
                    let sums = vld1q_s16(sums.add(32 * token + 16 * $half).cast());
                    let [first, last] = all[token];
                    all[token] = [
                        vmlal_laneq_s16::<$group>(first, vget_low_s16(scale), sums),
                        vmlal_high_laneq_s16::<$group>(last, scale, sums),
                    ];
                }
            )*};
        }
        group!(0: 0 1 2 3 4 5 6 7);
        group!(1: 0 1 2 3 4 5 6 7);
        all.map(|rows| rows.map(|rows| vshlq_n_s32::<5>(rows)))
    }
}
