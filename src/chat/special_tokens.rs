//! The texts of the tokens with a role, which templates name.

use std::collections::BTreeMap;

use crate::gguf::Metadata;
use crate::tokenizer::{SPECIAL_TOKENS_KEY, Tokenizer};
use crate::{Error, Result};

/// Names and texts.
pub(super) type SpecialTokens = BTreeMap<String, String>;

/// The special tokens of a model's file. Files of llama.cpp have the ids of their roles alone.
pub(super) fn of_model(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<SpecialTokens> {
    if let Some(json) = metadata.str(SPECIAL_TOKENS_KEY)? {
        return serde_json::from_str(json).map_err(|error| {
            Error::format(
                SPECIAL_TOKENS_KEY,
                format!("expected names with texts: {error}"),
            )
        });
    }
    let roles = [
        ("bos_token", tokenizer.bos()),
        ("eos_token", tokenizer.eos()),
        ("unk_token", tokenizer.unknown()),
        ("pad_token", tokenizer.padding()),
    ];
    Ok(roles
        .into_iter()
        .filter_map(|(name, id)| {
            let bytes = tokenizer.token_bytes(id?, false);
            let text = String::from_utf8(bytes.to_vec()).ok()?;
            Some((name.to_owned(), text))
        })
        .collect())
}
