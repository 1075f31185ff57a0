//! Products of weight matrices with activations, for the types that small models are stored in.
//!
//! Activations are rounded to eight bits (or, beside f16 weights, to half floats) as ggml does it, and every sum is
//! taken in ggml's order, so that results are the same to the bit wherever that costs nothing; `x86/` and `aarch64/`
//! say where; `f16_accumulation.rs` about ARM with half floats. A matrix is read panel by panel, eight rows at a time, and
//! each panel is used for all tokens while it is in the cache.

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod epilogue;
mod f16_accumulation;
mod format;
mod gemm;
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

pub use epilogue::{ElementwiseFn, Epilogue, SliceEpilogue};
pub use format::Format;
pub use gemm::{Options, multiply};
pub use matrix::{ALIGNMENT, Arena, Matrix};

/// Rows of a panel.
pub const PANEL: usize = 8;
