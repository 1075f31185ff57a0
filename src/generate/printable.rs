//! What of a growing text may be shown: whole words, as transformers' `TextStreamer` shows them.

/// Delays text until it is certain to be whole words.
///
/// A line is shown with its end; a Chinese character at once; otherwise what comes before the last
/// space and that space. [`PrintableText::finish`] gives the rest.
#[derive(Debug, Clone, Default)]
pub struct PrintableText {
    /// Text that was not shown.
    pending: String,
}

impl PrintableText {
    /// Takes the next piece; gives what may be shown now, which may be nothing.
    pub fn push(&mut self, piece: &str) -> String {
        self.pending.push_str(piece);
        let shown = match self.pending.chars().last() {
            Some(last) if last == '\n' || is_chinese(last) => self.pending.len(),
            _ => self.pending.rfind(' ').map_or(0, |space| space + 1),
        };
        let rest = self.pending.split_off(shown);
        std::mem::replace(&mut self.pending, rest)
    }

    /// Ends the text: gives the rest.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.pending)
    }
}

/// The blocks of Chinese characters, which stand for words; kana and hangul are not among them.
fn is_chinese(character: char) -> bool {
    matches!(character,
        '\u{4E00}'..='\u{9FFF}'
        | '\u{3400}'..='\u{4DBF}'
        | '\u{20000}'..='\u{2A6DF}'
        | '\u{2A700}'..='\u{2B73F}'
        | '\u{2B740}'..='\u{2B81F}'
        | '\u{2B820}'..='\u{2CEAF}'
        | '\u{F900}'..='\u{FAFF}'
        | '\u{2F800}'..='\u{2FA1F}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown after each piece, and at the end.
    fn shown(pieces: &[&str]) -> Vec<String> {
        let mut text = PrintableText::default();
        let mut all: Vec<String> = pieces.iter().map(|piece| text.push(piece)).collect();
        all.push(text.finish());
        all
    }

    #[test]
    fn words_are_shown_whole() {
        assert_eq!(
            shown(&["It", " is a", " tru", "th"]),
            ["", "It is ", "a ", "", "truth"]
        );
    }

    #[test]
    fn lines_and_chinese_are_shown_at_once() {
        assert_eq!(shown(&["an end\n", "x"]), ["an end\n", "", "x"]);
        assert_eq!(
            shown(&["ab", "c\u{4E2D}", "\u{3042}"]),
            ["", "abc\u{4E2D}", "", "\u{3042}"]
        );
        // A line's end within a piece counts for nothing; the space after it does.
        assert_eq!(shown(&["a\nb", " c"]), ["", "a\nb ", "c"]);
    }
}
