//! The products on 64-bit ARM: with dot products of bytes (8.2's `dotprod`) and half floats that are computed with
//! (8.2's `fp16`), with the first of these, and with what every such processor has.
//!
//! Matrices other than f16 are arranged so that a vector holds four bytes of each of four rows (`../packing.rs`):
//! sums of rows need no step across a vector. A row's block (of 32 or 256 elements) becomes one integer, which is
//! exact; it is scaled and added. Of `q4_0` and `q8_0` this is ggml's order where there are dot products; of K-quants
//! ggml adds every 64 elements, and without dot products it goes row by row, four sums at a time.

#![allow(
    clippy::wildcard_imports,
    clippy::cast_ptr_alignment,
    clippy::needless_range_loop,
    reason = "intrinsics are read by their own names, memory is read unaligned, and registers are numbered"
)]

mod f16;
mod f16_accumulation;
mod f16_gemm;
mod q4_0;
mod q4_k_q5_k;
mod q6_k;
mod q8_0;
mod vectors;

use std::arch::aarch64::*;

use super::format::Format;
use super::microkernel::{Count, Expansion, Job, Kernel};
use crate::simd::neon::{f16_to_f32_high, f16_to_f32_low};
use crate::simd::{self, Token};
use vectors::{Dotprod, Neon, Rows, Vectors};

/// Sets of instructions with kernels, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InstructionSet {
    Halves,
    Dotprod,
    Neon,
}

impl InstructionSet {
    /// Those that this processor has.
    pub(super) fn available() -> impl Iterator<Item = Self> {
        let neon = simd::Neon::detect().is_some();
        let dotprod = simd::NeonDotprod::detect().is_some();
        let halves = simd::NeonFp16::detect().is_some();
        [
            (Self::Halves, halves),
            (Self::Dotprod, dotprod),
            (Self::Neon, neon),
        ]
        .into_iter()
        .filter_map(|(set, there)| there.then_some(set))
    }

    /// For an f16 matrix of this [`bound`](super::f16_accumulation::bound): the set, and the bound where its kernels for few
    /// tokens add in half precision.
    pub(super) fn short_sums(self, bound: Option<i32>) -> (Self, Option<i32>) {
        match self {
            Self::Halves if bound.is_some() => (self, bound),
            Self::Halves => (Self::Dotprod, None),
            other => (other, None),
        }
    }

    /// From so many tokens on the kernels add in another order: they have one.
    #[expect(clippy::unused_self, reason = "other processors have several")]
    pub(super) fn many(self, _format: Format) -> usize {
        usize::MAX
    }

    /// Panels that a kernel takes together: one.
    #[expect(clippy::unused_self, reason = "other processors take two")]
    pub(super) fn panels_together(self, _format: Format, _tokens: usize, _count: Count) -> usize {
        1
    }

    /// How panels are expanded for many tokens: not at all.
    #[expect(clippy::unused_self, reason = "other processors expand some")]
    pub(super) fn expansion(self, _format: Format) -> Option<Expansion> {
        None
    }

    /// Tokens that kernels for `format` work on together, the most first, down to 1.
    pub(super) fn tile_sizes(self, format: Format, count: Count) -> &'static [usize] {
        match (self, format) {
            // Larger tiles add in another order.
            (_, Format::F16) if count == Count::One => &[4, 2, 1],
            (_, Format::F16) => &[12, 4, 2, 1],
            (Self::Halves | Self::Dotprod, Format::Q4_0 | Format::Q8_0) => &[4, 2, 1],
            _ => &[2, 1],
        }
    }

    /// The product of f16 rows with many tokens.
    #[expect(clippy::unused_self, reason = "other processors have several of them")]
    pub(super) fn wide(self) -> f16_gemm::Wide {
        f16_gemm::Wide::NEON
    }

    /// The kernel for `format` and so many tokens, one of [`Self::tile_sizes`] (of f16 only below those of
    /// [`Self::wide`]). The order of sums does not depend on how many there are in all.
    pub(super) fn kernel(self, format: Format, tokens: usize, _count: Count) -> Kernel {
        match self {
            Self::Halves => halves::kernel(format, tokens),
            Self::Dotprod => dotprod::kernel(format, tokens),
            Self::Neon => neon::kernel(format, tokens),
        }
    }
}

/// Eight half floats at `place`, expanded.
#[inline(always)]
unsafe fn eight_halves(place: *const u8) -> [float32x4_t; 2] {
    // SAFETY: the caller has 16 bytes.
    let halves = unsafe { vld1q_u16(place.cast()) };
    [f16_to_f32_low(halves), f16_to_f32_high(halves)]
}

/// 32 bytes at `place`.
#[inline(always)]
unsafe fn bytes(place: *const u8) -> [uint8x16_t; 2] {
    // SAFETY: the caller has them.
    unsafe { [vld1q_u8(place), vld1q_u8(place.add(16))] }
}

/// 32 signed bytes at `place`.
#[inline(always)]
unsafe fn signed_bytes(place: *const u8) -> [int8x16_t; 2] {
    // SAFETY: the caller has them.
    unsafe { bytes(place).map(|bytes| vreinterpretq_s8_u8(bytes)) }
}

/// sums + integers · row scales · token's scale, for eight rows.
#[inline(always)]
unsafe fn add_scaled(
    sums: &mut [float32x4_t; 2],
    integers: Rows,
    row_scales: [float32x4_t; 2],
    token_scale: float32x4_t,
) {
    for half in 0..2 {
        // SAFETY: NEON.
        unsafe {
            let scale = vmulq_f32(row_scales[half], token_scale);
            sums[half] = vfmaq_f32(sums[half], vcvtq_f32_s32(integers[half]), scale);
        }
    }
}

/// Writes the sums of eight rows, or of the first `rows` of them.
///
/// # Safety
/// `output` has places for them.
#[inline(always)]
unsafe fn store_rows(sums: [float32x4_t; 2], rows: usize, output: *mut f32) {
    // SAFETY: the caller's condition.
    unsafe {
        if rows == super::PANEL {
            vst1q_f32(output, sums[0]);
            vst1q_f32(output.add(4), sums[1]);
        } else {
            let mut all = [0.0f32; super::PANEL];
            vst1q_f32(all.as_mut_ptr(), sums[0]);
            vst1q_f32(all.as_mut_ptr().add(4), sums[1]);
            std::ptr::copy_nonoverlapping(all.as_ptr(), output, rows);
        }
    }
}

/// Repeats a body for the vectors 0 to 7 of 32 bytes: `$lane` is which four of 16 activations go with one, `$half`
/// which 16. Registers are addressed by constants.
macro_rules! each_vector {
    (|$vector:ident, $half:ident, $lane:ident| $body:block) => {
        each_vector!(@ [0 0 0] [1 0 1] [2 0 2] [3 0 3] [4 1 0] [5 1 1] [6 1 2] [7 1 3]
            |$vector, $half, $lane| $body)
    };
    (@ $([$v:literal $h:literal $l:literal])* |$vector:ident, $half:ident, $lane:ident| $body:block) => {
        each_vector!(@@ [$([$v $h $l])*] $vector $half $lane $body)
    };
    (@@ [] $vector:ident $half:ident $lane:ident $body:block) => {};
    (@@ [[$v:literal $h:literal $l:literal] $($rest:tt)*] $vector:ident $half:ident $lane:ident $body:block) => {
        {
            const $vector: usize = $v;
            const $half: usize = $h;
            const $lane: i32 = $l;
            $body
        }
        each_vector!(@@ [$($rest)*] $vector $half $lane $body)
    };
}
use each_vector;

/// Declares the kernels of an instruction set: each is a format's body compiled for its instructions.
macro_rules! kernels {
    ($name:ident, $vectors:ty, $features:literal,
     [$($format:ident => $module:ident::$body:ident: $($tokens:literal)*;)*]) => {
        mod $name {
            use super::*;

            /// The kernel for a format and so many tokens.
            pub(super) fn kernel(format: Format, tokens: usize) -> Kernel {
                match (format, tokens) {
                    $($((Format::$format, $tokens) => {
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

kernels!(halves, Dotprod, "neon,dotprod,fp16", [
    F16 => f16_accumulation::panel: 1 2 4;
    Q4_0 => q4_0::panel: 1 2 4;
    Q8_0 => q8_0::panel: 1 2 4;
    Q4K => q4_k_q5_k::panel_of_four: 1 2;
    Q5K => q4_k_q5_k::panel_of_five: 1 2;
    Q6K => q6_k::panel: 1 2;
]);

kernels!(dotprod, Dotprod, "neon,dotprod", [
    F16 => f16::panel: 1 2 4;
    Q4_0 => q4_0::panel: 1 2 4;
    Q8_0 => q8_0::panel: 1 2 4;
    Q4K => q4_k_q5_k::panel_of_four: 1 2;
    Q5K => q4_k_q5_k::panel_of_five: 1 2;
    Q6K => q6_k::panel: 1 2;
]);

kernels!(neon, Neon, "neon", [
    F16 => f16::panel: 1 2 4;
    Q4_0 => q4_0::panel: 1 2;
    Q8_0 => q8_0::panel: 1 2;
    Q4K => q4_k_q5_k::panel_of_four: 1 2;
    Q5K => q4_k_q5_k::panel_of_five: 1 2;
    Q6K => q6_k::panel: 1 2;
]);
