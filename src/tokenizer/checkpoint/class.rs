//! The class that transformers loads a folder's tokenizer with.

use serde_json::{Map, Value};

use super::files::TokenizerFiles;
use super::json;
use crate::Result;

/// What a class makes of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// GPT-2's own, which a model of this kind has where nothing is said. It has tokens for roles
    /// of which the files say nothing, and takes prefix spaces from the configuration alone.
    Gpt2,
    /// Any other: the files say everything.
    Other,
}

impl Class {
    /// The class by its name.
    pub(super) fn of(name: Option<&str>) -> Self {
        match name {
            Some(name) if !name.starts_with("GPT2Tokenizer") => Self::Other,
            _ => Self::Gpt2,
        }
    }
}

/// The name of the class: the tokenizer's configuration has it, or the model's.
///
/// # Errors
/// A `config.json` that is none.
pub(super) fn name(
    files: &TokenizerFiles,
    tokenizer_config: &Map<String, Value>,
) -> Result<Option<String>> {
    let text = |config: &Map<String, Value>| {
        let class = config.get("tokenizer_class").and_then(Value::as_str);
        class.map(str::to_owned)
    };
    let own = text(tokenizer_config);
    match &files.model_config {
        Some(bytes) if own.is_none() => Ok(text(&json::parse("config.json", bytes)?)),
        _ => Ok(own),
    }
}
