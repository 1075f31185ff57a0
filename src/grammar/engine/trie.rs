//! The tokens of a model by their bytes, in the form that the engine walks.

use std::fmt;
use std::sync::Arc;

use llguidance::ParserFactory;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};

use super::super::bounds;
use super::call;
use crate::tokenizer::{TokenType, Tokenizer};
use crate::{Error, Result, TokenId};

/// The longest token that a grammar may choose, in bytes; the trie has room for 1024.
const LONGEST: usize = 512;

/// Nodes that the trie has room for are four millions.
const MOST_BYTES: usize = 4_000_000;

/// The byte before the name of a token that is not text.
const MARKER: u8 = TokTrie::SPECIAL_TOKEN_MARKER;

/// What stands for the end of a text in the trie: whichever tokens end a text is for each request
/// to say.
const END: &[u8] = b"<|end of the grammar|>";

/// The tokens of a model, by their bytes: made once, for all grammars of the model. A clone is the
/// same one.
#[derive(Clone)]
pub struct TokenTrie(Arc<Inner>);

struct Inner {
    tokenizer: Arc<Tokenizer>,
    factory: ParserFactory,
    end: TokenId,
}

impl TokenTrie {
    /// The tokens of a tokenizer; [`Model::token_trie`](crate::Model::token_trie) keeps them.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a tokenizer that is not byte-level BPE, since its tokens have no
    /// bytes of their own, for one with more than 4 MB of tokens, and in a build without the
    /// feature `grammar`.
    pub fn new(tokenizer: &Arc<Tokenizer>) -> Result<Self> {
        if !tokenizer.is_byte_level() {
            return Err(Error::Unsupported(
                "a grammar over a tokenizer that is not byte-level BPE".to_owned(),
            ));
        }
        let mut words: Vec<Vec<u8>> = (0..tokenizer.vocabulary_size() as TokenId)
            .map(|id| word(tokenizer, id))
            .collect();
        let bytes: usize = words.iter().map(Vec::len).sum();
        if bytes > MOST_BYTES {
            return Err(Error::Unsupported(format!(
                "a grammar over a vocabulary of more than {MOST_BYTES} bytes, found {bytes}"
            )));
        }
        let end = words.len() as TokenId;
        words.push([&[MARKER], END].concat());
        let mut factory = call(|| {
            let trie = TokTrie::from(&TokRxInfo::new(end + 1, end), &words);
            // Not canonical: the model decides how a text is cut into tokens.
            let tokens: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
            let slices = SlicedBiasComputer::general_slices();
            ParserFactory::new(&tokens, InferenceCapabilities::default(), &slices)
        })?;
        factory.quiet();
        *factory.limits_mut() = bounds::limits();
        let tokenizer = Arc::clone(tokenizer);
        Ok(Self(Arc::new(Inner {
            tokenizer,
            factory,
            end,
        })))
    }

    /// Whether the tokens are this tokenizer's.
    pub(super) fn is_of(&self, tokenizer: &Arc<Tokenizer>) -> bool {
        Arc::ptr_eq(&self.0.tokenizer, tokenizer)
    }

    pub(super) fn factory(&self) -> &ParserFactory {
        &self.0.factory
    }

    /// The token that stands for the end of a text.
    pub(super) fn end(&self) -> TokenId {
        self.0.end
    }
}

impl fmt::Debug for TokenTrie {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TokenTrie({} tokens)", self.0.end)
    }
}

/// A token as the trie has it: its bytes, of a marker its name; nothing for one that is never to be
/// chosen.
fn word(tokenizer: &Tokenizer, id: TokenId) -> Vec<u8> {
    let bytes = tokenizer.token_bytes(id, false);
    let word = match tokenizer.token_type(id) {
        Some(TokenType::Control) => [&[MARKER], bytes].concat(),
        Some(TokenType::Unused) | None => Vec::new(),
        // It would be read as the name of a marker.
        Some(_) if bytes.first() == Some(&MARKER) && bytes.len() > 1 => Vec::new(),
        Some(_) => bytes.to_vec(),
    };
    if word.len() > LONGEST {
        return Vec::new();
    }
    word
}
