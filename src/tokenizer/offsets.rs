//! Spans of tokens in a text: from bytes to characters.

use std::ops::Range;

use crate::TokenId;

/// A token and the characters of the text it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSpan {
    /// The token.
    pub id: TokenId,
    /// The characters (Unicode code points, counted from 0) any byte of which is in the token.
    /// Parts of one character share its span; tokens put around the text have `0..0`.
    pub characters: Range<usize>,
}

/// Counts characters along a text. Spans are looked up from left to right, so that the whole text
/// is counted once.
#[derive(Debug)]
pub(super) struct CharacterCounter<'a> {
    text: &'a str,
    byte: usize,
    character: usize,
}

impl<'a> CharacterCounter<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            byte: 0,
            character: 0,
        }
    }

    /// The characters that have any byte of `bytes`, which lies within the text.
    pub(super) fn span(&mut self, bytes: &Range<usize>) -> Range<usize> {
        if bytes.is_empty() {
            return 0..0;
        }
        let start = floor_boundary(self.text, bytes.start);
        if start < self.byte {
            (self.byte, self.character) = (0, 0);
        }
        self.character += count(&self.text[self.byte..start]);
        self.byte = start;
        let end = ceiling_boundary(self.text, bytes.end);
        self.character..self.character + count(&self.text[start..end])
    }
}

fn count(text: &str) -> usize {
    text.chars().count()
}

fn floor_boundary(text: &str, mut byte: usize) -> usize {
    while !text.is_char_boundary(byte) {
        byte -= 1;
    }
    byte
}

fn ceiling_boundary(text: &str, mut byte: usize) -> usize {
    while !text.is_char_boundary(byte) && byte < text.len() {
        byte += 1;
    }
    byte.min(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_character_share_its_span() {
        let text = "aé\u{1F600}b";
        let mut counter = CharacterCounter::new(text);
        for (bytes, expected) in [
            (0..1, 0..1),
            (0..2, 0..2),
            (1..3, 1..2),
            (2..3, 1..2),
            (3..5, 2..3),
            (5..8, 2..4),
            (7..7, 0..0),
            (0..8, 0..4),
        ] {
            assert_eq!(counter.span(&bytes), expected, "{bytes:?}");
        }
    }
}
