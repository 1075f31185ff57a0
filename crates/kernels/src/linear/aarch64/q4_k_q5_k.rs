//! `q4_k` and `q5_k`, packed.

use std::arch::aarch64::*;

use super::super::layout::{Lanes, Layout, Mins, PANEL, Q4KPanel, Q5KPanel, Q8KTile};
use super::super::microkernel::Job;
use super::helpers::{Rows, add_scaled, load_f16x8, load_i8, load_u8, store_rows};
use super::unroll::each_vector;
use super::vectors::PanelVectors;

/// What the products of both formats read.
trait Panel: Layout {
    fn scales(&self) -> &[[u8; PANEL]; 8];
    fn qs(&self) -> &[[Lanes; 8]; 4];
    /// A vector of fifth bits, where there are any.
    fn qh(&self, vector: usize) -> Option<&Lanes>;
}

impl Panel for Q4KPanel {
    #[inline(always)]
    fn scales(&self) -> &[[u8; PANEL]; 8] {
        &self.scales
    }

    #[inline(always)]
    fn qs(&self) -> &[[Lanes; 8]; 4] {
        &self.qs
    }

    #[inline(always)]
    fn qh(&self, _vector: usize) -> Option<&Lanes> {
        None
    }
}

impl Panel for Q5KPanel {
    #[inline(always)]
    fn scales(&self) -> &[[u8; PANEL]; 8] {
        &self.scales
    }

    #[inline(always)]
    fn qs(&self) -> &[[Lanes; 8]; 4] {
        &self.qs
    }

    #[inline(always)]
    fn qh(&self, vector: usize) -> Option<&Lanes> {
        Some(&self.qh[vector])
    }
}

/// See [`Microkernel`](super::Microkernel): the products of a super-block and those of its minimums
/// are scaled and added apart.
#[inline(always)]
pub(super) unsafe fn gemm_q4_k<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe {
        let blocks = job.packed::<Q4KPanel>();
        let mut accumulators = [[vdupq_n_f32(0.0); 2]; TOKENS];
        let mut mins = [[vdupq_n_f32(0.0); 2]; TOKENS];
        for (block, step) in blocks.iter().zip(job.steps::<Q8KTile<TOKENS>>()) {
            let dots = products::<V, _, TOKENS>(block, step);
            let min_dots = min_products(&block.mins, step);
            let (scales, min_scales) = (load_f16x8(&block.d), load_f16x8(&block.dmin));
            for token in 0..TOKENS {
                let scale = vdupq_n_f32(step.d[token]);
                add_scaled(&mut accumulators[token], dots[token], scales, scale);
                add_scaled(&mut mins[token], min_dots[token], min_scales, scale);
            }
        }
        for token in 0..TOKENS {
            let (accumulators, mins) = (accumulators[token], mins[token]);
            let all = [
                vsubq_f32(accumulators[0], mins[0]),
                vsubq_f32(accumulators[1], mins[1]),
            ];
            store_rows(all, job.rows, job.output(token));
        }
    }
}

/// See [`Microkernel`](super::Microkernel): the minimums are subtracted in every super-block.
#[inline(always)]
pub(super) unsafe fn gemm_q5_k<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe {
        let blocks = job.packed::<Q5KPanel>();
        let mut accumulators = [[vdupq_n_f32(0.0); 2]; TOKENS];
        for (block, step) in blocks.iter().zip(job.steps::<Q8KTile<TOKENS>>()) {
            let dots = products::<V, _, TOKENS>(block, step);
            let min_dots = min_products(&block.mins, step);
            let (scales, min_scales) = (load_f16x8(&block.d), load_f16x8(&block.dmin));
            for token in 0..TOKENS {
                let scale = vdupq_n_f32(step.d[token]);
                for half in 0..2 {
                    let scaled = vmulq_f32(scales[half], vcvtq_f32_s32(dots[token][half]));
                    let min = vcvtq_f32_s32(min_dots[token][half]);
                    let result = vfmsq_f32(scaled, min_scales[half], min);
                    accumulators[token][half] = vfmaq_f32(accumulators[token][half], result, scale);
                }
            }
        }
        for (token, &accumulators) in accumulators.iter().enumerate() {
            store_rows(accumulators, job.rows, job.output(token));
        }
    }
}

/// Products of a super-block, each group's times its scale.
#[inline(always)]
unsafe fn products<V: PanelVectors, P: Panel, const TOKENS: usize>(
    block: &P,
    step: &Q8KTile<TOKENS>,
) -> [Rows; TOKENS] {
    // SAFETY: the caller has the instructions.
    unsafe {
        let zero = vdupq_n_s32(0);
        let (low, five) = (vdupq_n_u8(15), vdupq_n_u8(31));
        let mut all = [[zero; 2]; TOKENS];
        // Groups come in pairs: one of low nibbles, one of the high ones beside them.
        for pair in 0..4 {
            // Shifting left by so little is shifting right.
            let lower_bit = vdupq_n_s8(-2 * pair as i8);
            let upper_bit = vdupq_n_s8(-2 * pair as i8 - 1);
            let x = |group: usize, token: usize| load_i8(&step.qs[2 * pair + group][token]);
            let lower_x: [_; TOKENS] = std::array::from_fn(|token| x(0, token));
            let upper_x: [_; TOKENS] = std::array::from_fn(|token| x(1, token));
            let mut lower_dots = [V::start(zero); TOKENS];
            let mut upper_dots = [V::start(zero); TOKENS];
            each_vector!(|VECTOR, HALF, LANE| {
                let both = load_u8(&block.qs()[pair][VECTOR]);
                let mut lower = both;
                let mut upper = both.map(|both| vshrq_n_u8::<4>(both));
                if let Some(fifth) = block.qh(VECTOR) {
                    let fifth = load_u8(fifth);
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
                        V::dot::<LANE>(lower_dots[token], lower, lower_x[token][HALF]);
                    upper_dots[token] =
                        V::dot::<LANE>(upper_dots[token], upper, upper_x[token][HALF]);
                }
            });
            // Eight scales of the one group, then of the other.
            let scales = vld1q_u8(block.scales()[2 * pair..][..2].as_flattened().as_ptr());
            let lower_scales = widened(vmovl_u8(vget_low_u8(scales)));
            let upper_scales = widened(vmovl_high_u8(scales));
            for token in 0..TOKENS {
                let lower = V::end(lower_dots[token]);
                let upper = V::end(upper_dots[token]);
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

/// The dot products of a token's sums of groups with the groups' minimums.
#[inline(always)]
unsafe fn min_products<const TOKENS: usize>(mins: &Mins, step: &Q8KTile<TOKENS>) -> [Rows; TOKENS] {
    // SAFETY: the caller has the instructions; the eight sums of a token are read from an array.
    unsafe {
        let mut all = [[vdupq_n_s32(0); 2]; TOKENS];
        let sums: [int16x8_t; TOKENS] = std::array::from_fn(|token| {
            let eight: [[i16; 2]; 4] = std::array::from_fn(|pair| step.pair_sums[pair][token]);
            vld1q_s16(eight.as_flattened().as_ptr())
        });
        macro_rules! group {
            ($($group:literal)*) => {$(
                let min = vreinterpretq_s16_u16(vmovl_u8(vld1_u8(mins[$group].as_ptr())));
                for token in 0..TOKENS {
                    let [first, last] = all[token];
                    all[token] = [
                        vmlal_laneq_s16::<$group>(first, vget_low_s16(min), sums[token]),
                        vmlal_high_laneq_s16::<$group>(last, min, sums[token]),
                    ];
                }
            )*};
        }
        group!(0 1 2 3 4 5 6 7);
        all
    }
}
