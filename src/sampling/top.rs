//! Warpers that keep the best tokens: a number of them, or a mass.

use super::Processor;
use super::distribution::{Candidate, fill_softmax, keep_front, kth_largest};
use crate::TokenId;

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

    /// Keeps at least `count` scores.
    #[must_use]
    pub fn min_tokens_to_keep(mut self, count: usize) -> Self {
        if self.k > 0 {
            self.k = self.k.max(count);
        }
        self
    }
}

impl Processor for TopK {
    fn apply(&mut self, logits: &mut [f32], _ids: &[TokenId]) {
        if let Some(threshold) = kth_largest(logits, self.k, &mut self.largest) {
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
/// most 1 − p; the best always stays, and as many as are to be kept at least.
#[derive(Debug, Clone)]
pub struct TopP {
    /// 1 − p.
    dropped_mass: f32,
    min_tokens_to_keep: usize,
    candidates: Vec<Candidate>,
}

impl TopP {
    /// `p` in (0, 1].
    pub fn new(p: f64) -> Self {
        Self {
            dropped_mass: (1.0 - p) as f32,
            min_tokens_to_keep: 1,
            candidates: Vec::new(),
        }
    }

    /// Keeps at least `count` tokens, and the best in any case.
    #[must_use]
    pub fn min_tokens_to_keep(mut self, count: usize) -> Self {
        self.min_tokens_to_keep = count.max(1);
        self
    }
}

impl Processor for TopP {
    fn apply(&mut self, logits: &mut [f32], _ids: &[TokenId]) {
        fill_softmax(logits, &mut self.candidates);
        // The ascending cumulative sum at a token is the mass of that token and all below it:
        // walked from above, it needs no sort of the long tail.
        let mut cumulative: f64 = self
            .candidates
            .iter()
            .map(|c| f64::from(c.probability))
            .sum();
        let mut visited = 0;
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
                let keep =
                    visited < self.min_tokens_to_keep || cumulative as f32 > self.dropped_mass;
                visited += 1;
                cumulative -= f64::from(candidate.probability);
                keep
            },
        );
        for candidate in &self.candidates[kept..] {
            logits[candidate.token] = f32::NEG_INFINITY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{OUT, log, survivors};
    use super::*;

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
    fn top_k_of_beams_keeps_a_token_beside_the_ends() {
        let logits = [1.0, 4.0, 3.0, 2.0];
        let top_k = |k| TopK::new(k).min_tokens_to_keep(2);
        assert_eq!(survivors(top_k(1), &logits), [1, 2]);
        assert_eq!(survivors(top_k(3), &logits), [1, 2, 3]);
        assert_eq!(survivors(top_k(0), &logits).len(), 4);
        assert_eq!(survivors(top_k(1), &[5.0]), [0]);
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
    fn top_p_of_beams_keeps_a_token_beside_the_ends() {
        let top_p = |count| TopP::new(0.01).min_tokens_to_keep(count);
        let logits = log(&[0.3, 0.1, 0.1, 0.5]);
        assert_eq!(survivors(top_p(2), &logits), [0, 3]);
        // Of equals the later one.
        assert_eq!(survivors(top_p(3), &logits), [0, 2, 3]);
        assert_eq!(survivors(top_p(9), &logits).len(), 4);
        assert_eq!(survivors(top_p(0), &logits), [3]);
    }

    #[test]
    fn nothing_left_is_left_alone() {
        assert!(survivors(TopK::new(1), &[OUT; 3]).is_empty());
        assert!(survivors(TopP::new(0.5), &[OUT; 3]).is_empty());
        assert!(survivors(TopK::new(1), &[]).is_empty());
        assert!(survivors(TopP::new(0.5), &[]).is_empty());
    }
}
