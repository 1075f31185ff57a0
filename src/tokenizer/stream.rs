//! Text as it is generated: whole characters only.

use super::{DecodeOptions, Model, Tokenizer};
use crate::TokenId;

/// Turns bytes that arrive in pieces into text. Half a character is kept back until the rest is
/// there; what can become no character gives U+FFFD, once per maximal part, as
/// [`String::from_utf8_lossy`] does for the whole.
#[derive(Debug, Default)]
pub struct Utf8Stream {
    /// The beginning of a character: at most three bytes between calls.
    pending: Vec<u8>,
}

impl Utf8Stream {
    /// Takes the next bytes; gives all text that is complete.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::with_capacity(self.pending.len());
        let mut incomplete = 0;
        let mut chunks = self.pending.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let rest = chunk.invalid();
            // Only the last chunk can want more bytes: anything after it would have decided.
            if chunks.peek().is_none() && wants_more(rest) {
                incomplete = rest.len();
            } else if !rest.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.pending.drain(..self.pending.len() - incomplete);
        text
    }

    /// Ends the stream: U+FFFD if it stops within a character, and nothing otherwise.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        text
    }
}

/// Whether `bytes`, not UTF-8 as they are, begin a character that more bytes can complete.
fn wants_more(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

/// Decodes tokens one at a time. What all calls give, joined, is what
/// [`Tokenizer::decode_with`] gives for all tokens (spaces are never cleaned up here, since that
/// looks ahead).
#[derive(Debug)]
pub struct StreamDecoder<'a> {
    tokenizer: &'a Tokenizer,
    stream: TokenStream,
}

impl<'a> StreamDecoder<'a> {
    /// A decoder at the start of a text.
    pub fn new(tokenizer: &'a Tokenizer, options: DecodeOptions) -> Self {
        Self {
            tokenizer,
            stream: TokenStream::new(tokenizer, options),
        }
    }

    /// Takes the next token; gives all text that is complete, which may be none.
    pub fn push(&mut self, id: TokenId) -> String {
        self.stream.push(self.tokenizer, id)
    }

    /// Ends the text: U+FFFD if it stops within a character, and nothing otherwise.
    pub fn finish(&mut self) -> String {
        self.stream.finish(self.tokenizer)
    }
}

/// [`StreamDecoder`] without its tokenizer, which must be the same at every call.
#[derive(Debug)]
pub(crate) struct TokenStream {
    skip_special_tokens: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Each token has its bytes.
    Bytes(Utf8Stream),
    /// What a token adds depends on the tokens before it.
    Whole {
        /// The latest tokens.
        ids: Vec<TokenId>,
        /// How much of their text has been given, in bytes.
        given: usize,
    },
}

/// At most this many tokens are decoded again for each new one.
const MOST_KEPT: usize = 64;
/// This many tokens stay when the others are forgotten: more than a character's bytes.
const CONTEXT: usize = 16;

impl TokenStream {
    /// At the start of a text.
    pub(crate) fn new(tokenizer: &Tokenizer, options: DecodeOptions) -> Self {
        let state = match tokenizer.model {
            Model::ByteLevelBpe(_) => State::Bytes(Utf8Stream::default()),
            Model::Whole(_) => State::Whole {
                ids: Vec::new(),
                given: 0,
            },
        };
        Self {
            skip_special_tokens: options.skip_special_tokens,
            state,
        }
    }

    /// Takes the next token; gives all text that is complete, which may be none.
    pub(crate) fn push(&mut self, tokenizer: &Tokenizer, id: TokenId) -> String {
        let skip = self.skip_special_tokens;
        match &mut self.state {
            State::Bytes(stream) => stream.push(tokenizer.token_bytes(id, skip)),
            State::Whole { ids, given } => {
                if skip && tokenizer.is_special(id) {
                    return String::new();
                }
                ids.push(id);
                let text = whole_text(tokenizer, ids);
                // Half a character: more of its bytes may come.
                if text.ends_with(char::REPLACEMENT_CHARACTER) {
                    return String::new();
                }
                let new = text.get(*given..).unwrap_or_default().to_owned();
                *given = text.len().max(*given);
                if ids.len() > MOST_KEPT {
                    ids.drain(..ids.len() - CONTEXT);
                    *given = whole_text(tokenizer, ids).len();
                }
                new
            }
        }
    }

    /// Ends the text: U+FFFD if it stops within a character, and nothing otherwise.
    pub(crate) fn finish(&mut self, tokenizer: &Tokenizer) -> String {
        match &mut self.state {
            State::Bytes(stream) => stream.finish(),
            State::Whole { ids, given } => {
                let text = whole_text(tokenizer, ids);
                ids.clear();
                text.get(std::mem::take(given)..)
                    .unwrap_or_default()
                    .to_owned()
            }
        }
    }
}

fn whole_text(tokenizer: &Tokenizer, ids: &[TokenId]) -> String {
    tokenizer.decode_with(ids, DecodeOptions::default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn half_a_character_is_held_back() {
        let mut stream = Utf8Stream::default();
        assert_eq!(stream.push(b"a\xF0\x9F"), "a");
        assert_eq!(stream.push(b"\x98"), "");
        assert_eq!(stream.push(b"\x80b"), "\u{1F600}b");
        assert_eq!(stream.push(b"\xE2\x82"), "");
        assert_eq!(stream.push(b"c"), "\u{FFFD}c");
        assert_eq!(stream.push(b"\xC3"), "");
        assert_eq!(stream.finish(), "\u{FFFD}");
        assert_eq!(stream.finish(), "");
    }

    proptest! {
        #[test]
        fn pieces_together_are_the_whole(
            pieces in prop::collection::vec(
                prop::collection::vec(
                    prop::sample::select(vec![
                        0x41_u8, 0x80, 0xBF, 0xC3, 0xE2, 0x82, 0xAC, 0xED, 0xA0,
                        0xF0, 0x9F, 0x98, 0xF4, 0x90, 0xFF,
                    ]),
                    0..4,
                ),
                0..12,
            )
        ) {
            let mut stream = Utf8Stream::default();
            let mut text: String = pieces.iter().map(|piece| stream.push(piece)).collect();
            text.push_str(&stream.finish());
            let whole = pieces.concat();
            let expected = String::from_utf8_lossy(&whole);
            prop_assert_eq!(text.as_str(), expected.as_ref());
        }
    }
}
