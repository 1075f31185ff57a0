//! How well a model predicts texts, and how far it is from another model.
//!
//! As the transformers documentation has it for models of fixed length: perplexity = exp(Σ −ln
//! p(token
//! | earlier tokens of its window) / tokens scored), over windows that follow each other or overlap.

use std::ops::{ControlFlow, Range};

use rayon::prelude::*;

use super::scoring::{pieces, rows_at_once};
use crate::machine::parallel;
use crate::sampling::LogSum;
use crate::session::{Batch, SequenceSet, Session};
use crate::{Error, Result, TokenId};

/// How texts are cut into windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerplexityOptions {
    /// Tokens of a window, from 2 to the context.
    pub window: usize,
    /// Without a stride windows do not overlap, each is scored on all its tokens but the first, and
    /// what fills no window at the end of a text is left out; but a text shorter than one window is
    /// one.
    ///
    /// With a stride, at most `window`, a window begins every `stride` tokens and scores those that
    /// none before it has; the last one, at the end of the text, may be shorter. Weights are those
    /// of the guide in transformers' documentation, to the digit: the mean over a window's new
    /// tokens counts one time less than there are of them.
    pub stride: Option<usize>,
}

/// The score of texts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Perplexity {
    /// Σ −ln p over the tokens scored.
    pub nll_sum: f64,
    /// Tokens scored: of a window without an overlap all but the first.
    pub tokens: usize,
    /// Windows done.
    pub windows: usize,
    /// Windows of all texts: more than were done when the measurement was ended.
    pub all_windows: usize,
    /// Tokens at the ends of texts that fill no window and are left out.
    pub left_out: usize,
    /// How far the model is from the reference, when there is one.
    pub comparison: Option<Comparison>,
}

impl Perplexity {
    /// exp(`nll_sum` / `tokens`); NaN when nothing was scored.
    pub fn perplexity(&self) -> f64 {
        (self.nll_sum / self.tokens as f64).exp()
    }

    /// Whether all windows were done.
    pub fn is_complete(&self) -> bool {
        self.windows == self.all_windows
    }
}

/// A model against a reference, over the tokens scored.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Comparison {
    /// Mean Kullback–Leibler divergence Σ p ln(p/q), p being the reference's, in nats.
    pub kld_mean: f64,
    /// Its 99th percentile: the smallest value that at least 99 % do not exceed.
    pub kld_p99: f64,
    /// Fraction of positions where both prefer the same token.
    pub top1_agreement: f64,
}

/// Scores the tokens of `texts` in windows, as `options` say. `reference` is compared with when
/// given. Texts of less than two tokens have none to score and are passed over where others have.
///
/// `progress` gets the result so far after each window; a break ends the measurement with what
/// there is, and so does the session's stop flag: see [`Perplexity::is_complete`].
///
/// # Errors
/// [`Error::OutOfRange`] for a window below 2 or above the context, or a stride of 0 or above the
/// window; [`Error::Argument`] for texts without two tokens, an id outside the vocabulary, or a
/// reference with another vocabulary; [`Error::Format`] when logits are not numbers; as
/// [`Session::run`].
pub fn perplexity(
    session: &mut Session,
    mut reference: Option<&mut Session>,
    texts: &[Vec<TokenId>],
    options: PerplexityOptions,
    progress: &mut dyn FnMut(&Perplexity) -> ControlFlow<()>,
) -> Result<Perplexity> {
    check(session, texts, options)?;
    if let Some(reference) = &reference {
        check(reference, texts, options)?;
        let (found, expected) = (vocabulary(reference), vocabulary(session));
        if found != expected {
            return Err(Error::Argument(format!(
                "the reference has a vocabulary of {found} tokens, the model one of {expected}: \
                 only models of the same vocabulary can be compared"
            )));
        }
    }
    let all = texts.iter().flat_map(|text| {
        let windows = windows(text.len(), options).into_iter();
        windows.map(move |window| (&text[window.tokens.clone()], window))
    });
    let mut result = Perplexity {
        all_windows: all.clone().count(),
        left_out: texts.iter().map(|text| left_out(text.len(), options)).sum(),
        ..Perplexity::default()
    };
    let mut divergences = Vec::new();
    let mut agreements = 0;
    for (tokens, window) in all {
        let scored = score_window(session, reference.as_deref_mut(), tokens, window.first);
        let Some(scored) = unless_stopped(scored)? else {
            break;
        };
        let sum: f64 = scored.iter().map(|position| position.nll).sum();
        result.nll_sum += if window.weight == scored.len() {
            sum
        } else {
            sum / scored.len() as f64 * window.weight as f64
        };
        result.tokens += window.weight;
        for (divergence, agrees) in scored.iter().filter_map(|position| position.comparison) {
            divergences.push(divergence);
            agreements += usize::from(agrees);
        }
        result.windows += 1;
        if progress(&result).is_break() {
            break;
        }
    }
    result.comparison = compare(divergences, agreements);
    Ok(result)
}

/// A window of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    /// Its tokens, of those of the text.
    tokens: Range<usize>,
    /// The first of its tokens that is scored, at least 1.
    first: usize,
    /// How many tokens it counts for.
    weight: usize,
}

/// The windows of a text of `length` tokens.
fn windows(length: usize, options: PerplexityOptions) -> Vec<Window> {
    let PerplexityOptions { window, stride } = options;
    let mut windows = Vec::new();
    if length < 2 {
        return windows;
    }
    let mut done = 0;
    for start in (0..length).step_by(stride.unwrap_or(window).max(1)) {
        let end = start.saturating_add(window).min(length);
        if stride.is_none() && end - start < window && start > 0 {
            break;
        }
        // Windows overlap, or one begins with the first token after the one before.
        windows.push(Window {
            tokens: start..end,
            first: (done - start).max(1),
            weight: end - done - 1,
        });
        done = end;
        if end == length {
            break;
        }
    }
    // A last window of a single token has none to score.
    windows.retain(|window| window.first < window.tokens.len());
    windows
}

/// Tokens at the end of a text that are in no window.
fn left_out(length: usize, options: PerplexityOptions) -> usize {
    let last = windows(length, options).last().map(|last| last.tokens.end);
    length - last.unwrap_or(0)
}

/// Scores the tokens of a window from `first` on, each by those before it.
fn score_window(
    session: &mut Session,
    mut reference: Option<&mut Session>,
    tokens: &[TokenId],
    first: usize,
) -> Result<Vec<Score>> {
    let vocabulary = vocabulary(session);
    session.clear();
    if let Some(reference) = &mut reference {
        reference.clear();
    }
    // The last token is only predicted.
    let inputs = &tokens[..tokens.len() - 1];
    let batch = Batch::of_text(inputs, 0, SequenceSet::of(0)?, |index| index + 1 >= first);
    let mut targets = &tokens[first..];
    let mut scored = Vec::with_capacity(targets.len());
    for tokens in pieces(batch.tokens, rows_at_once(vocabulary)) {
        let batch = Batch {
            tokens,
            ..Batch::default()
        };
        let output = session.run(&batch)?;
        let expected = match &mut reference {
            None => None,
            Some(reference) => Some(reference.run(&batch)?),
        };
        let (now, rest) = targets.split_at(output.rows().min(targets.len()));
        targets = rest;
        let rows = now.par_iter().enumerate().map(|(row, &target)| {
            let expected = expected.map(|expected| expected.row(row));
            score(output.row(row), expected, target)
        });
        parallel::install(|| scored.par_extend(rows));
    }
    scored.into_iter().collect()
}

fn vocabulary(session: &Session) -> usize {
    session.model().hyperparameters().vocab_size
}

fn check(session: &Session, texts: &[Vec<TokenId>], options: PerplexityOptions) -> Result<()> {
    let PerplexityOptions { window, stride } = options;
    let most = session
        .context_size()
        .min(session.model().hyperparameters().n_positions);
    if !(2..=most).contains(&window) {
        let expected = format!("from 2 to {most} (the context)");
        return Err(Error::out_of_range("window", expected, &window));
    }
    if let Some(stride) = stride
        && !(1..=window).contains(&stride)
    {
        let expected = format!("from 1 to {window} (the window)");
        return Err(Error::out_of_range("stride", expected, &stride));
    }
    if texts.iter().all(|text| text.len() < 2) {
        let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
        return Err(Error::Argument(format!(
            "expected a text of at least 2 tokens, found {longest}: a token is scored by those \
             before it"
        )));
    }
    texts
        .iter()
        .try_for_each(|text| session.model().check_tokens(text))
}

fn unless_stopped<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(Error::Stopped) => Ok(None),
        other => other.map(Some),
    }
}

/// One position's figures.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Score {
    nll: f64,
    /// Divergence from the reference, and whether both prefer the same token.
    comparison: Option<(f64, bool)>,
}

/// Scores the logits of one position, `[vocabulary]`, against the token that followed and the
/// reference's logits.
fn score(logits: &[f32], reference: Option<&[f32]>, target: TokenId) -> Result<Score> {
    let log_sum = LogSum::of(logits)?;
    let nll = log_sum.information(logits[target as usize]);
    let comparison = match reference {
        None => None,
        Some(reference) => {
            let reference_log_sum = LogSum::of(reference)?;
            let divergence = reference.iter().zip(logits).map(|(&p, &q)| {
                let p = reference_log_sum.information(p);
                let q = log_sum.information(q);
                libm::exp(-p) * (q - p)
            });
            let agrees = crate::sampling::greedy(reference)? == crate::sampling::greedy(logits)?;
            // Rounding can take the divergence of equal distributions below 0.
            Some((divergence.sum::<f64>().max(0.0), agrees))
        }
    };
    Ok(Score { nll, comparison })
}

fn compare(mut divergences: Vec<f64>, agreements: usize) -> Option<Comparison> {
    let count = divergences.len();
    if count == 0 {
        return None;
    }
    divergences.sort_unstable_by(f64::total_cmp);
    Some(Comparison {
        kld_mean: divergences.iter().sum::<f64>() / count as f64,
        kld_p99: divergences[(count * 99).div_ceil(100) - 1],
        top1_agreement: agreements as f64 / count as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() < 1e-6,
            "expected {expected}, found {found}"
        );
    }

    #[test]
    fn nll_of_a_known_distribution() {
        // Weights 1 : 3 → −ln ¾.
        let logits = [0.0, libm::logf(3.0)];
        close(score(&logits, None, 1).unwrap().nll, (4.0_f64 / 3.0).ln());
        // A constant added to all logits changes nothing, however large.
        close(score(&[1000.0, 1000.0], None, 0).unwrap().nll, 2_f64.ln());
    }

    #[test]
    fn divergence_of_known_distributions() {
        // p = (½, ½), q = (¼, ¾): ½ ln 2 + ½ ln ⅔.
        let scored = score(&[0.0, libm::logf(3.0)], Some(&[0.0, 0.0]), 0).unwrap();
        let (divergence, agrees) = scored.comparison.unwrap();
        close(divergence, 0.5 * 2_f64.ln() + 0.5 * (2.0_f64 / 3.0).ln());
        assert!(!agrees, "the reference's first of equals is token 0");
        let logits = [0.3, -2.0, 7.0];
        assert_eq!(
            score(&logits, Some(&logits), 0).unwrap().comparison,
            Some((0.0, true))
        );
    }

    #[test]
    fn logits_that_are_no_numbers_are_an_error() {
        assert!(score(&[f32::NAN, 0.0], None, 1).is_err());
        assert!(score(&[f32::INFINITY, 0.0], None, 1).is_err());
        assert!(score(&[f32::NEG_INFINITY; 2], None, 1).is_err());
    }

    #[test]
    fn percentile_is_the_nearest_rank() {
        let found = compare((1..=200).rev().map(f64::from).collect(), 150).unwrap();
        assert_eq!(
            (found.kld_mean, found.kld_p99, found.top1_agreement),
            (100.5, 198.0, 0.75)
        );
        assert_eq!(compare(vec![5.0], 1).unwrap().kld_p99, 5.0);
        assert_eq!(compare(Vec::new(), 0), None);
    }

    fn of(length: usize, window: usize, stride: Option<usize>) -> Vec<[usize; 4]> {
        let windows = windows(length, PerplexityOptions { window, stride });
        let fields = |w: Window| [w.tokens.start, w.tokens.end, w.first, w.weight];
        windows.into_iter().map(fields).collect()
    }

    #[test]
    fn windows_without_a_stride_are_full_or_the_whole_text() {
        assert_eq!(of(10, 4, None), [[0, 4, 1, 3], [4, 8, 1, 3]]);
        assert_eq!(of(3, 4, None), [[0, 3, 1, 2]]);
        assert_eq!(of(4, 4, None), [[0, 4, 1, 3]]);
        assert!(of(1, 4, None).is_empty() && of(0, 4, None).is_empty());
        let options = PerplexityOptions {
            window: 4,
            stride: None,
        };
        let left_out = [0, 1, 3, 4, 10].map(|length| left_out(length, options));
        assert_eq!(left_out, [0, 1, 0, 0, 2]);
    }

    #[test]
    fn windows_with_a_stride_are_those_of_transformers_guide() {
        // begin, end, first target, trg_len − 1.
        assert_eq!(
            of(11, 4, Some(2)),
            [
                [0, 4, 1, 3],
                [2, 6, 2, 1],
                [4, 8, 2, 1],
                [6, 10, 2, 1],
                [8, 11, 2, 0]
            ]
        );
        assert_eq!(
            of(10, 4, Some(4)),
            [[0, 4, 1, 3], [4, 8, 1, 3], [8, 10, 1, 1]]
        );
        assert_eq!(of(3, 4, Some(2)), [[0, 3, 1, 2]]);
        // The guide divides by no token here.
        assert_eq!(of(9, 4, Some(4)).len(), 2);
    }

    #[test]
    fn perplexity_is_the_exponential_of_the_mean() {
        let result = Perplexity {
            nll_sum: 3.0 * 8_f64.ln(),
            tokens: 3,
            ..Perplexity::default()
        };
        close(result.perplexity(), 8.0);
    }
}
