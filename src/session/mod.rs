//! A model at work.
//!
//! A [`Model`] is a file brought into memory; a [`Session`] is a KV cache and threads for one user of
//! it. This room drives the graph of `model` and knows texts only through the tokenizer; it must not
//! know of checkpoints or of the commands.

mod batch;
mod collect;
mod decoding;
mod heads;
mod limits;
mod model;
mod options;
mod perplexity;
mod plan;
mod project;
mod run;
mod snapshot;
mod unmapped;

pub use batch::{Batch, BatchToken, DeviceMemory, Memory, Output};
pub use decoding::{
    BatchGeneration, Continuation, DolaLayers, EarlyStopping, FinishReason, Generation,
    GenerationDefaults, GenerationOptions, GenerationTimings, PrintableText, Step, generate,
    generate_assisted, generate_batch, unpadded,
};
pub use heads::{ChoiceScores, Pooling, last_token};
pub use model::{Model, ModelOptions};
pub use options::{CacheType, FlashAttention, SessionOptions};
pub use perplexity::{Comparison, Perplexity, perplexity};
pub use plan::{estimate, fit, kv_bytes};
pub use run::Session;

pub use crate::model::cache::{MAX_SEQUENCES, SequenceId, SequenceSet};
