//! Two panels in 512 bits.

use std::arch::asm;
use std::arch::x86_64::*;

use super::{LARGEST_BYTE, SignedWeights, Vectors, operations};

/// AVX-512 with VNNI.
pub(in super::super) struct Vnni;

/// The lower 16 bits of every lane.
const LOWER_HALVES: u32 = 0x5555_5555;

/// Four bytes in every lane.
#[inline(always)]
unsafe fn four_everywhere(place: *const u8) -> __m512i {
    // SAFETY: the caller has four bytes and AVX-512.
    unsafe { _mm512_set1_epi32(place.cast::<i32>().read_unaligned()) }
}

/// Sixteen bytes of two panels.
#[inline(always)]
unsafe fn both_halves(place: *const u8, other: usize) -> __m256i {
    // SAFETY: the caller has 16 bytes in both places and AVX2.
    unsafe {
        let first = _mm256_castsi128_si256(_mm_loadu_si128(place.cast()));
        _mm256_inserti128_si256::<1>(first, _mm_loadu_si128(place.add(other).cast()))
    }
}

/// `sum` + the products of each lane's two pairs of 16 bits, in one instruction.
///
/// The compiler makes two of the intrinsic, a product and an addition, which is sooner done; but here other tokens' products
/// fill the time, and the instructions are what counts.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn add_pairs(mut sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
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

impl Vectors for Vnni {
    type Integers = __m512i;
    type Floats = __m512;

    const PANELS: usize = 2;
    const WEIGHTS_STAY: bool = true;

    operations! {
        fn zero() -> __m512i = _mm512_setzero_si512();
        fn load(place: *const u8, other: usize) -> __m512i = _mm512_inserti64x4::<1>(
            _mm512_castsi256_si512(_mm256_loadu_si256(place.cast())),
            _mm256_loadu_si256(place.add(other).cast())
        );
        fn load_bytes(place: *const u8, other: usize) -> __m512i = _mm512_cvtepu8_epi32(
            _mm_unpacklo_epi64(_mm_loadl_epi64(place.cast()), _mm_loadl_epi64(place.add(other).cast()))
        );
        fn load_pairs(place: *const u8, other: usize) -> __m512i =
            _mm512_cvtepu8_epi16(both_halves(place, other));
        fn low_nibbles(both: __m512i) -> __m512i = _mm512_and_si512(both, _mm512_set1_epi8(15));
        fn high_nibbles(both: __m512i) -> __m512i =
            _mm512_and_si512(_mm512_srli_epi16::<4>(both), _mm512_set1_epi8(15));
        fn less(a: __m512i, b: __m512i) -> __m512i = _mm512_sub_epi32(a, b);

        fn small_first(weights: __m512i, bytes: *const u8) -> __m512i =
            Self::small_dot(_mm512_setzero_si512(), weights, bytes);
        fn small_start(weights: __m512i, sum: *const u8, bytes: *const u8) -> __m512i =
            Self::small_dot(four_everywhere(sum), weights, bytes);
        fn small_dot(partial: __m512i, weights: __m512i, bytes: *const u8) -> __m512i =
            _mm512_dpbusd_epi32(partial, weights, four_everywhere(bytes));

        fn add_pair_products(sum: __m512i, factors: __m512i, pair: *const u8) -> __m512i =
            add_pairs(sum, factors, four_everywhere(pair));

        fn signed_weights(weights: __m512i) -> SignedWeights<__m512i> =
            SignedWeights { unsigned: _mm512_xor_si512(weights, _mm512_set1_epi8(-128)), signed: weights };
        fn signed_start(excess: *const u8) -> __m512i = four_everywhere(excess);
        fn signed_dot(sum: __m512i, weights: SignedWeights<__m512i>, bytes: *const u8) -> __m512i =
            _mm512_dpbusd_epi32(sum, weights.unsigned, four_everywhere(bytes));

        fn float_zero() -> __m512 = _mm512_setzero_ps();
        fn load_floats(place: *const u8, other: usize) -> __m512 =
            _mm512_castsi512_ps(Self::load(place, other));
        fn load_halves(place: *const u8, other: usize) -> __m512 =
            _mm512_cvtph_ps(both_halves(place, other));
        fn everywhere(place: *const u8) -> __m512 = _mm512_set1_ps(place.cast::<f32>().read_unaligned());
        fn to_floats(integers: __m512i) -> __m512 = _mm512_cvtepi32_ps(integers);
        fn add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        fn subtract(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        fn multiply(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        fn multiply_add(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        fn subtract_product(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fnmadd_ps(a, b, c);
        fn store(values: __m512, rows: usize, output: *mut f32) -> () =
            _mm512_mask_storeu_ps(output, 0xffff >> (16 - rows), values);
    }

    #[inline(always)]
    unsafe fn small_end(partial: __m512i, _sum: *const u8) -> __m512i {
        partial
    }

    #[inline(always)]
    fn fitting(largest: i32) -> usize {
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
                // What comes to so little fits the lower 16 bits; the upper ones, which are signs, must not be multiplied.
                let scales = _mm512_maskz_mov_epi16(LOWER_HALVES, scales);
                return add_pairs(sum, partial, scales);
            }
            // The lowest byte times the scale, and the 16 bits above it times 256 scales, which is quicker than a product of
            // 32 bits.
            let scales =
                _mm512_mask_mov_epi16(_mm512_slli_epi32::<24>(scales), LOWER_HALVES, scales);
            let lowest_and_above = _mm512_broadcast_i32x4(_mm_set_epi8(
                14, 13, -1, 12, 10, 9, -1, 8, 6, 5, -1, 4, 2, 1, -1, 0,
            ));
            add_pairs(sum, _mm512_shuffle_epi8(partial, lowest_and_above), scales)
        }
    }
}
