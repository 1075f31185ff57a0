//! One panel in 256 bits.

use std::arch::asm;
use std::arch::x86_64::*;

use super::super::super::layout::{F16Bytes, IQ4_VALUES, PANEL};
use super::operations::{LARGEST_BYTE, PanelVectors, SignedWeights, operations};
use crate::simd::Avx2;

/// `pair` in every lane.
#[inline(always)]
unsafe fn splat_i16x2(pair: [i16; 2]) -> __m256i {
    // SAFETY: the caller has AVX; any four bytes are an integer.
    unsafe { _mm256_set1_epi32(std::mem::transmute::<[i16; 2], i32>(pair)) }
}

/// `x` in every lane.
#[inline(always)]
unsafe fn splat_i8x4(x: [i8; 4]) -> __m256i {
    // SAFETY: the caller has AVX; any four bytes are an integer.
    unsafe { _mm256_set1_epi32(std::mem::transmute::<[i8; 4], i32>(x)) }
}

/// `sum` + products of unsigned bytes with signed ones, two neighbours to 16 bits.
///
/// The compiler adds in another order and then keeps more products than registers hold
/// them.
#[inline]
#[target_feature(enable = "avx2")]
fn add_products(mut sum: __m256i, weights: __m256i, bytes: __m256i) -> __m256i {
    // SAFETY: the instructions are there, and touch nothing but registers.
    unsafe {
        asm!(
            "vpmaddubsw {product}, {weights}, {bytes}",
            "vpaddw {sum}, {sum}, {product}",
            sum = inout(ymm_reg) sum,
            product = out(ymm_reg) _,
            weights = in(ymm_reg) weights,
            bytes = in(ymm_reg) bytes,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

impl PanelVectors for Avx2 {
    type Ints = __m256i;
    type Floats = __m256;

    const PANELS: usize = 1;
    const KEEPS_WEIGHTS: bool = true;

    operations! {
        fn zero_i32() -> __m256i = _mm256_setzero_si256();
        fn load_u8_as_i32(source: *const [u8; PANEL], _stride: usize) -> __m256i =
            _mm256_cvtepu8_epi32(_mm_loadl_epi64(source.cast()));
        fn load_u8_as_i16(source: *const [[u8; 2]; PANEL], _stride: usize) -> __m256i =
            _mm256_cvtepu8_epi16(_mm_loadu_si128(source.cast()));
        fn low_nibbles(both: __m256i) -> __m256i = _mm256_and_si256(both, _mm256_set1_epi8(15));
        fn high_nibbles(both: __m256i) -> __m256i =
            _mm256_and_si256(_mm256_srli_epi16::<4>(both), _mm256_set1_epi8(15));
        fn iq4_values(indices: __m256i) -> __m256i = _mm256_shuffle_epi8(
            _mm256_broadcastsi128_si256(_mm_loadu_si128(IQ4_VALUES.as_ptr().cast())),
            indices
        );
        fn sub_i32(a: __m256i, b: __m256i) -> __m256i = _mm256_sub_epi32(a, b);

        fn dot_u8_first(weights: __m256i, x: [i8; 4]) -> __m256i =
            _mm256_maddubs_epi16(weights, splat_i8x4(x));
        fn dot_u8_start(weights: __m256i, _correction: i32, x: [i8; 4]) -> __m256i =
            Self::dot_u8_first(weights, x);
        fn dot_u8(partial: __m256i, weights: __m256i, x: [i8; 4]) -> __m256i =
            add_products(partial, weights, splat_i8x4(x));
        fn dot_u8_end(partial: __m256i, correction: i32) -> __m256i = _mm256_add_epi32(
            _mm256_set1_epi32(correction),
            _mm256_madd_epi16(partial, _mm256_set1_epi16(1))
        );

        fn dot_i16(sum: __m256i, factors: __m256i, pair: [i16; 2]) -> __m256i = _mm256_add_epi32(
            sum,
            _mm256_madd_epi16(factors, splat_i16x2(pair))
        );

        fn dot_i8_weights(weights: __m256i) -> SignedWeights<__m256i> =
            SignedWeights { unsigned: _mm256_abs_epi8(weights), signed: weights };
        fn dot_i8_start(_correction: i32) -> __m256i = _mm256_setzero_si256();

        fn zero_f32() -> __m256 = _mm256_setzero_ps();
        fn load_f32(source: *const [f32; PANEL], _stride: usize) -> __m256 =
            _mm256_loadu_ps(source.cast());
        fn load_f16(source: *const [F16Bytes; PANEL], _stride: usize) -> __m256 =
            _mm256_cvtph_ps(_mm_loadu_si128(source.cast()));
        fn splat(x: f32) -> __m256 = _mm256_set1_ps(x);
        fn to_f32(integers: __m256i) -> __m256 = _mm256_cvtepi32_ps(integers);
        fn add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
        fn sub(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
        fn mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        fn fma(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        fn fnma(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fnmadd_ps(a, b, c);
    }

    #[inline(always)]
    unsafe fn load<T>(source: *const T, _stride: usize) -> __m256i {
        const { assert!(size_of::<T>() == 32) };
        // SAFETY: the trait's condition.
        unsafe { _mm256_loadu_si256(source.cast()) }
    }

    /// As many as fit 16 bits.
    #[inline(always)]
    fn max_dots(largest: i32) -> usize {
        (i32::from(i16::MAX) / (2 * largest * LARGEST_BYTE)) as usize
    }

    #[inline(always)]
    unsafe fn add_scaled(
        sum: __m256i,
        partial: __m256i,
        scales: __m256i,
        _largest: i32,
    ) -> __m256i {
        // SAFETY: the trait's condition.
        unsafe {
            let scales = _mm256_blend_epi16::<0b1010_1010>(scales, _mm256_slli_epi32::<16>(scales));
            _mm256_add_epi32(sum, _mm256_madd_epi16(partial, scales))
        }
    }

    #[inline(always)]
    unsafe fn dot_i8(sum: __m256i, weights: SignedWeights<__m256i>, x: [i8; 4]) -> __m256i {
        // SAFETY: the trait's condition. Two products of at most 128 · 127 fit 16 bits.
        unsafe {
            let x = _mm256_sign_epi8(splat_i8x4(x), weights.signed);
            let pairs = _mm256_maddubs_epi16(weights.unsigned, x);
            _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }

    #[inline(always)]
    unsafe fn store(values: __m256, rows: usize, output: *mut f32) {
        // SAFETY: the trait's condition; `all` has eight places.
        unsafe {
            if rows == PANEL {
                _mm256_storeu_ps(output, values);
            } else {
                let mut all = [0.0f32; PANEL];
                _mm256_storeu_ps(all.as_mut_ptr(), values);
                std::ptr::copy_nonoverlapping(all.as_ptr(), output, rows);
            }
        }
    }
}
