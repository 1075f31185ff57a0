//! Where in a text the answer to a question is.

use std::collections::HashMap;
use std::ops::Range;

use crate::TokenId;
use crate::error::{Error, Result};
use crate::sampling::softmax;
use crate::session::Session;
use crate::tokenizer::EncodeOptions;

/// What is asked of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerOptions {
    /// Most tokens of an answer. Default: 15, as in transformers' pipeline.
    pub max_length: usize,
    /// How many answers. Default: 1.
    pub count: usize,
    /// Let an answer begin and end with whole words, as transformers' pipeline does; its score
    /// stays that of the tokens. Default: yes.
    pub align_to_words: bool,
}

impl Default for AnswerOptions {
    fn default() -> Self {
        Self {
            max_length: 15,
            count: 1,
            align_to_words: true,
        }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Its text.
    pub text: String,
    /// Its characters in the context, counted from 0.
    pub characters: Range<usize>,
    /// The probability that it starts where it does, times the probability that it ends there.
    pub score: f32,
}

/// Finds the answers to `question` in `context`, the best first.
///
/// The tokens of the question are followed by those of the context; a context that does not fit is
/// read in windows that overlap by half, and each window's answers compete.
///
/// # Errors
/// As [`Session::answer`], and those of the tokenizer; [`Error::ContextFull`] when the question
/// alone fills the model's positions; [`Error::Argument`] for a context without tokens.
pub fn answer(
    session: &mut Session,
    question: &str,
    context: &str,
    options: AnswerOptions,
) -> Result<Vec<Answer>> {
    let model = session.model().clone();
    let tokenizer = model.tokenizer()?;
    let whole = tokenizer.encode_pair(question, Some(context), EncodeOptions::default(), None)?;
    let is_context = |sequence: &Option<usize>| *sequence == Some(1);
    let (Some(first), Some(last)) = (
        whole.sequence_ids.iter().position(is_context),
        whole.sequence_ids.iter().rposition(is_context),
    ) else {
        return Err(Error::Argument(
            "expected a context to look for the answer in, found an empty one".to_owned(),
        ));
    };
    let (before, after) = (&whole.ids[..first], &whole.ids[last + 1..]);
    let (ids, spans) = (&whole.ids[first..=last], &whole.offsets[first..=last]);
    let limit = session
        .context_size()
        .min(model.hyperparameters().n_positions);
    let around = before.len() + after.len();
    let window = limit.saturating_sub(around).min(spans.len());
    // One token is no window to find anything in, unless it is all there is.
    if window < spans.len().min(2) {
        return Err(Error::ContextFull {
            needed: around + 2,
            available: limit,
            model_limit: model.hyperparameters().n_positions,
        });
    }
    let words = if options.align_to_words {
        tokenizer.words(context)?
    } else {
        Vec::new()
    };
    // Spans within the same words are one answer.
    let candidates = AnswerOptions {
        count: options
            .count
            .saturating_mul(if words.is_empty() { 1 } else { 8 }),
        ..options
    };
    let characters: Vec<char> = context.chars().collect();
    let mut answers: Vec<Answer> = Vec::new();
    let mut places: HashMap<Range<usize>, usize> = HashMap::new();
    let mut start = 0;
    loop {
        let end = (start + window).min(spans.len());
        let tokens: Vec<TokenId> = [before, &ids[start..end], after].concat();
        let (starts, ends) = session.answer(&tokens)?;
        let inside = before.len()..before.len() + end - start;
        let found = best_spans(&starts[inside.clone()], &ends[inside], candidates);
        for (span, score) in found {
            let (first, last) = (&spans[start + span.start], &spans[start + span.end - 1]);
            let range = word_at(&words, first.start).start.min(first.start)
                ..word_at(&words, last.start).end.max(last.end);
            let range = visible(&characters, range);
            let place = *places.entry(range.clone()).or_insert(answers.len());
            if let Some(known) = answers.get_mut(place) {
                known.score = known.score.max(score);
                continue;
            }
            let text = characters.get(range.clone()).unwrap_or_default();
            answers.push(Answer {
                text: text.iter().collect(),
                characters: range,
                score,
            });
        }
        if end == spans.len() {
            break;
        }
        start += (window / 2).max(1);
    }
    answers.sort_by(|a, b| b.score.total_cmp(&a.score));
    answers.truncate(options.count);
    Ok(answers)
}

/// The word that a character is in; nothing around the character where it is in none.
fn word_at(words: &[Range<usize>], character: usize) -> Range<usize> {
    let after = words.partition_point(|word| word.start <= character);
    match after.checked_sub(1).and_then(|place| words.get(place)) {
        Some(word) if word.contains(&character) => word.clone(),
        _ => character..character,
    }
}

/// The best spans of tokens by softmax(start) · softmax(end): they end where they start or later,
/// and have at most `max_length` tokens. The best first, of equals the earlier.
pub fn best_spans(
    starts: &[f32],
    ends: &[f32],
    options: AnswerOptions,
) -> Vec<(Range<usize>, f32)> {
    let (starts, ends) = (softmax(starts), softmax(ends));
    let mut spans: Vec<(Range<usize>, f32)> = Vec::new();
    for (start, by_start) in starts.iter().enumerate() {
        let ends = ends.iter().enumerate().skip(start).take(options.max_length);
        spans.extend(ends.map(|(end, by_end)| (start..end + 1, by_start * by_end)));
    }
    spans.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    spans.truncate(options.count);
    spans
}

/// A range without the white space at its ends.
fn visible(characters: &[char], mut range: Range<usize>) -> Range<usize> {
    let space = |place: usize| characters.get(place).is_some_and(|c| c.is_whitespace());
    while range.start < range.end && space(range.start) {
        range.start += 1;
    }
    while range.start < range.end && space(range.end - 1) {
        range.end -= 1;
    }
    range
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(max_length: usize, count: usize) -> AnswerOptions {
        AnswerOptions {
            max_length,
            count,
            align_to_words: false,
        }
    }

    #[test]
    fn an_answer_ends_after_it_starts_and_is_not_too_long() {
        // The best start is token 2, the best end token 0: not a span. Of those that are: start 2
        // with end 3, or start 0 with end 0.
        let starts = [1.0, 0.0, 4.0, 0.0];
        let ends = [5.0, 0.0, 0.0, 3.0];
        let found = best_spans(&starts, &ends, options(15, 2));
        assert_eq!(found[0].0, 2..4);
        assert_eq!(found[1].0, 0..1);
        let (a, b) = (softmax(&starts), softmax(&ends));
        assert!((found[0].1 - a[2] * b[3]).abs() < 1e-7);
        // One token at most: then 0..1 has e^6, 2..3 e^4.
        assert_eq!(best_spans(&starts, &ends, options(1, 1))[0].0, 0..1);
        assert!(best_spans(&[], &[], options(1, 1)).is_empty());
    }

    #[test]
    fn words_are_found_by_their_characters() {
        let words = [0..3, 3..7, 9..10];
        for (character, expected) in [(0, 0..3), (2, 0..3), (3, 3..7), (8, 8..8), (9, 9..10)] {
            assert_eq!(word_at(&words, character), expected);
        }
        assert_eq!(word_at(&[], 4), 4..4);
    }

    #[test]
    fn spaces_around_are_no_answer() {
        let characters: Vec<char> = " a b ".chars().collect();
        assert_eq!(visible(&characters, 0..5), 1..4);
        assert_eq!(visible(&characters, 0..1), 1..1);
    }
}
