//! The microkernels for x86-64: AVX2 with FMA and F16C, and AVX-512 with VNNI, which works on two
//! panels at once, has twice the registers, and multiplies and adds bytes in one instruction.
//!
//! Integer sums are exact, so only the order of the floating-point ones matters. It is ggml's: of
//! `q4_0`, `iq4_nl` and `q4_k` a row's block becomes one integer, which is scaled and added (with 4
//! to 31 tokens, every 64 elements of a `q4_k` block); of the others every fourth of a vector goes
//! its own way, and the eight accumulators are added at the end, except that in a large batch a
//! block is one integer here as well: of `q5_k` and `q6_k` as ggml has it, of `q8_0` and `q5_0`
//! because it is faster.
//!
//! Intrinsics stand in loops and in functions that are always inlined, never in closures given to
//! functions of the standard library: what the compiler does not inline there is compiled without
//! the instructions, a call for each.

#![allow(
    clippy::wildcard_imports,
    clippy::cast_ptr_alignment,
    clippy::needless_range_loop,
    reason = "intrinsics are read by their own names, memory is read unaligned, and registers \
              are numbered"
)]

mod blocks;
mod float;
mod float_gemm;
mod helpers;
mod k_quants;
mod prefetch;
mod q4_0;
mod q4_k;
mod q5_k;
mod q6_k;
mod q8_0;
mod super_blocks;
mod unpacked;
mod unroll;
mod vectors;

use super::format::Format;
use super::microkernel::{BatchSize, FloatGemm, Job, KernelSet, Microkernel, Unpacking};
use crate::simd::{Avx2, Avx512Vnni, Task, Token};
use vectors::{PanelVectors, Two};

/// Sets of instructions with kernels, the best first.
#[derive(Debug, Clone, Copy)]
pub(super) enum InstructionSet {
    Vnni(Avx512Vnni),
    Avx2(Avx2),
}

impl KernelSet for InstructionSet {
    type Quantizer = Avx2;

    fn quantizer(self) -> Avx2 {
        match self {
            Self::Vnni(simd) => simd.avx512().avx2(),
            Self::Avx2(simd) => simd,
        }
    }

    fn available() -> impl Iterator<Item = Self> {
        let vnni = Avx512Vnni::detect().map(Self::Vnni);
        let avx2 = Avx2::detect().map(Self::Avx2);
        vnni.into_iter().chain(avx2)
    }

    fn batch_size(self, format: Format, tokens: usize) -> BatchSize {
        match format {
            // Fewer are not worth unpacking rows.
            Format::F16 if tokens < 40 => BatchSize::One,
            Format::F32 if tokens < 16 => BatchSize::One,
            Format::Bf16 if tokens < 24 => BatchSize::One,
            // ggml's order.
            Format::Q5K | Format::Q6K if tokens < 8 => BatchSize::Small,
            Format::Q6K if tokens < 48 => BatchSize::Medium,
            // ggml keeps eight accumulators for each result, which takes nearly twice as long, or
            // adds four times as often. Short prompts, and texts as they are continued, have its
            // bits.
            Format::Q5_0 | Format::Q8_0 | Format::Q4K if tokens < 32 => BatchSize::Small,
            Format::Q4K => BatchSize::One,
            Format::Q5_0 | Format::Q8_0 | Format::Q5K | Format::Q6K => BatchSize::Large,
            _ => BatchSize::Small,
        }
    }

    fn is_batch_invariant(self, format: Format, tokens: usize) -> bool {
        match self.batch_size(format, tokens) {
            BatchSize::One => true,
            // Four `q4_k` tokens are accumulated otherwise.
            BatchSize::Small => format != Format::Q4K && !format.is_float() || tokens < 4,
            BatchSize::Medium | BatchSize::Large => false,
        }
    }

    fn tile_sizes(self, format: Format, batch: BatchSize) -> &'static [usize] {
        match (self, format, batch) {
            // Larger tiles of these two add in another order; of the third the registers hold no
            // more.
            (_, Format::F16, BatchSize::One)
            | (Self::Avx2(_), Format::Q5_0, BatchSize::Large) => &[4, 2, 1],
            (Self::Vnni(_), Format::Q5_0, BatchSize::Large) => &[12, 8, 4, 2, 1],
            (_, Format::F32 | Format::Bf16, BatchSize::One)
            // Decoded for a few tokens at once; two or three are as quick one by one.
            | (
                _,
                Format::Q4_1
                | Format::Q5_0
                | Format::Q5_1
                | Format::Q2K
                | Format::Q3K
                | Format::Iq4Xs,
                _,
            ) => &[4, 1],
            (Self::Vnni(_), Format::Q4K, BatchSize::One) => &[8, 2, 1],
            (Self::Avx2(_), Format::Q8_0, BatchSize::One | BatchSize::Small) => &[2, 1],
            (Self::Avx2(_), Format::F16, _) => &[6, 4, 2, 1],
            (Self::Avx2(_), Format::F32 | Format::Bf16, _) => &[6, 4, 1],
            (Self::Vnni(_), Format::F32 | Format::Bf16, _) => &[12, 8, 4, 1],
            (_, Format::Q6K, BatchSize::One | BatchSize::Small | BatchSize::Medium)
            | (Self::Vnni(_), Format::Q4K, BatchSize::Small) => &[8, 4, 2, 1],
            (Self::Vnni(_), Format::F16 | Format::Q4_0 | Format::Iq4Nl, _)
            | (Self::Vnni(_), _, BatchSize::Large) => &[12, 8, 4, 2, 1],
            _ => &[4, 2, 1],
        }
    }

    fn panels_together(self, format: Format, tokens: usize, batch: BatchSize) -> usize {
        let format = unpacked::format(format, batch);
        match self {
            Self::Vnni(_) => vnni::panels(format, tokens, batch),
            Self::Avx2(_) => avx2::panels(format, tokens, batch),
        }
    }

    fn unpacking(self, format: Format) -> Option<Unpacking> {
        unpacked::unpacking(format)
    }

    fn float_gemm(self, format: Format) -> Option<FloatGemm> {
        match self {
            Self::Vnni(_) => float_gemm::avx512(format),
            Self::Avx2(_) => float_gemm::avx2(format),
        }
    }

    fn microkernel(self, format: Format, tokens: usize, batch: BatchSize) -> Microkernel {
        let format = unpacked::format(format, batch);
        match self {
            Self::Vnni(_) if vnni::FORMATS.contains(&format) => {
                vnni::microkernel(format, tokens, batch)
            }
            // The others are read row by row, which longer vectors make no faster.
            _ => avx2::microkernel(format, tokens, batch),
        }
    }
}

/// Declares the microkernels of an instruction set: each is a format's body with certain vectors,
/// compiled for the token's instructions.
macro_rules! microkernels {
    ($name:ident, $token:ty,
     [$(($format:ident, $batch:pat) =>
        $module:ident::$body:ident::<$vectors:ty>: $($tokens:literal)*;)*]) => {
        mod $name {
            use super::BatchSize::{Large, Medium, One, Small};
            use super::*;

            /// Those that have microkernels here.
            #[allow(dead_code, reason = "AVX2 has all")]
            pub(super) const FORMATS: &[Format] = &[$(Format::$format),*];

            /// The microkernel for a format and tiles of `tokens`.
            pub(super) fn microkernel(
                format: Format,
                tokens: usize,
                batch: BatchSize,
            ) -> Microkernel {
                match (format, tokens, batch) {
                    $($((Format::$format, $tokens, $batch) => {
                        struct Body<'a>(&'a Job<'a>);

                        impl Task<$token> for Body<'_> {
                            type Output = ();

                            #[inline(always)]
                            fn run(self, _: $token) {
                                // SAFETY: the condition of `run` below is the body's.
                                unsafe { $module::$body::<$vectors, $tokens>(self.0) }
                            }
                        }

                        unsafe fn run(job: &Job<'_>) {
                            // SAFETY: the caller's condition.
                            unsafe { <$token>::assume() }.vectorize(Body(job));
                        }
                        run
                    })*)*
                    _ => unreachable!("tile sizes name every microkernel"),
                }
            }

            /// Panels that it takes together.
            pub(super) fn panels(format: Format, tokens: usize, batch: BatchSize) -> usize {
                match (format, tokens, batch) {
                    $($((Format::$format, $tokens, $batch) => {
                        <$vectors as PanelVectors>::PANELS
                    })*)*
                    // Rows unpacked for all tokens.
                    _ => 1,
                }
            }
        }
    };
}

microkernels!(vnni, Avx512Vnni, [
    (F16, _) => float::gemv_f16::<Avx2>: 1 2 4;
    (Q4_0, _) => q4_0::gemm::<Avx512Vnni>: 1 2 4 8 12;
    (Iq4Nl, _) => q8_0::gemm_iq4_nl::<Avx512Vnni>: 1 2 4 8 12;
    (Q8_0, One | Small) => q8_0::gemm_in_lanes::<Avx512Vnni>: 1 2 4;
    (Q8_0, Large) => q8_0::gemm::<Avx512Vnni>: 1 2 4 8 12;
    (Q4K, One | Small) => q4_k::gemv::<Avx512Vnni>: 1 2;
    (Q4K, One) => q4_k::gemv::<Avx512Vnni>: 8;
    (Q4K, Small) => q4_k::gemv_by_64::<Avx512Vnni>: 4 8;
    (Q5K, One | Small) => q5_k::gemv::<Avx2>: 1 2 4;
    (Q5K, Large) => unpacked::gemm_q5_k::<Avx512Vnni>: 1 2 4 8 12;
    (Q6K, One | Small) => q6_k::gemv::<Avx2>: 1 2 4;
    (Q6K, One | Small) => q6_k::gemv::<Avx512Vnni>: 8;
    (Q6K, Medium) => q6_k::gemv_by_block::<Avx2>: 1 2 4;
    (Q6K, Medium) => q6_k::gemv_by_block::<Avx512Vnni>: 8;
    (Q6K, Large) => unpacked::gemm_q6_k::<Avx512Vnni>: 1 2 4 8 12;
]);

microkernels!(avx2, Avx2, [
    (F32, _) => float::gemv_f32::<Avx2>: 1 4;
    (Bf16, _) => float::gemv_bf16::<Avx2>: 1 4;
    (F16, _) => float::gemv_f16::<Avx2>: 1 2 4;
    (Q4_1, _) => blocks::gemv_q4_1::<Avx2>: 1 4;
    (Q5_0, _) => blocks::gemv_q5_0::<Avx2>: 1 4;
    (Q5_1, _) => blocks::gemv_q5_1::<Avx2>: 1 4;
    (Q2K, _) => super_blocks::gemv_q2_k::<Avx2>: 1 4;
    (Q3K, _) => super_blocks::gemv_q3_k::<Avx2>: 1 4;
    (Iq4Xs, _) => super_blocks::gemv_iq4_xs::<Avx2>: 1 4;
    (Q4_0, _) => q4_0::gemm::<Two<Avx2>>: 1 2 4;
    (Iq4Nl, _) => q8_0::gemm_iq4_nl::<Two<Avx2>>: 1 2 4;
    (Q8_0, One | Small) => q8_0::gemm_in_lanes::<Avx2>: 1 2;
    (Q8_0, Large) => q8_0::gemm::<Two<Avx2>>: 1 2 4;
    (Q4K, One | Small) => q4_k::gemv::<Avx2>: 1 2;
    (Q4K, One) => q4_k::gemv::<Two<Avx2>>: 4;
    (Q4K, Small) => q4_k::gemv_by_64::<Two<Avx2>>: 4;
    (Q5K, One | Small) => q5_k::gemv::<Avx2>: 1 2 4;
    (Q5K, Large) => unpacked::gemm_q5_k::<Two<Avx2>>: 1 2 4;
    (Q6K, One | Small) => q6_k::gemv::<Avx2>: 1 2 4 8;
    (Q6K, Medium) => q6_k::gemv_by_block::<Avx2>: 1 2 4 8;
    (Q6K, Large) => unpacked::gemm_q6_k::<Two<Avx2>>: 1 2 4;
]);
