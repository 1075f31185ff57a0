//! A GPT-2 in memory: its weights, its KV cache, the devices they are on, and the graph that
//! computes it.
//!
//! This room knows [`crate::spec`], ggml and the kernels. It knows nothing of texts, of sampling or
//! of checkpoints.

pub(crate) mod activation;
pub(crate) mod cells;
pub(crate) mod device_map;
pub(crate) mod graph;
pub(crate) mod kv_cache;
pub(crate) mod ops;
pub(crate) mod task_head;
pub(crate) mod weights;
