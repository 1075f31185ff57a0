//! Numbers rounded to bytes, 32 at a time: plainly, and with AVX2, to the same bits.

/// Numbers that are looked at together.
pub(super) const TOGETHER: usize = 32;

/// Bytes that numbers were rounded to.
pub(super) struct Rounded {
    /// The bytes, which are signed.
    pub(super) bytes: [u8; TOGETHER],
    /// The sum of every four.
    pub(super) fours: [i32; TOGETHER / 4],
}

impl Rounded {
    /// The sum of all.
    #[inline(always)]
    pub(super) fn sum(&self) -> i32 {
        self.fours.iter().sum()
    }
}

/// What rounds.
///
/// # Safety
/// The methods are only called inside functions that have the instructions of the implementation.
pub(super) trait Round {
    /// The largest magnitude; what is no number is passed over.
    unsafe fn largest(x: &[f32; TOGETHER]) -> f32;
    /// The largest number or 0, and the smallest or 0, of a multiple of eight numbers; what is no number is passed over.
    unsafe fn extremes(x: &[f32]) -> (f32, f32);
    /// The low eight bits of the nearest integers to x · `factor`, of two the even one, where these are below 2²¹.
    ///
    /// They fall out of adding 1.5 · 2²³, where the spacing of f32 is 1.
    unsafe fn round(x: &[f32; TOGETHER], factor: f32) -> Rounded;
}

/// See [`Round::round`].
const TO_INTEGERS: f32 = 12_582_912.0;

/// With any instructions.
pub(super) struct Portable;

impl Round for Portable {
    #[inline(always)]
    unsafe fn largest(x: &[f32; TOGETHER]) -> f32 {
        largest(x, f32::abs)
    }

    #[inline(always)]
    unsafe fn extremes(x: &[f32]) -> (f32, f32) {
        (largest(x, |x| x), -largest(x, |x| -x))
    }

    #[inline(always)]
    unsafe fn round(x: &[f32; TOGETHER], factor: f32) -> Rounded {
        let (mut bytes, mut fours) = ([0; TOGETHER], [0; TOGETHER / 4]);
        for (index, (byte, x)) in bytes.iter_mut().zip(x).enumerate() {
            let rounded = (x * factor + TO_INTEGERS).to_bits() as i8;
            *byte = rounded as u8;
            fours[index / 4] += i32::from(rounded);
        }
        Rounded { bytes, fours }
    }
}

/// The largest of what `function` makes of the numbers, a multiple of eight, at least 0; what is no number is passed over.
///
/// Eight candidates at a time, so that one comparison need not wait for the last.
#[inline(always)]
pub(super) fn largest(x: &[f32], function: impl Fn(f32) -> f32) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let mut lanes = [0.0f32; 8];
    for eight in x.as_chunks::<8>().0 {
        for (lane, &x) in lanes.iter_mut().zip(eight) {
            *lane = larger(function(x), *lane);
        }
    }
    lanes.into_iter().fold(0.0, larger)
}

/// With AVX2, written out: what the compiler makes of the above goes through most numbers one by one.
#[cfg(target_arch = "x86_64")]
pub(super) struct Avx2;

#[cfg(target_arch = "x86_64")]
#[allow(
    clippy::wildcard_imports,
    clippy::cast_ptr_alignment,
    reason = "intrinsics are read by their own names, and memory is read unaligned"
)]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{Avx2, Round, Rounded, TO_INTEGERS, TOGETHER};

    impl Round for Avx2 {
        #[inline(always)]
        unsafe fn largest(x: &[f32; TOGETHER]) -> f32 {
            // SAFETY: the trait's condition; there are 32 numbers.
            unsafe {
                let sign = _mm256_set1_ps(-0.0);
                let mut lanes = _mm256_setzero_ps();
                for eight in 0..TOGETHER / 8 {
                    let x = _mm256_loadu_ps(x.as_ptr().add(8 * eight));
                    // Of two of which one is no number this is the second.
                    lanes = _mm256_max_ps(_mm256_andnot_ps(sign, x), lanes);
                }
                largest_lane(lanes)
            }
        }

        #[inline(always)]
        unsafe fn extremes(x: &[f32]) -> (f32, f32) {
            // SAFETY: the trait's condition; each part has eight numbers.
            unsafe {
                let sign = _mm256_set1_ps(-0.0);
                let (mut high, mut low) = (_mm256_setzero_ps(), _mm256_setzero_ps());
                for eight in x.as_chunks::<8>().0 {
                    let x = _mm256_loadu_ps(eight.as_ptr());
                    high = _mm256_max_ps(x, high);
                    low = _mm256_max_ps(_mm256_xor_ps(sign, x), low);
                }
                (largest_lane(high), -largest_lane(low))
            }
        }

        #[inline(always)]
        unsafe fn round(x: &[f32; TOGETHER], factor: f32) -> Rounded {
            // SAFETY: the trait's condition; there are 32 numbers, and as many places.
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
                // Packing goes by halves of vectors: fours come out in the order of `in_order`.
                let packed =
                    _mm256_packus_epi16(_mm256_packus_epi32(a, b), _mm256_packus_epi32(c, d));
                let in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
                let packed = _mm256_permutevar8x32_epi32(packed, in_order);
                let pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), packed);
                let sums = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
                let (mut bytes, mut fours) = ([0; TOGETHER], [0; TOGETHER / 4]);
                _mm256_storeu_si256(bytes.as_mut_ptr().cast(), packed);
                _mm256_storeu_si256(fours.as_mut_ptr().cast(), sums);
                Rounded { bytes, fours }
            }
        }
    }

    /// The largest of eight numbers that are no NaN.
    #[inline(always)]
    unsafe fn largest_lane(lanes: __m256) -> f32 {
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
    use crate::simd::{self, Token};

    /// Any f32, and often such as activations are.
    fn number() -> impl Strategy<Value = f32> {
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
        fn vectors_give_what_numbers_give(
            x in prop::array::uniform32(number()),
            factor in prop_oneof![-1.0f32..1.0, Just(0.0), Just(f32::INFINITY)],
        ) {
            if simd::Avx2::detect().is_none() {
                println!("skipped: the processor has no AVX2");
                return Ok(());
            }
            // SAFETY: the processor has AVX2.
            unsafe {
                prop_assert_eq!(Portable::largest(&x).to_bits(), Avx2::largest(&x).to_bits());
                let bits = |(high, low): (f32, f32)| (high.to_bits(), low.to_bits());
                prop_assert_eq!(bits(Portable::extremes(&x)), bits(Avx2::extremes(&x)));
                let (expected, found) = (Portable::round(&x, factor), Avx2::round(&x, factor));
                prop_assert_eq!(expected.bytes, found.bytes);
                prop_assert_eq!(expected.fours, found.fours);
            }
        }
    }
}
