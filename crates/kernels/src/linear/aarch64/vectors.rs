//! Dot products of bytes, with a lane for each row.

use std::arch::aarch64::*;

use super::helpers::Rows;
use super::unroll::each_vector;
use crate::simd::{Neon, NeonDotprod};

/// Dot products of bytes, over the tokens of [`simd`](crate::simd). Vectors of weights hold four
/// bytes of each of four rows; two of them are eight rows.
///
/// # Safety
/// The methods are only called inside functions that have the instructions of the set.
pub(super) trait PanelVectors {
    /// Accumulators.
    type Dots: Copy;

    /// `start` in every row.
    unsafe fn start(start: int32x4_t) -> Self::Dots;

    /// Adds each row's dot product with four of `x`, those of `LANE`. May be called eight times
    /// with weights from 0 to 31, or four times with weights from 0 to 63.
    unsafe fn dot<const LANE: i32>(
        dots: Self::Dots,
        weights: [int8x16_t; 2],
        x: int8x16_t,
    ) -> Self::Dots;

    /// The dot products.
    unsafe fn end(dots: Self::Dots) -> Rows;

    /// `sum` + the dot products of four bytes of one row and of `x` in each lane.
    unsafe fn dot_16(sum: int32x4_t, weights: int8x16_t, x: int8x16_t) -> int32x4_t;

    /// For each token the dot products of 32 bytes (`x`) with those of eight rows, which may be
    /// any.
    unsafe fn dot_i8<P: BytePanel, const TOKENS: usize>(
        panel: &P,
        x: &[[int8x16_t; 2]; TOKENS],
    ) -> [Rows; TOKENS];
}

/// Packed blocks of 32 signed weights.
///
/// # Safety
/// The method is only called where NEON is.
pub(super) trait BytePanel {
    /// Four weights of each row.
    unsafe fn weights(&self, vector: usize) -> [int8x16_t; 2];
}

/// `sum` + in each lane the dot product of its four weights with the four bytes of `x` that `LANE`
/// names. Rust's own function is not stable yet.
#[inline(always)]
unsafe fn dot_by_lane<const LANE: i32>(
    sum: int32x4_t,
    weights: int8x16_t,
    x: int8x16_t,
) -> int32x4_t {
    let mut sum = sum;
    // SAFETY: the instruction reads and writes registers and nothing else; the caller has it.
    unsafe {
        std::arch::asm!("sdot {0:v}.4s, {1:v}.16b, {2:v}.4b[{3}]",
            inout(vreg) sum, in(vreg) weights, in(vreg) x, const LANE,
            options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

impl PanelVectors for NeonDotprod {
    type Dots = Rows;

    #[inline(always)]
    unsafe fn start(start: int32x4_t) -> Rows {
        [start; 2]
    }

    #[inline(always)]
    unsafe fn dot<const LANE: i32>(dots: Rows, weights: [int8x16_t; 2], x: int8x16_t) -> Rows {
        // SAFETY: the trait's condition.
        unsafe {
            [
                dot_by_lane::<LANE>(dots[0], weights[0], x),
                dot_by_lane::<LANE>(dots[1], weights[1], x),
            ]
        }
    }

    #[inline(always)]
    unsafe fn end(dots: Rows) -> Rows {
        dots
    }

    #[inline(always)]
    unsafe fn dot_16(sum: int32x4_t, weights: int8x16_t, x: int8x16_t) -> int32x4_t {
        let mut sum = sum;
        // SAFETY: the instruction reads and writes registers and nothing else; it is there.
        unsafe {
            std::arch::asm!("sdot {0:v}.4s, {1:v}.16b, {2:v}.16b",
                inout(vreg) sum, in(vreg) weights, in(vreg) x,
                options(pure, nomem, nostack, preserves_flags));
        }
        sum
    }

    #[inline(always)]
    unsafe fn dot_i8<P: BytePanel, const TOKENS: usize>(
        panel: &P,
        x: &[[int8x16_t; 2]; TOKENS],
    ) -> [Rows; TOKENS] {
        // SAFETY: the trait's condition.
        unsafe {
            let mut dots = [Self::start(vdupq_n_s32(0)); TOKENS];
            each_vector!(|VECTOR, HALF, LANE| {
                let weights = panel.weights(VECTOR);
                for (dots, x) in dots.iter_mut().zip(x) {
                    *dots = Self::dot::<LANE>(*dots, weights, x[HALF]);
                }
            });
            dots
        }
    }
}

/// Accumulators of 16 bits: two for each of eight rows, and what they begin with.
#[derive(Clone, Copy)]
pub(super) struct I16Dots {
    pairs: [int16x8_t; 4],
    start: int32x4_t,
}

/// Adds to accumulators of 16 bits the products with four of `x`.
#[inline(always)]
unsafe fn add_products<const LANE: i32>(
    pairs: [int16x8_t; 4],
    weights: [int8x16_t; 2],
    x: int8x16_t,
) -> [int16x8_t; 4] {
    // SAFETY: NEON.
    unsafe {
        let x = vreinterpretq_s8_s32(vdupq_laneq_s32::<LANE>(vreinterpretq_s32_s8(x)));
        let low = vget_low_s8(x);
        [
            vmlal_s8(pairs[0], vget_low_s8(weights[0]), low),
            vmlal_high_s8(pairs[1], weights[0], x),
            vmlal_s8(pairs[2], vget_low_s8(weights[1]), low),
            vmlal_high_s8(pairs[3], weights[1], x),
        ]
    }
}

impl PanelVectors for Neon {
    type Dots = I16Dots;

    #[inline(always)]
    unsafe fn start(start: int32x4_t) -> I16Dots {
        I16Dots {
            // SAFETY: NEON.
            pairs: [unsafe { vdupq_n_s16(0) }; 4],
            start,
        }
    }

    /// A sum is of one product a call: 8 · 31 · 127 and 4 · 63 · 127 fit 16 bits.
    #[inline(always)]
    unsafe fn dot<const LANE: i32>(
        dots: I16Dots,
        weights: [int8x16_t; 2],
        x: int8x16_t,
    ) -> I16Dots {
        I16Dots {
            // SAFETY: the trait's condition.
            pairs: unsafe { add_products::<LANE>(dots.pairs, weights, x) },
            ..dots
        }
    }

    #[inline(always)]
    unsafe fn end(dots: I16Dots) -> Rows {
        // SAFETY: the trait's condition.
        unsafe {
            let [a, b, c, d] = dots.pairs.map(|pairs| vpaddlq_s16(pairs));
            [vpaddq_s32(a, b), vpaddq_s32(c, d)].map(|rows| vaddq_s32(rows, dots.start))
        }
    }

    #[inline(always)]
    unsafe fn dot_16(sum: int32x4_t, weights: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: NEON.
        unsafe {
            let first = vpaddlq_s16(vmull_s8(vget_low_s8(weights), vget_low_s8(x)));
            let last = vpaddlq_s16(vmull_high_s8(weights, x));
            vaddq_s32(sum, vpaddq_s32(first, last))
        }
    }

    #[inline(always)]
    unsafe fn dot_i8<P: BytePanel, const TOKENS: usize>(
        panel: &P,
        x: &[[int8x16_t; 2]; TOKENS],
    ) -> [Rows; TOKENS] {
        // SAFETY: the trait's condition. Two products of at most 128 · 127 fit 16 bits, so every
        // other time sums go on to 32.
        unsafe {
            let none = [vdupq_n_s16(0); 4];
            let mut pairs = [none; TOKENS];
            let mut sums = [[vdupq_n_s32(0); 4]; TOKENS];
            each_vector!(|VECTOR, HALF, LANE| {
                let weights = panel.weights(VECTOR);
                for token in 0..TOKENS {
                    pairs[token] = add_products::<LANE>(pairs[token], weights, x[token][HALF]);
                    if VECTOR % 2 == 1 {
                        for (sum, pairs) in sums[token].iter_mut().zip(pairs[token]) {
                            *sum = vpadalq_s16(*sum, pairs);
                        }
                        pairs[token] = none;
                    }
                }
            });
            sums.map(|[a, b, c, d]| [vpaddq_s32(a, b), vpaddq_s32(c, d)])
        }
    }
}
