//! Products of weight matrices with activations, for the types that small models are stored in.
//!
//! Activations are quantized to eight bits (or, beside f16 and bf16 weights, rounded to these) as
//! ggml does it, and every sum is accumulated in ggml's order, so that results are bit-identical
//! wherever that costs nothing; `x86/` and `aarch64/` say where; `f16_accumulation.rs` about f16 on
//! ARM. A matrix is read panel by panel, eight rows at a time, and each panel is used for all
//! tokens while it is in the cache.
//!
//! A token's result does not depend on the tokens beside it, but for some types on how many there
//! are: their class ([`microkernel::BatchSize`]) decides the order of summation. Who asks for it
//! ([`Options::batch_invariant`]) gets the order for one token whatever the batch.
//!
//! `layout/` declares what lies where in memory; `packing.rs` and `quantize_activations.rs` write
//! it, the microkernels of `x86/` and `aarch64/` read it, and `gemm.rs` shares the work out.

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod arena;
mod dispatch;
mod epilogue;
mod f16_accumulation;
mod format;
mod gemm;
mod layout;
mod matrix;
mod microkernel;
mod packing;
mod quantize_activations;
mod quantize_block;
#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
mod reference;
#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod unsupported;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use arena::{ALIGNMENT, Arena};
pub use epilogue::{ElementwiseFn, Epilogue, SliceEpilogue};
pub use format::Format;
pub use gemm::{Options, multiply};
pub use layout::PANEL;
pub use matrix::Matrix;
