//! Vectors with 32 bytes of one row or of two, for rows that are read as GGUF files hold them.

use std::arch::x86_64::*;

use super::super::super::layout::F16Bytes;
use super::super::helpers::splat_f16;
use super::avx512::{add_pairs, load_16_bytes};
use super::operations::{PanelVectors, operations};
use crate::simd::{Avx2, Avx512Vnni};

/// What [`PanelVectors`] lacks for rows: a vector has neighbouring elements of each of as many
/// rows as there are panels there, and a `stride` is from one row to the next.
///
/// # Safety
/// That of [`PanelVectors`].
pub(in super::super) trait RowVectors: PanelVectors {
    /// 32 bytes of a token, the same beside each row.
    unsafe fn splat_32<T>(source: *const T) -> Self::Ints;
    /// Sixteen signed bytes of each row, in the given order, as integers of 16 bits.
    unsafe fn load_i8_as_i16(source: *const [i8; 16], order: __m128i, stride: usize) -> Self::Ints;
    /// `x` in every 16 bits.
    unsafe fn splat_i16(x: i16) -> Self::Ints;
    /// a & b.
    unsafe fn and(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// a | b.
    unsafe fn or(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// a · b, the lower 16 bits of each.
    unsafe fn mul_i16(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// Every 16 bits shifted to the left.
    unsafe fn shl<const BITS: u32>(x: Self::Ints) -> Self::Ints;
    /// Every 16 bits shifted to the right.
    unsafe fn shr<const BITS: u32>(x: Self::Ints) -> Self::Ints;
    /// Of every 16 bytes those that `indices` name.
    unsafe fn shuffle(bytes: Self::Ints, indices: Self::Ints) -> Self::Ints;
    /// Products of unsigned bytes with signed ones, two neighbours to 16 bits.
    unsafe fn products(weights: Self::Ints, x: Self::Ints) -> Self::Ints;
    /// `sum` + the products of 16 bits, two neighbours to 32 bits.
    unsafe fn add_pairs(sum: Self::Ints, a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// a + b, of 32 bits.
    unsafe fn add_i32(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// The vectors whose every 256 bits are `a`'s lower and `b`'s lower half, and their upper ones.
    unsafe fn halves(a: Self::Ints, b: Self::Ints) -> [Self::Ints; 2];
    /// Interleaves integers of 32 bits: the lower ones of every 128 bits, and the upper ones.
    unsafe fn interleave_32(a: Self::Ints, b: Self::Ints) -> [Self::Ints; 2];
    /// The same of 64 bits.
    unsafe fn interleave_64(a: Self::Ints, b: Self::Ints) -> [Self::Ints; 2];
    /// An f16 of each row, converted, beside all its elements.
    unsafe fn splat_f16(source: *const F16Bytes, stride: usize) -> Self::Floats;
    /// The same eight values beside each row.
    unsafe fn splat_8(source: *const [f32; 8]) -> Self::Floats;
    /// Eight values of each of two rows; where a vector has one row, the second is left.
    unsafe fn to_arrays(values: Self::Floats) -> [[f32; 8]; 2];
    /// As [`RowVectors::halves`], of floats.
    unsafe fn float_halves(a: Self::Floats, b: Self::Floats) -> [Self::Floats; 2];
    /// As [`RowVectors::interleave_64`], of floats.
    unsafe fn interleave_pairs(a: Self::Floats, b: Self::Floats) -> [Self::Floats; 2];
    /// The even elements of every 128 bits of both, and the odd ones.
    unsafe fn even_and_odd(a: Self::Floats, b: Self::Floats) -> [Self::Floats; 2];
}

impl RowVectors for Avx2 {
    operations! {
        fn splat_i16(x: i16) -> __m256i = _mm256_set1_epi16(x);
        fn and(a: __m256i, b: __m256i) -> __m256i = _mm256_and_si256(a, b);
        fn or(a: __m256i, b: __m256i) -> __m256i = _mm256_or_si256(a, b);
        fn mul_i16(a: __m256i, b: __m256i) -> __m256i = _mm256_mullo_epi16(a, b);
        fn load_i8_as_i16(source: *const [i8; 16], order: __m128i, _stride: usize) -> __m256i =
            _mm256_cvtepi8_epi16(_mm_shuffle_epi8(_mm_loadu_si128(source.cast()), order));
        fn shuffle(bytes: __m256i, indices: __m256i) -> __m256i =
            _mm256_shuffle_epi8(bytes, indices);
        fn products(weights: __m256i, x: __m256i) -> __m256i = _mm256_maddubs_epi16(weights, x);
        fn add_pairs(sum: __m256i, a: __m256i, b: __m256i) -> __m256i =
            _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
        fn add_i32(a: __m256i, b: __m256i) -> __m256i = _mm256_add_epi32(a, b);
        fn halves(a: __m256i, b: __m256i) -> [__m256i; 2] = [
            _mm256_permute2x128_si256::<0x20>(a, b),
            _mm256_permute2x128_si256::<0x31>(a, b)
        ];
        fn interleave_32(a: __m256i, b: __m256i) -> [__m256i; 2] =
            [_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b)];
        fn interleave_64(a: __m256i, b: __m256i) -> [__m256i; 2] =
            [_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b)];
        fn splat_f16(source: *const F16Bytes, _stride: usize) -> __m256 = splat_f16(*source);
        fn splat_8(source: *const [f32; 8]) -> __m256 = _mm256_loadu_ps(source.cast());
        fn float_halves(a: __m256, b: __m256) -> [__m256; 2] =
            [_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b)];
        fn interleave_pairs(a: __m256, b: __m256) -> [__m256; 2] = [
            _mm256_shuffle_ps::<0b01_00_01_00>(a, b),
            _mm256_shuffle_ps::<0b11_10_11_10>(a, b)
        ];
        fn even_and_odd(a: __m256, b: __m256) -> [__m256; 2] = [
            _mm256_shuffle_ps::<0b10_00_10_00>(a, b),
            _mm256_shuffle_ps::<0b11_01_11_01>(a, b)
        ];
    }

    #[inline(always)]
    unsafe fn splat_32<T>(source: *const T) -> __m256i {
        const { assert!(size_of::<T>() == 32) };
        // SAFETY: the trait's condition.
        unsafe { _mm256_loadu_si256(source.cast()) }
    }

    #[inline(always)]
    unsafe fn shl<const BITS: u32>(x: __m256i) -> __m256i {
        // SAFETY: the trait's condition.
        unsafe { _mm256_sll_epi16(x, _mm_cvtsi32_si128(BITS as i32)) }
    }

    #[inline(always)]
    unsafe fn shr<const BITS: u32>(x: __m256i) -> __m256i {
        // SAFETY: the trait's condition.
        unsafe { _mm256_srl_epi16(x, _mm_cvtsi32_si128(BITS as i32)) }
    }

    #[inline(always)]
    unsafe fn to_arrays(values: __m256) -> [[f32; 8]; 2] {
        let mut arrays = [[0.0; 8]; 2];
        // SAFETY: eight places; the trait's condition.
        unsafe { _mm256_storeu_ps(arrays[0].as_mut_ptr(), values) };
        arrays
    }
}

impl RowVectors for Avx512Vnni {
    operations! {
        fn splat_i16(x: i16) -> __m512i = _mm512_set1_epi16(x);
        fn and(a: __m512i, b: __m512i) -> __m512i = _mm512_and_si512(a, b);
        fn or(a: __m512i, b: __m512i) -> __m512i = _mm512_or_si512(a, b);
        fn mul_i16(a: __m512i, b: __m512i) -> __m512i = _mm512_mullo_epi16(a, b);
        fn load_i8_as_i16(source: *const [i8; 16], order: __m128i, stride: usize) -> __m512i =
            _mm512_cvtepi8_epi16(_mm256_shuffle_epi8(
                load_16_bytes(source.cast(), stride),
                _mm256_broadcastsi128_si256(order)
            ));
        fn shuffle(bytes: __m512i, indices: __m512i) -> __m512i =
            _mm512_shuffle_epi8(bytes, indices);
        fn products(weights: __m512i, x: __m512i) -> __m512i = _mm512_maddubs_epi16(weights, x);
        fn add_pairs(sum: __m512i, a: __m512i, b: __m512i) -> __m512i = add_pairs(sum, a, b);
        fn add_i32(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi32(a, b);
        fn halves(a: __m512i, b: __m512i) -> [__m512i; 2] = [
            _mm512_permutex2var_epi64(a, _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13), b),
            _mm512_permutex2var_epi64(a, _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15), b)
        ];
        fn interleave_32(a: __m512i, b: __m512i) -> [__m512i; 2] =
            [_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b)];
        fn interleave_64(a: __m512i, b: __m512i) -> [__m512i; 2] =
            [_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b)];
        fn splat_f16(source: *const F16Bytes, stride: usize) -> __m512 = join(
            splat_f16(*source),
            splat_f16(*source.byte_add(stride))
        );
        fn splat_8(source: *const [f32; 8]) -> __m512 =
            _mm512_castpd_ps(_mm512_broadcast_f64x4(_mm256_loadu_pd(source.cast())));
        fn float_halves(a: __m512, b: __m512) -> [__m512; 2] = {
            let [lower, upper] = Self::halves(_mm512_castps_si512(a), _mm512_castps_si512(b));
            [_mm512_castsi512_ps(lower), _mm512_castsi512_ps(upper)]
        };
        fn interleave_pairs(a: __m512, b: __m512) -> [__m512; 2] = [
            _mm512_shuffle_ps::<0b01_00_01_00>(a, b),
            _mm512_shuffle_ps::<0b11_10_11_10>(a, b)
        ];
        fn even_and_odd(a: __m512, b: __m512) -> [__m512; 2] = [
            _mm512_shuffle_ps::<0b10_00_10_00>(a, b),
            _mm512_shuffle_ps::<0b11_01_11_01>(a, b)
        ];
    }

    #[inline(always)]
    unsafe fn splat_32<T>(source: *const T) -> __m512i {
        const { assert!(size_of::<T>() == 32) };
        // SAFETY: the trait's condition.
        unsafe { _mm512_broadcast_i64x4(_mm256_loadu_si256(source.cast())) }
    }

    #[inline(always)]
    unsafe fn shl<const BITS: u32>(x: __m512i) -> __m512i {
        // SAFETY: the trait's condition.
        unsafe { _mm512_slli_epi16::<BITS>(x) }
    }

    #[inline(always)]
    unsafe fn shr<const BITS: u32>(x: __m512i) -> __m512i {
        // SAFETY: the trait's condition.
        unsafe { _mm512_srli_epi16::<BITS>(x) }
    }

    #[inline(always)]
    unsafe fn to_arrays(values: __m512) -> [[f32; 8]; 2] {
        let mut arrays = [[0.0; 8]; 2];
        // SAFETY: sixteen places; the trait's condition.
        unsafe { _mm512_storeu_ps(arrays.as_mut_ptr().cast(), values) };
        arrays
    }
}

/// The vector with these halves.
#[inline(always)]
unsafe fn join(lower: __m256, upper: __m256) -> __m512 {
    // SAFETY: the caller has AVX-512.
    unsafe {
        _mm512_castpd_ps(_mm512_insertf64x4::<1>(
            _mm512_castpd256_pd512(_mm256_castps_pd(lower)),
            _mm256_castps_pd(upper),
        ))
    }
}

/// The sums of eight vectors' eight integers of each row: in each row's place a vector of them.
///
/// # Safety
/// That of [`RowVectors`].
#[inline(always)]
pub(in super::super) unsafe fn sums_of_8<V: RowVectors>(vectors: [V::Ints; 8]) -> V::Ints {
    let [a, b, c, d, e, f, g, h] = vectors;
    // SAFETY: the caller's condition.
    unsafe {
        let (ab, cd) = (
            add::<V>(V::interleave_32(a, b)),
            add::<V>(V::interleave_32(c, d)),
        );
        let (ef, gh) = (
            add::<V>(V::interleave_32(e, f)),
            add::<V>(V::interleave_32(g, h)),
        );
        // In every 128 bits a part of the sums of four.
        let first = add::<V>(V::interleave_64(ab, cd));
        let last = add::<V>(V::interleave_64(ef, gh));
        add::<V>(V::halves(first, last))
    }
}

/// The sums of eight vectors' eight values of each row, in ggml's order (that of
/// [`reduce_add`](super::super::helpers::reduce_add)): in each row's place a vector of them.
///
/// # Safety
/// That of [`RowVectors`].
#[inline(always)]
pub(in super::super) unsafe fn reduce_8<V: RowVectors>(vectors: [V::Floats; 8]) -> V::Floats {
    let [a, b, c, d, e, f, g, h] = vectors;
    // SAFETY: the caller's condition.
    unsafe {
        let fours = [
            add_floats::<V>(V::float_halves(a, e)),
            add_floats::<V>(V::float_halves(b, f)),
            add_floats::<V>(V::float_halves(c, g)),
            add_floats::<V>(V::float_halves(d, h)),
        ];
        let first = add_floats::<V>(V::interleave_pairs(fours[0], fours[1]));
        let last = add_floats::<V>(V::interleave_pairs(fours[2], fours[3]));
        add_floats::<V>(V::even_and_odd(first, last))
    }
}

/// The sum of both.
#[inline(always)]
unsafe fn add<V: RowVectors>([a, b]: [V::Ints; 2]) -> V::Ints {
    // SAFETY: the caller's condition.
    unsafe { V::add_i32(a, b) }
}

/// The sum of both.
#[inline(always)]
unsafe fn add_floats<V: RowVectors>([a, b]: [V::Floats; 2]) -> V::Floats {
    // SAFETY: the caller's condition.
    unsafe { V::add(a, b) }
}
