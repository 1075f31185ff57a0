//! Products of bytes: what the kernels are written with.

use std::arch::aarch64::*;

use super::{each_vector, signed_bytes};

/// An integer for each of eight rows.
pub(super) type Rows = [int32x4_t; 2];

/// Products of bytes. Vectors of weights hold four bytes of each of four rows; two of them are eight rows.
///
/// # Safety
/// The methods are only called inside functions that have the instructions of the set.
pub(super) trait Vectors {
    /// Sums of products that are not finished.
    type Dots: Copy;

    /// `start` in every row, to add products to.
    unsafe fn start(start: int32x4_t) -> Self::Dots;

    /// Adds each row's products with four of `x`, those of `LANE`. May be called eight times with weights from 0 to
    /// 31, or four times with weights from 0 to 63.
    unsafe fn add<const LANE: i32>(
        dots: Self::Dots,
        weights: [int8x16_t; 2],
        x: int8x16_t,
    ) -> Self::Dots;

    /// The sums.
    unsafe fn finish(dots: Self::Dots) -> Rows;

    /// For each token the products of 32 bytes (`x`) with eight rows of any signed bytes (256 at `weights`).
    unsafe fn of_bytes<const TOKENS: usize>(
        weights: *const u8,
        x: &[[int8x16_t; 2]; TOKENS],
    ) -> [Rows; TOKENS];
}

/// Processors that multiply and add four bytes in one instruction.
pub(super) struct Dotprod;

/// Every 64-bit ARM.
pub(super) struct Neon;

/// To each lane of `sum` the products of its four weights with the four bytes of `x` that `LANE` names. Rust's own
/// function is not stable yet.
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

impl Vectors for Dotprod {
    type Dots = Rows;

    #[inline(always)]
    unsafe fn start(start: int32x4_t) -> Rows {
        [start; 2]
    }

    #[inline(always)]
    unsafe fn add<const LANE: i32>(dots: Rows, weights: [int8x16_t; 2], x: int8x16_t) -> Rows {
        // SAFETY: the trait's condition.
        unsafe {
            [
                dot_by_lane::<LANE>(dots[0], weights[0], x),
                dot_by_lane::<LANE>(dots[1], weights[1], x),
            ]
        }
    }

    #[inline(always)]
    unsafe fn finish(dots: Rows) -> Rows {
        dots
    }

    #[inline(always)]
    unsafe fn of_bytes<const TOKENS: usize>(
        weights: *const u8,
        x: &[[int8x16_t; 2]; TOKENS],
    ) -> [Rows; TOKENS] {
        // SAFETY: the trait's condition; the caller has 256 bytes.
        unsafe {
            let mut dots = [Self::start(vdupq_n_s32(0)); TOKENS];
            each_vector!(|VECTOR, HALF, LANE| {
                let weights = signed_bytes(weights.add(32 * VECTOR));
                for (dots, x) in dots.iter_mut().zip(x) {
                    *dots = Self::add::<LANE>(*dots, weights, x[HALF]);
                }
            });
            dots
        }
    }
}

/// Sums in 16 bits: two for each of eight rows, and what they begin with.
#[derive(Clone, Copy)]
pub(super) struct Halves {
    pairs: [int16x8_t; 4],
    start: int32x4_t,
}

/// Adds to 16-bit sums the products with four of `x`.
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

impl Vectors for Neon {
    type Dots = Halves;

    #[inline(always)]
    unsafe fn start(start: int32x4_t) -> Halves {
        Halves {
            // SAFETY: NEON.
            pairs: [unsafe { vdupq_n_s16(0) }; 4],
            start,
        }
    }

    /// A sum is of one product a call: 8 · 31 · 127 and 4 · 63 · 127 fit 16 bits.
    #[inline(always)]
    unsafe fn add<const LANE: i32>(dots: Halves, weights: [int8x16_t; 2], x: int8x16_t) -> Halves {
        Halves {
            // SAFETY: the trait's condition.
            pairs: unsafe { add_products::<LANE>(dots.pairs, weights, x) },
            ..dots
        }
    }

    #[inline(always)]
    unsafe fn finish(dots: Halves) -> Rows {
        // SAFETY: the trait's condition.
        unsafe {
            let [a, b, c, d] = dots.pairs.map(|pairs| vpaddlq_s16(pairs));
            [vpaddq_s32(a, b), vpaddq_s32(c, d)].map(|rows| vaddq_s32(rows, dots.start))
        }
    }

    #[inline(always)]
    unsafe fn of_bytes<const TOKENS: usize>(
        weights: *const u8,
        x: &[[int8x16_t; 2]; TOKENS],
    ) -> [Rows; TOKENS] {
        // SAFETY: the trait's condition; the caller has 256 bytes. Two products of at most 128 · 127 fit 16 bits, so
        // every other time sums go on to 32.
        unsafe {
            let none = [vdupq_n_s16(0); 4];
            let mut pairs = [none; TOKENS];
            let mut sums = [[vdupq_n_s32(0); 4]; TOKENS];
            each_vector!(|VECTOR, HALF, LANE| {
                let weights = signed_bytes(weights.add(32 * VECTOR));
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
