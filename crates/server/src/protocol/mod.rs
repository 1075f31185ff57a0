//! The protocols: bytes of JSON to a checked plan, and what the model makes to JSON.
//!
//! Pure: nothing here waits, and nothing knows a connection or the thread of the model. A request
//! is one table of fields (`fields.rs`); the library's parameters go to the library's table by
//! their name. Every number is bounded before anything is allocated for it.

pub(crate) mod chat;
mod choice_fields;
mod choices;
mod collect;
pub(crate) mod completions;
mod documents;
pub(crate) mod embeddings;
mod fields;
mod format;
mod generation;
pub(crate) mod heads;
mod input;
mod json;
pub(crate) mod llama;
#[cfg(test)]
mod mutations;
mod refusal;
mod response;
mod served;
mod text;
pub(crate) mod tokenizer;

pub use documents::reference;
pub use served::Served;

pub(crate) use choices::Form;
pub(crate) use collect::{Collector, Outcome};
pub(crate) use format::may_compile;
pub(crate) use generation::{Generation, Job, returned};
pub(crate) use response::{Choice, Head, Tokens};
pub(crate) use text::Piece;

/// An error of the library that a prompt is to blame for, where any field is.
pub(crate) fn refused(error: gpt2::Error) -> crate::error::ApiError {
    refusal::of_library(error, "prompt")
}
