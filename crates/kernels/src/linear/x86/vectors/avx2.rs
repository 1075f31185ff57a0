//! One panel in 256 bits.

use std::arch::asm;
use std::arch::x86_64::*;

use super::super::super::PANEL;
use super::{LARGEST_BYTE, SignedWeights, Vectors, operations};

/// AVX2 with FMA and F16C.
pub(in super::super) struct Avx2;

/// Four bytes in every lane.
#[inline(always)]
unsafe fn four_everywhere(place: *const u8) -> __m256i {
    // SAFETY: the caller has four bytes and AVX.
    unsafe { _mm256_set1_epi32(place.cast::<i32>().read_unaligned()) }
}

/// `sum` + products of unsigned bytes with signed ones, two neighbours to 16 bits.
///
/// The compiler adds in another order and then keeps so many products that registers do not hold them.
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

impl Vectors for Avx2 {
    type Integers = __m256i;
    type Floats = __m256;

    const PANELS: usize = 1;
    const WEIGHTS_STAY: bool = true;

    operations! {
        fn zero() -> __m256i = _mm256_setzero_si256();
        fn load(place: *const u8, _other: usize) -> __m256i = _mm256_loadu_si256(place.cast());
        fn load_bytes(place: *const u8, _other: usize) -> __m256i =
            _mm256_cvtepu8_epi32(_mm_loadl_epi64(place.cast()));
        fn load_pairs(place: *const u8, _other: usize) -> __m256i =
            _mm256_cvtepu8_epi16(_mm_loadu_si128(place.cast()));
        fn low_nibbles(both: __m256i) -> __m256i = _mm256_and_si256(both, _mm256_set1_epi8(15));
        fn high_nibbles(both: __m256i) -> __m256i =
            _mm256_and_si256(_mm256_srli_epi16::<4>(both), _mm256_set1_epi8(15));
        fn less(a: __m256i, b: __m256i) -> __m256i = _mm256_sub_epi32(a, b);

        fn small_first(weights: __m256i, bytes: *const u8) -> __m256i =
            _mm256_maddubs_epi16(weights, four_everywhere(bytes));
        fn small_start(weights: __m256i, _sum: *const u8, bytes: *const u8) -> __m256i =
            Self::small_first(weights, bytes);
        fn small_dot(partial: __m256i, weights: __m256i, bytes: *const u8) -> __m256i =
            add_products(partial, weights, four_everywhere(bytes));
        fn small_end(partial: __m256i, sum: *const u8) -> __m256i =
            _mm256_add_epi32(four_everywhere(sum), _mm256_madd_epi16(partial, _mm256_set1_epi16(1)));

        fn add_pair_products(sum: __m256i, factors: __m256i, pair: *const u8) -> __m256i =
            _mm256_add_epi32(sum, _mm256_madd_epi16(factors, four_everywhere(pair)));

        fn signed_weights(weights: __m256i) -> SignedWeights<__m256i> =
            SignedWeights { unsigned: _mm256_abs_epi8(weights), signed: weights };
        fn signed_start(_excess: *const u8) -> __m256i = _mm256_setzero_si256();

        fn float_zero() -> __m256 = _mm256_setzero_ps();
        fn load_floats(place: *const u8, _other: usize) -> __m256 = _mm256_loadu_ps(place.cast());
        fn load_halves(place: *const u8, _other: usize) -> __m256 =
            _mm256_cvtph_ps(_mm_loadu_si128(place.cast()));
        fn everywhere(place: *const u8) -> __m256 = _mm256_set1_ps(place.cast::<f32>().read_unaligned());
        fn to_floats(integers: __m256i) -> __m256 = _mm256_cvtepi32_ps(integers);
        fn add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
        fn subtract(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
        fn multiply(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        fn multiply_add(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        fn subtract_product(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fnmadd_ps(a, b, c);
    }

    /// As many as fit 16 bits.
    #[inline(always)]
    fn fitting(largest: i32) -> usize {
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
    unsafe fn signed_dot(
        sum: __m256i,
        weights: SignedWeights<__m256i>,
        bytes: *const u8,
    ) -> __m256i {
        // SAFETY: the trait's condition. Two products of at most 128 · 127 fit 16 bits.
        unsafe {
            let bytes = _mm256_sign_epi8(four_everywhere(bytes), weights.signed);
            let pairs = _mm256_maddubs_epi16(weights.unsigned, bytes);
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
