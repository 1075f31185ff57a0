//! How likely a model held a token: log-probability, rank, entropy, the best alternatives.
//!
//! All of them are of the softmax of the logits as they are given. Sums are in f64.

use super::distribution::{LogSum, sort_front};
use crate::{Error, Result, TokenId};

/// What is computed beside the log-probability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScoreDetails {
    /// The token's place among all.
    pub rank: bool,
    /// The entropy of the distribution.
    pub entropy: bool,
    /// How many of the likeliest tokens to list; more than the vocabulary has lists them all.
    pub top: usize,
}

/// A token's score.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenScore {
    /// ln p of the token, in nats; −∞ for a token that is ruled out.
    pub log_probability: f64,
    /// On request, its place among all tokens from the likeliest on, from 1; of equals the smaller
    /// id comes first, so that 1 is the token that greedy decoding takes.
    pub rank: Option<usize>,
    /// On request, the entropy −Σ p ln p of the distribution, in nats.
    pub entropy: Option<f64>,
    /// On request, the likeliest tokens, in the order of their ranks.
    pub top: Vec<Alternative>,
}

/// A token that could have been.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alternative {
    /// The token.
    pub id: TokenId,
    /// Its ln p, in nats.
    pub log_probability: f64,
}

/// Scores `token` by `logits`, `[vocabulary]`.
///
/// # Errors
/// [`Error::Argument`] for a token outside the vocabulary; [`Error::Format`] when the logits have
/// NaN or +∞ among them, or nothing above −∞: the weights that gave them are broken.
pub fn score_token(logits: &[f32], token: TokenId, details: ScoreDetails) -> Result<TokenScore> {
    let log_sum = LogSum::of(logits)?;
    let Some(&logit) = logits.get(token as usize) else {
        return Err(Error::Argument(format!(
            "expected a token below the vocabulary's {}, found {token}",
            logits.len()
        )));
    };
    Ok(TokenScore {
        log_probability: -log_sum.information(logit),
        rank: details.rank.then(|| rank(logits, token as usize)),
        entropy: details.entropy.then(|| entropy(logits, log_sum)),
        top: top(logits, log_sum, details.top),
    })
}

fn rank(logits: &[f32], token: usize) -> usize {
    let logit = logits[token];
    let before = logits.iter().enumerate();
    let before =
        before.filter(|&(other, value)| *value > logit || (*value == logit && other < token));
    before.count() + 1
}

fn entropy(logits: &[f32], log_sum: LogSum) -> f64 {
    let possible = logits.iter().filter(|logit| **logit > f32::NEG_INFINITY);
    let terms = possible.map(|&logit| {
        let information = log_sum.information(logit);
        libm::exp(-information) * information
    });
    terms.sum()
}

fn top(logits: &[f32], log_sum: LogSum, count: usize) -> Vec<Alternative> {
    if count == 0 {
        return Vec::new();
    }
    let mut ids: Vec<TokenId> = (0..logits.len() as TokenId).collect();
    let count = sort_front(&mut ids, count, |&a, &b| {
        let falling = logits[b as usize].partial_cmp(&logits[a as usize]);
        // Without NaN, which has no sum of exponentials, there always is an order.
        falling.unwrap_or(std::cmp::Ordering::Equal).then(a.cmp(&b))
    });
    let best = ids[..count].iter().map(|&id| Alternative {
        id,
        log_probability: -log_sum.information(logits[id as usize]),
    });
    best.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: ScoreDetails = ScoreDetails {
        rank: true,
        entropy: true,
        top: 2,
    };

    fn close(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() < 1e-6,
            "expected {expected}, found {found}"
        );
    }

    #[test]
    fn scores_of_a_known_distribution() {
        // ½ ¼ ¼: ½ ln 2 + 2·¼ ln 4 = 1.5 ln 2.
        let logits = [0.0, libm::logf(2.0), f32::NEG_INFINITY, 0.0];
        let score = score_token(&logits, 3, ALL).unwrap();
        close(score.log_probability, -libm::log(4.0));
        close(score.entropy.unwrap(), 1.5 * libm::log(2.0));
        // Equals stand in the order of their ids.
        assert_eq!(score.rank, Some(3));
        let ids: Vec<TokenId> = score.top.iter().map(|other| other.id).collect();
        assert_eq!(ids, [1, 0]);
        close(score.top[0].log_probability, -libm::log(2.0));
        let ruled_out = score_token(&logits, 2, ALL).unwrap();
        assert_eq!(
            (ruled_out.log_probability, ruled_out.rank),
            (f64::NEG_INFINITY, Some(4))
        );
        // A constant added to all logits changes nothing, however large.
        let large = score_token(&[1e30, 1e30], 0, ALL).unwrap();
        close(large.log_probability, -libm::log(2.0));
    }

    #[test]
    fn only_what_is_asked_for_is_computed() {
        let plain = score_token(&[1.0, 2.0], 0, ScoreDetails::default()).unwrap();
        assert_eq!((plain.rank, plain.entropy), (None, None));
        assert!(plain.top.is_empty());
        let details = ScoreDetails {
            top: usize::MAX,
            ..ScoreDetails::default()
        };
        let all = score_token(&[1.0, 2.0], 0, details).unwrap();
        assert_eq!(all.top.len(), 2);
    }

    #[test]
    fn rank_one_is_the_token_that_greedy_decoding_takes() {
        let logits = [0.5, 2.0, -1.0, 2.0, 0.5];
        let best = crate::sampling::greedy(&logits).unwrap();
        assert_eq!(score_token(&logits, best, ALL).unwrap().rank, Some(1));
        let mut ranks: Vec<usize> = (0..5)
            .map(|id| score_token(&logits, id, ALL).unwrap().rank.unwrap())
            .collect();
        assert_eq!(ranks, [3, 1, 5, 2, 4]);
        ranks.sort_unstable();
        assert_eq!(ranks, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn logits_without_a_distribution_are_an_error() {
        for logits in [
            [f32::NAN, 0.0],
            [f32::INFINITY, 0.0],
            [f32::NEG_INFINITY; 2],
        ] {
            let result = score_token(&logits, 1, ALL);
            assert!(matches!(result, Err(Error::Format { .. })), "{logits:?}");
        }
        assert!(score_token(&[], 0, ALL).is_err());
        assert!(matches!(
            score_token(&[0.0], 1, ALL),
            Err(Error::Argument(_))
        ));
    }
}
