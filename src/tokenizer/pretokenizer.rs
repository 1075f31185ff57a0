//! Cuts text into the pieces that byte-pair merges never cross.
//!
//! The rule is the pattern of GPT-2's own `encoder.py`, alternatives tried in this order:
//! `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`. It is scanned by
//! hand: the classes are disjoint, so one look at a character decides, and no input backtracks by
//! more than one character.

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// What the pattern tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// `\p{L}`.
    Letter,
    /// `\p{N}`.
    Number,
    /// `\s`: Unicode's `White_Space`.
    Space,
    /// All else: punctuation, symbols, marks, controls, unassigned code points.
    Other,
}

const ASCII: [Class; 128] = {
    let mut table = [Class::Other; 128];
    let mut code = 0_usize;
    while code < 128 {
        table[code] = match code as u8 {
            b'a'..=b'z' | b'A'..=b'Z' => Class::Letter,
            b'0'..=b'9' => Class::Number,
            b' ' | 0x09..=0x0D => Class::Space,
            _ => Class::Other,
        };
        code += 1;
    }
    table
};

/// The class of `character`.
pub(super) fn class(character: char) -> Class {
    if let Some(&class) = ASCII.get(character as usize) {
        return class;
    }
    if character.is_whitespace() {
        return Class::Space;
    }
    match character.general_category_group() {
        GeneralCategoryGroup::Letter => Class::Letter,
        GeneralCategoryGroup::Number => Class::Number,
        _ => Class::Other,
    }
}

const CONTRACTIONS: [&str; 7] = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];

/// The pieces of a text, in order; together they are the text.
#[derive(Debug, Clone)]
pub(super) struct Pieces<'a> {
    rest: &'a str,
}

impl<'a> Pieces<'a> {
    /// The pieces of `text`.
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let length = first_piece(self.rest)?;
        let (piece, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(piece)
    }
}

/// Bytes of the piece at the start of `text`; `None` for an empty text.
fn first_piece(text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    if first == '\''
        && let Some(contraction) = CONTRACTIONS.iter().find(|&&end| text.starts_with(end))
    {
        return Some(contraction.len());
    }
    // ` ?` of the pattern: a space goes with the word, number or symbols that follow it.
    let body = text.strip_prefix(' ').unwrap_or(text);
    if let Some(class) = body.chars().next().map(class)
        && class != Class::Space
    {
        return Some(text.len() - body.len() + run(body, class));
    }
    let spaces = run(text, Class::Space);
    if spaces == text.len() {
        return Some(spaces);
    }
    // `\s+(?!\S)` gives back the last whitespace character before a word, unless it is the only
    // one.
    let last = text[..spaces].chars().next_back().map_or(0, char::len_utf8);
    Some(if spaces > last { spaces - last } else { spaces })
}

/// Bytes of the longest prefix of `text` whose characters are all of `wanted`.
fn run(text: &str, wanted: Class) -> usize {
    let bytes = text.as_bytes();
    let mut position = 0;
    while let Some(&byte) = bytes.get(position) {
        if let Some(&found) = ASCII.get(usize::from(byte)) {
            if found != wanted {
                break;
            }
            position += 1;
            continue;
        }
        match text[position..].chars().next() {
            Some(character) if class(character) == wanted => position += character.len_utf8(),
            _ => break,
        }
    }
    position
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(text: &str) -> Vec<&str> {
        Pieces::new(text).collect()
    }

    #[test]
    fn pieces_follow_the_pattern() {
        let cases: [(&str, &[&str]); 18] = [
            ("", &[]),
            ("Hello world", &["Hello", " world"]),
            ("don't I'll", &["don", "'t", " I", "'ll"]),
            ("'sup DON'T", &["'s", "up", " DON", "'", "T"]),
            (" 's ''s", &[" '", "s", " ''", "s"]),
            ("a  b", &["a", " ", " b"]),
            ("a   ", &["a", "   "]),
            ("\t\tx", &["\t", "\t", "x"]),
            ("\n\n x", &["\n\n", " x"]),
            ("a\u{a0}b", &["a", "\u{a0}", "b"]),
            ("a \u{a0}b", &["a", " ", "\u{a0}", "b"]),
            ("a\u{a0} b", &["a", "\u{a0}", " b"]),
            ("x2y 10!?", &["x", "2", "y", " 10", "!?"]),
            ("e\u{301}t", &["e", "\u{301}", "t"]),
            ("\u{1c}\u{200b} \u{180e}", &["\u{1c}\u{200b}", " \u{180e}"]),
            ("½Ⅳ٣ 日本", &["½Ⅳ٣", " 日本"]),
            ("\u{85}\u{2028}\u{3000}", &["\u{85}\u{2028}\u{3000}"]),
            (" ", &[" "]),
        ];
        for (text, expected) in cases {
            assert_eq!(pieces(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_are_the_text_and_never_empty(text in any::<String>()) {
            let found = pieces(&text);
            prop_assert!(found.iter().all(|piece| !piece.is_empty()));
            prop_assert_eq!(found.concat(), text);
        }

        #[test]
        fn whitespace_and_quotes_are_cut_without_loss(text in "[ \t\n\u{a0}'a-z0-9!é]{0,40}") {
            prop_assert_eq!(pieces(&text).concat(), text);
        }
    }
}
