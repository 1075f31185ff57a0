//! Products of weight matrices with activations, for the types that small models are stored in.
//!
//! Activations are rounded to eight bits (or, beside f16 weights, to half floats) as ggml does it, and every sum is
//! taken in ggml's order, so that results are the same to the bit wherever that costs nothing; `x86/` and `aarch64/`
//! say where; `short_sums.rs` about ARM with half floats. A matrix is read panel by panel, eight rows at a time, and
//! each panel is used for all tokens while it is in the cache.

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod activations;
mod arrangement;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod elsewhere;
mod epilogue;
mod kernel;
mod matrix;
#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
mod portable;
mod product;
mod rounded;
mod short_sums;
#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use epilogue::{ElementwiseFn, Epilogue, SliceEpilogue};
pub use matrix::{ALIGNMENT, Arena, Format, Matrix};
pub use product::{Options, multiply};

/// Rows of a panel.
pub const PANEL: usize = 8;
