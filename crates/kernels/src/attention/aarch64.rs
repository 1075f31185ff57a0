//! Vectors of 64-bit ARM processors: NEON, two registers to a vector of eight, so that sums are taken in the same
//! order as with AVX2.

#![allow(
    clippy::wildcard_imports,
    reason = "intrinsics are read by their own names"
)]

use std::arch::aarch64::*;
use std::arch::asm;

use half::f16;

use super::exponential::{
    CLAMP, GUARD, GUARD_POWER, LN_2_HIGH, LN_2_LOW, LOWEST, POLYNOMIAL, POWERS, STEP_POLYNOMIAL,
    STEPS_PER_UNIT, TO_INTEGER, TO_INTEGER_F64,
};
use super::lanes::{BLOCK, Lanes, Q4_0_BYTES, Q8_0_BYTES, Task, block_scale};
use super::weighing::HEADS;
use crate::halves::neon;

/// Processors with NEON.
#[derive(Clone, Copy)]
pub(super) struct Neon(());

impl Neon {
    /// The instructions, if this processor has them.
    pub(super) fn detect() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Self(()))
    }
}

/// Eight numbers.
type Eight = [float32x4_t; 2];

/// Expressions of intrinsics, in methods of [`Neon`].
macro_rules! instructions {
    ($($body:tt)*) => {{
        // SAFETY: values of `Neon` are made only where the processor has the instructions. Addresses are those of
        // arrays or of slices checked to be long enough.
        unsafe { $($body)* }
    }};
}

/// The sum of products of 32 signed bytes, four neighbours to a lane.
#[inline(always)]
fn products(_: Neon, x: [int8x16_t; 2], y: *const i8) -> Eight {
    let half = |half: usize| {
        instructions! {
            let (x, y) = (x[half], vld1q_s8(y.add(16 * half)));
            // Two products of at most 128 · 127 fit 16 bits when they are added in 32.
            let low = vpaddlq_s16(vmull_s8(vget_low_s8(x), vget_low_s8(y)));
            let high = vpaddlq_s16(vmull_high_s8(x, y));
            vcvtq_f32_s32(vpaddq_s32(low, high))
        }
    };
    [half(0), half(1)]
}

/// Eight numbers, the upper half added to the lower one until one is left.
#[inline(always)]
fn sum_by_halves(_: Neon, vector: Eight) -> f32 {
    instructions! {
        let four = vaddq_f32(vector[0], vector[1]);
        let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
        vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
    }
}

impl Neon {
    #[inline(always)]
    fn scale(self, x: &[u8], y: &[u8]) -> Eight {
        let scale = self.half(block_scale(x)) * self.half(block_scale(y));
        self.splat(scale)
    }

    /// e^x of two numbers, x ≥ [`LOWEST`].
    #[inline(always)]
    fn exp_f64(_: Self, x: float64x2_t) -> float64x2_t {
        let [c3, c2, c1] = STEP_POLYNOMIAL;
        instructions! {
            let unit = vdupq_n_f64(STEPS_PER_UNIT);
            let magic = vdupq_n_f64(TO_INTEGER_F64);
            let shifted = vfmaq_f64(magic, unit, x);
            let whole = vsubq_f64(shifted, magic);
            let r = vfmaq_f64(vnegq_f64(whole), unit, x);
            let steps = vreinterpretq_u64_f64(shifted);
            let power = |steps: u64| POWERS[(steps & 31) as usize];
            let powers = [power(vgetq_lane_u64::<0>(steps)), power(vgetq_lane_u64::<1>(steps))];
            let power = vaddq_u64(vld1q_u64(powers.as_ptr()), vshlq_n_u64::<47>(steps));
            let upper = vfmaq_f64(vdupq_n_f64(c2), vdupq_n_f64(c3), r);
            let lower = vfmaq_f64(vdupq_n_f64(1.0), vdupq_n_f64(c1), r);
            let product = vfmaq_f64(lower, upper, vmulq_f64(r, r));
            vmulq_f64(product, vreinterpretq_f64_u64(power))
        }
    }

    /// e^x of four numbers as the C library computes it.
    #[inline(always)]
    fn exp_of_four(self, x: float32x4_t) -> float32x4_t {
        instructions! {
            // Where x is no number the maximum is none either.
            let x = vmaxq_f32(vdupq_n_f32(LOWEST), x);
            let low = Self::exp_f64(self, vcvt_f64_f32(vget_low_f32(x)));
            let high = Self::exp_f64(self, vcvt_high_f64_f32(x));
            vcvt_high_f32_f64(vcvt_f32_f64(low), high)
        }
    }

    /// e^x of four numbers by the polynomial.
    #[inline(always)]
    fn polynomial(_: Self, x: float32x4_t) -> float32x4_t {
        let [p5, p4, p3, p2, p1] = POLYNOMIAL;
        instructions! {
            let x = vmaxq_f32(vdupq_n_f32(CLAMP), x);
            let magic = vdupq_n_f32(TO_INTEGER);
            let shifted = vfmaq_f32(magic, x, vdupq_n_f32(std::f32::consts::LOG2_E));
            let power = vsubq_f32(shifted, magic);
            let r = vfmsq_f32(x, power, vdupq_n_f32(LN_2_HIGH));
            let r = vfmsq_f32(r, power, vdupq_n_f32(LN_2_LOW));
            let square = vmulq_f32(r, r);
            let first = vfmaq_f32(vdupq_n_f32(p4), vdupq_n_f32(p5), r);
            let second = vfmaq_f32(vdupq_n_f32(p2), vdupq_n_f32(p3), r);
            let upper = vfmaq_f32(second, first, square);
            let less_one = vfmaq_f32(vmulq_f32(vdupq_n_f32(p1), r), upper, square);
            let one = vdupq_n_u32((GUARD_POWER + 127) << 23);
            let scale = vaddq_u32(vshlq_n_u32::<23>(vreinterpretq_u32_f32(shifted)), one);
            let scale = vreinterpretq_f32_u32(scale);
            vmulq_f32(vfmaq_f32(scale, less_one, scale), vdupq_n_f32(GUARD))
        }
    }
}

impl Lanes for Neon {
    type F32 = Eight;
    const WIDTH: usize = 8;
    const BLOCK_ROWS: usize = 6;
    const HEADS: usize = HEADS;

    #[inline(never)]
    fn run<T: Task>(self, task: T) {
        task.run(self);
    }

    #[inline(always)]
    fn splat(self, number: f32) -> Eight {
        instructions!([vdupq_n_f32(number); 2])
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> Eight {
        let from = from[..8].as_ptr();
        instructions!([vld1q_f32(from), vld1q_f32(from.add(4))])
    }

    #[inline(always)]
    fn load_half(self, from: &[f16]) -> Eight {
        let halves = instructions!(vld1q_u16(from[..8].as_ptr().cast()));
        [neon::expand_low(halves), neon::expand_high(halves)]
    }

    #[inline(always)]
    fn store(self, vector: Eight, to: &mut [f32]) {
        let to = to[..8].as_mut_ptr();
        instructions! {
            vst1q_f32(to, vector[0]);
            vst1q_f32(to.add(4), vector[1]);
        }
    }

    #[inline(always)]
    fn add(self, a: Eight, b: Eight) -> Eight {
        instructions!([vaddq_f32(a[0], b[0]), vaddq_f32(a[1], b[1])])
    }

    #[inline(always)]
    fn mul(self, a: Eight, b: Eight) -> Eight {
        instructions!([vmulq_f32(a[0], b[0]), vmulq_f32(a[1], b[1])])
    }

    #[inline(always)]
    fn fma(self, a: Eight, b: Eight, c: Eight) -> Eight {
        instructions!([vfmaq_f32(c[0], a[0], b[0]), vfmaq_f32(c[1], a[1], b[1])])
    }

    #[inline(always)]
    fn fma_one(self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn max(self, a: Eight, b: Eight) -> Eight {
        let one =
            |half: usize| instructions!(vbslq_f32(vcgtq_f32(a[half], b[half]), a[half], b[half]));
        [one(0), one(1)]
    }

    #[inline(always)]
    fn round_to_half(self, vector: Eight) -> Eight {
        vector.map(|four| neon::expand(neon::round(four)))
    }

    #[inline(always)]
    fn half(self, number: f16) -> f32 {
        neon::expand_one(number.to_bits())
    }

    #[inline(always)]
    fn sum(self, vector: Eight) -> f32 {
        // Neighbours first, as the instruction does it.
        instructions!(vaddvq_f32(vaddq_f32(vector[0], vector[1])))
    }

    #[inline(always)]
    fn add_in_f64(self, total: Eight, groups: &[Eight]) -> Eight {
        let one = |half: usize| {
            instructions! {
                let (mut low, mut high) = (vdupq_n_f64(0.0), vdupq_n_f64(0.0));
                for group in groups {
                    low = vaddq_f64(low, vcvt_f64_f32(vget_low_f32(group[half])));
                    high = vaddq_f64(high, vcvt_high_f64_f32(group[half]));
                }
                low = vaddq_f64(vcvt_f64_f32(vget_low_f32(total[half])), low);
                high = vaddq_f64(vcvt_high_f64_f32(total[half]), high);
                vcvt_high_f32_f64(vcvt_f32_f64(low), high)
            }
        };
        [one(0), one(1)]
    }

    #[inline(always)]
    fn exp(self, x: Eight) -> Eight {
        x.map(|four| Self::polynomial(self, four))
    }

    #[inline(always)]
    fn exp_as_libm(self, numbers: &mut [f32]) {
        let (eights, rest) = numbers.as_chunks_mut::<8>();
        for eight in eights {
            let results = self.load(eight).map(|four| self.exp_of_four(four));
            self.store(results, eight);
        }
        if !rest.is_empty() {
            let results = self.load_some(rest).map(|four| self.exp_of_four(four));
            let mut filled = [0.0; 8];
            self.store(results, &mut filled);
            rest.copy_from_slice(&filled[..rest.len()]);
        }
    }

    #[inline(always)]
    fn dot_q8_0(self, x: &[u8], y: &[u8]) -> f32 {
        let mut sums = self.splat(0.0);
        for (x, y) in x.chunks_exact(Q8_0_BYTES).zip(y.chunks_exact(Q8_0_BYTES)) {
            let integers = x[2..2 + BLOCK].as_ptr().cast();
            let integers = instructions!([vld1q_s8(integers), vld1q_s8(integers.add(16))]);
            let products = products(self, integers, y[2..2 + BLOCK].as_ptr().cast());
            sums = self.fma(self.scale(x, y), products, sums);
        }
        sum_by_halves(self, sums)
    }

    #[inline(always)]
    fn dot_q4_0(self, x: &[u8], y: &[u8]) -> f32 {
        let mut sums = self.splat(0.0);
        for (x, y) in x.chunks_exact(Q4_0_BYTES).zip(y.chunks_exact(Q8_0_BYTES)) {
            let integers = instructions! {
                let packed = vld1q_u8(x[2..2 + BLOCK / 2].as_ptr());
                [vandq_u8(packed, vdupq_n_u8(15)), vshrq_n_u8::<4>(packed)]
                    .map(|nibbles| vsubq_s8(vreinterpretq_s8_u8(nibbles), vdupq_n_s8(8)))
            };
            let products = products(self, integers, y[2..2 + BLOCK].as_ptr().cast());
            sums = self.fma(self.scale(x, y), products, sums);
        }
        sum_by_halves(self, sums)
    }

    #[inline(always)]
    fn scale_integers(self, integers: &[i8; BLOCK], scale: f32, to: &mut [f32]) {
        let scale = self.splat(scale);
        for (integers, to) in integers.chunks_exact(8).zip(to.chunks_exact_mut(8)) {
            let numbers = instructions! {
                let eight = vmovl_s8(vld1_s8(integers[..8].as_ptr()));
                [vmovl_s16(vget_low_s16(eight)), vmovl_high_s16(eight)].map(|four| vcvtq_f32_s32(four))
            };
            self.store(self.mul(numbers, scale), to);
        }
    }

    #[inline(always)]
    fn prefetch<T>(self, from: &[T], start: usize, count: usize) {
        const LINE: usize = 64;
        let first = from.as_ptr().wrapping_add(start).cast::<u8>();
        let bytes = count * size_of::<T>();
        // The usual head is 64 half floats: a loop would take longer than what it does.
        prefetch_line(self, first);
        if bytes > LINE {
            prefetch_line(self, first.wrapping_add(LINE));
        }
        for offset in (2 * LINE..bytes).step_by(LINE) {
            prefetch_line(self, first.wrapping_add(offset));
        }
    }
}

/// Asks for the memory at an address, which may be any.
#[inline(always)]
fn prefetch_line(_: Neon, address: *const u8) {
    // SAFETY: asking for memory touches none that a program sees, whatever the address.
    unsafe {
        asm!("prfm pldl1keep, [{0}]", in(reg) address, options(readonly, nostack, preserves_flags));
    }
}
