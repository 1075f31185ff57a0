//! Processors that change every score by itself, or all by the same amount.

use super::Processor;
use super::distribution::log_softmax_in_place;
use crate::TokenId;

/// Divides the scores: below 1 sharpens the distribution, above 1 flattens it.
#[derive(Debug, Clone)]
pub struct Temperature {
    temperature: f32,
}

impl Temperature {
    /// `temperature` above 0.
    pub fn new(temperature: f64) -> Self {
        Self {
            temperature: temperature as f32,
        }
    }
}

impl Processor for Temperature {
    fn apply(&mut self, logits: &mut [f32], _ids: &[TokenId]) {
        for logit in logits {
            *logit /= self.temperature;
        }
    }
}

/// Makes numbers of what is none: NaN becomes 0, +∞ and −∞ the largest and smallest `f32`.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveInvalidValues;

impl Processor for RemoveInvalidValues {
    fn apply(&mut self, logits: &mut [f32], _ids: &[TokenId]) {
        for logit in logits {
            *logit = if logit.is_nan() {
                0.0
            } else {
                logit.clamp(f32::MIN, f32::MAX)
            };
        }
    }
}

/// Makes the scores log-probabilities: [`log_softmax`](super::log_softmax).
#[derive(Debug, Clone, Copy, Default)]
pub struct RenormalizeLogits;

impl Processor for RenormalizeLogits {
    fn apply(&mut self, logits: &mut [f32], _ids: &[TokenId]) {
        log_softmax_in_place(logits);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{OUT, applied};
    use super::*;

    #[test]
    fn temperature_divides() {
        let logits = [1.0, -2.0, OUT];
        assert_eq!(
            applied(Temperature::new(0.5), &logits, &[]),
            [2.0, -4.0, OUT]
        );
    }

    #[test]
    fn every_score_becomes_a_number() {
        let logits = [f32::NAN, f32::INFINITY, OUT, -1.5, f32::MIN];
        assert_eq!(
            applied(RemoveInvalidValues, &logits, &[]),
            [0.0, f32::MAX, f32::MIN, -1.5, f32::MIN]
        );
        // Where everything is ruled out, every token is as good as any other.
        assert_eq!(applied(RemoveInvalidValues, &[OUT; 2], &[]), [f32::MIN; 2]);
    }

    #[test]
    fn renormalized_scores_are_logarithms_of_probabilities() {
        // e^ln 6 : e^ln 2 = 3 : 1, that is ¾ and ¼.
        let logits = [libm::logf(6.0), OUT, libm::logf(2.0)];
        let scores = applied(RenormalizeLogits, &logits, &[]);
        assert_eq!(scores[1], OUT);
        for (score, probability) in [(scores[0], 0.75), (scores[2], 0.25)] {
            assert!((score - libm::logf(probability)).abs() < 1e-6, "{scores:?}");
        }
        assert_eq!(applied(RenormalizeLogits, &[OUT; 2], &[]), [OUT; 2]);
        assert!(applied(RenormalizeLogits, &[], &[]).is_empty());
    }
}
