//! In the place of `whole.rs` where the feature `tokenizers` is off: there is no such tokenizer.

use std::collections::HashMap;
use std::ops::Range;

use super::offsets::TokenSpan;
use super::vocabulary::Vocabulary;
use crate::{Error, Result, TokenId};

/// No value of this exists.
#[derive(Debug)]
pub(super) enum Whole {}

fn refusal<T>() -> Result<T> {
    Err(Error::Unsupported(
        "a tokenizer that is not byte-level BPE, which this program was built without; build it \
         with the feature 'tokenizers'"
            .to_owned(),
    ))
}

pub(super) fn model_vocabulary(_place: &str, _json: &[u8]) -> Result<Vec<(String, TokenId)>> {
    refusal()
}

pub(super) fn all_tokens(_place: &str, _json: &[u8]) -> Result<HashMap<String, TokenId>> {
    refusal()
}

impl Whole {
    pub(super) fn new(_place: &str, _json: &str, _vocabulary: Vocabulary) -> Result<Self> {
        refusal()
    }

    pub(super) fn vocabulary(&self) -> &Vocabulary {
        match *self {}
    }

    pub(super) fn ids(&self, _text: &str, _match_special: bool) -> Result<Vec<TokenId>> {
        match *self {}
    }

    pub(super) fn spans(&self, _text: &str, _match_special: bool) -> Result<Vec<TokenSpan>> {
        match *self {}
    }

    pub(super) fn words(&self, _text: &str, _match_special: bool) -> Result<Vec<Range<usize>>> {
        match *self {}
    }

    pub(super) fn decode(&self, _ids: &[TokenId], _skip_special: bool) -> String {
        match *self {}
    }
}
