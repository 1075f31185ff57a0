//! Scores of words, from those of their tokens.

use std::ops::Range;

use super::TextScores;

/// A word's score.
#[derive(Debug, Clone, PartialEq)]
pub struct WordScore {
    /// Its characters in the text, without white space.
    pub characters: Range<usize>,
    /// Its tokens.
    pub tokens: Range<usize>,
    /// Σ ln p of its tokens, in nats; none when one of them has no score.
    pub log_probability: Option<f64>,
}

/// The words of `text`, words being what stands between white space. A token is of the word that
/// its first visible character is in; one of white space alone of the next word, at the end of the
/// text of the last. `characters` are those of each token. Every token of the text is of one word,
/// so that the sums of words add up to that of the text; those that the tokenizer put around it are
/// of none.
pub fn word_scores(text: &str, characters: &[Range<usize>], scores: &TextScores) -> Vec<WordScore> {
    let visible: Vec<bool> = text.chars().map(|c| !c.is_whitespace()).collect();
    let mut words: Vec<WordScore> = Vec::new();
    // The first of the tokens of white space since the last word.
    let mut space = None;
    for (token, range) in characters.iter().enumerate() {
        if range.is_empty() {
            continue;
        }
        // Not beyond the text, wherever a caller says that the token is.
        let range = range.start..range.end.min(visible.len());
        let seen = range.clone().find(|&at| visible.get(at) == Some(&true));
        let Some(first) = seen else {
            space.get_or_insert(token);
            continue;
        };
        let end = (first..range.end).rfind(|&at| visible.get(at) == Some(&true));
        let end = end.map_or(first, |last| last + 1);
        match words.last_mut() {
            // No white space since: of a character in several tokens all have the place.
            Some(word) if (word.characters.end..first).all(|at| visible.get(at) == Some(&true)) => {
                word.characters.end = word.characters.end.max(end);
                word.tokens.end = token + 1;
            }
            _ => words.push(WordScore {
                characters: first..end,
                tokens: space.unwrap_or(token)..token + 1,
                log_probability: None,
            }),
        }
        space = None;
    }
    if let Some(first) = space {
        let end = characters.iter().rposition(|range| !range.is_empty());
        let end = end.map_or(first, |last| last + 1);
        match words.last_mut() {
            Some(word) => word.tokens.end = end,
            None => words.push(WordScore {
                characters: 0..0,
                tokens: first..end,
                log_probability: None,
            }),
        }
    }
    for word in &mut words {
        let tokens = scores.tokens.get(word.tokens.clone());
        let scores = tokens.into_iter().flatten().map(Option::as_ref);
        word.log_probability = scores
            .map(|score| score.map(|score| score.log_probability))
            .try_fold(0.0, |sum, score| Some(sum + score?));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::TokenScore;

    /// Of each word its text, its tokens and its score; token n has score −2ⁿ, the first has none.
    fn of(text: &str, characters: &[Range<usize>]) -> Vec<(String, Range<usize>, Option<f64>)> {
        let token = |index: usize| TokenScore {
            log_probability: -((1 << index) as f64),
            rank: None,
            entropy: None,
            top: Vec::new(),
        };
        let tokens = (0..characters.len()).map(|index| (index > 0).then(|| token(index)));
        let scores = TextScores {
            tokens: tokens.collect(),
            windows: 1,
        };
        let all: Vec<char> = text.chars().collect();
        word_scores(text, characters, &scores)
            .into_iter()
            .map(|word| {
                let text = all[word.characters].iter().collect();
                (text, word.tokens, word.log_probability)
            })
            .collect()
    }

    #[test]
    fn words_are_what_stands_between_white_space() {
        // "Don't", " stop", "ping", "  ", " é" in two tokens, ".", "\n".
        let characters = [
            0..3,
            3..5,
            5..10,
            10..14,
            14..16,
            16..18,
            17..18,
            18..19,
            19..20,
        ];
        let found = of("Don't stopping   é.\n", &characters);
        let word = |text: &str, tokens, sum| (text.to_owned(), tokens, sum);
        assert_eq!(
            found,
            [
                word("Don't", 0..2, None),
                word("stopping", 2..4, Some(-12.0)),
                word("é.", 4..9, Some(-(16.0 + 32.0 + 64.0 + 128.0 + 256.0))),
            ]
        );
    }

    #[test]
    fn every_token_of_the_text_is_of_one_word() {
        // Tokens around the text, and one that holds several words.
        let found = of("N Y C", &[0..0, 0..3, 3..5, 0..0]);
        let tokens: Vec<_> = found.iter().map(|(_, tokens, _)| tokens.clone()).collect();
        assert_eq!(tokens, [1..2, 2..3]);
        assert_eq!(found[0].0, "N Y");
        let beyond = of("a b", &[0..1, 1..usize::MAX, 9..usize::MAX]);
        assert_eq!(beyond[1].1, 1..3);
        let found = of(" \n", &[0..1, 1..2]);
        assert_eq!(found, [(String::new(), 0..2, None)]);
        assert!(of("", &[]).is_empty());
    }
}
