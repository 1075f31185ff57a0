//! `q2_k`, `q3_k` and `iq4_xs`: rows of super-blocks as GGUF files hold them.

use std::arch::aarch64::*;

use super::super::layout::{BlockIq4Xs, BlockQ2K, BlockQ3K, F16Bytes, Layout, Q8KTile};
use super::super::microkernel::Job;
use super::helpers::{iq4_values, load_i8, nibbles, splat_f16};
use super::vectors::PanelVectors;

/// How the product reads a super-block, which has eight planes of 32 weights.
///
/// # Safety
/// The methods are only called where NEON is.
trait SuperBlock: Layout {
    /// The scale of scales.
    fn d(&self) -> F16Bytes;

    /// The scales of 16 columns each.
    fn scales(&self) -> [i8; 16];

    /// The scale of minimums and those of the 16 groups, if there are any.
    fn mins(&self) -> Option<(F16Bytes, [i16; 16])>;

    /// The weights of a plane.
    unsafe fn weights(&self, plane: usize) -> [int8x16_t; 2];
}

/// Two bits of each byte of a half of a super-block, those of one plane.
#[inline(always)]
unsafe fn two_bits(bytes: &[u8; 64], plane: usize) -> [uint8x16_t; 2] {
    let (sixteens, _) = bytes.as_chunks::<16>();
    let first = 2 * (plane / 4);
    // SAFETY: 16 bytes each; the caller has NEON.
    unsafe {
        // Shifting left by so little is shifting right.
        let shift = vdupq_n_s8(-2 * (plane % 4) as i8);
        let three = vdupq_n_u8(3);
        [
            vandq_u8(vshlq_u8(vld1q_u8(sixteens[first].as_ptr()), shift), three),
            vandq_u8(
                vshlq_u8(vld1q_u8(sixteens[first + 1].as_ptr()), shift),
                three,
            ),
        ]
    }
}

impl SuperBlock for BlockQ2K {
    #[inline(always)]
    fn d(&self) -> F16Bytes {
        self.d
    }

    #[inline(always)]
    fn scales(&self) -> [i8; 16] {
        self.scales.map(|both| (both & 15) as i8)
    }

    #[inline(always)]
    fn mins(&self) -> Option<(F16Bytes, [i16; 16])> {
        Some((self.dmin, self.scales.map(|both| i16::from(both >> 4))))
    }

    #[inline(always)]
    unsafe fn weights(&self, plane: usize) -> [int8x16_t; 2] {
        // SAFETY: the trait's condition.
        unsafe { two_bits(&self.qs, plane).map(|weights| vreinterpretq_s8_u8(weights)) }
    }
}

impl SuperBlock for BlockQ3K {
    #[inline(always)]
    fn d(&self) -> F16Bytes {
        self.d
    }

    #[inline(always)]
    fn scales(&self) -> [i8; 16] {
        self.scales().map(|scale| scale as i8 - 32)
    }

    #[inline(always)]
    fn mins(&self) -> Option<(F16Bytes, [i16; 16])> {
        None
    }

    #[inline(always)]
    unsafe fn weights(&self, plane: usize) -> [int8x16_t; 2] {
        let (sixteens, _) = self.hmask.as_chunks::<16>();
        // SAFETY: 16 bytes each; the trait's condition.
        unsafe {
            let four = vdupq_n_u8(4);
            let bit = vdupq_n_u8(1 << plane);
            let mut weights = two_bits(&self.qs, plane);
            for (weights, third) in weights.iter_mut().zip(sixteens) {
                let third = vtstq_u8(vld1q_u8(third.as_ptr()), bit);
                *weights = vorrq_u8(*weights, vandq_u8(third, four));
            }
            weights.map(|weights| vsubq_s8(vreinterpretq_s8_u8(weights), vdupq_n_s8(4)))
        }
    }
}

impl SuperBlock for BlockIq4Xs {
    #[inline(always)]
    fn d(&self) -> F16Bytes {
        self.d
    }

    #[inline(always)]
    fn scales(&self) -> [i8; 16] {
        let high = u16::from_le_bytes(self.scales_h);
        let mut scales = [0; 16];
        for (group, both) in scales.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            let low = self.scales_l[group / 2] >> (4 * (group % 2)) & 15;
            let high = (high >> (2 * group) & 3) as u8;
            *both = [(low | high << 4) as i8 - 32; 2];
        }
        scales
    }

    #[inline(always)]
    fn mins(&self) -> Option<(F16Bytes, [i16; 16])> {
        None
    }

    #[inline(always)]
    unsafe fn weights(&self, plane: usize) -> [int8x16_t; 2] {
        let (sixteens, _) = self.qs.as_chunks();
        // SAFETY: the trait's condition.
        unsafe { nibbles(&sixteens[plane]).map(|indices| iq4_values(indices)) }
    }
}

/// The product with `q2_k`, see [`Microkernel`](super::Microkernel).
#[inline(always)]
pub(super) unsafe fn gemv_q2_k<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe { gemv::<V, BlockQ2K, TOKENS>(job) }
}

/// The product with `q3_k`, see [`Microkernel`](super::Microkernel).
#[inline(always)]
pub(super) unsafe fn gemv_q3_k<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe { gemv::<V, BlockQ3K, TOKENS>(job) }
}

/// The product with `iq4_xs`, see [`Microkernel`](super::Microkernel).
#[inline(always)]
pub(super) unsafe fn gemv_iq4_xs<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe { gemv::<V, BlockIq4Xs, TOKENS>(job) }
}

/// Every fourth of a vector goes its own way.
#[inline(always)]
unsafe fn gemv<V: PanelVectors, B: SuperBlock, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    let (steps, blocks) = unsafe { (job.steps::<Q8KTile<TOKENS>>(), job.row_blocks::<B>()) };
    for (row, blocks) in blocks.chunks_exact(job.blocks).enumerate() {
        // SAFETY: the caller's condition.
        unsafe {
            let mut accumulators = [vdupq_n_f32(0.0); TOKENS];
            for (block, step) in blocks.iter().zip(steps) {
                super_block::<V, B, TOKENS>(block, step, &mut accumulators);
            }
            for (token, &sum) in accumulators.iter().enumerate() {
                *job.output(token).add(row) = vaddvq_f32(sum);
            }
        }
    }
}

#[inline(always)]
unsafe fn super_block<V: PanelVectors, B: SuperBlock, const TOKENS: usize>(
    block: &B,
    step: &Q8KTile<TOKENS>,
    accumulators: &mut [float32x4_t; TOKENS],
) {
    // SAFETY: the caller has the instructions.
    unsafe {
        let zero = vdupq_n_s32(0);
        let scales = block.scales();
        let mut dots = [zero; TOKENS];
        for plane in 0..8 {
            let weights = block.weights(plane);
            for (token, dots) in dots.iter_mut().enumerate() {
                let x = load_i8(&step.qs[plane][token]);
                for half in 0..2 {
                    let dot = V::dot_16(zero, weights[half], x[half]);
                    *dots = vmlaq_n_s32(*dots, dot, i32::from(scales[2 * plane + half]));
                }
            }
        }
        let scale = splat_f16(block.d());
        for (token, sum) in accumulators.iter_mut().enumerate() {
            if let Some((min_scale, mins)) = block.mins() {
                let min_scale = vmulq_n_f32(splat_f16(min_scale), step.d[token]);
                let products = vcvtq_f32_s32(min_products(&mins, &step.sums[token]));
                *sum = vfmsq_f32(*sum, products, min_scale);
            }
            let scale = vmulq_n_f32(scale, step.d[token]);
            *sum = vfmaq_f32(*sum, vcvtq_f32_s32(dots[token]), scale);
        }
    }
}

/// Products of minimums with sums of 16 activations: two neighbours, and the two eight further, in
/// each lane.
#[inline(always)]
unsafe fn min_products(mins: &[i16; 16], sums: &[[i16; 2]; 8]) -> int32x4_t {
    let sums = sums.as_flattened().as_ptr();
    // SAFETY: 16 of both; the caller has NEON.
    unsafe {
        let eight = |first: usize| {
            let mins = vld1q_s16(mins.as_ptr().add(first));
            let sums = vld1q_s16(sums.add(first));
            vpaddq_s32(
                vmull_s16(vget_low_s16(mins), vget_low_s16(sums)),
                vmull_high_s16(mins, sums),
            )
        };
        vaddq_s32(eight(0), eight(8))
    }
}
