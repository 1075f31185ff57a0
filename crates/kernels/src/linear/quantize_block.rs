//! Quantizing 32 values to bytes: portably, and with AVX2, bit-identical.

use crate::simd::Token;

/// Values that are quantized together.
pub(super) const BLOCK: usize = 32;

/// Values quantized to bytes.
pub(super) struct Quantized {
    /// The bytes.
    pub(super) qs: [[i8; 4]; BLOCK / 4],
    /// The sum of every four.
    pub(super) sums_of_4: [i32; BLOCK / 4],
}

impl Quantized {
    /// The sum of all.
    #[inline(always)]
    pub(super) fn sum(&self) -> i32 {
        self.sums_of_4.iter().sum()
    }
}

/// Quantizes blocks with the instructions of a token.
pub(super) trait QuantizeBlock: Token {
    /// The largest magnitude; NaNs are ignored.
    fn max_abs(self, x: &[f32; BLOCK]) -> f32;
    /// The smallest value or 0, and the largest or 0, of a multiple of eight values; NaNs are
    /// ignored.
    fn min_max(self, x: &[f32]) -> (f32, f32);
    /// The low eight bits of the nearest integers to x · `factor`, of two the even one, where these
    /// are below 2²¹.
    ///
    /// They fall out of adding 1.5 · 2²³, where the spacing of f32 is 1.
    fn quantize(self, x: &[f32; BLOCK], factor: f32) -> Quantized;
}

/// See [`QuantizeBlock::quantize`].
const TO_INTEGERS: f32 = 12_582_912.0;

#[cfg(any(test, not(target_arch = "x86_64")))]
impl QuantizeBlock for crate::simd::Baseline {
    #[inline(always)]
    fn max_abs(self, x: &[f32; BLOCK]) -> f32 {
        max_of(x, f32::abs)
    }

    #[inline(always)]
    fn min_max(self, x: &[f32]) -> (f32, f32) {
        (-max_of(x, |x| -x), max_of(x, |x| x))
    }

    #[inline(always)]
    fn quantize(self, x: &[f32; BLOCK], factor: f32) -> Quantized {
        let (mut qs, mut sums_of_4) = ([[0; 4]; BLOCK / 4], [0; BLOCK / 4]);
        for (index, (q, x)) in qs.as_flattened_mut().iter_mut().zip(x).enumerate() {
            *q = (x * factor + TO_INTEGERS).to_bits() as i8;
            sums_of_4[index / 4] += i32::from(*q);
        }
        Quantized { qs, sums_of_4 }
    }
}

/// The largest of `function`'s results for the values, a multiple of eight, at least 0; NaNs are
/// ignored.
///
/// Eight candidates at a time, so that one comparison need not wait for the last.
#[inline(always)]
pub(super) fn max_of(x: &[f32], function: impl Fn(f32) -> f32) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let mut lanes = [0.0f32; 8];
    for eight in x.as_chunks::<8>().0 {
        for (lane, &x) in lanes.iter_mut().zip(eight) {
            *lane = larger(function(x), *lane);
        }
    }
    lanes.into_iter().fold(0.0, larger)
}

/// Written out: the compiler vectorizes little of the above.
#[cfg(target_arch = "x86_64")]
#[allow(
    clippy::wildcard_imports,
    clippy::cast_ptr_alignment,
    reason = "intrinsics are read by their own names, and memory is read unaligned"
)]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{BLOCK, QuantizeBlock, Quantized, TO_INTEGERS};
    use crate::simd::Avx2;

    impl QuantizeBlock for Avx2 {
        #[inline(always)]
        fn max_abs(self, x: &[f32; BLOCK]) -> f32 {
            // SAFETY: the token proves the instructions; there are 32 values.
            unsafe {
                let sign = _mm256_set1_ps(-0.0);
                let mut lanes = _mm256_setzero_ps();
                for eight in 0..BLOCK / 8 {
                    let x = _mm256_loadu_ps(x.as_ptr().add(8 * eight));
                    // When one of two is NaN this is the second.
                    lanes = _mm256_max_ps(_mm256_andnot_ps(sign, x), lanes);
                }
                reduce_max(lanes)
            }
        }

        #[inline(always)]
        fn min_max(self, x: &[f32]) -> (f32, f32) {
            // SAFETY: the token proves the instructions; each part has eight values.
            unsafe {
                let sign = _mm256_set1_ps(-0.0);
                let (mut high, mut low) = (_mm256_setzero_ps(), _mm256_setzero_ps());
                for eight in x.as_chunks::<8>().0 {
                    let x = _mm256_loadu_ps(eight.as_ptr());
                    high = _mm256_max_ps(x, high);
                    low = _mm256_max_ps(_mm256_xor_ps(sign, x), low);
                }
                (-reduce_max(low), reduce_max(high))
            }
        }

        #[inline(always)]
        fn quantize(self, x: &[f32; BLOCK], factor: f32) -> Quantized {
            // SAFETY: the token proves the instructions; there are 32 values, and as many places.
            unsafe {
                let mut integers = [_mm256_setzero_si256(); 4];
                for (eight, integers) in integers.iter_mut().enumerate() {
                    let x = _mm256_loadu_ps(x.as_ptr().add(8 * eight));
                    let scaled = _mm256_mul_ps(x, _mm256_set1_ps(factor));
                    let moved = _mm256_add_ps(scaled, _mm256_set1_ps(TO_INTEGERS));
                    *integers =
                        _mm256_and_si256(_mm256_castps_si256(moved), _mm256_set1_epi32(255));
                }
                let [a, b, c, d] = integers;
                // Packing works in halves of vectors: fours come out in the order of `in_order`.
                let packed =
                    _mm256_packus_epi16(_mm256_packus_epi32(a, b), _mm256_packus_epi32(c, d));
                let in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
                let packed = _mm256_permutevar8x32_epi32(packed, in_order);
                let pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), packed);
                let sums = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
                let (mut qs, mut sums_of_4) = ([[0; 4]; BLOCK / 4], [0; BLOCK / 4]);
                _mm256_storeu_si256(qs.as_mut_ptr().cast(), packed);
                _mm256_storeu_si256(sums_of_4.as_mut_ptr().cast(), sums);
                Quantized { qs, sums_of_4 }
            }
        }
    }

    /// The largest of eight values, none of them NaN.
    #[inline(always)]
    unsafe fn reduce_max(lanes: __m256) -> f32 {
        // SAFETY: the caller has AVX.
        unsafe {
            let four = _mm_max_ps(
                _mm256_castps256_ps128(lanes),
                _mm256_extractf128_ps::<1>(lanes),
            );
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::simd::{Avx2, Baseline};

    /// Any f32, often of the size of activations.
    fn value() -> impl Strategy<Value = f32> {
        prop_oneof![
            4 => -300.0f32..300.0,
            1 => any::<u32>().prop_map(f32::from_bits),
            1 => Just(f32::NAN),
            1 => Just(f32::NEG_INFINITY),
            1 => Just(-0.0),
        ]
    }

    proptest! {
        #[test]
        fn avx2_and_portable_code_are_bit_identical(
            x in prop::array::uniform32(value()),
            factor in prop_oneof![-1.0f32..1.0, Just(0.0), Just(f32::INFINITY)],
        ) {
            let Some(avx2) = Avx2::detect() else {
                println!("skipped: the processor has no AVX2");
                return Ok(());
            };
            let portable = Baseline::default();
            prop_assert_eq!(portable.max_abs(&x).to_bits(), avx2.max_abs(&x).to_bits());
            let bits = |(min, max): (f32, f32)| (min.to_bits(), max.to_bits());
            prop_assert_eq!(bits(portable.min_max(&x)), bits(avx2.min_max(&x)));
            let (expected, found) = (portable.quantize(&x, factor), avx2.quantize(&x, factor));
            prop_assert_eq!(expected.qs, found.qs);
            prop_assert_eq!(expected.sums_of_4, found.sums_of_4);
        }
    }
}
