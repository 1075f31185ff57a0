//! GPT-2 models on small computers.
//!
//! Data flows one way: file → [`gguf`] → [`model`] → [`session`] → [`generate`] → text.

pub mod chat;
mod checksum;
pub mod convert;
pub mod error;
pub mod generate;
pub mod ggml;
pub mod gguf;
mod input;
pub mod machine;
pub mod model;
pub mod output;
pub mod quant;
pub mod sampling;
pub mod session;
pub mod spec;
pub mod tasks;
pub mod tokenizer;

/// A token of the vocabulary, as the checkpoint numbers them.
pub type TokenId = u32;

pub use error::{Error, ErrorKind, MemoryLimit, MemoryShortage, MemorySuggestion, Result};
