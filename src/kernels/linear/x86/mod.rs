//! The products on x86-64: AVX2 with FMA and F16C, and AVX-512 with VNNI on 256-bit vectors, which has twice the
//! registers and multiplies and adds bytes in one instruction.
//!
//! Integer sums are exact, so only the order of the floating-point ones matters. It is ggml's: of `q4_0` and `q4_k` a
//! row's block becomes one integer, which is scaled and added (with four tokens or more, every 64 elements of a
//! `q4_k` block); of the others every fourth of a vector goes its own way, and the eight sums are added at the end,
//! except that with many tokens a block is one integer here as well: of `q5_k` and `q6_k` as ggml has it, of `q8_0`
//! because it is faster.

#![allow(
    clippy::wildcard_imports,
    clippy::cast_ptr_alignment,
    clippy::needless_range_loop,
    reason = "intrinsics are read by their own names, memory is read unaligned, and registers are numbered"
)]

mod expanded;
mod f16;
mod f16_wide;
mod q4_0;
mod q4_k;
mod q5_k;
mod q6_k;
mod q8_0;

use std::arch::x86_64::*;

use super::kernel::{Count, Expansion, Job, Kernel};
use super::matrix::Format;

/// Sets of instructions with kernels, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kernels) enum InstructionSet {
    Vnni,
    Avx2,
}

impl InstructionSet {
    /// Those that this processor has.
    pub(super) fn available() -> impl Iterator<Item = Self> {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        let vnni = avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        [(Self::Vnni, vnni), (Self::Avx2, avx2)]
            .into_iter()
            .filter_map(|(set, there)| there.then_some(set))
    }

    /// The set, and no bound: sums of half floats are taken in f32.
    pub(super) fn short_sums(self, _bound: Option<i32>) -> (Self, Option<i32>) {
        (self, None)
    }

    /// From so many tokens on the kernels for `format` add in another order.
    #[expect(clippy::unused_self, reason = "other processors have one order")]
    pub(super) fn many(self, format: Format) -> usize {
        match format {
            // As ggml does.
            Format::Q5K | Format::Q6K => 8,
            // ggml keeps eight sums for each result, which takes half as long again. Short prompts, and texts as they
            // are continued, have its bits.
            Format::Q8_0 => 32,
            Format::F16 | Format::Q4_0 | Format::Q4K => usize::MAX,
        }
    }

    /// Tokens that kernels for `format` work on together, the most first, down to 1.
    pub(super) fn tile_sizes(self, format: Format, count: Count) -> &'static [usize] {
        match (self, format, count) {
            // Larger tiles of these two add in another order; of the third the registers hold no more.
            (_, Format::F16, Count::One) => &[4, 2, 1],
            (_, Format::Q4K, Count::One) | (Self::Avx2, Format::Q8_0, Count::One | Count::Few) => {
                &[2, 1]
            }
            (Self::Vnni, Format::F16, _) => &[12, 4, 2, 1],
            (Self::Avx2, Format::F16, _) => &[6, 4, 2, 1],
            (Self::Vnni, Format::Q4_0 | Format::Q4K, _) | (Self::Vnni, _, Count::Many) => {
                &[8, 4, 2, 1]
            }
            _ => &[4, 2, 1],
        }
    }

    /// How panels of `format` are expanded for [`Self::many`] tokens, if they are.
    #[expect(clippy::unused_self, reason = "other processors expand nothing")]
    pub(super) fn expansion(self, format: Format) -> Option<Expansion> {
        expanded::expansion(format)
    }

    /// The product of f16 rows with many tokens.
    pub(super) fn wide(self) -> f16_wide::Wide {
        match self {
            Self::Vnni => f16_wide::Wide::AVX512,
            Self::Avx2 => f16_wide::Wide::AVX2,
        }
    }

    /// The kernel for `format` and so many tokens of so many in all, one of [`Self::tile_sizes`] (of f16 only
    /// below those of [`Self::wide`]).
    pub(super) fn kernel(self, format: Format, tokens: usize, count: Count) -> Kernel {
        let many = count == Count::Many;
        match self {
            Self::Vnni => vnni::kernel(format, tokens, many),
            Self::Avx2 => avx2::kernel(format, tokens, many),
        }
    }
}

/// Vectors of 256 bits: what the kernels are written with.
///
/// # Safety
/// The methods are only called inside functions that have the instructions of the set.
trait Vectors {
    /// What [`Vectors::small_dot`] begins with, when `sum` is to be added in the end.
    unsafe fn small_start(sum: __m256i) -> __m256i;

    /// Goes on with up to eight products of four bytes of each of eight rows, none above 15, and the four signed bytes
    /// at `bytes`.
    unsafe fn small_dot(partial: __m256i, weights: __m256i, bytes: *const u8) -> __m256i;

    /// What it all comes to; with the same `sum`.
    unsafe fn small_end(partial: __m256i, sum: __m256i) -> __m256i;

    /// `sum` + each row's scale, which is below 64, times its products with 32 signed bytes at `bytes`: vector v of
    /// `weights` holds four bytes of each of eight rows, none above 15.
    unsafe fn scaled_dot_of_eight(
        sum: __m256i,
        weights: &[__m256i; 8],
        bytes: *const u8,
        scales: __m256i,
    ) -> __m256i;

    /// `sum` + each row's scale times its products with 16 signed bytes at `bytes`: vector v of `weights` holds four
    /// bytes of each of eight rows, none above 63.
    unsafe fn scaled_dot_of_four(
        sum: __m256i,
        weights: &[__m256i; 4],
        bytes: *const u8,
        scales: __m256i,
    ) -> __m256i;

    /// Signed weights as [`Vectors::signed_dot`] takes them.
    unsafe fn signed_weights(weights: __m256i) -> SignedWeights;

    /// What a sum of [`Vectors::signed_dot`] begins with; at `excess` is −128 · the sum of all bytes that it will have.
    unsafe fn signed_start(excess: *const u8) -> __m256i;

    /// `sum` + for each row the products of its four weights with the four bytes at `bytes`, all of which are signed.
    unsafe fn signed_dot(sum: __m256i, weights: SignedWeights, bytes: *const u8) -> __m256i;
}

/// Weights prepared for products with signed bytes.
#[derive(Clone, Copy)]
struct SignedWeights {
    /// Their magnitudes, or 128 more than they are.
    unsigned: __m256i,
    /// As they are.
    signed: __m256i,
}

/// Four bytes in every lane.
#[inline(always)]
unsafe fn four_everywhere(place: *const u8) -> __m256i {
    // SAFETY: the caller has four bytes and AVX.
    unsafe { _mm256_set1_epi32(place.cast::<i32>().read_unaligned()) }
}

struct Avx2;
struct Vnni;

impl Vectors for Avx2 {
    #[inline(always)]
    unsafe fn small_start(_sum: __m256i) -> __m256i {
        // SAFETY: the trait's condition.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn small_dot(partial: __m256i, weights: __m256i, bytes: *const u8) -> __m256i {
        // SAFETY: the trait's condition. 8 · 2 · 15 · 127 fits 16 bits.
        unsafe {
            let pairs = _mm256_maddubs_epi16(weights, four_everywhere(bytes));
            _mm256_add_epi16(partial, pairs)
        }
    }

    #[inline(always)]
    unsafe fn small_end(partial: __m256i, sum: __m256i) -> __m256i {
        // SAFETY: the trait's condition.
        unsafe { _mm256_add_epi32(sum, _mm256_madd_epi16(partial, _mm256_set1_epi16(1))) }
    }

    #[inline(always)]
    unsafe fn scaled_dot_of_eight(
        sum: __m256i,
        weights: &[__m256i; 8],
        bytes: *const u8,
        scales: __m256i,
    ) -> __m256i {
        // SAFETY: the trait's condition. 8 · 2 · 15 · 127 fits 16 bits.
        unsafe {
            let product = |index: usize| {
                _mm256_maddubs_epi16(weights[index], four_everywhere(bytes.add(4 * index)))
            };
            let add = |a, b| _mm256_add_epi16(a, b);
            let pairs = add(
                add(add(product(0), product(1)), add(product(2), product(3))),
                add(add(product(4), product(5)), add(product(6), product(7))),
            );
            let scales = _mm256_or_si256(scales, _mm256_slli_epi32::<16>(scales));
            _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, scales))
        }
    }

    #[inline(always)]
    unsafe fn scaled_dot_of_four(
        sum: __m256i,
        weights: &[__m256i; 4],
        bytes: *const u8,
        scales: __m256i,
    ) -> __m256i {
        // SAFETY: the trait's condition. Four products of at most 63 · 127 fit 16 bits.
        unsafe {
            let pairs = |index: usize| {
                _mm256_maddubs_epi16(weights[index], four_everywhere(bytes.add(4 * index)))
            };
            let scales = _mm256_blend_epi16::<0b1010_1010>(scales, _mm256_slli_epi32::<16>(scales));
            let first = _mm256_madd_epi16(_mm256_add_epi16(pairs(0), pairs(1)), scales);
            let second = _mm256_madd_epi16(_mm256_add_epi16(pairs(2), pairs(3)), scales);
            _mm256_add_epi32(sum, _mm256_add_epi32(first, second))
        }
    }

    #[inline(always)]
    unsafe fn signed_weights(weights: __m256i) -> SignedWeights {
        SignedWeights {
            // SAFETY: the trait's condition.
            unsigned: unsafe { _mm256_abs_epi8(weights) },
            signed: weights,
        }
    }

    #[inline(always)]
    unsafe fn signed_start(_excess: *const u8) -> __m256i {
        // SAFETY: the trait's condition.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn signed_dot(sum: __m256i, weights: SignedWeights, bytes: *const u8) -> __m256i {
        // SAFETY: the trait's condition. Two products of at most 128 · 127 fit 16 bits.
        unsafe {
            let bytes = _mm256_sign_epi8(four_everywhere(bytes), weights.signed);
            let pairs = _mm256_maddubs_epi16(weights.unsigned, bytes);
            _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }
}

impl Vectors for Vnni {
    #[inline(always)]
    unsafe fn small_start(sum: __m256i) -> __m256i {
        sum
    }

    #[inline(always)]
    unsafe fn small_dot(partial: __m256i, weights: __m256i, bytes: *const u8) -> __m256i {
        // SAFETY: the trait's condition.
        unsafe { _mm256_dpbusd_epi32(partial, weights, four_everywhere(bytes)) }
    }

    #[inline(always)]
    unsafe fn small_end(partial: __m256i, _sum: __m256i) -> __m256i {
        partial
    }

    #[inline(always)]
    unsafe fn scaled_dot_of_eight(
        sum: __m256i,
        weights: &[__m256i; 8],
        bytes: *const u8,
        scales: __m256i,
    ) -> __m256i {
        // SAFETY: the trait's condition.
        unsafe {
            // Two sums, so that one instruction need not wait for the last.
            let mut sums = [_mm256_setzero_si256(); 2];
            for (index, &weights) in weights.iter().enumerate() {
                let bytes = four_everywhere(bytes.add(4 * index));
                sums[index % 2] = _mm256_dpbusd_epi32(sums[index % 2], weights, bytes);
            }
            let dot = _mm256_add_epi32(sums[0], sums[1]);
            _mm256_add_epi32(sum, _mm256_mullo_epi32(dot, scales))
        }
    }

    #[inline(always)]
    unsafe fn scaled_dot_of_four(
        sum: __m256i,
        weights: &[__m256i; 4],
        bytes: *const u8,
        scales: __m256i,
    ) -> __m256i {
        // SAFETY: the trait's condition.
        unsafe {
            let mut dot = _mm256_setzero_si256();
            for (index, &weights) in weights.iter().enumerate() {
                dot = _mm256_dpbusd_epi32(dot, weights, four_everywhere(bytes.add(4 * index)));
            }
            _mm256_add_epi32(sum, _mm256_mullo_epi32(dot, scales))
        }
    }

    #[inline(always)]
    unsafe fn signed_weights(weights: __m256i) -> SignedWeights {
        SignedWeights {
            // SAFETY: the trait's condition.
            unsigned: unsafe { _mm256_xor_si256(weights, _mm256_set1_epi8(-128)) },
            signed: weights,
        }
    }

    #[inline(always)]
    unsafe fn signed_start(excess: *const u8) -> __m256i {
        // SAFETY: the trait's condition.
        unsafe { four_everywhere(excess) }
    }

    #[inline(always)]
    unsafe fn signed_dot(sum: __m256i, weights: SignedWeights, bytes: *const u8) -> __m256i {
        // SAFETY: the trait's condition.
        unsafe { _mm256_dpbusd_epi32(sum, weights.unsigned, four_everywhere(bytes)) }
    }
}

/// Eight vectors of eight as columns become eight rows.
#[inline(always)]
unsafe fn turn_round(vectors: [__m256; 8]) -> [__m256; 8] {
    // SAFETY: the caller has AVX.
    unsafe {
        let [a, b, c, d, e, f, g, h] = vectors;
        let low = [(a, b), (c, d), (e, f), (g, h)].map(|(x, y)| _mm256_unpacklo_ps(x, y));
        let high = [(a, b), (c, d), (e, f), (g, h)].map(|(x, y)| _mm256_unpackhi_ps(x, y));
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

/// Eight half floats at `place`, expanded.
#[inline(always)]
unsafe fn eight_halves(place: *const u8) -> __m256 {
    // SAFETY: the caller has 16 bytes and F16C.
    unsafe { _mm256_cvtph_ps(_mm_loadu_si128(place.cast())) }
}

/// One half float at `place` in every lane, expanded.
#[inline(always)]
unsafe fn half_everywhere(place: *const u8) -> __m256 {
    // SAFETY: the caller has 2 bytes and F16C.
    unsafe { _mm256_cvtph_ps(_mm_set1_epi16(place.cast::<i16>().read_unaligned())) }
}

/// The sum of eight lanes, in ggml's order.
#[inline(always)]
unsafe fn sum_of_lanes(lanes: __m256) -> f32 {
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

/// Writes the sums of eight rows, or of the first `rows` of them.
///
/// # Safety
/// `output` has places for them.
#[inline(always)]
unsafe fn store_rows(sums: __m256, rows: usize, output: *mut f32) {
    // SAFETY: the caller's condition, and AVX.
    unsafe {
        if rows == super::PANEL {
            _mm256_storeu_ps(output, sums);
        } else {
            let mut all = [0.0f32; super::PANEL];
            _mm256_storeu_ps(all.as_mut_ptr(), sums);
            std::ptr::copy_nonoverlapping(all.as_ptr(), output, rows);
        }
    }
}

/// Declares the kernels of an instruction set: each is a format's body compiled for its instructions.
macro_rules! kernels {
    ($name:ident, $vectors:ty, $features:literal,
     [$(($format:ident, $many:pat) => $module:ident::$body:ident: $($tokens:literal)*;)*]) => {
        mod $name {
            use super::*;

            /// The kernel for a format and so many tokens, of many or few in all.
            pub(super) fn kernel(format: Format, tokens: usize, many: bool) -> Kernel {
                match (format, tokens, many) {
                    $($((Format::$format, $tokens, $many) => {
                        #[target_feature(enable = $features)]
                        unsafe fn run(job: Job<'_>, output: *mut f32, stride: usize) {
                            // SAFETY: the caller's condition is the body's.
                            unsafe { $module::$body::<$vectors, $tokens>(job, output, stride) }
                        }
                        run
                    })*)*
                    _ => unreachable!("tile sizes name every kernel"),
                }
            }
        }
    };
}

kernels!(vnni, Vnni, "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni", [
    (F16, _) => f16::panel: 1 2 4;
    (Q4_0, _) => q4_0::panel: 1 2 4 8;
    (Q8_0, false) => q8_0::panel: 1 2 4;
    (Q8_0, true) => q8_0::panel_of_many: 1 2 4 8;
    (Q4K, _) => q4_k::panel: 1 2 4 8;
    (Q5K, false) => q5_k::panel: 1 2 4;
    (Q5K, true) => expanded::panel_of_q5_k: 1 2 4 8;
    (Q6K, false) => q6_k::panel: 1 2 4;
    (Q6K, true) => expanded::panel_of_q6_k: 1 2 4 8;
]);

kernels!(avx2, Avx2, "avx2,fma,f16c", [
    (F16, _) => f16::panel: 1 2 4;
    (Q4_0, _) => q4_0::panel: 1 2 4;
    (Q8_0, false) => q8_0::panel: 1 2;
    (Q8_0, true) => q8_0::panel_of_many: 1 2 4;
    (Q4K, _) => q4_k::panel: 1 2 4;
    (Q5K, false) => q5_k::panel: 1 2 4;
    (Q5K, true) => expanded::panel_of_q5_k: 1 2 4;
    (Q6K, false) => q6_k::panel: 1 2 4;
    (Q6K, true) => expanded::panel_of_q6_k: 1 2 4;
]);
