//! The best of many scored tokens, without sorting them all.

use crate::TokenId;

/// A token that a text may go on with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    /// Which of the texts.
    pub(super) beam: usize,
    pub(super) token: TokenId,
    pub(super) score: f32,
}

/// The `count` best of what is offered; of equals those that came first.
#[derive(Debug)]
pub(super) struct Best {
    count: usize,
    /// Descending.
    kept: Vec<Candidate>,
}

impl Best {
    pub(super) fn new(count: usize) -> Self {
        Self {
            count,
            kept: Vec::with_capacity(count + 1),
        }
    }

    /// Offers every token that is not ruled out, with its score.
    pub(super) fn offer(&mut self, beam: usize, scores: impl Iterator<Item = f32>) {
        let mut threshold = self.threshold();
        for (token, score) in (0..).zip(scores) {
            // Most tokens end here.
            if score > threshold {
                let place = self.kept.partition_point(|other| other.score >= score);
                let candidate = Candidate { beam, token, score };
                self.kept.insert(place, candidate);
                self.kept.truncate(self.count);
                threshold = self.threshold();
            }
        }
    }

    /// What a score must be above.
    fn threshold(&self) -> f32 {
        match self.kept.get(self.count.wrapping_sub(1)) {
            Some(last) => last.score,
            None => f32::NEG_INFINITY,
        }
    }

    /// The best, descending.
    pub(super) fn finish(self) -> Vec<Candidate> {
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_several_texts_in_order() {
        let mut best = Best::new(3);
        best.offer(0, [1.0, 5.0, f32::NEG_INFINITY].into_iter());
        best.offer(1, [5.0, 2.0, 0.0].into_iter());
        let found: Vec<(usize, TokenId)> =
            best.finish().iter().map(|c| (c.beam, c.token)).collect();
        assert_eq!(found, [(0, 1), (1, 0), (1, 1)]);
        let mut few = Best::new(3);
        few.offer(0, [f32::NEG_INFINITY, 1.0].into_iter());
        assert_eq!(few.finish().len(), 1);
    }
}
