//! Tokenizers whose tokens are single characters.

use serde_json::{Map, json};

use super::super::bytes;
use super::files::TokenizerFiles;
use crate::{Error, Result, TokenId};

impl TokenizerFiles {
    /// A tokenizer with a token for each of these characters: byte-level BPE that merges nothing.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a character that is more than one byte; [`Error::Format`] for an
    /// id or a character that is there twice.
    pub fn of_characters(characters: &[(TokenId, char)]) -> Result<Self> {
        let mut vocabulary = Map::new();
        for (id, character) in characters {
            let Some(byte) = u8::try_from(*character).ok().filter(u8::is_ascii) else {
                return Err(Error::Unsupported(format!(
                    "a tokenizer of characters with {character:?}, which is outside ASCII"
                )));
            };
            let spelled = bytes::character(byte).to_string();
            if vocabulary.insert(spelled, json!(id)).is_some() {
                let place = format!("tokenizer of characters: {character:?}");
                return Err(Error::format(place, "it is there twice"));
            }
        }
        let tokenizer = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": [],
            "normalizer": null,
            "pre_tokenizer": {
                "type": "ByteLevel",
                "add_prefix_space": false,
                "trim_offsets": true,
                "use_regex": true,
            },
            "post_processor": null,
            "decoder": {
                "type": "ByteLevel",
                "add_prefix_space": true,
                "trim_offsets": true,
                "use_regex": true,
            },
            "model": {
                "type": "BPE",
                "dropout": null,
                "unk_token": null,
                "continuing_subword_prefix": null,
                "end_of_word_suffix": null,
                "fuse_unk": false,
                "byte_fallback": false,
                "vocab": vocabulary,
                "merges": [],
            },
        });
        let config = json!({ "tokenizer_class": "PreTrainedTokenizerFast" });
        Ok(Self {
            tokenizer: Some(tokenizer.to_string().into_bytes()),
            tokenizer_config: Some(config.to_string().into_bytes()),
            ..Self::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_outside_ascii_and_doubles_are_refused() {
        let message = |characters: &[(TokenId, char)]| {
            let error = TokenizerFiles::of_characters(characters).unwrap_err();
            error.to_string()
        };
        assert!(message(&[(0, 'a'), (1, 'é')]).contains("outside ASCII"));
        assert!(message(&[(0, 'a'), (1, 'a')]).contains("twice"));
    }
}
