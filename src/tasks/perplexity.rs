//! How well a model predicts a text, and how far it is from another model.
//!
//! Windows as the transformers documentation has them for models of fixed length, without overlap:
//! perplexity = exp(Σ −ln p(token | earlier tokens of its window) / tokens scored).

use std::ops::ControlFlow;

use rayon::prelude::*;

use crate::machine::parallel;
use crate::session::Session;
use crate::{Error, Result, TokenId};

/// Logits computed at a time: enough for the matrix kernels, far below a window's whole
/// (512 × 50257 × 4 bytes = 98 MiB).
const LOGITS_BYTES: usize = 16 << 20;

/// A text's score.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Perplexity {
    /// Σ −ln p over the tokens scored.
    pub nll_sum: f64,
    /// Tokens scored: window − 1 for each window.
    pub tokens: usize,
    /// Windows done.
    pub windows: usize,
    /// How far the model is from the reference, when there is one.
    pub comparison: Option<Comparison>,
}

impl Perplexity {
    /// exp(`nll_sum` / `tokens`); NaN when nothing was scored.
    pub fn perplexity(&self) -> f64 {
        (self.nll_sum / self.tokens as f64).exp()
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

/// Scores `ids` in windows of `window` tokens that do not overlap, each on its positions
/// 1…window−1; a last window that is not full is dropped. `reference` is compared with when given.
///
/// `progress` gets the result so far and the number of windows after each window; a break ends the
/// measurement with what there is, and so does the session's stop flag.
///
/// # Errors
/// [`Error::Argument`] for a window below 2 or above the context, fewer ids than one window, an id
/// outside the vocabulary, or a reference with another vocabulary; [`Error::Format`] when logits
/// are not numbers; as [`Session::forward`].
pub fn perplexity(
    session: &mut Session,
    mut reference: Option<&mut Session>,
    ids: &[TokenId],
    window: usize,
    progress: &mut dyn FnMut(&Perplexity, usize) -> ControlFlow<()>,
) -> Result<Perplexity> {
    check(session, ids, window)?;
    if let Some(reference) = &reference {
        check(reference, ids, window)?;
        let (found, expected) = (vocabulary(reference), vocabulary(session));
        if found != expected {
            return Err(Error::Argument(format!(
                "the reference has a vocabulary of {found} tokens, the model one of {expected}: \
                 only models of the same vocabulary can be compared"
            )));
        }
    }
    let vocabulary = vocabulary(session);
    let rows = (LOGITS_BYTES / size_of::<f32>() / vocabulary)
        .max(16)
        .min(window);
    let windows = ids.len() / window;
    let mut result = Perplexity::default();
    let mut divergences = Vec::new();
    let mut agreements = 0;
    'windows: for window in ids.chunks_exact(window) {
        session.clear();
        if let Some(reference) = &mut reference {
            reference.clear();
        }
        let mut scored = Vec::with_capacity(window.len());
        // The last token is only predicted, and the first only predicts.
        let inputs = window[..window.len() - 1].chunks(rows);
        for (inputs, targets) in inputs.zip(window[1..].chunks(rows)) {
            let Some(logits) = unless_stopped(session.forward(inputs))? else {
                break 'windows;
            };
            let expected = match &mut reference {
                None => None,
                Some(reference) => match unless_stopped(reference.forward(inputs))? {
                    None => break 'windows,
                    logits => logits,
                },
            };
            let rows = targets.par_iter().enumerate().map(|(row, &target)| {
                let columns = row * vocabulary..(row + 1) * vocabulary;
                let expected = expected.map(|expected| &expected[columns.clone()]);
                score(&logits[columns], expected, target)
            });
            parallel::install(|| scored.par_extend(rows));
        }
        for position in scored {
            let position = position?;
            result.nll_sum += position.nll;
            result.tokens += 1;
            if let Some((divergence, agrees)) = position.comparison {
                divergences.push(divergence);
                agreements += usize::from(agrees);
            }
        }
        result.windows += 1;
        if progress(&result, windows).is_break() {
            break;
        }
    }
    result.comparison = compare(divergences, agreements);
    Ok(result)
}

fn vocabulary(session: &Session) -> usize {
    session.model().hyperparameters().vocab_size
}

fn check(session: &Session, ids: &[TokenId], window: usize) -> Result<()> {
    let most = session
        .context_size()
        .min(session.model().hyperparameters().n_positions);
    if !(2..=most).contains(&window) {
        let expected = format!("from 2 to {most} (the context)");
        return Err(Error::out_of_range("window", expected, &window));
    }
    if ids.len() < window {
        return Err(Error::Argument(format!(
            "the text has {} tokens: expected at least one window of {window}; give a longer text \
             or a smaller window",
            ids.len()
        )));
    }
    session.model().check_tokens(ids)
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
    let log_sum = log_sum_exp(logits)?;
    let nll = log_sum - f64::from(logits[target as usize]);
    let comparison = match reference {
        None => None,
        Some(reference) => {
            let reference_log_sum = log_sum_exp(reference)?;
            let divergence = reference.iter().zip(logits).map(|(&p, &q)| {
                let p = f64::from(p) - reference_log_sum;
                let q = f64::from(q) - log_sum;
                p.exp() * (p - q)
            });
            let agrees = crate::sampling::greedy(reference)? == crate::sampling::greedy(logits)?;
            // Rounding can take the divergence of equal distributions below 0.
            Some((divergence.sum::<f64>().max(0.0), agrees))
        }
    };
    Ok(Score { nll, comparison })
}

/// ln Σ exp(x).
fn log_sum_exp(logits: &[f32]) -> Result<f64> {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits
        .iter()
        .map(|&logit| (f64::from(logit) - largest).exp())
        .sum();
    let result = largest + sum.ln();
    if result.is_finite() {
        Ok(result)
    } else {
        Err(Error::format(
            "logits",
            "expected finite numbers; the model's weights are broken",
        ))
    }
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
