//! The CPU kernels of gpt2-edge and the thread pool they share.
//!
//! Kernels are plain functions on slices and know neither ggml nor GPT-2. Small functions are written once and
//! compiled a second time for AVX2, where the same operations run eight at a time, with the same bits; products,
//! attention and the sums of the layer norm follow the order that ggml has with the processor's instructions.

#![allow(
    clippy::inline_always,
    unsafe_code,
    reason = "bodies must be inlined where the instruction set is; calling such code is unsafe"
)]
#![cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(
        dead_code,
        unreachable_code,
        unused_variables,
        reason = "other processors have no kernels here, and the compiler knows it"
    )
)]

pub mod activation;
pub mod attention;
pub mod cpu_features;
mod f16_convert;
pub mod f16_table;
pub mod linear;
mod math;
pub mod pool;
mod prefetch;
pub mod quantize;
pub mod rows;
pub mod shared;
mod simd;

/// Compiles a function's body for the instruction sets worth having, and runs the best one.
///
/// `wide!(fn name(argument: Type, …) -> Type = body)`: `body` is an `#[inline(always)]` function of the same
/// arguments and result, if there is one.
macro_rules! wide {
    ($(#[$attribute:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? = $body:path) => {
        $(#[$attribute])*
        $visibility fn $name($($argument: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2($($argument: $type),*) $(-> $result)? {
                    $body($($argument),*)
                }
                if <crate::simd::Avx2 as crate::simd::Token>::detect().is_some() {
                    // SAFETY: the processor has AVX2, as just asked.
                    return unsafe { avx2($($argument),*) };
                }
            }
            $body($($argument),*)
        }
    };
}
use wide;
