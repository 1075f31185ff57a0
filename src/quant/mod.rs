//! Quantization: rows of f32 weights to and from the tensor types of GGUF.
//!
//! This room decides which code quantizes which type: this library's kernels where they are faster
//! than ggml with the same bytes, `half` for f16 and bf16, ggml for the rest. It measures the error
//! of the result. It knows tensor types, ggml and the kernels; it knows nothing of checkpoints, of
//! models or of which tensor gets which type.

mod float16;
pub(crate) mod measure;
mod rows;

pub use rows::{can_dequantize, dequantize_rows, quantize_rows};
