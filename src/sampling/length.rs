//! When a text may end, and when it had better.

use super::Processor;
use super::suppress::forbid;
use crate::TokenId;

/// Rules the ends of text out until a number of ids is reached.
#[derive(Debug, Clone)]
pub struct MinimumLength {
    length: usize,
    eos: Vec<TokenId>,
}

impl MinimumLength {
    /// No id of `eos` before there are `length` ids, prompt included.
    pub fn new(length: usize, eos: &[TokenId]) -> Self {
        Self {
            length,
            eos: eos.to_vec(),
        }
    }
}

impl Processor for MinimumLength {
    fn apply(&mut self, logits: &mut [f32], ids: &[TokenId]) {
        if ids.len() < self.length {
            forbid(logits, self.eos.iter().copied());
        }
    }
}

/// Rules the ends of text out until a number of new ids is reached.
#[derive(Debug, Clone)]
pub struct MinimumNewTokens {
    total: MinimumLength,
}

impl MinimumNewTokens {
    /// No id of `eos` before there are `count` ids after the `prompt_length` of the prompt.
    pub fn new(prompt_length: usize, count: usize, eos: &[TokenId]) -> Self {
        Self {
            total: MinimumLength::new(prompt_length.saturating_add(count), eos),
        }
    }
}

impl Processor for MinimumNewTokens {
    fn apply(&mut self, logits: &mut [f32], ids: &[TokenId]) {
        self.total.apply(logits, ids);
    }
}

/// Makes the ends of text more likely, exponentially, once a number of ids is passed: n ids after
/// it a score s becomes s + |s|·(factorⁿ − 1).
#[derive(Debug, Clone)]
pub struct ExponentialDecayLengthPenalty {
    start: usize,
    factor: f64,
    eos: Vec<TokenId>,
}

impl ExponentialDecayLengthPenalty {
    /// Acts where there are more than `start` ids, prompt included; a `factor` above 1 brings the
    /// ids of `eos` nearer.
    pub fn new(start: usize, factor: f64, eos: &[TokenId]) -> Self {
        let mut eos = eos.to_vec();
        // An id named twice is raised once.
        eos.sort_unstable();
        eos.dedup();
        Self { start, factor, eos }
    }
}

impl Processor for ExponentialDecayLengthPenalty {
    fn apply(&mut self, logits: &mut [f32], ids: &[TokenId]) {
        let passed = ids.len().saturating_sub(self.start);
        if passed == 0 {
            return;
        }
        let growth = (libm::pow(self.factor, passed as f64) - 1.0) as f32;
        // Far beyond the start the power overflows: then the score is as large as it can be.
        let growth = growth.min(f32::MAX);
        for token in &self.eos {
            // What is ruled out stays out: the formula would be −∞ + ∞.
            if let Some(logit) = logits.get_mut(*token as usize)
                && logit.is_finite()
            {
                *logit = (*logit + logit.abs() * growth).min(f32::MAX);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{OUT, applied};
    use super::*;

    #[test]
    fn end_of_text_waits_for_the_length() {
        let minimum = MinimumLength::new(3, &[1, 99]);
        assert_eq!(applied(minimum.clone(), &[0.0, 9.0], &[5, 5]), [0.0, OUT]);
        assert_eq!(applied(minimum, &[0.0, 9.0], &[5, 5, 5]), [0.0, 9.0]);
    }

    #[test]
    fn end_of_text_waits_for_new_tokens() {
        let minimum = MinimumNewTokens::new(2, 1, &[1, 99]);
        assert_eq!(applied(minimum.clone(), &[0.0, 9.0], &[5, 5]), [0.0, OUT]);
        assert_eq!(applied(minimum, &[0.0, 9.0], &[5, 5, 5]), [0.0, 9.0]);
        // A limit no text reaches.
        let endless = MinimumNewTokens::new(2, usize::MAX, &[0]);
        assert_eq!(applied(endless, &[9.0], &[5; 500]), [OUT]);
    }

    #[test]
    fn end_of_text_grows_with_the_length() {
        let penalty = ExponentialDecayLengthPenalty::new(3, 1.5, &[2, 1, 2, 99]);
        let logits = [4.0, 4.0, -4.0];
        for ids in [&[][..], &[0; 3]] {
            assert_eq!(applied(penalty.clone(), &logits, ids), logits);
        }
        // n = 1: 4 + 4·(1.5 − 1) = 6, −4 + 4·0.5 = −2; n = 3: 1.5³ − 1 = 2.375, times 4 is 9.5.
        assert_eq!(applied(penalty.clone(), &logits, &[0; 4]), [4.0, 6.0, -2.0]);
        assert_eq!(applied(penalty, &logits, &[0; 6]), [4.0, 13.5, 5.5]);
        // Below 1 the end goes away: 4 + 4·(0.5 − 1) = 2, −4 − 2 = −6.
        let away = ExponentialDecayLengthPenalty::new(0, 0.5, &[1, 2]);
        assert_eq!(applied(away, &logits, &[0]), [4.0, 2.0, -6.0]);
    }

    #[test]
    fn the_growth_of_the_end_makes_nothing_infinite() {
        let penalty = ExponentialDecayLengthPenalty::new(0, 2.0, &[0, 1, 2, 3, 4]);
        let logits = [1.0, -1.0, 0.0, OUT, f32::NAN];
        // 2²⁰⁰⁰ is beyond f64.
        let result = applied(penalty, &logits, &[0; 2000]);
        assert_eq!(result[..4], [f32::MAX, f32::MAX, 0.0, OUT]);
        assert!(result[4].is_nan());
    }
}
