//! The tokens: id to bytes and bytes to id.
//!
//! Tokens are kept as the bytes they stand for, back to back in one buffer, so that a piece of text
//! is looked up without being respelled. Knows neither merges nor added tokens.

use std::hash::BuildHasher;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::bytes;
use crate::{Error, Result, TokenId};

/// What GGUF's `tokenizer.ggml.token_type` says of a token; other numbers count as `Normal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenType {
    /// Text, reached through merges.
    Normal,
    /// A marker such as `<|endoftext|>`: matched whole in text, and left out when special tokens
    /// are skipped.
    Control,
    /// Added by the user: matched whole in text, but text.
    UserDefined,
    /// A row of the model that no token owns; it decodes to nothing.
    Unused,
}

impl TokenType {
    /// The type that GGUF writes as `number`.
    pub fn from_number(number: u32) -> Self {
        match number {
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            _ => Self::Normal,
        }
    }

    /// The number GGUF writes for this type.
    pub fn number(self) -> i32 {
        match self {
            Self::Normal => 1,
            Self::Control => 3,
            Self::UserDefined => 4,
            Self::Unused => 5,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Kind {
    token_type: TokenType,
    /// The token has characters outside the byte alphabet and stands for its own UTF-8.
    verbatim: bool,
    /// A token with a lower id spells the same.
    shadowed: bool,
}

/// The tokens of a model, by id.
#[derive(Debug)]
pub(super) struct Vocabulary {
    spellings: Spellings,
    kinds: Vec<Kind>,
    /// Ids of all tokens but unused and shadowed ones, hashed by what they spell.
    by_bytes: HashTable<TokenId>,
    hasher: DefaultHashBuilder,
    longest: usize,
    /// No token is written in the byte alphabet: each is its own UTF-8.
    all_verbatim: bool,
}

/// The bytes of all tokens.
#[derive(Debug, Default)]
struct Spellings {
    bytes: Vec<u8>,
    /// Where each token ends in `bytes`; it begins where the one before ends.
    ends: Vec<u32>,
}

impl Spellings {
    fn get(&self, id: TokenId) -> Option<&[u8]> {
        let id = id as usize;
        let end = *self.ends.get(id)? as usize;
        let start = match id.checked_sub(1) {
            Some(before) => *self.ends.get(before)? as usize,
            None => 0,
        };
        self.bytes.get(start..end)
    }
}

impl Vocabulary {
    /// Reads tokens in the order of their ids; `count` is a hint for the space they need. Where two
    /// tokens spell the same, text becomes the first.
    ///
    /// # Errors
    /// What the iterator yields as an error, and more than 4 GiB of tokens.
    pub(super) fn build<'a>(
        tokens: impl Iterator<Item = Result<(&'a str, TokenType)>>,
        count: usize,
    ) -> Result<Self> {
        Self::build_in(false, tokens, count)
    }

    /// As [`build`](Self::build), for a tokenizer that does not write bytes as characters.
    pub(super) fn build_verbatim<'a>(
        tokens: impl Iterator<Item = Result<(&'a str, TokenType)>>,
        count: usize,
    ) -> Result<Self> {
        Self::build_in(true, tokens, count)
    }

    fn build_in<'a>(
        all_verbatim: bool,
        tokens: impl Iterator<Item = Result<(&'a str, TokenType)>>,
        count: usize,
    ) -> Result<Self> {
        let mut vocabulary = Self {
            spellings: Spellings {
                bytes: Vec::with_capacity(count.saturating_mul(7)),
                ends: Vec::with_capacity(count),
            },
            kinds: Vec::with_capacity(count),
            by_bytes: HashTable::with_capacity(count),
            hasher: DefaultHashBuilder::default(),
            longest: 0,
            all_verbatim,
        };
        for token in tokens {
            let (text, token_type) = token?;
            vocabulary.push(text, token_type)?;
        }
        Ok(vocabulary)
    }

    fn push(&mut self, text: &str, token_type: TokenType) -> Result<()> {
        let Self {
            spellings,
            kinds,
            by_bytes,
            hasher,
            longest,
            all_verbatim,
        } = self;
        let start = spellings.bytes.len();
        let verbatim = append(*all_verbatim, text, &mut spellings.bytes);
        let too_large = |_| Error::Unsupported("a vocabulary of more than 4 GiB".to_owned());
        let end = u32::try_from(spellings.bytes.len()).map_err(too_large)?;
        let id = TokenId::try_from(kinds.len()).map_err(too_large)?;
        spellings.ends.push(end);
        let mut kind = Kind {
            token_type,
            verbatim,
            shadowed: false,
        };
        if token_type != TokenType::Unused {
            let spelled = &spellings.bytes[start..];
            *longest = (*longest).max(spelled.len());
            let entry = by_bytes.entry(
                hash(hasher, spelled, verbatim),
                |&other| same(spellings, kinds, other, spelled, verbatim),
                |&other| rehash(hasher, spellings, kinds, other),
            );
            match entry {
                Entry::Occupied(_) => kind.shadowed = true,
                Entry::Vacant(place) => drop(place.insert(id)),
            }
        }
        kinds.push(kind);
        Ok(())
    }

    /// How many ids there are, unused ones included.
    pub(super) fn len(&self) -> usize {
        self.kinds.len()
    }

    /// The most bytes a token has.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// The type of token `id`; `None` outside the vocabulary.
    pub(super) fn token_type(&self, id: TokenId) -> Option<TokenType> {
        self.kinds.get(id as usize).map(|kind| kind.token_type)
    }

    /// The bytes token `id` stands for; `None` outside the vocabulary and for an unused id.
    pub(super) fn bytes(&self, id: TokenId) -> Option<&[u8]> {
        let kind = self.kinds.get(id as usize)?;
        if kind.token_type == TokenType::Unused {
            return None;
        }
        self.spellings.get(id)
    }

    /// The bytes of token `id` if [`find`](Self::find) gives `id` for them.
    pub(super) fn spelled(&self, id: TokenId) -> Option<&[u8]> {
        let kind = self.kinds.get(id as usize)?;
        if kind.verbatim || kind.shadowed {
            return None;
        }
        self.bytes(id)
    }

    /// Token `id` as vocabulary files write it; `None` outside the vocabulary and for an unused id.
    pub(super) fn text(&self, id: TokenId) -> Option<String> {
        let kind = self.kinds.get(id as usize)?;
        let bytes = self.bytes(id)?;
        Some(if kind.verbatim {
            String::from_utf8_lossy(bytes).into_owned()
        } else {
            bytes::spell(bytes)
        })
    }

    /// The token that stands for exactly `bytes`, written in the byte alphabet.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<TokenId> {
        self.find_spelled(bytes, false)
    }

    /// The token that vocabulary files write as `text`; `scratch` is overwritten.
    pub(super) fn find_text(&self, text: &str, scratch: &mut Vec<u8>) -> Option<TokenId> {
        scratch.clear();
        let verbatim = append(self.all_verbatim, text, scratch);
        self.find_spelled(scratch, verbatim)
    }

    fn find_spelled(&self, spelled: &[u8], verbatim: bool) -> Option<TokenId> {
        self.by_bytes
            .find(hash(&self.hasher, spelled, verbatim), |&id| {
                same(&self.spellings, &self.kinds, id, spelled, verbatim)
            })
            .copied()
    }
}

/// Appends what `text` stands for; says whether that is its own UTF-8.
fn append(all_verbatim: bool, text: &str, bytes: &mut Vec<u8>) -> bool {
    if all_verbatim {
        bytes.extend_from_slice(text.as_bytes());
    }
    all_verbatim || !bytes::append_spelled(text, bytes)
}

fn same(
    spellings: &Spellings,
    kinds: &[Kind],
    id: TokenId,
    spelled: &[u8],
    verbatim: bool,
) -> bool {
    spellings.get(id) == Some(spelled) && kinds[id as usize].verbatim == verbatim
}

fn rehash(hasher: &DefaultHashBuilder, spellings: &Spellings, kinds: &[Kind], id: TokenId) -> u64 {
    let spelled = spellings.get(id).unwrap_or_default();
    hash(hasher, spelled, kinds[id as usize].verbatim)
}

fn hash(hasher: &DefaultHashBuilder, spelled: &[u8], verbatim: bool) -> u64 {
    // `!` keeps a verbatim token apart from the spelled one of the same bytes; `same` decides.
    let hash = hasher.hash_one(spelled);
    if verbatim { !hash } else { hash }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_by_what_they_spell() -> Result<()> {
        let texts = [
            ("a", TokenType::Normal),
            ("Ġb", TokenType::Normal),
            (" b", TokenType::UserDefined),
            ("[PAD3]", TokenType::Unused),
            ("a", TokenType::Normal),
            ("", TokenType::Normal),
        ];
        let vocabulary = Vocabulary::build(texts.into_iter().map(Ok), texts.len())?;
        assert_eq!(vocabulary.len(), 6);
        assert_eq!(vocabulary.longest(), 2);
        assert_eq!(vocabulary.find(b"a"), Some(0));
        assert_eq!(vocabulary.find(b" b"), Some(1));
        let mut scratch = Vec::new();
        assert_eq!(vocabulary.find_text("Ġb", &mut scratch), Some(1));
        assert_eq!(vocabulary.find_text(" b", &mut scratch), Some(2));
        assert_eq!(vocabulary.find_text("[PAD3]", &mut scratch), None);
        assert_eq!(vocabulary.text(1).as_deref(), Some("Ġb"));
        assert_eq!(vocabulary.text(2).as_deref(), Some(" b"));
        assert_eq!(vocabulary.bytes(1), Some(&b" b"[..]));
        assert_eq!(vocabulary.spelled(1), Some(&b" b"[..]));
        assert_eq!(vocabulary.spelled(2), None);
        assert_eq!(vocabulary.spelled(4), None);
        assert_eq!(vocabulary.bytes(3), None);
        assert_eq!(vocabulary.bytes(5), Some(&b""[..]));
        assert_eq!(vocabulary.text(6), None);
        assert_eq!(vocabulary.token_type(3), Some(TokenType::Unused));
        Ok(())
    }
}
