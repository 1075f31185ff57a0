//! Finds added tokens in text, before the text is cut into pieces.
//!
//! The rules are those of Hugging Face's tokenizers: of all tokens that match at the leftmost place
//! the longest wins; tokens marked `normalized` are looked for in what the others leave; `lstrip`
//! and `rstrip` take in neighbouring whitespace; a match of a `single_word` token beside a word
//! character is passed over.

use std::fmt;
use std::ops::Range;

use daachorse::{DoubleArrayAhoCorasick, DoubleArrayAhoCorasickBuilder, MatchKind};
use hashbrown::HashSet;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

use super::settings::AddedToken;
use crate::{Error, Result, TokenId};

/// A stretch of text, by its bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// An added token and all that it takes in.
    Token(TokenId, Range<usize>),
    /// Ordinary text, never empty.
    Text(Range<usize>),
}

/// The added tokens of a tokenizer, ready to be found.
#[derive(Debug)]
pub(super) struct AddedTokens {
    first: Matcher,
    normalized: Matcher,
}

struct Matcher {
    /// `None` when there is nothing to find.
    automaton: Option<DoubleArrayAhoCorasick<u32>>,
    tokens: Vec<AddedToken>,
}

impl AddedTokens {
    /// Prepares `tokens`; those with empty content match nothing.
    ///
    /// # Errors
    /// More text in the tokens than the automaton can hold.
    pub(super) fn new(tokens: &[AddedToken]) -> Result<Self> {
        let (normalized, first) = tokens
            .iter()
            .filter(|token| !token.content.is_empty())
            .cloned()
            .partition(|token| token.normalized);
        Ok(Self {
            first: Matcher::new(first)?,
            normalized: Matcher::new(normalized)?,
        })
    }

    /// Calls `emit` with the segments of `text` in order. Without `special`, tokens marked so are
    /// ordinary text.
    pub(super) fn split(&self, text: &str, special: bool, emit: &mut impl FnMut(Segment)) {
        self.first
            .split(text, 0, special, &mut |segment| match segment {
                Segment::Text(range) => {
                    let start = range.start;
                    self.normalized.split(&text[range], start, special, emit);
                }
                token @ Segment::Token(..) => emit(token),
            });
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(&self.tokens).finish()
    }
}

impl Matcher {
    fn new(tokens: Vec<AddedToken>) -> Result<Self> {
        let automaton = if tokens.is_empty() {
            None
        } else {
            // Of tokens with the same content the first counts.
            let mut seen = HashSet::new();
            let contents = tokens.iter().map(|token| token.content.as_str()).zip(0..);
            let contents = contents.filter(|(content, _)| seen.insert(*content));
            let built = DoubleArrayAhoCorasickBuilder::new()
                .match_kind(MatchKind::LeftmostLongest)
                .build_with_values(contents);
            Some(built.map_err(|error| {
                Error::Unsupported(format!("added tokens as large as these: {error}"))
            })?)
        };
        Ok(Self { automaton, tokens })
    }

    /// Splits `text`, which begins at byte `offset` of the whole.
    fn split(&self, text: &str, offset: usize, special: bool, emit: &mut impl FnMut(Segment)) {
        let mut done = 0;
        let automaton = self.automaton.iter();
        for found in automaton.flat_map(|automaton| automaton.leftmost_find_iter(text)) {
            let token = &self.tokens[found.value() as usize];
            let (before, after) = (&text[..found.start()], &text[found.end()..]);
            if token.special && !special || token.single_word && !stands_alone(before, after) {
                continue;
            }
            // The token before may have taken in whitespace that this one is made of.
            if found.end() <= done {
                continue;
            }
            // Whitespace that the token before has taken in is not taken twice.
            let start = match text.get(done..found.start()) {
                Some(between) if token.lstrip => done + between.trim_end().len(),
                None if token.lstrip => done,
                _ => found.start(),
            };
            let end = if token.rstrip {
                text.len() - after.trim_start().len()
            } else {
                found.end()
            };
            if done < start {
                emit(Segment::Text(offset + done..offset + start));
            }
            emit(Segment::Token(token.id, offset + start..offset + end));
            done = end;
        }
        if done < text.len() {
            emit(Segment::Text(offset + done..offset + text.len()));
        }
    }
}

/// Whether no word character adjoins a match between `before` and `after`.
fn stands_alone(before: &str, after: &str) -> bool {
    !before.chars().next_back().is_some_and(is_word) && !after.chars().next().is_some_and(is_word)
}

/// `\w` of Unicode's regular expressions (UTS #18, annex C).
fn is_word(character: char) -> bool {
    character.is_alphabetic()
        || matches!(character, '\u{200c}' | '\u{200d}')
        || matches!(
            character.general_category(),
            GeneralCategory::DecimalNumber | GeneralCategory::ConnectorPunctuation
        )
        || character.general_category_group() == GeneralCategoryGroup::Mark
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: TokenId, content: &str) -> AddedToken {
        AddedToken {
            id,
            content: content.to_owned(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special: false,
        }
    }

    fn split(
        tokens: &[AddedToken],
        text: &str,
        special: bool,
    ) -> Result<Vec<(Option<TokenId>, String)>> {
        let mut found = Vec::new();
        AddedTokens::new(tokens)?.split(text, special, &mut |segment| {
            found.push(match segment {
                Segment::Token(id, range) => (Some(id), text[range].to_owned()),
                Segment::Text(range) => (None, text[range].to_owned()),
            });
        });
        Ok(found)
    }

    fn expect(
        tokens: &[AddedToken],
        text: &str,
        expected: &[(Option<TokenId>, &str)],
    ) -> Result<()> {
        let found = split(tokens, text, true)?;
        let found: Vec<_> = found
            .iter()
            .map(|(id, text)| (*id, text.as_str()))
            .collect();
        assert_eq!(found, expected, "{text:?}");
        Ok(())
    }

    #[test]
    fn leftmost_then_longest() -> Result<()> {
        let tokens = [token(1, "<ab>"), token(2, "<ab>c"), token(3, "b>cd")];
        expect(
            &tokens,
            "x<ab>cd<ab>",
            &[
                (None, "x"),
                (Some(2), "<ab>c"),
                (None, "d"),
                (Some(1), "<ab>"),
            ],
        )?;
        expect(&tokens, "", &[])?;
        expect(&[], "text", &[(None, "text")])
    }

    #[test]
    fn whitespace_is_taken_in() -> Result<()> {
        let mut left = token(1, "<l>");
        left.lstrip = true;
        let mut right = token(2, "<r>");
        right.rstrip = true;
        expect(
            &[left, right],
            "a \n<l> <r>\u{a0} <l>b",
            &[
                (None, "a"),
                (Some(1), " \n<l>"),
                (None, " "),
                (Some(2), "<r>\u{a0} "),
                (Some(1), "<l>"),
                (None, "b"),
            ],
        )
    }

    #[test]
    fn whitespace_is_taken_in_once() -> Result<()> {
        let mut left = token(1, " <l>");
        left.lstrip = true;
        let mut right = token(2, "<r>");
        right.rstrip = true;
        let tokens = [left, right];
        expect(&tokens, "<r>  <l>", &[(Some(2), "<r>  "), (Some(1), "<l>")])?;
        let mut space = token(1, " ");
        space.lstrip = true;
        let spaces = " ".repeat(1 << 20);
        assert_eq!(split(&[space], &spaces, true)?.len(), 1 << 20);
        Ok(())
    }

    #[test]
    fn words_stand_alone() -> Result<()> {
        let mut cat = token(1, "cat");
        cat.single_word = true;
        expect(&[cat.clone()], "cat", &[(Some(1), "cat")])?;
        expect(
            &[cat.clone()],
            "(cat)",
            &[(None, "("), (Some(1), "cat"), (None, ")")],
        )?;
        for text in ["cats", "_cat", "1cat", "cat\u{301}", "écat"] {
            expect(&[cat.clone()], text, &[(None, text)])?;
        }
        Ok(())
    }

    #[test]
    fn special_tokens_can_be_text_and_normalized_ones_come_second() -> Result<()> {
        let mut special = token(1, "<s>");
        special.special = true;
        assert_eq!(
            split(&[special.clone()], "<s>", false)?,
            [(None, "<s>".to_owned())]
        );
        let mut normalized = token(2, "x<s>");
        normalized.normalized = true;
        expect(
            &[special, normalized],
            "x<s>",
            &[(None, "x"), (Some(1), "<s>")],
        )
    }
}
