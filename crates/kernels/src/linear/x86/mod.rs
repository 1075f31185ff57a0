//! The products on x86-64: AVX2 with FMA and F16C, and AVX-512 with VNNI, which works on two panels at once, has twice
//! the registers, and multiplies and adds bytes in one instruction.
//!
//! Integer sums are exact, so only the order of the floating-point ones matters. It is ggml's: of `q4_0` and `q4_k` a
//! row's block becomes one integer, which is scaled and added (with four tokens or more, every 64 elements of a
//! `q4_k` block); of the others every fourth of a vector goes its own way, and the eight sums are added at the end,
//! except that with many tokens a block is one integer here as well: of `q5_k` and `q6_k` as ggml has it, of `q8_0`
//! because it is faster.
//!
//! Intrinsics stand in loops and in functions that are always inlined, never in closures given to functions of the standard
//! library: what the compiler does not inline there is compiled without the instructions, a call for each.

#![allow(
    clippy::wildcard_imports,
    clippy::cast_ptr_alignment,
    clippy::needless_range_loop,
    reason = "intrinsics are read by their own names, memory is read unaligned, and registers are numbered"
)]

mod f16;
mod f16_gemm;
mod k_quants;
mod q4_0;
mod q4_k;
mod q5_k;
mod q6_k;
mod q8_0;
mod unpacked;
mod vectors;

use std::arch::x86_64::*;

use super::format::Format;
use super::microkernel::{Count, Expansion, Job, Kernel};
use crate::simd::{self, Token};
use vectors::{Avx2, Two, Vectors, Vnni};

/// Sets of instructions with kernels, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InstructionSet {
    Vnni,
    Avx2,
}

impl InstructionSet {
    /// Those that this processor has.
    pub(super) fn available() -> impl Iterator<Item = Self> {
        let avx2 = simd::Avx2::detect().is_some();
        let vnni = simd::Avx512Vnni::detect().is_some();
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
            // ggml keeps eight sums for each result, or adds four times as often, which takes half as long again. Short
            // prompts, and texts as they are continued, have its bits.
            Format::Q8_0 | Format::Q4K => 32,
            Format::F16 | Format::Q4_0 => usize::MAX,
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
            (Self::Avx2, Format::F16, _) => &[6, 4, 2, 1],
            (Self::Vnni, Format::Q4K, Count::Few) => &[8, 4, 2, 1],
            (Self::Vnni, Format::F16 | Format::Q4_0, _) | (Self::Vnni, _, Count::Many) => {
                &[12, 8, 4, 2, 1]
            }
            _ => &[4, 2, 1],
        }
    }

    /// Panels that the kernel for `format` and so many tokens of so many in all takes together.
    pub(super) fn panels_together(self, format: Format, tokens: usize, count: Count) -> usize {
        let many = count == Count::Many;
        match self {
            Self::Vnni => vnni::panels(format, tokens, many),
            Self::Avx2 => avx2::panels(format, tokens, many),
        }
    }

    /// How panels of `format` are expanded for [`Self::many`] tokens, if they are.
    #[expect(clippy::unused_self, reason = "other processors expand nothing")]
    pub(super) fn expansion(self, format: Format) -> Option<Expansion> {
        unpacked::expansion(format)
    }

    /// The product of f16 rows with many tokens.
    pub(super) fn wide(self) -> f16_gemm::Wide {
        match self {
            Self::Vnni => f16_gemm::Wide::AVX512,
            Self::Avx2 => f16_gemm::Wide::AVX2,
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

/// Asks for `lines` lines of each panel that are needed `ahead` bytes later, which beyond the panels' `end` is in those that come
/// next: the processor itself looks ahead no further than a page, and begins late.
#[inline(always)]
fn ask_for<V: Vectors>(place: *const u8, end: *const u8, other: usize, ahead: usize, lines: usize) {
    let mut place = place.wrapping_add(ahead);
    if V::PANELS > 1 && place >= end {
        place = place.wrapping_add((V::PANELS - 1) * other);
    }
    for panel in 0..V::PANELS {
        for line in 0..lines {
            let place = place.wrapping_add(panel * other + 64 * line);
            // SAFETY: a hint, which beyond the end is about nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
        }
    }
}

/// Eight vectors of eight as columns become eight rows.
#[inline(always)]
unsafe fn turn_round(vectors: [__m256; 8]) -> [__m256; 8] {
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

/// A loop of a constant number of rounds, at most 12, written out: left a loop, it would keep what each round adds to in
/// memory instead of in registers, which the compiler decides by length alone.
macro_rules! for_each {
    ($index:ident in $count:expr => $body:block) => {
        for_each!(@ $index ($count) $body 0 1 2 3 4 5 6 7 8 9 10 11)
    };
    (@ $index:ident ($count:expr) $body:block $($number:literal)*) => {
        const { assert!($count <= 12) };
        $(if $number < $count {
            let $index = $number;
            $body
        })*
    };
}
use for_each;

/// Declares the kernels of an instruction set: each is a format's body with certain vectors, compiled for its instructions.
macro_rules! kernels {
    ($name:ident, $features:literal,
     [$(($format:ident, $many:pat) => $module:ident::$body:ident::<$vectors:ty>: $($tokens:literal)*;)*]) => {
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

            /// Panels that it takes together.
            pub(super) fn panels(format: Format, tokens: usize, many: bool) -> usize {
                match (format, tokens, many) {
                    $($((Format::$format, $tokens, $many) => <$vectors as Vectors>::PANELS,)*)*
                    // Rows expanded for all tokens.
                    _ => 1,
                }
            }
        }
    };
}

kernels!(vnni, "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni", [
    (F16, _) => f16::panel::<Avx2>: 1 2 4;
    (Q4_0, _) => q4_0::panel::<Vnni>: 1 2 4 8 12;
    (Q8_0, false) => q8_0::panel::<Vnni>: 1 2 4;
    (Q8_0, true) => q8_0::panel_of_many::<Vnni>: 1 2 4 8 12;
    (Q4K, false) => q4_k::panel::<Vnni>: 1 2 4 8;
    (Q4K, true) => q4_k::panel_of_many::<Vnni>: 1 2 4 8 12;
    (Q5K, false) => q5_k::panel::<Avx2>: 1 2 4;
    (Q5K, true) => unpacked::panel_of_q5_k::<Vnni>: 1 2 4 8 12;
    (Q6K, false) => q6_k::panel::<Avx2>: 1 2 4;
    (Q6K, true) => unpacked::panel_of_q6_k::<Vnni>: 1 2 4 8 12;
]);

kernels!(avx2, "avx2,fma,f16c", [
    (F16, _) => f16::panel::<Avx2>: 1 2 4;
    (Q4_0, _) => q4_0::panel::<Two<Avx2>>: 1 2 4;
    (Q8_0, false) => q8_0::panel::<Avx2>: 1 2;
    (Q8_0, true) => q8_0::panel_of_many::<Two<Avx2>>: 1 2 4;
    (Q4K, false) => q4_k::panel::<Avx2>: 1 2;
    (Q4K, false) => q4_k::panel::<Two<Avx2>>: 4;
    (Q4K, true) => q4_k::panel_of_many::<Avx2>: 1 2;
    (Q4K, true) => q4_k::panel_of_many::<Two<Avx2>>: 4;
    (Q5K, false) => q5_k::panel::<Avx2>: 1 2 4;
    (Q5K, true) => unpacked::panel_of_q5_k::<Two<Avx2>>: 1 2 4;
    (Q6K, false) => q6_k::panel::<Avx2>: 1 2 4;
    (Q6K, true) => unpacked::panel_of_q6_k::<Two<Avx2>>: 1 2 4;
]);
