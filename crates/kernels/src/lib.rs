//! The CPU kernels of gpt2-edge and the thread pool they share.
//!
//! | module | what it computes |
//! |---|---|
//! | [`linear`] | products of packed matrices with activations, and their epilogues |
//! | [`attention`] | attention of queries over a KV cache in f32, f16, `q8_0` or `q4_0` |
//! | [`rows`], [`activation`], [`f16_table`] | layer norm and activation functions |
//! | [`quantize`] | weights to K-quants |
//! | [`pool`], [`shared`] | threads that share the chunks of a computation |
//! | [`fork`] | whether threads are those of an ancestor of the process |
//! | [`cpu_features`] | which instructions the kernels may use |
//!
//! Kernels are plain functions on slices and know neither ggml nor GPT-2.
//!
//! # The order of sums
//!
//! The order in which a kernel adds is part of its contract: results are the same for any number of
//! threads, and bit-identical to those of ggml compiled for the same instruction set wherever that
//! costs nothing. Each module says what its order is and where it departs from ggml's. One last
//! digit matters: it can round the next layer's activation to another integer, and then a text
//! parts from that of other programs.
//!
//! # Instruction sets
//!
//! Kernels are compiled for AVX2, AVX-512 and NEON, and the best that the processor has is chosen
//! at run time (the module `simd`). Beside each stands a portable version; tests compare their
//! bits. [`attention`] and everything in [`rows`], [`activation`] and [`quantize`] runs on any
//! processor; matrix products need AVX2 or NEON ([`linear::Format::is_fast`]).
//!
//! # Adding a kernel
//!
//! Write the loops as a task (`simd::Task`), generic over the instruction set. If the compiler
//! makes vectors of them by itself, `simd::autovectorize` runs it; otherwise write it over the
//! operations of `simd::Simd` and let the set of the processor run it. Everything that a task calls
//! down to the intrinsics is `#[inline(always)]`. Add a test that compares the bits with the
//! portable version or, for a kernel that ggml has as well, in gpt2-edge with ggml. Another
//! instruction set is another token in `simd` that implements the same operations.

#![allow(
    clippy::inline_always,
    unsafe_code,
    reason = "bodies must be inlined where the instruction set is; calling such code is unsafe"
)]
#![cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(
        clippy::unused_self,
        dead_code,
        unreachable_code,
        unused_assignments,
        unused_variables,
        reason = "other processors have no kernels here, and the compiler knows it"
    )
)]

pub mod activation;
pub mod attention;
pub mod cpu_features;
mod f16_convert;
pub mod f16_table;
pub mod fork;
pub mod linear;
mod math;
pub mod pool;
mod prefetch;
pub mod quantize;
pub mod rows;
pub mod shared;
mod simd;
