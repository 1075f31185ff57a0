//! The microkernels for 64-bit ARM: with dot products of bytes (8.2's `dotprod`) and arithmetic on
//! f16 (8.2's `fp16`), with the first of these, and with what every such processor has.
//!
//! The types used most are packed so that a vector holds four bytes of each of four rows
//! (`../packing.rs`): sums of rows need no step across a vector. A row's block (of 32 or 256
//! elements) becomes one integer, which is exact; it is scaled and added. Of `q4_0`, `iq4_nl` and
//! `q8_0` this is ggml's order where there are dot products; of K-quants ggml adds every 64
//! elements, and without dot products it goes row by row, with four accumulators. The other types
//! are read row by row; every fourth of a vector is accumulated by itself.

#![allow(
    clippy::wildcard_imports,
    clippy::cast_ptr_alignment,
    clippy::needless_range_loop,
    reason = "intrinsics are read by their own names, memory is read unaligned, and registers \
              are numbered"
)]

mod blocks;
mod f16_accumulation;
mod float;
mod float_gemm;
mod helpers;
mod q4_0;
mod q4_k_q5_k;
mod q6_k;
mod q8_0;
mod super_blocks;
mod unroll;
mod vectors;

use super::format::Format;
use super::microkernel::{BatchSize, FloatGemm, Job, KernelSet, Microkernel};
use crate::simd::{Baseline, Neon, NeonDotprod, NeonFp16, Task, Token};

/// Sets of instructions with kernels, the best first.
#[derive(Debug, Clone, Copy)]
pub(super) enum InstructionSet {
    Fp16(NeonFp16),
    Dotprod(NeonDotprod),
    Neon(Neon),
}

impl KernelSet for InstructionSet {
    /// NEON is in the baseline.
    type Quantizer = Baseline;

    fn quantizer(self) -> Baseline {
        Baseline::default()
    }

    fn available() -> impl Iterator<Item = Self> {
        let fp16 = NeonFp16::detect().map(Self::Fp16);
        let dotprod = NeonDotprod::detect().map(Self::Dotprod);
        let neon = Neon::detect().map(Self::Neon);
        fp16.into_iter().chain(dotprod).chain(neon)
    }

    fn accumulates_f16(self) -> bool {
        matches!(self, Self::Fp16(_))
    }

    fn accumulating_f32(self) -> Self {
        match self {
            Self::Fp16(simd) => Self::Dotprod(simd.dotprod()),
            other => other,
        }
    }

    fn tile_sizes(self, format: Format, batch: BatchSize) -> &'static [usize] {
        match (self, format) {
            // Larger tiles add in another order.
            (_, Format::F16) if batch == BatchSize::One => &[4, 2, 1],
            (_, Format::F16) => &[12, 4, 2, 1],
            (_, Format::F32 | Format::Bf16) if batch != BatchSize::One => &[12, 4, 1],
            // Decoded for a few tokens at once; two or three are as quick one by one.
            (
                _,
                Format::F32
                | Format::Bf16
                | Format::Q4_1
                | Format::Q5_0
                | Format::Q5_1
                | Format::Q2K
                | Format::Q3K
                | Format::Iq4Xs,
            ) => &[4, 1],
            (Self::Fp16(_) | Self::Dotprod(_), Format::Q4_0 | Format::Iq4Nl | Format::Q8_0) => {
                &[4, 2, 1]
            }
            _ => &[2, 1],
        }
    }

    fn float_gemm(self, format: Format) -> Option<FloatGemm> {
        float_gemm::neon(format)
    }

    /// The order of accumulation does not depend on the size of the batch.
    fn microkernel(self, format: Format, tokens: usize, _batch: BatchSize) -> Microkernel {
        match self {
            Self::Fp16(_) => fp16::microkernel(format, tokens),
            Self::Dotprod(_) => dotprod::microkernel(format, tokens),
            Self::Neon(_) => neon::microkernel(format, tokens),
        }
    }
}

/// Declares the microkernels of an instruction set: each is a format's body with certain vectors,
/// compiled for the token's instructions.
macro_rules! microkernels {
    ($name:ident, $token:ty, $vectors:ty,
     [$($format:ident => $module:ident::$body:ident: $($tokens:literal)*;)*]) => {
        mod $name {
            use super::*;

            /// The microkernel for a format and tiles of `tokens`.
            pub(super) fn microkernel(format: Format, tokens: usize) -> Microkernel {
                match (format, tokens) {
                    $($((Format::$format, $tokens) => {
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
        }
    };
}

microkernels!(fp16, NeonFp16, NeonDotprod, [
    F32 => float::gemv_f32: 1 4;
    Bf16 => float::gemv_bf16: 1 4;
    Q4_1 => blocks::gemv_q4_1: 1 4;
    Q5_0 => blocks::gemv_q5_0: 1 4;
    Q5_1 => blocks::gemv_q5_1: 1 4;
    Q2K => super_blocks::gemv_q2_k: 1 4;
    Q3K => super_blocks::gemv_q3_k: 1 4;
    Iq4Xs => super_blocks::gemv_iq4_xs: 1 4;
    F16 => f16_accumulation::gemv: 1 2 4;
    Q4_0 => q4_0::gemm: 1 2 4;
    Q8_0 => q8_0::gemm: 1 2 4;
    Iq4Nl => q8_0::gemm_iq4_nl: 1 2 4;
    Q4K => q4_k_q5_k::gemm_q4_k: 1 2;
    Q5K => q4_k_q5_k::gemm_q5_k: 1 2;
    Q6K => q6_k::gemm: 1 2;
]);

microkernels!(dotprod, NeonDotprod, NeonDotprod, [
    F32 => float::gemv_f32: 1 4;
    Bf16 => float::gemv_bf16: 1 4;
    Q4_1 => blocks::gemv_q4_1: 1 4;
    Q5_0 => blocks::gemv_q5_0: 1 4;
    Q5_1 => blocks::gemv_q5_1: 1 4;
    Q2K => super_blocks::gemv_q2_k: 1 4;
    Q3K => super_blocks::gemv_q3_k: 1 4;
    Iq4Xs => super_blocks::gemv_iq4_xs: 1 4;
    F16 => float::gemv_f16: 1 2 4;
    Q4_0 => q4_0::gemm: 1 2 4;
    Q8_0 => q8_0::gemm: 1 2 4;
    Iq4Nl => q8_0::gemm_iq4_nl: 1 2 4;
    Q4K => q4_k_q5_k::gemm_q4_k: 1 2;
    Q5K => q4_k_q5_k::gemm_q5_k: 1 2;
    Q6K => q6_k::gemm: 1 2;
]);

microkernels!(neon, Neon, Neon, [
    F32 => float::gemv_f32: 1 4;
    Bf16 => float::gemv_bf16: 1 4;
    Q4_1 => blocks::gemv_q4_1: 1 4;
    Q5_0 => blocks::gemv_q5_0: 1 4;
    Q5_1 => blocks::gemv_q5_1: 1 4;
    Q2K => super_blocks::gemv_q2_k: 1 4;
    Q3K => super_blocks::gemv_q3_k: 1 4;
    Iq4Xs => super_blocks::gemv_iq4_xs: 1 4;
    F16 => float::gemv_f16: 1 2 4;
    Q4_0 => q4_0::gemm: 1 2;
    Q8_0 => q8_0::gemm: 1 2;
    Iq4Nl => q8_0::gemm_iq4_nl: 1 2;
    Q4K => q4_k_q5_k::gemm_q4_k: 1 2;
    Q5K => q4_k_q5_k::gemm_q5_k: 1 2;
    Q6K => q6_k::gemm: 1 2;
]);
