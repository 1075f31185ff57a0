//! In the place of `engine` where the feature `grammar` is off: there is no grammar.

use std::sync::Arc;

use crate::tokenizer::Tokenizer;
use crate::{Error, Result, TokenId};

/// No value of this exists.
#[derive(Debug, Clone)]
pub enum TokenTrie {}

impl TokenTrie {
    /// # Errors
    /// [`Error::Unsupported`]: this build has no grammars.
    pub fn new(_tokenizer: &Arc<Tokenizer>) -> Result<Self> {
        Err(Error::Unsupported(
            "grammars, which this program was built without; build it with the feature 'grammar'"
                .to_owned(),
        ))
    }
}

pub(super) enum Compiled {}

impl Compiled {
    pub(super) fn lark(trie: &TokenTrie, _text: &str) -> Result<Self> {
        match *trie {}
    }

    pub(super) fn json_schema(trie: &TokenTrie, _schema: &str) -> Result<Self> {
        match *trie {}
    }

    pub(super) fn begin(&self, _tokenizer: Option<&Arc<Tokenizer>>) -> Result<State> {
        match *self {}
    }
}

pub(crate) enum State {}

impl State {
    pub(crate) fn allowed(&mut self, _eos: &[TokenId]) -> Result<&[u32]> {
        match *self {}
    }

    pub(crate) fn advance(&mut self, _token: TokenId, _eos: &[TokenId]) -> Result<bool> {
        match *self {}
    }
}
