//! Byte-level BPE whole: stretches of text become pieces, pieces become tokens.

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};

use super::bpe::{self, Merges, Scratch, Symbols};
use super::pretokenizer::Pieces;
use super::settings::TokenizerSettings;
use super::vocabulary::Vocabulary;
use crate::{Error, Result, TokenId};

/// What is known of a token as a whole piece: not tried yet, or whether merging its bytes gives
/// just this token. Most pieces of a text are tokens, and a look-up is much cheaper than the
/// merges.
const UNTRIED: u8 = 0;
const MERGES_TO_ITSELF: u8 = 1;
const MERGES_OTHERWISE: u8 = 2;

/// Vocabulary, merges, and the settings that concern ordinary text.
#[derive(Debug)]
pub(super) struct ByteLevelBpe {
    vocabulary: Vocabulary,
    merges: Merges,
    symbols: Symbols,
    whole: Box<[AtomicU8]>,
    add_prefix_space: bool,
    use_regex: bool,
    ignore_merges: bool,
}

impl ByteLevelBpe {
    /// Puts the parts together.
    ///
    /// # Errors
    /// An unknown token that is not in the vocabulary.
    pub(super) fn new(
        vocabulary: Vocabulary,
        merges: Merges,
        settings: &TokenizerSettings,
    ) -> Result<Self> {
        let unknown = match &settings.unk_token {
            None => None,
            Some(text) => {
                let found = vocabulary.find_text(text, &mut Vec::new());
                Some(found.ok_or_else(|| {
                    let message = format!("unk_token {text:?} is not in the vocabulary");
                    Error::format("tokenizer settings", message)
                })?)
            }
        };
        Ok(Self {
            symbols: Symbols::new(&vocabulary, unknown, settings.fuse_unk),
            whole: (0..vocabulary.len())
                .map(|_| AtomicU8::new(UNTRIED))
                .collect(),
            vocabulary,
            merges,
            add_prefix_space: settings.add_prefix_space,
            use_regex: settings.use_regex,
            ignore_merges: settings.ignore_merges,
        })
    }

    pub(super) fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The pieces of `text`, a stretch between added tokens.
    pub(super) fn words<'a>(&self, text: &'a str) -> Vec<&'a str> {
        if self.use_regex {
            Pieces::new(text).collect()
        } else {
            vec![text]
        }
    }

    /// Calls `emit` with the tokens of `text`, a stretch between added tokens that begins at byte
    /// `offset` of the whole, and the bytes of the whole that each covers.
    pub(super) fn encode(
        &self,
        text: &str,
        offset: usize,
        scratch: &mut Scratch,
        emit: &mut impl FnMut(TokenId, Range<usize>),
    ) {
        if self.add_prefix_space && !text.starts_with(' ') {
            // The space put before shares the first character's place.
            let first = text.chars().next().map_or(0, char::len_utf8);
            let spaced = format!(" {text}");
            self.pieces(&spaced, scratch, &mut |id, range| {
                let end = (range.end - 1).max(first.min(1));
                emit(id, offset + range.start.saturating_sub(1)..offset + end);
            });
        } else {
            self.pieces(text, scratch, &mut |id, range| {
                emit(id, offset + range.start..offset + range.end);
            });
        }
    }

    fn pieces(
        &self,
        text: &str,
        scratch: &mut Scratch,
        emit: &mut impl FnMut(TokenId, Range<usize>),
    ) {
        if !self.use_regex {
            return self.piece(text.as_bytes(), 0, scratch, emit);
        }
        let mut start = 0;
        for piece in Pieces::new(text) {
            self.piece(piece.as_bytes(), start, scratch, emit);
            start += piece.len();
        }
    }

    fn piece(
        &self,
        piece: &[u8],
        start: usize,
        scratch: &mut Scratch,
        emit: &mut impl FnMut(TokenId, Range<usize>),
    ) {
        let place = |range: Range<usize>| start + range.start..start + range.end;
        if piece.len() > self.vocabulary.longest() {
            return self.merge(piece, scratch, |id, range| emit(id, place(range)));
        }
        let Some(whole) = self.vocabulary.find(piece) else {
            return self.merge(piece, scratch, |id, range| emit(id, place(range)));
        };
        if self.ignore_merges {
            return emit(whole, start..start + piece.len());
        }
        // Each thread that races here finds the same answer, so no ordering is needed.
        let known = &self.whole[whole as usize];
        match known.load(Ordering::Relaxed) {
            MERGES_TO_ITSELF => emit(whole, start..start + piece.len()),
            MERGES_OTHERWISE => self.merge(piece, scratch, |id, range| emit(id, place(range))),
            _ => {
                let mut itself = false;
                self.merge(piece, scratch, |id, range| {
                    itself = id == whole && range == (0..piece.len());
                    emit(id, place(range));
                });
                let answer = if itself {
                    MERGES_TO_ITSELF
                } else {
                    MERGES_OTHERWISE
                };
                known.store(answer, Ordering::Relaxed);
            }
        }
    }

    fn merge(&self, piece: &[u8], scratch: &mut Scratch, emit: impl FnMut(TokenId, Range<usize>)) {
        let parts = (&self.vocabulary, &self.symbols, &self.merges);
        bpe::encode(piece, parts, scratch, emit);
    }
}
