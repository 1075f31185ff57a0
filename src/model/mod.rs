//! A GPT-2 in memory: its weights, its KV cache, the devices they are on, and the graph that computes it.
//!
//! This room knows [`crate::spec`] and ggml. It knows nothing of tokens' texts, of sampling, or of checkpoints.

pub(crate) mod activation_kernels;
pub(crate) mod device_map;
pub(crate) mod graph;
pub(crate) mod kv_cache;
pub(crate) mod steps;
pub(crate) mod task_head;
pub(crate) mod weights;
