//! Classifier-free guidance: away from what the model says without the prompt.

use super::distribution::log_softmax;
use super::values::{change, parameter};

/// Moves the scores from the unconditional distribution towards, and past, the conditional one
/// (Sanchez et al. 2023): u + g·(c − u), of log-probabilities u and c and the scale g.
///
/// The caller computes the unconditional logits; transformers' unconditional prompt is the last
/// token of the prompt, followed by what was generated.
#[derive(Debug, Clone)]
pub struct ClassifierFreeGuidance {
    scale: f32,
    conditional: Vec<f32>,
    unconditional: Vec<f32>,
}

impl ClassifierFreeGuidance {
    /// A scale of 1 leaves the conditional log-probabilities, above 1 strengthens the prompt.
    pub fn new(scale: f64) -> Self {
        Self {
            scale: parameter(scale),
            conditional: Vec::new(),
            unconditional: Vec::new(),
        }
    }

    /// Replaces `logits` by the guided scores; both are `[vocabulary]`.
    ///
    /// A token that the unconditional logits rule out, or lack, keeps its conditional
    /// log-probability.
    pub fn apply(&mut self, logits: &mut [f32], unconditional: &[f32]) {
        log_softmax(logits, &mut self.conditional);
        log_softmax(unconditional, &mut self.unconditional);
        logits.copy_from_slice(&self.conditional);
        for (score, &base) in logits.iter_mut().zip(&self.unconditional) {
            // The formula would be ∞ − ∞ there.
            if base != f32::NEG_INFINITY {
                change(score, |score| self.scale * (score - base) + base);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guided_scores_go_past_the_conditional_ones() {
        // c = ln (.75 .25), u = ln (.5 .5), g = 2: 2c − u = ln (.75²/.5, .25²/.5) = ln (1.125,
        // .125).
        let mut logits = [libm::logf(3.0), 0.0];
        ClassifierFreeGuidance::new(2.0).apply(&mut logits, &[7.0, 7.0]);
        for (score, expected) in logits.into_iter().zip([1.125, 0.125]) {
            assert!((score - libm::logf(expected)).abs() < 1e-6, "{logits:?}");
        }
    }

    #[test]
    fn what_is_ruled_out_makes_no_nan() {
        let out = f32::NEG_INFINITY;
        // c = ln (½ ½ 0 0), u = ln (½ 0 ½ 0): the second and the fourth keep c.
        let mut logits = [1.0, 1.0, out, out];
        ClassifierFreeGuidance::new(3.0).apply(&mut logits, &[0.0, out, 0.0, out]);
        for score in &logits[..2] {
            assert!((score + libm::logf(2.0)).abs() < 1e-6, "{logits:?}");
        }
        assert_eq!(logits[2..], [out, out]);
        // Fewer unconditional logits: what is missing keeps c.
        let mut logits = [0.0, 0.0];
        ClassifierFreeGuidance::new(3.0).apply(&mut logits, &[]);
        assert!((logits[1] + libm::logf(2.0)).abs() < 1e-6, "{logits:?}");
    }
}
