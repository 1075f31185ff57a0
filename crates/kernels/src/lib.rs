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
