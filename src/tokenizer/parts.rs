//! The parts of a tokenizer.

use super::added_tokens::AddedTokens;
use super::model::ByteLevelBpe;
use super::settings::TokenizerSettings;
use super::whole::Whole;
use crate::TokenId;

/// What a tokenizer is made of.
pub(super) struct Parts {
    pub(super) model: Model,
    pub(super) added: AddedTokens,
    pub(super) special: SpecialTokens,
    pub(super) settings: TokenizerSettings,
}

/// How ordinary text becomes tokens.
#[derive(Debug)]
pub(super) enum Model {
    ByteLevelBpe(Box<ByteLevelBpe>),
    Whole(Box<Whole>),
}

/// The key of a whole tokenizer.json in a GGUF file.
pub(super) const JSON_KEY: &str = "tokenizer.huggingface.json";

/// The ids of the tokens with a role.
#[derive(Debug, Clone, Copy)]
pub(super) struct SpecialTokens {
    pub(super) bos: Option<TokenId>,
    pub(super) eos: Option<TokenId>,
    pub(super) unknown: Option<TokenId>,
    pub(super) padding: Option<TokenId>,
}
