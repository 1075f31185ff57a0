//! A model at work on tokens: logits, hidden states, and the KV cache they leave behind.
//!
//! A [`Model`] is a file brought into memory; a [`Session`] is a KV cache and threads for one user
//! of it. This room drives the graph of `model` on batches of tokens. It must not know of texts, of
//! sampling or of checkpoints.

mod batch;
mod collect;
mod company;
mod graphs;
mod memory;
mod model;
mod options;
mod positions;
mod project;
mod run;
mod sights;
mod snapshot;

pub use batch::{Batch, BatchToken, DeviceMemory, Memory, Output, OutputRows};
pub use memory::{estimate, fit, kv_bytes};
pub use model::Model;
pub use options::{CacheType, FlashAttention, ModelOptions, SessionOptions};
pub use run::Session;

pub use crate::model::kv_cache::{MAX_SEQUENCES, SequenceId, SequenceSet};
