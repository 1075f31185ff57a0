//! Tokenizers of folders, by way of a GGUF file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gpt2::Result;
use gpt2::gguf::{Gguf, GgufHeader};
use gpt2::tokenizer::Tokenizer;
use gpt2::tokenizer::checkpoint::{ConfigTokens, GgufTokenizer, TokenizerFiles};
use serde_json::Value;

/// A folder of the test data.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/heads")
        .join(name)
}

/// The metadata of a folder's tokenizer. Without a config.json the model has as many rows as
/// vocab.json has tokens.
pub(crate) fn convert(folder: &Path) -> Result<GgufTokenizer> {
    let json = |name: &str| -> Option<Value> {
        serde_json::from_slice(&std::fs::read(folder.join(name)).ok()?).ok()
    };
    let config = json("config.json").unwrap_or_default();
    let tokens = json("vocab.json").and_then(|json| json.as_object().map(serde_json::Map::len));
    let id = |name: &str| config.get(name).and_then(Value::as_u64);
    let rows = id("vocab_size").map(|rows| rows as usize).or(tokens);
    TokenizerFiles::read(folder)?.to_gguf(&ConfigTokens {
        vocabulary_size: rows.expect("vocab_size"),
        bos: id("bos_token_id"),
        eos: id("eos_token_id"),
        padding: id("pad_token_id"),
    })
}

/// A file with `keep` of the tokenizer's keys.
pub(crate) fn file(tokenizer: GgufTokenizer, keep: impl Fn(&str) -> bool) -> Gguf {
    let mut header = GgufHeader::new();
    for (key, value) in tokenizer.entries {
        if keep(&key) {
            header.set(key, value).expect("a key that stands once");
        }
    }
    Gguf::parse(Arc::new(header.encode())).expect("what was written can be read")
}

/// The tokenizer of a folder, from a file of this library.
pub(crate) fn as_ours(folder: &Path) -> Tokenizer {
    let file = file(convert(folder).expect("the folder converts"), |_| true);
    Tokenizer::from_metadata(file.metadata()).expect("the file loads")
}

/// The same, from a file such as llama.cpp writes.
pub(crate) fn as_llama_cpp(folder: &Path) -> Tokenizer {
    let converted = convert(folder).expect("the folder converts");
    let file = file(converted, |key| key.starts_with("tokenizer.ggml."));
    Tokenizer::from_metadata(file.metadata()).expect("the file loads")
}
