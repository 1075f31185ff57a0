//! `q6_k`, packed.

use std::arch::aarch64::*;

use super::super::layout::{PANEL, Q6KPanel, Q8KTile};
use super::super::microkernel::Job;
use super::helpers::{Rows, load_f16x8, load_u8, store_rows};
use super::unroll::each_vector;
use super::vectors::PanelVectors;

/// See [`Microkernel`](super::Microkernel).
#[inline(always)]
pub(super) unsafe fn gemm<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe {
        let blocks = job.packed::<Q6KPanel>();
        let mut accumulators = [[vdupq_n_f32(0.0); 2]; TOKENS];
        for (block, step) in blocks.iter().zip(job.steps::<Q8KTile<TOKENS>>()) {
            let mut dots = [[vdupq_n_s32(0); 2]; TOKENS];
            for half in 0..2 {
                for sixteen in 0..2 {
                    add_quarter::<V, TOKENS>(block, step, half, sixteen, &mut dots);
                }
            }
            let offsets = offsets(&block.scales, step);
            let scales = load_f16x8(&block.d);
            for token in 0..TOKENS {
                let scale = vdupq_n_f32(step.d[token]);
                for half in 0..2 {
                    let dot = vsubq_s32(dots[token][half], offsets[token][half]);
                    let scaled = vmulq_f32(scales[half], vcvtq_f32_s32(dot));
                    accumulators[token][half] = vfmaq_f32(accumulators[token][half], scaled, scale);
                }
            }
        }
        for (token, &accumulators) in accumulators.iter().enumerate() {
            store_rows(accumulators, job.rows, job.output(token));
        }
    }
}

/// Adds the products of four groups of 16: in one half of a super-block every part of 32 has the
/// first or the second of its groups in the same bytes, two parts in low nibbles, two in high
/// ones.
#[inline(always)]
unsafe fn add_quarter<V: PanelVectors, const TOKENS: usize>(
    block: &Q6KPanel,
    step: &Q8KTile<TOKENS>,
    half: usize,
    sixteen: usize,
    all: &mut [Rows; TOKENS],
) {
    // SAFETY: the caller has the instructions.
    unsafe {
        let six = vdupq_n_u8(63);
        let first = 4 * sixteen;
        let mut dots = [[V::start(vdupq_n_s32(0)); 4]; TOKENS];
        let x: [[int8x16_t; 4]; TOKENS] = std::array::from_fn(|token| {
            std::array::from_fn(|part| {
                let x = &step.qs[4 * half + part][token];
                vld1q_s8(x[4 * sixteen..][..4].as_flattened().as_ptr())
            })
        });
        each_vector!(|VECTOR, HALF, LANE| {
            if HALF == 0 {
                let nibbles = [0, 8].map(|more| load_u8(&block.ql[half][more + first + VECTOR]));
                let upper = load_u8(&block.qh[half][first + VECTOR]);
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
                            V::dot::<LANE>(dots[token][part], weights, x[token][part]);
                    }
                }
            }
        });
        for part in 0..4 {
            let group = 2 * (4 * half + part) + sixteen;
            let scales = vmovl_s8(vld1_s8(block.scales[group].as_ptr()));
            let scales = [vmovl_s16(vget_low_s16(scales)), vmovl_high_s16(scales)];
            for token in 0..TOKENS {
                let dots = V::end(dots[token][part]);
                for rows in 0..2 {
                    all[token][rows] = vmlaq_s32(all[token][rows], dots[rows], scales[rows]);
                }
            }
        }
    }
}

/// What the weights, which are all 32 too large, add too much.
#[inline(always)]
unsafe fn offsets<const TOKENS: usize>(
    scales: &[[i8; PANEL]; 16],
    step: &Q8KTile<TOKENS>,
) -> [Rows; TOKENS] {
    // SAFETY: the caller has the instructions.
    unsafe {
        let mut all = [[vdupq_n_s32(0); 2]; TOKENS];
        macro_rules! group {
            ($half:literal: $($group:literal)*) => {$(
                let scale = vmovl_s8(vld1_s8(scales[8 * $half + $group].as_ptr()));
                for token in 0..TOKENS {
                    let sums = &step.sums[token][4 * $half..][..4];
                    let sums = vld1q_s16(sums.as_flattened().as_ptr());
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
