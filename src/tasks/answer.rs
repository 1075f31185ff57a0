//! Where in a text the answer to a question is.

use std::ops::Range;

use super::scores::softmax;
use crate::TokenId;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::tokenizer::EncodeOptions;

/// What is asked of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerOptions {
    /// Most tokens of an answer. Default: 15, as in transformers' pipeline.
    pub max_length: usize,
    /// How many answers. Default: 1.
    pub count: usize,
}

impl Default for AnswerOptions {
    fn default() -> Self {
        Self {
            max_length: 15,
            count: 1,
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
/// The tokens of the question are followed by those of the context; a context that does not fit is read in
/// windows that overlap by half, and each window's answers compete.
///
/// # Errors
/// As [`Session::answer`], and those of the tokenizer; [`Error::ContextFull`] when the question alone fills
/// the model's positions; [`Error::Argument`] for a context without tokens.
pub fn answer(
    session: &mut Session,
    question: &str,
    context: &str,
    options: AnswerOptions,
) -> Result<Vec<Answer>> {
    let model = session.model().clone();
    let tokenizer = model.tokenizer()?;
    let question = tokenizer.encode(question)?;
    let spans = tokenizer.encode_with_offsets(context, EncodeOptions::default())?;
    if spans.is_empty() {
        return Err(Error::Argument(
            "expected a context to look for the answer in, found an empty one".to_owned(),
        ));
    }
    let limit = session
        .context_size()
        .min(model.hyperparameters().positions);
    let window = limit.saturating_sub(question.len()).min(spans.len());
    // One token is no window to find anything in, unless it is all there is.
    if window < spans.len().min(2) {
        return Err(Error::ContextFull {
            needed: question.len() + 2,
            available: limit,
            model_limit: model.hyperparameters().positions,
        });
    }
    let characters: Vec<char> = context.chars().collect();
    let mut answers: Vec<Answer> = Vec::new();
    let mut start = 0;
    loop {
        let end = (start + window).min(spans.len());
        let mut tokens: Vec<TokenId> = question.clone();
        tokens.extend(spans[start..end].iter().map(|span| span.id));
        let (starts, ends) = session.answer(&tokens)?;
        for (span, score) in best_spans(&starts[question.len()..], &ends[question.len()..], options)
        {
            let (first, last) = (&spans[start + span.start], &spans[start + span.end - 1]);
            let range = visible(&characters, first.characters.start..last.characters.end);
            if answers.iter().all(|known| known.characters != range) {
                answers.push(Answer {
                    text: characters
                        .get(range.clone())
                        .unwrap_or_default()
                        .iter()
                        .collect(),
                    characters: range,
                    score,
                });
            }
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

/// The best spans of tokens by softmax(start) · softmax(end): they end where they start or later, and have at
/// most `max_length` tokens. The best first, of equals the earlier.
pub fn best_spans(
    starts: &[f32],
    ends: &[f32],
    options: AnswerOptions,
) -> Vec<(Range<usize>, f32)> {
    let (starts, ends) = (softmax(starts), softmax(ends));
    let mut best: Vec<(Range<usize>, f32)> = Vec::new();
    for (start, by_start) in starts.iter().enumerate() {
        let ends = ends.iter().enumerate().skip(start).take(options.max_length);
        for (end, by_end) in ends {
            let score = by_start * by_end;
            let place = best.partition_point(|(_, other)| *other >= score);
            if place < options.count {
                best.insert(place, (start..end + 1, score));
                best.truncate(options.count);
            }
        }
    }
    best
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
        AnswerOptions { max_length, count }
    }

    #[test]
    fn an_answer_ends_after_it_starts_and_is_not_too_long() {
        // The best start is token 2, the best end token 0: not a span. Of those that are: start 2 with end
        // 3, or start 0 with end 0.
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
    fn spaces_around_are_no_answer() {
        let characters: Vec<char> = " a b ".chars().collect();
        assert_eq!(visible(&characters, 0..5), 1..4);
        assert_eq!(visible(&characters, 0..1), 1..1);
    }
}
