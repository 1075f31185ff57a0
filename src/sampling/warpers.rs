//! The processors that shape the distribution before a draw; greedy decoding leaves them out.
//!
//! Each renormalizes over what the ones before it left (scores at −∞ are out). Comparisons with a
//! threshold are made in f32, as torch makes them, so that the same tokens survive.

use super::Processor;
use super::distribution::{Candidate, keep_front, softmax};
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

/// Keeps the k largest scores; a score equal to the k-th survives too.
#[derive(Debug, Clone)]
pub struct TopK {
    k: usize,
    largest: Vec<f32>,
}

impl TopK {
    /// Keeps `k` scores; 0 keeps all.
    pub fn new(k: usize) -> Self {
        Self {
            k,
            largest: Vec::new(),
        }
    }

    /// The k-th largest of `logits`; `None` when there are not more than k.
    fn threshold(&mut self, logits: &[f32]) -> Option<f32> {
        if self.k == 0 || self.k >= logits.len() {
            return None;
        }
        // One pass with a small buffer: what is not above the k-th largest so far cannot change
        // it. When the buffer is full it is cut down to its k largest again.
        let capacity = (2 * self.k).max(1024);
        let descending = |a: &f32, b: &f32| b.total_cmp(a);
        let mut threshold = f32::NEG_INFINITY;
        self.largest.clear();
        for &logit in logits {
            if logit > threshold {
                self.largest.push(logit);
                if self.largest.len() == capacity {
                    threshold = *self
                        .largest
                        .select_nth_unstable_by(self.k - 1, descending)
                        .1;
                    self.largest.truncate(self.k);
                }
            }
        }
        if self.largest.len() < self.k {
            return None;
        }
        Some(
            *self
                .largest
                .select_nth_unstable_by(self.k - 1, descending)
                .1,
        )
    }
}

impl Processor for TopK {
    fn apply(&mut self, logits: &mut [f32], _ids: &[TokenId]) {
        if let Some(threshold) = self.threshold(logits) {
            for logit in logits {
                if *logit < threshold {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
    }
}

/// Keeps the most probable tokens whose mass reaches p (Holtzman et al. 2019).
///
/// As transformers: in ascending order, tokens are dropped while the cumulative probability is at
/// most 1 − p; the best always stays.
#[derive(Debug, Clone)]
pub struct TopP {
    /// 1 − p.
    dropped_mass: f32,
    candidates: Vec<Candidate>,
}

impl TopP {
    /// `p` in (0, 1].
    pub fn new(p: f64) -> Self {
        Self {
            dropped_mass: (1.0 - p) as f32,
            candidates: Vec::new(),
        }
    }
}

impl Processor for TopP {
    fn apply(&mut self, logits: &mut [f32], _ids: &[TokenId]) {
        softmax(logits, &mut self.candidates);
        // The ascending cumulative sum at a token is the mass of that token and all below it:
        // walked from above, it needs no sort of the long tail.
        let mut cumulative: f64 = self
            .candidates
            .iter()
            .map(|c| f64::from(c.probability))
            .sum();
        let mut first = true;
        let kept = keep_front(
            &mut self.candidates,
            // Of equal probabilities the earlier token sorts lower in torch's stable ascending
            // order, so it is the first to go.
            |a, b| {
                b.probability
                    .total_cmp(&a.probability)
                    .then(b.token.cmp(&a.token))
            },
            |candidate| {
                let keep = first || cumulative as f32 > self.dropped_mass;
                first = false;
                cumulative -= f64::from(candidate.probability);
                keep
            },
        );
        for candidate in &self.candidates[kept..] {
            logits[candidate.token] = f32::NEG_INFINITY;
        }
    }
}

/// Drops tokens less probable than a fraction of the best one's probability.
#[derive(Debug, Clone)]
pub struct MinP {
    fraction: f32,
    candidates: Vec<Candidate>,
}

impl MinP {
    /// `fraction` in [0, 1]; 0 keeps all.
    pub fn new(fraction: f64) -> Self {
        Self {
            fraction: fraction as f32,
            candidates: Vec::new(),
        }
    }
}

impl Processor for MinP {
    fn apply(&mut self, logits: &mut [f32], _ids: &[TokenId]) {
        softmax(logits, &mut self.candidates);
        let best = self
            .candidates
            .iter()
            .map(|c| c.probability)
            .fold(0.0, f32::max);
        let threshold = self.fraction * best;
        for candidate in &self.candidates {
            if candidate.probability < threshold {
                logits[candidate.token] = f32::NEG_INFINITY;
            }
        }
    }
}

/// Keeps the tokens whose information −ln p is nearest to the distribution's entropy, until their
/// mass reaches the given one (Meister et al. 2022).
#[derive(Debug, Clone)]
pub struct TypicalP {
    mass: f32,
    candidates: Vec<Candidate>,
    /// Distance from the entropy, and the candidate.
    distances: Vec<(f32, Candidate)>,
}

impl TypicalP {
    /// `mass` in (0, 1].
    pub fn new(mass: f64) -> Self {
        Self {
            mass: mass as f32,
            candidates: Vec::new(),
            distances: Vec::new(),
        }
    }
}

impl Processor for TypicalP {
    fn apply(&mut self, logits: &mut [f32], _ids: &[TokenId]) {
        let log_sum = softmax(logits, &mut self.candidates);
        let information = |candidate: &Candidate| log_sum - f64::from(logits[candidate.token]);
        let entropy: f64 = self
            .candidates
            .iter()
            .map(|c| information(c) * f64::from(c.probability))
            .sum();
        self.distances.clear();
        self.distances.extend(
            self.candidates
                .iter()
                .map(|c| ((information(c) - entropy).abs() as f32, *c)),
        );
        let mut cumulative = 0.0;
        let nearest = keep_front(
            &mut self.distances,
            |a, b| a.0.total_cmp(&b.0).then(a.1.token.cmp(&b.1.token)),
            |(_, candidate)| {
                cumulative += f64::from(candidate.probability);
                (cumulative as f32) < self.mass
            },
        );
        // The token that reaches the mass still belongs, and so do those as near as it is.
        let Some(&(threshold, _)) = self.distances.get(nearest) else {
            return;
        };
        for (distance, candidate) in &self.distances {
            if *distance > threshold {
                logits[candidate.token] = f32::NEG_INFINITY;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUT: f32 = f32::NEG_INFINITY;

    /// Logits of a distribution, so that softmax gives the distribution back.
    fn log(probabilities: &[f32]) -> Vec<f32> {
        probabilities.iter().map(|p| libm::logf(*p)).collect()
    }

    /// The tokens that survive `warper`.
    fn survivors(mut warper: impl Processor, logits: &[f32]) -> Vec<usize> {
        let mut warped = logits.to_vec();
        warper.apply(&mut warped, &[]);
        for (after, before) in warped.iter().zip(logits) {
            assert!(*after == OUT || after.to_bits() == before.to_bits());
        }
        (0..logits.len())
            .filter(|&token| warped[token] != OUT)
            .collect()
    }

    #[test]
    fn temperature_divides() {
        let mut logits = [1.0, -2.0, OUT];
        Temperature::new(0.5).apply(&mut logits, &[]);
        assert_eq!(logits, [2.0, -4.0, OUT]);
    }

    #[test]
    fn top_k_keeps_ties() {
        let logits = [1.0, 4.0, 3.0, 3.0, 2.0];
        assert_eq!(survivors(TopK::new(1), &logits), [1]);
        assert_eq!(survivors(TopK::new(2), &logits), [1, 2, 3]);
        assert_eq!(survivors(TopK::new(4), &logits), [1, 2, 3, 4]);
        assert_eq!(survivors(TopK::new(0), &logits).len(), 5);
        assert_eq!(survivors(TopK::new(5), &logits).len(), 5);
        assert_eq!(survivors(TopK::new(usize::MAX), &logits).len(), 5);
    }

    #[test]
    fn top_k_where_fewer_are_left_changes_nothing() {
        let mut logits = [OUT, 1.0, OUT, OUT];
        TopK::new(2).apply(&mut logits, &[]);
        assert_eq!(logits, [OUT, 1.0, OUT, OUT]);
    }

    #[test]
    fn top_k_on_a_real_vocabulary() {
        let logits: Vec<f32> = (0..50257_u64)
            .map(|i| (i * 48_271 % 50_261) as f32)
            .collect();
        for k in [1, 50, 600, 950, 20_000] {
            let mut sorted = logits.clone();
            sorted.sort_unstable_by(|a, b| b.total_cmp(a));
            let expected: Vec<usize> = (0..logits.len())
                .filter(|&i| logits[i] >= sorted[k - 1])
                .collect();
            assert_eq!(survivors(TopK::new(k), &logits), expected, "k = {k}");
        }
    }

    #[test]
    fn top_p_drops_while_the_lower_mass_is_at_most_the_rest() {
        // Ascending sums of the first: .1 .2 | .5 1; of the second: .15 | .4 .7 1.
        assert_eq!(
            survivors(TopP::new(0.8), &log(&[0.3, 0.1, 0.1, 0.5])),
            [0, 3]
        );
        assert_eq!(
            survivors(TopP::new(0.8), &log(&[0.15, 0.3, 0.3, 0.25])),
            [1, 2, 3]
        );
        // A mass below the best token's probability still keeps that token.
        assert_eq!(survivors(TopP::new(0.01), &log(&[0.3, 0.1, 0.1, 0.5])), [3]);
        // Equal probabilities: sums .25 .5 | .75 1, the earlier tokens go.
        assert_eq!(survivors(TopP::new(0.5), &log(&[0.25; 4])), [2, 3]);
    }

    #[test]
    fn top_p_counts_what_is_left() {
        // Without token 0: .2/.5 = .4, .3/.5 = .6.
        let mut logits = log(&[0.5, 0.2, 0.3]);
        logits[0] = OUT;
        assert_eq!(survivors(TopP::new(0.5), &logits), [2]);
        assert_eq!(survivors(TopP::new(0.7), &logits), [1, 2]);
    }

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
    fn typical_p_prefers_expected_information() {
        // H = −(.97 ln .97 + 3·.01 ln .01) = 0.1677; distances: .1373 for the first, 4.4375 for
        // the others.
        let peaked = log(&[0.97, 0.01, 0.01, 0.01]);
        assert_eq!(survivors(TypicalP::new(0.5), &peaked), [0]);
        // H = 1.2799 with .4 .2 .2 .2 → distances .3636 and .3295: the three come first, and the
        // mass of .7 is only reached with the largest.
        let flat = log(&[0.4, 0.2, 0.2, 0.2]);
        assert_eq!(survivors(TypicalP::new(0.3), &flat), [1, 2, 3]);
        assert_eq!(survivors(TypicalP::new(0.7), &flat), [0, 1, 2, 3]);
        assert_eq!(survivors(TypicalP::new(1.0), &flat), [0, 1, 2, 3]);
    }

    #[test]
    fn nothing_left_is_left_alone() {
        let logits = [OUT; 3];
        assert!(survivors(TopK::new(1), &logits).is_empty());
        assert!(survivors(TopP::new(0.5), &logits).is_empty());
        assert!(survivors(MinP::new(0.5), &logits).is_empty());
        assert!(survivors(TypicalP::new(0.5), &logits).is_empty());
    }
}
