//! What a tokenizer does besides its vocabulary and merges, and how a GGUF file says it.
//!
//! The key [`SETTINGS_KEY`] holds [`TokenizerSettings`] as JSON, field for field under the names
//! that Hugging Face's `tokenizer.json` and `tokenizer_config.json` use. It spares a reader the
//! whole `tokenizer.json`, which is fifty times longer. Files without it get
//! [`TokenizerSettings::default`], completed from the `tokenizer.ggml.` keys.

use serde::{Deserialize, Serialize};

use crate::TokenId;

/// The metadata key of the settings, a string.
pub const SETTINGS_KEY: &str = "gpt2_edge.tokenizer.settings";

/// The metadata key of the chat template, which llama.cpp uses as well.
pub const CHAT_TEMPLATE_KEY: &str = "tokenizer.chat_template";

/// The metadata key of the tokenizer's own special tokens: a JSON object of names (`eos_token`) and
/// texts, written beside a chat template, which names them. The ids under `tokenizer.ggml.` may be
/// the model's instead.
pub const SPECIAL_TOKENS_KEY: &str = "gpt2_edge.tokenizer.special_tokens";

/// A token matched in the text before anything else looks at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedToken {
    /// Its id.
    pub id: TokenId,
    /// The text it matches.
    pub content: String,
    /// Match only where no word character adjoins.
    #[serde(default)]
    pub single_word: bool,
    /// Take in the whitespace to its left.
    #[serde(default)]
    pub lstrip: bool,
    /// Take in the whitespace to its right.
    #[serde(default)]
    pub rstrip: bool,
    /// Match after the tokens that are not normalized, in what they leave.
    #[serde(default)]
    pub normalized: bool,
    /// A marker, not text: left out when special tokens are skipped.
    #[serde(default)]
    pub special: bool,
}

/// One part of two texts that are encoded together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairPart {
    /// A token of its own.
    Token {
        /// The token.
        id: TokenId,
        /// Its type.
        type_id: u32,
    },
    /// The tokens of the first text.
    First {
        /// Their type.
        type_id: u32,
    },
    /// The tokens of the second text.
    Second {
        /// Their type.
        type_id: u32,
    },
}

/// Everything about a byte-level BPE tokenizer that is neither vocabulary nor merges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenizerSettings {
    /// The added tokens, special or not.
    pub added_tokens: Vec<AddedToken>,
    /// Put a space before every stretch of text that does not begin with one.
    pub add_prefix_space: bool,
    /// Cut text by GPT-2's pattern first; otherwise a whole stretch is one piece.
    pub use_regex: bool,
    /// A piece that is in the vocabulary becomes that token, whatever the merges say.
    pub ignore_merges: bool,
    /// The token for bytes that have none; without it they are dropped.
    pub unk_token: Option<String>,
    /// One unknown token for a run of such bytes.
    pub fuse_unk: bool,
    /// Tokens put before an encoded text.
    pub tokens_before: Vec<TokenId>,
    /// Tokens put after an encoded text.
    pub tokens_after: Vec<TokenId>,
    /// How two texts are put together; when empty, one after the other, with what is put before and
    /// after one text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pair: Vec<PairPart>,
    /// Special tokens written out in a text are text like any other, whatever
    /// [`match_special_tokens`](super::EncodeOptions::match_special_tokens) says.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub split_special_tokens: bool,
    /// What the checkpoint says of [`clean_up_spaces`](super::DecodeOptions::clean_up_spaces);
    /// decoding follows its own options.
    pub clean_up_tokenization_spaces: bool,
}

impl Default for TokenizerSettings {
    /// GPT-2's own: no added tokens yet, no prefix space, the pattern, nothing around the text.
    fn default() -> Self {
        Self {
            added_tokens: Vec::new(),
            add_prefix_space: false,
            use_regex: true,
            ignore_merges: false,
            unk_token: None,
            fuse_unk: false,
            tokens_before: Vec::new(),
            tokens_after: Vec::new(),
            pair: Vec::new(),
            split_special_tokens: false,
            clean_up_tokenization_spaces: false,
        }
    }
}
