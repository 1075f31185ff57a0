//! Two panels in 512 bits.

use std::arch::asm;
use std::arch::x86_64::*;

use super::super::super::layout::{F16Bytes, IQ4_VALUES, PANEL};
use super::operations::{LARGEST_BYTE, PanelVectors, SignedWeights, operations};
use crate::simd::Avx512Vnni;

/// The lower 16 bits of every lane.
const LOWER_HALVES: u32 = 0x5555_5555;

/// `pair` in every lane.
#[inline(always)]
unsafe fn splat_i16x2(pair: [i16; 2]) -> __m512i {
    // SAFETY: the caller has AVX-512; any four bytes are an integer.
    unsafe { _mm512_set1_epi32(std::mem::transmute::<[i16; 2], i32>(pair)) }
}

/// `x` in every lane.
#[inline(always)]
unsafe fn splat_i8x4(x: [i8; 4]) -> __m512i {
    // SAFETY: the caller has AVX-512; any four bytes are an integer.
    unsafe { _mm512_set1_epi32(std::mem::transmute::<[i8; 4], i32>(x)) }
}

/// Sixteen bytes of two panels.
#[inline(always)]
pub(super) unsafe fn load_16_bytes(source: *const u8, stride: usize) -> __m256i {
    // SAFETY: the caller has 16 bytes in both places and AVX2.
    unsafe {
        let first = _mm256_castsi128_si256(_mm_loadu_si128(source.cast()));
        _mm256_inserti128_si256::<1>(first, _mm_loadu_si128(source.add(stride).cast()))
    }
}

/// `sum` + the products of each lane's two pairs of 16 bits, in one instruction.
///
/// The compiler makes two of the intrinsic, a product and an addition, which is sooner done; but
/// here stride tokens' products fill the time, and the instructions are what counts.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) fn add_pairs(mut sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: the instruction is there, and touches nothing but registers.
    unsafe {
        asm!(
            "vpdpwssd {sum}, {a}, {b}",
            sum = inout(zmm_reg) sum,
            a = in(zmm_reg) a,
            b = in(zmm_reg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

impl PanelVectors for Avx512Vnni {
    type Ints = __m512i;
    type Floats = __m512;

    const PANELS: usize = 2;
    const KEEPS_WEIGHTS: bool = true;

    operations! {
        fn zero_i32() -> __m512i = _mm512_setzero_si512();
        fn load_u8_as_i32(source: *const [u8; PANEL], stride: usize) -> __m512i =
            _mm512_cvtepu8_epi32(_mm_unpacklo_epi64(
                _mm_loadl_epi64(source.cast()),
                _mm_loadl_epi64(source.byte_add(stride).cast())
            ));
        fn load_u8_as_i16(source: *const [[u8; 2]; PANEL], stride: usize) -> __m512i =
            _mm512_cvtepu8_epi16(load_16_bytes(source.cast(), stride));
        fn low_nibbles(both: __m512i) -> __m512i = _mm512_and_si512(both, _mm512_set1_epi8(15));
        fn high_nibbles(both: __m512i) -> __m512i =
            _mm512_and_si512(_mm512_srli_epi16::<4>(both), _mm512_set1_epi8(15));
        fn iq4_values(indices: __m512i) -> __m512i = _mm512_shuffle_epi8(
            _mm512_broadcast_i32x4(_mm_loadu_si128(IQ4_VALUES.as_ptr().cast())),
            indices
        );
        fn sub_i32(a: __m512i, b: __m512i) -> __m512i = _mm512_sub_epi32(a, b);

        fn dot_u8_first(weights: __m512i, x: [i8; 4]) -> __m512i =
            Self::dot_u8(_mm512_setzero_si512(), weights, x);
        fn dot_u8_start(weights: __m512i, correction: i32, x: [i8; 4]) -> __m512i =
            Self::dot_u8(_mm512_set1_epi32(correction), weights, x);
        fn dot_u8(partial: __m512i, weights: __m512i, x: [i8; 4]) -> __m512i =
            _mm512_dpbusd_epi32(partial, weights, splat_i8x4(x));

        fn dot_i16(sum: __m512i, factors: __m512i, pair: [i16; 2]) -> __m512i = add_pairs(
            sum,
            factors,
            splat_i16x2(pair)
        );

        fn dot_i8_weights(weights: __m512i) -> SignedWeights<__m512i> =
            SignedWeights {
                unsigned: _mm512_xor_si512(weights, _mm512_set1_epi8(-128)),
                signed: weights
            };
        fn dot_i8_start(correction: i32) -> __m512i = _mm512_set1_epi32(correction);
        fn dot_i8(sum: __m512i, weights: SignedWeights<__m512i>, x: [i8; 4]) -> __m512i =
            _mm512_dpbusd_epi32(sum, weights.unsigned, splat_i8x4(x));

        fn zero_f32() -> __m512 = _mm512_setzero_ps();
        fn load_f32(source: *const [f32; PANEL], stride: usize) -> __m512 =
            _mm512_castsi512_ps(Self::load(source, stride));
        fn load_f16(source: *const [F16Bytes; PANEL], stride: usize) -> __m512 =
            _mm512_cvtph_ps(load_16_bytes(source.cast(), stride));
        fn splat(x: f32) -> __m512 = _mm512_set1_ps(x);
        fn to_f32(integers: __m512i) -> __m512 = _mm512_cvtepi32_ps(integers);
        fn add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        fn sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        fn mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        fn fma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        fn fnma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fnmadd_ps(a, b, c);
        fn store(values: __m512, rows: usize, output: *mut f32) -> () =
            _mm512_mask_storeu_ps(output, 0xffff >> (16 - rows), values);
    }

    #[inline(always)]
    unsafe fn load<T>(source: *const T, stride: usize) -> __m512i {
        const { assert!(size_of::<T>() == 32) };
        // SAFETY: the trait's condition.
        unsafe {
            _mm512_inserti64x4::<1>(
                _mm512_castsi256_si512(_mm256_loadu_si256(source.cast())),
                _mm256_loadu_si256(source.byte_add(stride).cast()),
            )
        }
    }

    #[inline(always)]
    unsafe fn dot_u8_end(partial: __m512i, _correction: i32) -> __m512i {
        partial
    }

    #[inline(always)]
    fn max_dots(largest: i32) -> usize {
        // As long as the sum fits 16 bits; if that is not for long, it may as well not.
        if 4 * 4 * largest * LARGEST_BYTE <= i32::from(i16::MAX) {
            4
        } else {
            usize::MAX
        }
    }

    #[inline(always)]
    unsafe fn add_scaled(sum: __m512i, partial: __m512i, scales: __m512i, largest: i32) -> __m512i {
        // SAFETY: the trait's condition.
        unsafe {
            if largest <= i32::from(i16::MAX) {
                // What comes to so little fits the lower 16 bits; the upper ones, which are signs,
                // must not be multiplied.
                let scales = _mm512_maskz_mov_epi16(LOWER_HALVES, scales);
                return add_pairs(sum, partial, scales);
            }
            // The lowest byte times the scale, and the 16 bits above it times 256 scales, which is
            // quicker than a product of 32 bits.
            let scales =
                _mm512_mask_mov_epi16(_mm512_slli_epi32::<24>(scales), LOWER_HALVES, scales);
            let lowest_and_above = _mm512_broadcast_i32x4(_mm_set_epi8(
                14, 13, -1, 12, 10, 9, -1, 8, 6, 5, -1, 4, 2, 1, -1, 0,
            ));
            add_pairs(sum, _mm512_shuffle_epi8(partial, lowest_and_above), scales)
        }
    }
}
