//! Small operations of AVX that several microkernels need.

use std::arch::x86_64::*;

use super::super::layout::F16Bytes;

/// The transpose of eight vectors of eight.
#[inline(always)]
pub(super) unsafe fn transpose(vectors: [__m256; 8]) -> [__m256; 8] {
    // SAFETY: the caller has AVX.
    unsafe {
        let [a, b, c, d, e, f, g, h] = vectors;
        let (mut low, mut high) = ([a; 4], [a; 4]);
        for (index, (x, y)) in [(a, b), (c, d), (e, f), (g, h)].into_iter().enumerate() {
            low[index] = _mm256_unpacklo_ps(x, y);
            high[index] = _mm256_unpackhi_ps(x, y);
        }
        // Of four vectors each; 0b01_00_01_00 takes the lower pairs, 0b11_10_11_10 the upper.
        let fours = |x: [__m256; 4], half: usize| {
            [
                _mm256_shuffle_ps::<0b01_00_01_00>(x[2 * half], x[2 * half + 1]),
                _mm256_shuffle_ps::<0b11_10_11_10>(x[2 * half], x[2 * half + 1]),
            ]
        };
        let ([first_0, first_1], [first_2, first_3]) = (fours(low, 0), fours(high, 0));
        let ([last_0, last_1], [last_2, last_3]) = (fours(low, 1), fours(high, 1));
        [
            _mm256_permute2f128_ps::<0x20>(first_0, last_0),
            _mm256_permute2f128_ps::<0x20>(first_1, last_1),
            _mm256_permute2f128_ps::<0x20>(first_2, last_2),
            _mm256_permute2f128_ps::<0x20>(first_3, last_3),
            _mm256_permute2f128_ps::<0x31>(first_0, last_0),
            _mm256_permute2f128_ps::<0x31>(first_1, last_1),
            _mm256_permute2f128_ps::<0x31>(first_2, last_2),
            _mm256_permute2f128_ps::<0x31>(first_3, last_3),
        ]
    }
}

/// Eight f16 at `source`, converted.
#[inline(always)]
pub(super) unsafe fn load_f16x8(source: *const F16Bytes) -> __m256 {
    // SAFETY: the caller has eight and F16C.
    unsafe { _mm256_cvtph_ps(_mm_loadu_si128(source.cast())) }
}

/// An f16, converted, in every lane.
#[inline(always)]
pub(super) unsafe fn splat_f16(x: F16Bytes) -> __m256 {
    // SAFETY: the caller has F16C.
    unsafe { _mm256_cvtph_ps(_mm_set1_epi16(x.to_bits() as i16)) }
}

/// Products of signed bytes, none of the weights −128: two neighbours to 16 bits.
#[inline(always)]
pub(super) unsafe fn signed_products(weights: __m256i, x: __m256i) -> __m256i {
    // SAFETY: the caller has AVX2.
    unsafe { _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(x, weights)) }
}

/// The sum of eight lanes, in ggml's order.
#[inline(always)]
pub(super) unsafe fn reduce_add(lanes: __m256) -> f32 {
    // SAFETY: the caller has AVX.
    unsafe {
        let four = _mm_add_ps(
            _mm256_extractf128_ps::<1>(lanes),
            _mm256_castps256_ps128(lanes),
        );
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }
}
