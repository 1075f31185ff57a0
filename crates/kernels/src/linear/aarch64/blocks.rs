//! `q4_1`, `q5_0` and `q5_1`: rows of blocks of 32 as GGUF files hold them.

use std::arch::aarch64::*;

use super::super::layout::{BlockQ4_1, BlockQ5_0, BlockQ5_1, F16Bytes, Lanes, Layout, Q8_1Tile};
use super::super::microkernel::Job;
use super::helpers::{load_i8, nibbles, splat_f16};
use super::vectors::PanelVectors;

/// How the product reads a block.
trait Block: Layout {
    /// The scale.
    fn d(&self) -> F16Bytes;

    /// The minimum, if there is one.
    fn m(&self) -> Option<F16Bytes>;

    /// The weights, in order.
    ///
    /// # Safety
    /// The processor has NEON.
    unsafe fn weights(&self) -> [int8x16_t; 2];
}

/// Nibbles with a fifth bit each.
#[inline(always)]
unsafe fn five_bits(bytes: &[u8; 16], fifth: [u8; 4]) -> [uint8x16_t; 2] {
    // SAFETY: 16 bytes; the caller has NEON.
    unsafe {
        let bits: [u8; 16] = std::array::from_fn(|index| 1 << (index % 8));
        let bits = vld1q_u8(bits.as_ptr());
        let [low, high] = nibbles(bytes);
        let bytes =
            |first: usize| vcombine_u8(vdup_n_u8(fifth[first]), vdup_n_u8(fifth[first + 1]));
        let sixteen = vdupq_n_u8(16);
        [
            vorrq_u8(low, vandq_u8(vtstq_u8(bytes(0), bits), sixteen)),
            vorrq_u8(high, vandq_u8(vtstq_u8(bytes(2), bits), sixteen)),
        ]
    }
}

impl Block for BlockQ4_1 {
    #[inline(always)]
    fn d(&self) -> F16Bytes {
        self.d
    }

    #[inline(always)]
    fn m(&self) -> Option<F16Bytes> {
        Some(self.m)
    }

    #[inline(always)]
    unsafe fn weights(&self) -> [int8x16_t; 2] {
        // SAFETY: the trait's condition.
        unsafe { nibbles(&self.qs).map(|weights| vreinterpretq_s8_u8(weights)) }
    }
}

impl Block for BlockQ5_0 {
    #[inline(always)]
    fn d(&self) -> F16Bytes {
        self.d
    }

    #[inline(always)]
    fn m(&self) -> Option<F16Bytes> {
        None
    }

    #[inline(always)]
    unsafe fn weights(&self) -> [int8x16_t; 2] {
        // SAFETY: the trait's condition.
        unsafe {
            let weights = five_bits(&self.qs, self.qh);
            weights.map(|weights| vsubq_s8(vreinterpretq_s8_u8(weights), vdupq_n_s8(16)))
        }
    }
}

impl Block for BlockQ5_1 {
    #[inline(always)]
    fn d(&self) -> F16Bytes {
        self.d
    }

    #[inline(always)]
    fn m(&self) -> Option<F16Bytes> {
        Some(self.m)
    }

    #[inline(always)]
    unsafe fn weights(&self) -> [int8x16_t; 2] {
        // SAFETY: the trait's condition.
        unsafe { five_bits(&self.qs, self.qh).map(|weights| vreinterpretq_s8_u8(weights)) }
    }
}

/// The product with `q4_1`, see [`Microkernel`](super::Microkernel).
#[inline(always)]
pub(super) unsafe fn gemv_q4_1<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe { gemv::<V, BlockQ4_1, TOKENS>(job) }
}

/// The product with `q5_0`, see [`Microkernel`](super::Microkernel).
#[inline(always)]
pub(super) unsafe fn gemv_q5_0<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe { gemv::<V, BlockQ5_0, TOKENS>(job) }
}

/// The product with `q5_1`, see [`Microkernel`](super::Microkernel).
#[inline(always)]
pub(super) unsafe fn gemv_q5_1<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe { gemv::<V, BlockQ5_1, TOKENS>(job) }
}

/// Every fourth of a vector goes its own way; minimums are added up apart.
#[inline(always)]
unsafe fn gemv<V: PanelVectors, B: Block, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    let (steps, blocks) = unsafe { (job.steps::<Q8_1Tile<TOKENS>>(), job.row_blocks::<B>()) };
    for (row, blocks) in blocks.chunks_exact(job.blocks).enumerate() {
        // SAFETY: the caller's condition.
        unsafe {
            let mut accumulators = [vdupq_n_f32(0.0); TOKENS];
            let mut mins = [0.0f32; TOKENS];
            for (block, step) in blocks.iter().zip(steps) {
                let weights = block.weights();
                let scale = splat_f16(block.d());
                for token in 0..TOKENS {
                    let x: &Lanes<i8> = &step.qs[token];
                    let x = load_i8(x);
                    let dots = V::dot_16(vdupq_n_s32(0), weights[0], x[0]);
                    let dots = vcvtq_f32_s32(V::dot_16(dots, weights[1], x[1]));
                    let scale = vmulq_n_f32(scale, step.d[token]);
                    accumulators[token] = vfmaq_f32(accumulators[token], dots, scale);
                    if let Some(min) = block.m() {
                        let min = vgetq_lane_f32::<0>(splat_f16(min));
                        mins[token] = min.mul_add(step.s[token], mins[token]);
                    }
                }
            }
            for token in 0..TOKENS {
                *job.output(token).add(row) = vaddvq_f32(accumulators[token]) + mins[token];
            }
        }
    }
}
