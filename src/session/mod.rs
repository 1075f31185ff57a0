//! A model at work.
//!
//! A [`Model`] is a file brought into memory; a [`Session`] is a KV cache and threads for one user of
//! it. This room drives the graph of `model` and knows texts only through the tokenizer; it must not
//! know of checkpoints or of the commands.

mod batch;
mod model;
mod options;
mod run;

pub use batch::{Batch, BatchToken, Memory, Output};
pub use model::{Model, ModelOptions};
pub use options::{CacheType, FlashAttention, SessionOptions};
pub use run::Session;

pub use crate::model::cache::{MAX_SEQUENCES, SequenceId, SequenceSet};
