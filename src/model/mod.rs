//! What a GPT-2 is: its hyperparameters, its activations and the one table of its tensors.
//!
//! This room knows GPT-2 and how a GGUF file describes one. It knows nothing of tokens' texts, of
//! sampling, or of the checkpoint formats a model may come from.

pub mod activation;
pub mod cache;
pub(crate) mod graph;
pub mod hyperparameters;
pub mod in_gguf;
pub mod tensor_table;
pub(crate) mod weights;

pub use activation::Activation;
pub use hyperparameters::{Hyperparameters, ModelClass};
