//! The tokenizer files of a checkpoint, and what becomes of them.

use crate::gguf::Value;

/// The contents of a checkpoint's tokenizer files; `None` for a file that is not there.
#[derive(Debug, Default, Clone)]
pub struct TokenizerFiles {
    /// `tokenizer.json`, the whole tokenizer.
    pub tokenizer: Option<Vec<u8>>,
    /// `vocab.json`; with `merges.txt` used where there is no `tokenizer.json`.
    pub vocabulary: Option<Vec<u8>>,
    /// `merges.txt`.
    pub merges: Option<Vec<u8>>,
    /// The two above are called `encoder.json` and `vocab.bpe`, as in `OpenAI`'s release.
    pub openai_names: bool,
    /// `added_tokens.json`.
    pub added_tokens: Option<Vec<u8>>,
    /// `special_tokens_map.json`.
    pub special_tokens_map: Option<Vec<u8>>,
    /// `tokenizer_config.json`.
    pub tokenizer_config: Option<Vec<u8>>,
    /// The model's `config.json`, whose `tokenizer_class` counts where the above names none.
    pub model_config: Option<Vec<u8>>,
    /// `chat_template.jinja`.
    pub chat_template: Option<Vec<u8>>,
    /// `vocab.txt`: BERT's `WordPiece`, used where there is none of the above.
    pub word_list: Option<Vec<u8>>,
    /// `spiece.model` of `SentencePiece`, used where there is none of the above.
    pub sentence_pieces: Option<Vec<u8>>,
    /// What reading them showed and the user should know, a sentence each.
    pub notes: Vec<String>,
}

impl TokenizerFiles {
    /// Whether there is no vocabulary in any form.
    pub fn is_empty(&self) -> bool {
        let vocabularies = [
            &self.tokenizer,
            &self.vocabulary,
            &self.merges,
            &self.word_list,
            &self.sentence_pieces,
        ];
        vocabularies.iter().all(|file| file.is_none())
    }

    /// What the vocabulary and the merges are called.
    pub(super) fn names(&self) -> [&'static str; 2] {
        if self.openai_names {
            OPENAI_NAMES
        } else {
            NAMES
        }
    }
}

/// What transformers calls the vocabulary and the merges.
pub(super) const NAMES: [&str; 2] = ["vocab.json", "merges.txt"];

/// What `OpenAI` called them.
pub(super) const OPENAI_NAMES: [&str; 2] = ["encoder.json", "vocab.bpe"];

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
