//! Tokenizers that are not byte-level BPE (`WordPiece`, character BPE, Unigram), run by Hugging
//! Face's library from the tokenizer.json that the file carries whole.
//!
//! Only text between the tokens that are put around it comes here: those are the same for every
//! model. The library panics on some definitions that are well-formed and make no sense; a panic
//! becomes an error, for a definition is as untrusted as the rest of a file.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use tokenizers::{Encoding, ModelWrapper, Tokenizer as Library};

use super::offsets::TokenSpan;
use super::vocabulary::Vocabulary;
use crate::{Error, Result, TokenId};

/// A tokenizer of the library.
pub(super) struct Whole {
    vocabulary: Vocabulary,
    library: Library,
    /// The same, for which special tokens written out in a text are text; made when first needed.
    ordinary: OnceLock<Library>,
}

impl fmt::Debug for Whole {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Whole")
            .field("tokens", &self.vocabulary.len())
            .finish_non_exhaustive()
    }
}

/// Reads a tokenizer.json; `place` begins the messages.
///
/// # Errors
/// [`Error::Format`] for what the library does not take.
pub(super) fn parse(place: &str, json: &[u8]) -> Result<Library> {
    let mut library = guarded(place, || Library::from_bytes(json))?;
    // A caller says how rows are padded and cut; a file does not.
    library.with_padding(None);
    guarded(
        place,
        AssertUnwindSafe(|| library.with_truncation(None).map(drop)),
    )?;
    Ok(library)
}

/// The tokens of a tokenizer.json's model, without the added ones, by id.
///
/// # Errors
/// As [`parse`].
pub(super) fn model_vocabulary(place: &str, json: &[u8]) -> Result<Vec<(String, TokenId)>> {
    let vocabulary = parse(place, json)?.get_vocab(false);
    let mut tokens: Vec<(String, TokenId)> = vocabulary.into_iter().collect();
    tokens.sort_unstable_by_key(|(_, id)| *id);
    Ok(tokens)
}

/// All tokens of a tokenizer.json, the added ones too.
///
/// # Errors
/// As [`parse`].
pub(super) fn all_tokens(place: &str, json: &[u8]) -> Result<HashMap<String, TokenId>> {
    Ok(parse(place, json)?.get_vocab(true))
}

impl Whole {
    /// The tokenizer that `json` defines, for a model of these tokens.
    ///
    /// # Errors
    /// As [`parse`].
    pub(super) fn new(place: &str, json: &str, vocabulary: Vocabulary) -> Result<Self> {
        let mut library = parse(place, json.as_bytes())?;
        if let ModelWrapper::Unigram(_) = library.get_model() {
            let model = guarded(place, || without_special(&library))?;
            library.with_model(model);
        }
        Ok(Self {
            vocabulary,
            library,
            ordinary: OnceLock::new(),
        })
    }

    pub(super) fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The tokens of `text`, nothing around them.
    ///
    /// # Errors
    /// A text that has no tokens in this vocabulary.
    pub(super) fn ids(&self, text: &str, match_special: bool) -> Result<Vec<TokenId>> {
        let library = self.library(match_special);
        let encoding = guarded(TEXT, || library.encode_fast(text, false))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The tokens of `text` with their characters, nothing around them.
    ///
    /// # Errors
    /// As [`ids`](Self::ids).
    pub(super) fn spans(&self, text: &str, match_special: bool) -> Result<Vec<TokenSpan>> {
        let encoding = self.encoding(text, match_special)?;
        let ids = encoding.get_ids().iter();
        Ok(ids
            .zip(encoding.get_offsets())
            .map(|(&id, &(start, end))| TokenSpan {
                id,
                characters: start..end,
            })
            .collect())
    }

    /// The characters of each word of `text`, as the tokenizer cuts it.
    ///
    /// # Errors
    /// As [`ids`](Self::ids).
    pub(super) fn words(&self, text: &str, match_special: bool) -> Result<Vec<Range<usize>>> {
        let encoding = self.encoding(text, match_special)?;
        let mut words: Vec<Range<usize>> = Vec::new();
        let mut last = None;
        let tokens = encoding.get_word_ids().iter().zip(encoding.get_offsets());
        for (&word, &(start, end)) in tokens {
            match words.last_mut() {
                Some(range) if word.is_some() && word == last => range.end = end,
                _ => words.push(start..end),
            }
            last = word;
        }
        Ok(words)
    }

    /// The text of `ids`; those without a token are skipped.
    pub(super) fn decode(&self, ids: &[TokenId], skip_special: bool) -> String {
        guarded(TEXT, || self.library.decode(ids, skip_special)).unwrap_or_default()
    }

    fn encoding(&self, text: &str, match_special: bool) -> Result<Encoding> {
        let library = self.library(match_special);
        guarded(TEXT, || library.encode_char_offsets(text, false))
    }

    fn library(&self, match_special: bool) -> &Library {
        if match_special {
            return &self.library;
        }
        self.ordinary.get_or_init(|| {
            let mut library = self.library.clone();
            library.set_encode_special_tokens(true);
            library
        })
    }
}

/// A Unigram model that finds no special token in a text. They are among its pieces, and it would
/// take them for text; what finds them where they are wanted comes before it.
fn without_special(library: &Library) -> Result<ModelWrapper, tokenizers::Error> {
    let tokens = library.get_added_tokens_decoder().into_values();
    let special: HashSet<String> = tokens
        .filter(|token| token.special)
        .map(|token| token.content)
        .collect();
    let mut model = serde_json::to_value(library.get_model())?;
    let pieces = model
        .get_mut("vocab")
        .and_then(|pieces| pieces.as_array_mut());
    for text in pieces
        .into_iter()
        .flatten()
        .filter_map(|piece| piece.get_mut(0))
    {
        if let Some(content) = text.as_str().filter(|content| special.contains(*content)) {
            // No text that comes to the model has a space in it.
            *text = format!("{content} ").into();
        }
    }
    Ok(serde_json::from_value(model)?)
}

/// What errors about a text begin with.
const TEXT: &str = "tokenizer.huggingface.json";

/// Calls the library; its errors and panics become ours.
fn guarded<T>(place: &str, call: impl FnOnce() -> Result<T, tokenizers::Error>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Error::format(place, error.to_string())),
        Err(_) => Err(Error::format(
            place,
            "the tokenizer's definition makes no sense: expected one that the tokenizers library \
             can run",
        )),
    }
}
