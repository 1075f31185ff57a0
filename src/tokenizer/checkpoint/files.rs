//! The tokenizer files of a checkpoint, and what becomes of them.

use std::path::Path;

use crate::Result;
use crate::gguf::Value;
use crate::input::read_small;

/// The contents of a checkpoint's tokenizer files; `None` for a file that is not there.
#[derive(Debug, Default, Clone)]
pub struct TokenizerFiles {
    /// `tokenizer.json`, the whole tokenizer.
    pub tokenizer: Option<Vec<u8>>,
    /// `vocab.json`; with `merges.txt` used where there is no `tokenizer.json`.
    pub vocabulary: Option<Vec<u8>>,
    /// `merges.txt`.
    pub merges: Option<Vec<u8>>,
    /// `added_tokens.json`.
    pub added_tokens: Option<Vec<u8>>,
    /// `special_tokens_map.json`.
    pub special_tokens_map: Option<Vec<u8>>,
    /// `tokenizer_config.json`.
    pub tokenizer_config: Option<Vec<u8>>,
    /// `chat_template.jinja`.
    pub chat_template: Option<Vec<u8>>,
    /// `vocab.txt`: BERT's `WordPiece`, used where there is neither of the above.
    pub word_list: Option<Vec<u8>>,
}

/// What the model's `config.json` says of tokens. Ids outside the vocabulary are legal there; the
/// tokenizer's own are taken instead.
#[derive(Debug, Default, Clone, Copy)]
pub struct ConfigTokens {
    /// Rows of the token embedding.
    pub vocabulary_size: usize,
    /// `bos_token_id`.
    pub bos: Option<u64>,
    /// `eos_token_id`, the first if it is a list.
    pub eos: Option<u64>,
    /// `pad_token_id`.
    pub padding: Option<u64>,
}

/// A tokenizer ready for the header of a GGUF file.
#[derive(Debug)]
pub struct GgufTokenizer {
    /// Metadata keys and values, in the order they are to be written.
    pub entries: Vec<(String, Value)>,
    /// What the user should know, a sentence each.
    pub warnings: Vec<String>,
}

impl TokenizerFiles {
    /// Reads the files that are there in `folder`.
    ///
    /// # Errors
    /// [`crate::Error::Io`] for a file that is there and cannot be read, [`crate::Error::Format`]
    /// for one that is beyond 64 MiB.
    pub fn read(folder: &Path) -> Result<Self> {
        let file = |name: &str| {
            let path = folder.join(name);
            if path.exists() {
                read_small(&path).map(Some)
            } else {
                Ok(None)
            }
        };
        Ok(Self {
            tokenizer: file("tokenizer.json")?,
            vocabulary: file("vocab.json")?,
            merges: file("merges.txt")?,
            added_tokens: file("added_tokens.json")?,
            special_tokens_map: file("special_tokens_map.json")?,
            tokenizer_config: file("tokenizer_config.json")?,
            chat_template: file("chat_template.jinja")?,
            word_list: file("vocab.txt")?,
        })
    }

    /// Whether there is no vocabulary in any form.
    pub fn is_empty(&self) -> bool {
        self.tokenizer.is_none() && self.vocabulary.is_none() && self.word_list.is_none()
    }
}
