//! Half floats' numbers, many at a time.
//!
//! On 64-bit ARM converting is in every processor's vectors. Rust's own functions for it are not stable or, like the
//! crate `half`, ask for arithmetic on half floats, which is in few.

use half::f16;
use half::slice::HalfFloatSliceExt;

/// Rounds each of `numbers` to the nearest half float, ties to even.
///
/// # Panics
/// When there are not as many `halves`.
pub(super) fn round(numbers: &[f32], halves: &mut [f16]) {
    assert_eq!(numbers.len(), halves.len());
    #[cfg(target_arch = "aarch64")]
    let (numbers, halves) = {
        let (eights, numbers) = numbers.as_chunks::<8>();
        let (places, halves) = halves.split_at_mut(8 * eights.len());
        for (eight, places) in eights.iter().zip(places.as_chunks_mut::<8>().0) {
            neon::round_eight(eight, places);
        }
        (numbers, halves)
    };
    halves.convert_from_f32_slice(numbers);
}

/// Writes the number of each of `halves`.
///
/// # Panics
/// When there are not as many `numbers`.
pub(super) fn expand(halves: &[f16], numbers: &mut [f32]) {
    assert_eq!(numbers.len(), halves.len());
    #[cfg(target_arch = "aarch64")]
    let (halves, numbers) = {
        let (eights, halves) = halves.as_chunks::<8>();
        let (places, numbers) = numbers.split_at_mut(8 * eights.len());
        for (eight, places) in eights.iter().zip(places.as_chunks_mut::<8>().0) {
            neon::expand_eight(eight, places);
        }
        (halves, numbers)
    };
    halves.convert_to_f32_slice(numbers);
}

/// The instructions themselves.
#[cfg(target_arch = "aarch64")]
pub(super) mod neon {
    use std::arch::aarch64::{
        float32x4_t, uint16x4_t, uint16x8_t, vcombine_u16, vld1q_f32, vld1q_u16, vst1q_f32,
        vst1q_u16,
    };
    use std::arch::asm;

    use half::f16;

    /// Defines functions of one instruction that reads a register and writes one.
    macro_rules! one_instruction {
        ($($(#[$attribute:meta])* $name:ident($argument:ty) -> $result:ty = $instruction:literal;)*) => {$(
            $(#[$attribute])*
            #[inline(always)]
            pub(crate) fn $name(argument: $argument) -> $result {
                let result;
                // SAFETY: the instruction touches these registers and nothing else, and every 64-bit ARM has it.
                unsafe {
                    asm!($instruction, out(vreg) result, in(vreg) argument,
                        options(pure, nomem, nostack, preserves_flags));
                }
                result
            }
        )*};
    }

    one_instruction! {
        /// The numbers of four half floats.
        expand(uint16x4_t) -> float32x4_t = "fcvtl {0:v}.4s, {1:v}.4h";
        /// Those of the first four.
        expand_low(uint16x8_t) -> float32x4_t = "fcvtl {0:v}.4s, {1:v}.4h";
        /// Those of the last four.
        expand_high(uint16x8_t) -> float32x4_t = "fcvtl2 {0:v}.4s, {1:v}.8h";
        /// The number of one half float, from its bits.
        expand_one(u16) -> f32 = "fcvt {0:s}, {1:h}";
        /// Four numbers rounded to half floats.
        round(float32x4_t) -> uint16x4_t = "fcvtn {0:v}.4h, {1:v}.4s";
    }

    /// Rounds eight numbers.
    #[inline(always)]
    pub(super) fn round_eight(numbers: &[f32; 8], halves: &mut [f16; 8]) {
        // SAFETY: eight of both, and an f16 is 16 bits.
        unsafe {
            let numbers = numbers.as_ptr();
            let (low, high) = (vld1q_f32(numbers), vld1q_f32(numbers.add(4)));
            let all = vcombine_u16(round(low), round(high));
            vst1q_u16(halves.as_mut_ptr().cast(), all);
        }
    }

    /// Expands eight half floats.
    #[inline(always)]
    pub(super) fn expand_eight(halves: &[f16; 8], numbers: &mut [f32; 8]) {
        // SAFETY: eight of both, and an f16 is 16 bits.
        unsafe {
            let halves = vld1q_u16(halves.as_ptr().cast());
            vst1q_f32(numbers.as_mut_ptr(), expand_low(halves));
            vst1q_f32(numbers.as_mut_ptr().add(4), expand_high(halves));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_float_expands_and_rounds_to_itself() {
        let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        for count in [halves.len(), 13] {
            let halves = &halves[..count];
            let mut numbers = vec![0.0; count];
            expand(halves, &mut numbers);
            let mut again = vec![f16::ZERO; count];
            round(&numbers, &mut again);
            for ((half, number), again) in halves.iter().zip(&numbers).zip(&again) {
                let same = number.to_bits() == half.to_f32().to_bits() && again == half;
                let neither = half.is_nan() && number.is_nan() && again.is_nan();
                assert!(same || neither, "{half:?}: {number}, {again:?}");
            }
        }
    }

    #[test]
    fn numbers_between_half_floats_are_rounded_to_the_nearer() {
        // Between every two neighbours: just below, at and just above the middle.
        let numbers: Vec<f32> = (0..f16::INFINITY.to_bits())
            .flat_map(|bits| {
                let [a, b] = [bits, bits + 1].map(|bits| f16::from_bits(bits).to_f32());
                let middle = if b.is_finite() {
                    f32::midpoint(a, b)
                } else {
                    65520.0
                };
                [middle.next_down(), middle, middle.next_up(), -middle]
            })
            .collect();
        let mut halves = vec![f16::ZERO; numbers.len()];
        round(&numbers, &mut halves);
        for (&number, half) in numbers.iter().zip(halves) {
            assert_eq!(half, f16::from_f32(number), "{number:e}");
        }
    }
}
