//! Warpers that choose by information: near the expected one, or up to a share of the entropy.

use super::Processor;
use super::distribution::{
    Candidate, by_falling_score, entropy, fill_softmax, keep_front, sort_front,
};
use crate::TokenId;

/// Keeps the tokens whose information −ln p is nearest to the distribution's entropy, until their
/// mass reaches the given one (Meister et al. 2022).
#[derive(Debug, Clone)]
pub struct TypicalP {
    mass: f32,
    min_tokens_to_keep: usize,
    candidates: Vec<Candidate>,
    /// Distance from the entropy, and the candidate.
    distances: Vec<(f32, Candidate)>,
}

impl TypicalP {
    /// `mass` in (0, 1].
    pub fn new(mass: f64) -> Self {
        Self {
            mass: mass as f32,
            min_tokens_to_keep: 1,
            candidates: Vec::new(),
            distances: Vec::new(),
        }
    }

    /// Keeps at least `count` tokens, those nearest to the entropy.
    #[must_use]
    pub fn min_tokens_to_keep(mut self, count: usize) -> Self {
        self.min_tokens_to_keep = count;
        self
    }
}

impl Processor for TypicalP {
    fn apply(&mut self, logits: &mut [f32], _ids: &[TokenId]) {
        let log_sum = fill_softmax(logits, &mut self.candidates);
        let entropy = entropy(logits, &self.candidates, log_sum);
        let distance = |candidate: &Candidate| {
            let information = log_sum.information(logits[candidate.token]);
            ((information - entropy).abs() as f32, *candidate)
        };
        self.distances.clear();
        self.distances.extend(self.candidates.iter().map(distance));
        let nearest_first = |a: &(f32, Candidate), b: &(f32, Candidate)| {
            a.0.total_cmp(&b.0).then(a.1.token.cmp(&b.1.token))
        };
        let mut cumulative = 0.0;
        let nearest = keep_front(&mut self.distances, nearest_first, |(_, candidate)| {
            cumulative += f64::from(candidate.probability);
            (cumulative as f32) < self.mass
        });
        // The token that reaches the mass still belongs, and so do those as near as it is.
        let Some(&(threshold, _)) = self.distances.get(nearest) else {
            return;
        };
        let exempt = sort_front(&mut self.distances, self.min_tokens_to_keep, nearest_first);
        for (distance, candidate) in &self.distances[exempt..] {
            if *distance > threshold {
                logits[candidate.token] = f32::NEG_INFINITY;
            }
        }
    }
}

/// Tokens that [`TopH`] looks at.
const TOP_H_TOKENS: usize = 100;

/// Keeps the best tokens while their part of the entropy, −Σ p·ln p over them, is at most a share
/// of the whole (Baghaei Potraghloo et al. 2025); p is over the hundred best tokens, all others are
/// dropped. The best always stays.
#[derive(Debug, Clone)]
pub struct TopH {
    share: f32,
    candidates: Vec<Candidate>,
    /// The scores of the best tokens and what softmax makes of them alone.
    best: Vec<f32>,
    renormalized: Vec<Candidate>,
}

impl TopH {
    /// `share` in (0, 1].
    pub fn new(share: f64) -> Self {
        Self {
            share: share as f32,
            candidates: Vec::new(),
            best: Vec::new(),
            renormalized: Vec::new(),
        }
    }
}

impl Processor for TopH {
    fn apply(&mut self, logits: &mut [f32], _ids: &[TokenId]) {
        fill_softmax(logits, &mut self.candidates);
        let looked_at = sort_front(&mut self.candidates, TOP_H_TOKENS, by_falling_score(logits));
        self.best.clear();
        let best = self.candidates[..looked_at].iter();
        self.best.extend(best.map(|c| logits[c.token]));
        // Sorted as they are: position i of the new distribution is candidate i of the old.
        let log_sum = fill_softmax(&self.best, &mut self.renormalized);
        let limit = self.share * entropy(&self.best, &self.renormalized, log_sum) as f32;
        let mut cumulative = 0.0;
        let kept = self
            .renormalized
            .iter()
            .take_while(|c| {
                cumulative += f64::from(-c.probability * libm::logf(c.probability));
                c.token == 0 || cumulative as f32 <= limit
            })
            .count();
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
    fn typical_p_of_beams_keeps_a_token_beside_the_ends() {
        // As above: .97 is nearest, the others equally far.
        let peaked = log(&[0.01, 0.97, 0.01, 0.01]);
        let typical = |count| TypicalP::new(0.5).min_tokens_to_keep(count);
        assert_eq!(survivors(typical(1), &peaked), [1]);
        assert_eq!(survivors(typical(2), &peaked), [0, 1]);
        assert_eq!(survivors(typical(3), &peaked), [0, 1, 2]);
        assert_eq!(survivors(typical(9), &peaked).len(), 4);
        // No fewer than the mass needs.
        let flat = log(&[0.4, 0.2, 0.2, 0.2]);
        assert_eq!(
            survivors(TypicalP::new(0.3).min_tokens_to_keep(2), &flat),
            [1, 2, 3]
        );
    }

    #[test]
    fn top_h_keeps_a_share_of_the_entropy() {
        // −p ln p: .5 → .3466, .25 → .3466, .125 → .2599 each; H = 1.2130.
        let logits = log(&[0.125, 0.5, 0.125, 0.25]);
        // Limits: .2·H = .2426, .5·H = .6065, .6·H = .7278, .8·H = .9704.
        assert_eq!(survivors(TopH::new(0.2), &logits), [1]);
        assert_eq!(survivors(TopH::new(0.5), &logits), [1]);
        assert_eq!(survivors(TopH::new(0.6), &logits), [1, 3]);
        // .3466 + .3466 + .2599 = .9531; of equals the earlier one.
        assert_eq!(survivors(TopH::new(0.8), &logits), [0, 1, 3]);
    }

    #[test]
    fn top_h_counts_what_is_left() {
        // Of the rest .8 and .2: −p ln p = .1785 and .3219, H = .5004.
        let logits = [OUT, libm::logf(0.4), OUT, libm::logf(0.1)];
        assert_eq!(survivors(TopH::new(0.9), &logits), [1]);
        assert_eq!(survivors(TopH::new(0.3), &logits), [1]);
    }

    #[test]
    fn top_h_looks_at_a_hundred_tokens() {
        // 100 equal ones of 250 that are 1000 times as likely as the rest: each is 1/100 of the
        // entropy. .505 of it: 50 tokens, the earlier ones first.
        let logits: Vec<f32> = (0..250)
            .map(|i| if i % 2 == 0 { libm::logf(1000.0) } else { 0.0 })
            .collect();
        let expected: Vec<usize> = (0..50).map(|i| 2 * i).collect();
        assert_eq!(survivors(TopH::new(0.505), &logits), expected);
    }

    #[test]
    fn nothing_left_is_left_alone() {
        for logits in [&[OUT; 3][..], &[]] {
            assert!(survivors(TypicalP::new(0.5), logits).is_empty());
            assert!(survivors(TypicalP::new(0.5).min_tokens_to_keep(2), logits).is_empty());
            assert!(survivors(TopH::new(0.5), logits).is_empty());
        }
        assert_eq!(survivors(TopH::new(0.5), &[OUT, -3.0]), [1]);
    }
}
