//! Processors that change every score by itself, or all by the same amount.

use super::Processor;
use super::distribution::{log_softmax_in_place, maximum};
use crate::TokenId;

/// A parameter as the `f32` that scores are computed in: no infinity of a number that is none.
pub(super) fn parameter(number: f64) -> f32 {
    (number as f32).clamp(f32::MIN, f32::MAX)
}

/// [`parameter`] of one above 0, which stays above 0.
pub(super) fn positive_parameter(number: f64) -> f32 {
    (number as f32).clamp(f32::from_bits(1), f32::MAX)
}

/// Changes a score that is a number to a number: where a parameter is so large that the result
/// overflows, it is as large as it can be. What is ruled out stays out, and NaN is left to be
/// found.
pub(super) fn change(score: &mut f32, to: impl FnOnce(f32) -> f32) {
    if score.is_finite() {
        *score = to(*score).clamp(f32::MIN, f32::MAX);
    }
}

/// Divides the scores: below 1 sharpens the distribution, above 1 flattens it.
///
/// Where the largest quotient would overflow, the largest score becomes 0 before the division,
/// which changes nothing in the distribution: towards 0 only the best token is left, with its
/// equals.
#[derive(Debug, Clone)]
pub struct Temperature {
    temperature: f32,
}

impl Temperature {
    /// `temperature` above 0.
    pub fn new(temperature: f64) -> Self {
        Self {
            temperature: positive_parameter(temperature),
        }
    }
}

impl Processor for Temperature {
    fn apply(&mut self, logits: &mut [f32], _ids: &[TokenId]) {
        let largest = maximum(logits);
        let overflows = largest.is_finite() && (largest / self.temperature).is_infinite();
        if !overflows {
            for logit in logits {
                *logit /= self.temperature;
            }
            return;
        }
        let largest = f64::from(largest);
        let temperature = f64::from(self.temperature);
        for logit in logits {
            change(logit, |logit| {
                ((f64::from(logit) - largest) / temperature) as f32
            });
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
    fn a_temperature_towards_0_leaves_the_best() {
        for temperature in [1e-38, 1e-40, 1e-46, f64::MIN_POSITIVE] {
            let scores = applied(Temperature::new(temperature), &[10.0, 12.0, OUT, -9.0], &[]);
            assert_eq!((scores[1], scores[2]), (0.0, OUT), "{temperature}");
            assert!(scores[0] < -1e36 && scores[0].is_finite(), "{scores:?}");
        }
        let equals = applied(Temperature::new(1e-46), &[7.0, 7.0, 0.0], &[]);
        assert_eq!(equals, [0.0, 0.0, f32::MIN]);
        // NaN stays to be found; towards infinity all tokens are alike.
        let broken = applied(Temperature::new(1e-40), &[f32::NAN, 9.0], &[]);
        assert!(broken[0].is_nan());
        let flat = applied(Temperature::new(f64::MAX), &[100.0, OUT, -5.0], &[]);
        assert!(flat[0].abs() < 1e-30 && flat[1] == OUT && flat[2].abs() < 1e-30);
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
