//! Vectors of 64-bit ARM processors: NEON, two registers to a vector of eight, so that sums are
//! taken in the same order as with AVX2.

#![allow(
    clippy::wildcard_imports,
    reason = "intrinsics are read by their own names"
)]

use std::arch::aarch64::*;
use std::arch::asm;

use half::f16;

use super::exp::{
    CLAMP, GUARD, GUARD_POWER, LN_2_HIGH, LN_2_LOW, LOWEST, POLYNOMIAL, POWERS, STEP_POLYNOMIAL,
    STEPS_PER_UNIT, TO_INTEGER, TO_INTEGER_F64,
};
use super::{BLOCK, MAX_INTERLEAVE, Q4_0_BYTES, Q8_0_BYTES, Simd, Task, Token, block_scale};
use crate::cpu_features::Features;

/// Processors with NEON: every 64-bit ARM.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Neon(());

/// Processors that multiply and add four bytes in one instruction besides (8.2's `dotprod`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct NeonDotprod(Neon);

/// Processors that compute with f16 besides (8.2's `fp16`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct NeonFp16(NeonDotprod);

impl NeonFp16 {
    /// The instructions that are there as well.
    #[inline(always)]
    pub(crate) fn dotprod(self) -> NeonDotprod {
        self.0
    }
}

impl Token for Neon {
    #[inline(always)]
    fn detect() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Self(()))
    }

    #[inline(always)]
    unsafe fn assume() -> Self {
        Self(())
    }

    /// NEON is in the baseline: nothing is compiled for it in particular.
    #[inline(never)]
    fn vectorize<T: Task<Self>>(self, task: T) -> T::Output {
        task.run(self)
    }
}

impl Token for NeonDotprod {
    #[inline(always)]
    fn detect() -> Option<Self> {
        const NEEDED: Features = Features::new(&["dotprod"]);
        let neon = Neon::detect()?;
        NEEDED.are_allowed().then_some(Self(neon))
    }

    #[inline(always)]
    unsafe fn assume() -> Self {
        // SAFETY: the caller's condition; whoever detects this token detects that one first.
        Self(unsafe { Neon::assume() })
    }

    #[inline(always)]
    fn vectorize<T: Task<Self>>(self, task: T) -> T::Output {
        #[target_feature(enable = "neon,dotprod")]
        #[inline(never)]
        fn compiled<T: Task<NeonDotprod>>(simd: NeonDotprod, task: T) -> T::Output {
            task.run(simd)
        }
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { compiled(self, task) }
    }
}

impl Token for NeonFp16 {
    #[inline(always)]
    fn detect() -> Option<Self> {
        const NEEDED: Features = Features::new(&["fp16"]);
        let dotprod = NeonDotprod::detect()?;
        NEEDED.are_allowed().then_some(Self(dotprod))
    }

    #[inline(always)]
    unsafe fn assume() -> Self {
        // SAFETY: the caller's condition; whoever detects this token detects that one first.
        Self(unsafe { NeonDotprod::assume() })
    }

    #[inline(always)]
    fn vectorize<T: Task<Self>>(self, task: T) -> T::Output {
        #[target_feature(enable = "neon,dotprod,fp16")]
        #[inline(never)]
        fn compiled<T: Task<NeonFp16>>(simd: NeonFp16, task: T) -> T::Output {
            task.run(simd)
        }
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { compiled(self, task) }
    }
}

/// Eight values.
type Eight = [float32x4_t; 2];

/// Expressions of intrinsics, in methods of [`Neon`].
macro_rules! intrinsics {
    ($($body:tt)*) => {{
        // SAFETY: values of `Neon` are made only where the processor has the instructions.
        // Addresses are those of arrays or of slices checked to be long enough.
        unsafe { $($body)* }
    }};
}

/// The sum of products of 32 signed bytes, four neighbours to a lane.
#[inline(always)]
fn products(_: Neon, x: [int8x16_t; 2], y: *const i8) -> Eight {
    let half = |half: usize| {
        intrinsics! {
            let (x, y) = (x[half], vld1q_s8(y.add(16 * half)));
            // Two products of at most 128 · 127 fit 16 bits when they are added in 32.
            let low = vpaddlq_s16(vmull_s8(vget_low_s8(x), vget_low_s8(y)));
            let high = vpaddlq_s16(vmull_high_s8(x, y));
            vcvtq_f32_s32(vpaddq_s32(low, high))
        }
    };
    [half(0), half(1)]
}

/// The sum of eight lanes, the upper half added to the lower one until one is left.
#[inline(always)]
fn reduce_add_halves(_: Neon, vector: Eight) -> f32 {
    intrinsics! {
        let four = vaddq_f32(vector[0], vector[1]);
        let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
        vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
    }
}

impl Neon {
    #[inline(always)]
    fn scale(self, x: &[u8], y: &[u8]) -> Eight {
        let scale = self.f16_to_f32(block_scale(x)) * self.f16_to_f32(block_scale(y));
        self.splat(scale)
    }

    /// e^x of two values, x ≥ [`LOWEST`].
    #[inline(always)]
    fn exp_f64(_: Self, x: float64x2_t) -> float64x2_t {
        let [c3, c2, c1] = STEP_POLYNOMIAL;
        intrinsics! {
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

    /// e^x of four values as the C library computes it.
    #[inline(always)]
    fn exp_of_four(self, x: float32x4_t) -> float32x4_t {
        intrinsics! {
            // Where x is NaN the maximum is NaN as well.
            let x = vmaxq_f32(vdupq_n_f32(LOWEST), x);
            let low = Self::exp_f64(self, vcvt_f64_f32(vget_low_f32(x)));
            let high = Self::exp_f64(self, vcvt_high_f64_f32(x));
            vcvt_high_f32_f64(vcvt_f32_f64(low), high)
        }
    }

    /// e^x of four values by the polynomial.
    #[inline(always)]
    fn polynomial(_: Self, x: float32x4_t) -> float32x4_t {
        let [p5, p4, p3, p2, p1] = POLYNOMIAL;
        intrinsics! {
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
            let minus_one = vfmaq_f32(vmulq_f32(vdupq_n_f32(p1), r), upper, square);
            let one = vdupq_n_u32((GUARD_POWER + 127) << 23);
            let scale = vaddq_u32(vshlq_n_u32::<23>(vreinterpretq_u32_f32(shifted)), one);
            let scale = vreinterpretq_f32_u32(scale);
            vmulq_f32(vfmaq_f32(scale, minus_one, scale), vdupq_n_f32(GUARD))
        }
    }
}

impl Simd for Neon {
    type F32 = Eight;
    const LANES: usize = 8;
    const MICROKERNEL_ROWS: usize = 6;
    const INTERLEAVE: usize = MAX_INTERLEAVE;

    #[inline(always)]
    fn splat(self, value: f32) -> Eight {
        intrinsics!([vdupq_n_f32(value); 2])
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> Eight {
        let from = from[..8].as_ptr();
        intrinsics!([vld1q_f32(from), vld1q_f32(from.add(4))])
    }

    #[inline(always)]
    fn load_f16(self, from: &[f16]) -> Eight {
        let halves = intrinsics!(vld1q_u16(from[..8].as_ptr().cast()));
        [f16_to_f32_low(halves), f16_to_f32_high(halves)]
    }

    #[inline(always)]
    fn store(self, vector: Eight, to: &mut [f32]) {
        let to = to[..8].as_mut_ptr();
        intrinsics! {
            vst1q_f32(to, vector[0]);
            vst1q_f32(to.add(4), vector[1]);
        }
    }

    #[inline(always)]
    fn add(self, a: Eight, b: Eight) -> Eight {
        intrinsics!([vaddq_f32(a[0], b[0]), vaddq_f32(a[1], b[1])])
    }

    #[inline(always)]
    fn mul(self, a: Eight, b: Eight) -> Eight {
        intrinsics!([vmulq_f32(a[0], b[0]), vmulq_f32(a[1], b[1])])
    }

    #[inline(always)]
    fn fma(self, a: Eight, b: Eight, c: Eight) -> Eight {
        intrinsics!([vfmaq_f32(c[0], a[0], b[0]), vfmaq_f32(c[1], a[1], b[1])])
    }

    #[inline(always)]
    fn fma_scalar(self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn max(self, a: Eight, b: Eight) -> Eight {
        let one =
            |half: usize| intrinsics!(vbslq_f32(vcgtq_f32(a[half], b[half]), a[half], b[half]));
        [one(0), one(1)]
    }

    #[inline(always)]
    fn round_to_f16(self, vector: Eight) -> Eight {
        vector.map(|four| f16_to_f32(f32_to_f16(four)))
    }

    #[inline(always)]
    fn f16_to_f32(self, value: f16) -> f32 {
        f16_to_f32_one(value.to_bits())
    }

    #[inline(always)]
    fn reduce_add(self, vector: Eight) -> f32 {
        // Neighbours first, as the instruction does it.
        intrinsics!(vaddvq_f32(vaddq_f32(vector[0], vector[1])))
    }

    #[inline(always)]
    fn add_in_f64(self, total: Eight, groups: &[Eight]) -> Eight {
        let one = |half: usize| {
            intrinsics! {
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
    fn exp_libm(self, values: &mut [f32]) {
        let (eights, rest) = values.as_chunks_mut::<8>();
        for eight in eights {
            let results = self.load(eight).map(|four| self.exp_of_four(four));
            self.store(results, eight);
        }
        if !rest.is_empty() {
            let results = self.load_partial(rest).map(|four| self.exp_of_four(four));
            let mut filled = [0.0; 8];
            self.store(results, &mut filled);
            rest.copy_from_slice(&filled[..rest.len()]);
        }
    }

    #[inline(always)]
    fn dot_q8_0(self, x: &[u8], y: &[u8]) -> f32 {
        let mut accumulators = self.splat(0.0);
        for (x, y) in x.chunks_exact(Q8_0_BYTES).zip(y.chunks_exact(Q8_0_BYTES)) {
            let integers = x[2..2 + BLOCK].as_ptr().cast();
            let integers = intrinsics!([vld1q_s8(integers), vld1q_s8(integers.add(16))]);
            let products = products(self, integers, y[2..2 + BLOCK].as_ptr().cast());
            accumulators = self.fma(self.scale(x, y), products, accumulators);
        }
        reduce_add_halves(self, accumulators)
    }

    #[inline(always)]
    fn dot_q4_0(self, x: &[u8], y: &[u8]) -> f32 {
        let mut accumulators = self.splat(0.0);
        for (x, y) in x.chunks_exact(Q4_0_BYTES).zip(y.chunks_exact(Q8_0_BYTES)) {
            let integers = intrinsics! {
                let packed = vld1q_u8(x[2..2 + BLOCK / 2].as_ptr());
                [vandq_u8(packed, vdupq_n_u8(15)), vshrq_n_u8::<4>(packed)]
                    .map(|nibbles| vsubq_s8(vreinterpretq_s8_u8(nibbles), vdupq_n_s8(8)))
            };
            let products = products(self, integers, y[2..2 + BLOCK].as_ptr().cast());
            accumulators = self.fma(self.scale(x, y), products, accumulators);
        }
        reduce_add_halves(self, accumulators)
    }

    #[inline(always)]
    fn dequantize(self, integers: &[i8; BLOCK], scale: f32, to: &mut [f32]) {
        let scale = self.splat(scale);
        for (integers, to) in integers.chunks_exact(8).zip(to.chunks_exact_mut(8)) {
            let values = intrinsics! {
                let eight = vmovl_s8(vld1_s8(integers[..8].as_ptr()));
                [vmovl_s16(vget_low_s16(eight)), vmovl_high_s16(eight)]
                    .map(|four| vcvtq_f32_s32(four))
            };
            self.store(self.mul(values, scale), to);
        }
    }
}

/// Defines functions of one instruction that reads a register and writes one.
macro_rules! one_instruction {
    ($(
        $(#[$attribute:meta])*
        $name:ident($argument:ty) -> $result:ty = $instruction:literal;
    )*) => {$(
        $(#[$attribute])*
        #[inline(always)]
        pub(crate) fn $name(argument: $argument) -> $result {
            let result;
            // SAFETY: the instruction touches these registers and nothing else, and every 64-bit
            // ARM has it.
            unsafe {
                asm!($instruction, out(vreg) result, in(vreg) argument,
                    options(pure, nomem, nostack, preserves_flags));
            }
            result
        }
    )*};
}

one_instruction! {
    /// Four f16 as f32.
    f16_to_f32(uint16x4_t) -> float32x4_t = "fcvtl {0:v}.4s, {1:v}.4h";
    /// The first four.
    f16_to_f32_low(uint16x8_t) -> float32x4_t = "fcvtl {0:v}.4s, {1:v}.4h";
    /// The last four.
    f16_to_f32_high(uint16x8_t) -> float32x4_t = "fcvtl2 {0:v}.4s, {1:v}.8h";
    /// One f16 as f32, from its bits.
    f16_to_f32_one(u16) -> f32 = "fcvt {0:s}, {1:h}";
    /// Four f32 rounded to f16.
    f32_to_f16(float32x4_t) -> uint16x4_t = "fcvtn {0:v}.4h, {1:v}.4s";
}

/// Rounds eight f32 to f16.
#[inline(always)]
pub(crate) fn f32_to_f16_eight(values: &[f32; 8], output: &mut [f16; 8]) {
    // SAFETY: eight of both, and an f16 is 16 bits.
    unsafe {
        let values = values.as_ptr();
        let (low, high) = (vld1q_f32(values), vld1q_f32(values.add(4)));
        let all = vcombine_u16(f32_to_f16(low), f32_to_f16(high));
        vst1q_u16(output.as_mut_ptr().cast(), all);
    }
}

/// Converts eight f16 to f32.
#[inline(always)]
pub(crate) fn f16_to_f32_eight(values: &[f16; 8], output: &mut [f32; 8]) {
    // SAFETY: eight of both, and an f16 is 16 bits.
    unsafe {
        let halves = vld1q_u16(values.as_ptr().cast());
        vst1q_f32(output.as_mut_ptr(), f16_to_f32_low(halves));
        vst1q_f32(output.as_mut_ptr().add(4), f16_to_f32_high(halves));
    }
}
