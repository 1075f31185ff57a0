//! The options of a conversion.

use std::path::PathBuf;

use regex_lite::Regex;

use super::file_types::{FileType, tensor_type_from_name};
use crate::error::{Error, Result};
use crate::gguf::TensorType;

/// How to convert.
#[derive(Debug, Clone)]
pub struct ConvertOptions {
    /// Which types the tensors get.
    pub types: TypeOptions,
    /// Adapters to merge into the weights, in this order.
    pub adapters: Vec<LoraAdapter>,
    /// An importance matrix in llama.cpp's GGUF form.
    pub importance: Option<PathBuf>,
    /// A tokenizer for the output: a folder, or a file in one. It overrides the source's own.
    pub tokenizer: Option<PathBuf>,
    /// Threads that work; all processors when not given.
    pub threads: Option<usize>,
    /// Whether an existing output is replaced.
    pub overwrite: bool,
}

impl ConvertOptions {
    /// Converts to a type of file with nothing else decided.
    pub fn new(file_type: &'static FileType) -> Self {
        Self {
            types: TypeOptions::new(file_type),
            adapters: Vec::new(),
            importance: None,
            tokenizer: None,
            threads: None,
            overwrite: false,
        }
    }
}

/// An adapter of PEFT that is merged into the weights (`LoRA`).
#[derive(Debug, Clone, PartialEq)]
pub struct LoraAdapter {
    /// Its folder.
    pub path: PathBuf,
    /// A factor for what it adds to the weights; 1 as it was trained.
    pub scale: f32,
}

impl LoraAdapter {
    /// Parses `DIR` or `DIR=SCALE`. A folder whose name has a `=` is itself.
    pub fn parse(argument: &str) -> Self {
        let whole = Self {
            path: PathBuf::from(argument),
            scale: 1.0,
        };
        let parts = argument.rsplit_once('=');
        let scaled = parts.and_then(|(path, scale)| {
            Some(Self {
                path: PathBuf::from(path),
                scale: scale.trim().parse().ok()?,
            })
        });
        match scaled {
            Some(scaled) if !whole.path.exists() => scaled,
            _ => whole,
        }
    }
}

/// What decides the tensors' types.
#[derive(Debug, Clone)]
pub struct TypeOptions {
    /// The type of file.
    pub file_type: &'static FileType,
    /// Types for tensors whose name a pattern is found in; the first that fits decides.
    pub overrides: Vec<TypeOverride>,
    /// A type for the head: `output.weight`, or the token embedding when it is the head.
    pub output_type: Option<TensorType>,
    /// A type for the token embedding; overrides `output_type`.
    pub embedding_type: Option<TensorType>,
}

impl TypeOptions {
    /// A file of this type with nothing overridden.
    pub fn new(file_type: &'static FileType) -> Self {
        Self {
            file_type,
            overrides: Vec::new(),
            output_type: None,
            embedding_type: None,
        }
    }
}

/// A type for all matrices whose name matches.
#[derive(Debug, Clone)]
pub struct TypeOverride {
    pattern: Regex,
    tensor_type: TensorType,
}

impl TypeOverride {
    /// Parses `PATTERN=TYPE`. The pattern is a regular expression looked for in the tensor's GGUF
    /// name, so `attn_qkv` alone means every such tensor.
    ///
    /// # Errors
    /// [`Error::Argument`] when there is no `=`, the pattern is no regular expression or the type
    /// is unknown.
    pub fn parse(argument: &str) -> Result<Self> {
        let (pattern, type_name) = argument.rsplit_once('=').ok_or_else(|| {
            Error::Argument(format!(
                "'{argument}': expected PATTERN=TYPE, as in attn_qkv=q8_0"
            ))
        })?;
        if pattern.is_empty() {
            return Err(Error::Argument(format!(
                "'{argument}': the pattern is empty"
            )));
        }
        let pattern = Regex::new(pattern)
            .map_err(|error| Error::Argument(format!("pattern '{pattern}': {error}")))?;
        Ok(Self {
            pattern,
            tensor_type: tensor_type_from_name(type_name)?,
        })
    }

    /// The type for the tensor called `name`, when the pattern is found in it.
    pub(super) fn type_for(&self, name: &str) -> Option<TensorType> {
        self.pattern.is_match(name).then_some(self.tensor_type)
    }
}
