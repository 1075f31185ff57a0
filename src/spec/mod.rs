//! What a GPT-2 is: hyperparameters, class, settings of its heads, activation, the one table of its
//! tensors, and the keys under which a GGUF file carries them.
//!
//! The room is pure: it imports `gguf` and errors alone. It knows nothing of how a model is run, of
//! texts, of sampling, or of the checkpoint formats a model may come from.

mod activation;
mod class;
pub mod gguf_keys;
mod head_settings;
mod hyperparameters;
mod model_tensors;
pub mod tensor_table;

pub use activation::Activation;
pub use class::ModelClass;
pub use head_settings::{HeadSettings, ProblemType, Summary, SummaryType};
pub use hyperparameters::Hyperparameters;
pub use model_tensors::{ModelTensor, ModelTensors};
