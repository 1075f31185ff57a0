//! Warpers that drop tokens below a probability.

use super::Processor;
use super::distribution::{
    Candidate, by_falling_score, entropy, fill_softmax, kth_largest, sort_front,
};
use crate::TokenId;

/// Drops tokens less probable than a fraction of the best one's probability (Nguyen et al. 2024).
#[derive(Debug, Clone)]
pub struct MinP {
    fraction: f32,
    min_tokens_to_keep: usize,
    candidates: Vec<Candidate>,
}

impl MinP {
    /// `fraction` in [0, 1]; 0 keeps all.
    pub fn new(fraction: f64) -> Self {
        Self {
            fraction: fraction as f32,
            min_tokens_to_keep: 1,
            candidates: Vec::new(),
        }
    }

    /// Keeps at least `count` tokens, the best ones.
    #[must_use]
    pub fn min_tokens_to_keep(mut self, count: usize) -> Self {
        self.min_tokens_to_keep = count;
        self
    }
}

impl Processor for MinP {
    fn apply(&mut self, logits: &mut [f32], _ids: &[TokenId]) {
        fill_softmax(logits, &mut self.candidates);
        let best = self
            .candidates
            .iter()
            .map(|c| c.probability)
            .fold(0.0, f32::max);
        let threshold = self.fraction * best;
        let mut exempt = 0;
        // The best token passes by itself.
        if self.min_tokens_to_keep > 1 {
            exempt = sort_front(
                &mut self.candidates,
                self.min_tokens_to_keep,
                by_falling_score(logits),
            );
        }
        for candidate in &self.candidates[exempt..] {
            if candidate.probability < threshold {
                logits[candidate.token] = f32::NEG_INFINITY;
            }
        }
    }
}

/// Drops tokens less probable than ε (Hewitt et al. 2022); the best always stays, with whatever
/// equals it.
#[derive(Debug, Clone)]
pub struct EpsilonCutoff {
    epsilon: f32,
    floor: Floor,
    candidates: Vec<Candidate>,
}

impl EpsilonCutoff {
    /// `epsilon` in [0, 1); 0 keeps all.
    pub fn new(epsilon: f64) -> Self {
        Self {
            epsilon: epsilon as f32,
            floor: Floor::new(),
            candidates: Vec::new(),
        }
    }

    /// Keeps at least `count` tokens, the best ones.
    #[must_use]
    pub fn min_tokens_to_keep(mut self, count: usize) -> Self {
        self.floor.count = count.max(1);
        self
    }
}

impl Processor for EpsilonCutoff {
    fn apply(&mut self, logits: &mut [f32], _ids: &[TokenId]) {
        fill_softmax(logits, &mut self.candidates);
        self.floor
            .drop_below(logits, &self.candidates, self.epsilon);
    }
}

/// Drops tokens less probable than min(ε, √ε·e^−H), H the entropy of the distribution (Hewitt et
/// al. 2022): the flatter it is, the less probable a token may be.
#[derive(Debug, Clone)]
pub struct EtaCutoff {
    epsilon: f32,
    floor: Floor,
    candidates: Vec<Candidate>,
}

impl EtaCutoff {
    /// `epsilon` in [0, 1); 0 keeps all.
    pub fn new(epsilon: f64) -> Self {
        Self {
            epsilon: epsilon as f32,
            floor: Floor::new(),
            candidates: Vec::new(),
        }
    }

    /// Keeps at least `count` tokens, the best ones.
    #[must_use]
    pub fn min_tokens_to_keep(mut self, count: usize) -> Self {
        self.floor.count = count.max(1);
        self
    }
}

impl Processor for EtaCutoff {
    fn apply(&mut self, logits: &mut [f32], _ids: &[TokenId]) {
        let log_sum = fill_softmax(logits, &mut self.candidates);
        let entropy = entropy(logits, &self.candidates, log_sum) as f32;
        let eta = self.epsilon.min(self.epsilon.sqrt() * libm::expf(-entropy));
        self.floor.drop_below(logits, &self.candidates, eta);
    }
}

/// How many of the best tokens a cutoff leaves whatever their probability.
#[derive(Debug, Clone)]
struct Floor {
    count: usize,
    largest: Vec<f32>,
}

impl Floor {
    fn new() -> Self {
        Self {
            count: 1,
            largest: Vec::new(),
        }
    }

    /// Rules out what is less probable than `threshold` and below the score of the last token to
    /// be kept.
    fn drop_below(&mut self, logits: &mut [f32], candidates: &[Candidate], threshold: f32) {
        let Some(kept) = kth_largest(logits, self.count, &mut self.largest) else {
            return;
        };
        for candidate in candidates {
            let logit = &mut logits[candidate.token];
            if candidate.probability < threshold && *logit < kept {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{OUT, log, survivors};
    use super::*;

    #[test]
    fn min_p_is_relative_to_the_best() {
        // Thresholds: .5·.3 = .15 and .5·.1 = .05.
        let logits = log(&[0.5, 0.25, 0.14, 0.06, 0.05]);
        assert_eq!(survivors(MinP::new(0.3), &logits), [0, 1]);
        assert_eq!(survivors(MinP::new(0.11), &logits), [0, 1, 2, 3]);
        assert_eq!(survivors(MinP::new(0.0), &logits).len(), 5);
        assert_eq!(survivors(MinP::new(1.0), &logits), [0]);
    }

    #[test]
    fn min_p_of_beams_keeps_a_token_beside_the_ends() {
        let logits = log(&[0.05, 0.5, 0.15, 0.15, 0.15]);
        let min_p = |count| MinP::new(0.9).min_tokens_to_keep(count);
        assert_eq!(survivors(min_p(1), &logits), [1]);
        assert_eq!(survivors(min_p(3), &logits), [1, 2, 3]);
        assert_eq!(survivors(min_p(9), &logits).len(), 5);
        // No fewer than pass by themselves: .3·.5 = .15 does.
        let passing = MinP::new(0.29).min_tokens_to_keep(2);
        assert_eq!(survivors(passing, &logits), [1, 2, 3, 4]);
    }

    #[test]
    fn epsilon_is_a_probability() {
        let logits = log(&[0.5, 0.3, 0.15, 0.05]);
        assert_eq!(survivors(EpsilonCutoff::new(0.2), &logits), [0, 1]);
        assert_eq!(survivors(EpsilonCutoff::new(0.1), &logits), [0, 1, 2]);
        assert_eq!(survivors(EpsilonCutoff::new(0.0), &logits).len(), 4);
        // Nobody is that probable: the best stays.
        assert_eq!(survivors(EpsilonCutoff::new(0.9), &logits), [0]);
        let of_beams = EpsilonCutoff::new(0.9).min_tokens_to_keep(3);
        assert_eq!(survivors(of_beams, &logits), [0, 1, 2]);
        // Those that equal the last to be kept stay as well.
        let equals = log(&[0.3, 0.3, 0.4]);
        let of_beams = EpsilonCutoff::new(0.9).min_tokens_to_keep(2);
        assert_eq!(survivors(of_beams, &equals).len(), 3);
        assert_eq!(survivors(EpsilonCutoff::new(0.9), &[0.0; 3]).len(), 3);
    }

    #[test]
    fn epsilon_counts_what_is_left() {
        // Without token 0: .2/.5 = .4, .3/.5 = .6.
        let mut logits = log(&[0.5, 0.2, 0.3]);
        logits[0] = OUT;
        assert_eq!(survivors(EpsilonCutoff::new(0.35), &logits), [1, 2]);
        assert_eq!(survivors(EpsilonCutoff::new(0.45), &logits), [2]);
    }

    #[test]
    fn eta_falls_with_the_entropy() {
        // H = −(.8 ln .8 + .1 ln .1 + 2·.05 ln .05) = .7083; √.04 · e^−.7083 = .0985, above ε =
        // .04.
        let peaked = log(&[0.8, 0.1, 0.05, 0.05]);
        assert_eq!(survivors(EtaCutoff::new(0.04), &peaked).len(), 4);
        // ε = .3: √.3 · e^−.7083 = .2697 is the lesser.
        assert_eq!(survivors(EtaCutoff::new(0.3), &peaked), [0]);
        // ε = .06: √.06 · e^−.7083 = .1206, so that ε itself holds.
        assert_eq!(survivors(EtaCutoff::new(0.06), &peaked), [0, 1]);
        // H = −(.4 ln .4 + 3·.2 ln .2) = 1.3322; √.49 · e^−1.3322 = .1847 although ε = .49.
        let flat = log(&[0.4, 0.2, 0.2, 0.2]);
        assert_eq!(survivors(EtaCutoff::new(0.49), &flat).len(), 4);
        // √.81 · e^−1.3322 = .2375.
        assert_eq!(survivors(EtaCutoff::new(0.81), &flat), [0]);
        let of_beams = EtaCutoff::new(0.81).min_tokens_to_keep(2);
        assert_eq!(survivors(of_beams, &flat).len(), 4);
        assert_eq!(survivors(EtaCutoff::new(0.0), &peaked).len(), 4);
    }

    #[test]
    fn nothing_left_is_left_alone() {
        for logits in [&[OUT; 3][..], &[]] {
            assert!(survivors(MinP::new(0.5), logits).is_empty());
            assert!(survivors(MinP::new(0.5).min_tokens_to_keep(2), logits).is_empty());
            assert!(survivors(EpsilonCutoff::new(0.5), logits).is_empty());
            assert!(survivors(EtaCutoff::new(0.5), logits).is_empty());
        }
    }

    #[test]
    fn what_is_no_number_stays_to_be_found() {
        for mut warper in [
            Box::new(MinP::new(0.5)) as Box<dyn Processor>,
            Box::new(EpsilonCutoff::new(0.5)),
            Box::new(EtaCutoff::new(0.5)),
        ] {
            let mut logits = [1.0, f32::NAN, OUT];
            warper.apply(&mut logits, &[]);
            assert!(logits[1].is_nan());
        }
    }
}
