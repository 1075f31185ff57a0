//! What a GPT-2 is: its hyperparameters, its activations and the one table of its tensors.
//!
//! This room knows GPT-2 and how a GGUF file describes one. It knows nothing of tokens' texts, of
//! sampling, or of the checkpoint formats a model may come from.

pub mod activation;
pub mod cache;
mod class;
pub(crate) mod device_map;
pub(crate) mod graph;
mod head_settings;
pub mod hyperparameters;
pub mod in_gguf;
pub(crate) mod steps;
pub(crate) mod task_head;
pub mod tensor_table;
pub(crate) mod weights;

pub use activation::Activation;
pub use class::ModelClass;
pub use head_settings::{HeadSettings, ProblemType, Summary, SummaryType};
pub use hyperparameters::Hyperparameters;
