//! The processors that look at the ids so far; they act on greedy decoding too.

use super::Processor;
use crate::TokenId;

/// Rules out every token of `tokens`.
fn forbid(logits: &mut [f32], tokens: impl IntoIterator<Item = TokenId>) {
    for token in tokens {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit = f32::NEG_INFINITY;
        }
    }
}

/// Makes ids seen before less likely (Keskar et al. 2019, as transformers does it): a score below 0
/// is multiplied by the penalty, any other divided by it, once per distinct id of the prompt and
/// the continuation.
#[derive(Debug, Clone)]
pub struct RepetitionPenalty {
    penalty: f32,
    /// One bit per token, so that an id seen twice is penalized once.
    seen: Vec<u64>,
}

impl RepetitionPenalty {
    /// A penalty above 1 discourages, below 1 encourages repetition.
    pub fn new(penalty: f64) -> Self {
        Self {
            penalty: penalty as f32,
            seen: Vec::new(),
        }
    }
}

impl Processor for RepetitionPenalty {
    fn apply(&mut self, logits: &mut [f32], ids: &[TokenId]) {
        self.seen.clear();
        self.seen.resize(logits.len().div_ceil(64), 0);
        for &id in ids {
            let id = id as usize;
            let Some(logit) = logits.get_mut(id) else {
                continue;
            };
            let (word, bit) = (&mut self.seen[id / 64], 1 << (id % 64));
            if *word & bit == 0 {
                *word |= bit;
                if *logit < 0.0 {
                    *logit *= self.penalty;
                } else {
                    *logit /= self.penalty;
                }
            }
        }
    }
}

/// Subtracts, from each token's score, a penalty for every time that the groups before chose it in
/// this step of a diverse beam search (Vijayakumar et al. 2016).
#[derive(Debug, Clone)]
pub struct DiversityPenalty {
    penalty: f32,
}

impl DiversityPenalty {
    /// Scores are lowered by `penalty` for each choice.
    pub fn new(penalty: f64) -> Self {
        Self {
            penalty: penalty as f32,
        }
    }

    /// `chosen` are the tokens that the beams of earlier groups chose in this step.
    pub fn apply(&mut self, logits: &mut [f32], chosen: &[TokenId]) {
        for (index, &token) in chosen.iter().enumerate() {
            // Once per token, so that penalty · count is rounded as it is there.
            if chosen[..index].contains(&token) {
                continue;
            }
            if let Some(logit) = logits.get_mut(token as usize) {
                let count = chosen.iter().filter(|&&other| other == token).count();
                *logit -= self.penalty * count as f32;
            }
        }
    }
}

/// Rules out every token that would complete a run of `size` ids already present (Paulus et al.
/// 2017), prompt included.
#[derive(Debug, Clone)]
pub struct NoRepeatNgram {
    size: usize,
}

impl NoRepeatNgram {
    /// Runs of `size` ids; 0 rules nothing out.
    pub fn new(size: usize) -> Self {
        Self { size }
    }
}

impl Processor for NoRepeatNgram {
    fn apply(&mut self, logits: &mut [f32], ids: &[TokenId]) {
        if self.size == 0 || ids.len() < self.size {
            return;
        }
        let tail = &ids[ids.len() + 1 - self.size..];
        let repeats = ids.windows(self.size).filter_map(|run| {
            let (last, start) = run.split_last()?;
            (start == tail).then_some(*last)
        });
        forbid(logits, repeats);
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    const OUT: f32 = f32::NEG_INFINITY;

    fn applied(mut processor: impl Processor, logits: &[f32], ids: &[TokenId]) -> Vec<f32> {
        let mut logits = logits.to_vec();
        processor.apply(&mut logits, ids);
        logits
    }

    #[test]
    fn repetition_penalty_once_per_id_and_by_sign() {
        let penalty = RepetitionPenalty::new(2.0);
        let logits = [3.0, -3.0, 0.0, 5.0];
        // Id 0 occurs twice and is halved once; id 9 is outside the vocabulary.
        let ids = [0, 1, 0, 2, 9];
        assert_eq!(applied(penalty, &logits, &ids), [1.5, -6.0, 0.0, 5.0]);
    }

    #[test]
    fn repetition_penalty_forgets_between_calls() {
        let mut penalty = RepetitionPenalty::new(2.0);
        let mut logits = [4.0; 70];
        penalty.apply(&mut logits, &[69]);
        penalty.apply(&mut logits, &[69]);
        assert_eq!((logits[69], logits[0]), (1.0, 4.0));
    }

    #[test]
    fn diversity_penalty_counts_the_choices() {
        let mut logits = [1.0, 1.0, -1.0, OUT];
        // Token 0 twice: 1 − 2·0.5; token 2 once: −1 − 0.5; 9 is outside the vocabulary.
        DiversityPenalty::new(0.5).apply(&mut logits, &[0, 2, 9, 0, 3]);
        assert_eq!(logits, [0.0, 1.0, -1.5, OUT]);
    }

    #[test]
    fn ngrams_do_not_come_twice() {
        let logits = [0.0; 5];
        // 1 2 was followed by 3 and, later, by 4.
        let ids = [1, 2, 3, 1, 2, 4, 1, 2];
        assert_eq!(
            applied(NoRepeatNgram::new(3), &logits, &ids),
            [0.0, 0.0, 0.0, OUT, OUT]
        );
        // Of size 1: everything seen.
        assert_eq!(
            applied(NoRepeatNgram::new(1), &logits, &[0, 4, 4]),
            [OUT, 0.0, 0.0, 0.0, OUT]
        );
        // Not long enough for a run, or off.
        assert_eq!(applied(NoRepeatNgram::new(4), &logits, &[1, 2]), logits);
        assert_eq!(applied(NoRepeatNgram::new(3), &logits, &[1, 2]), logits);
        assert_eq!(applied(NoRepeatNgram::new(0), &logits, &[1, 1]), logits);
        // The first run that can repeat: two ids, size 2, tail 7 7 → outside the vocabulary.
        assert_eq!(applied(NoRepeatNgram::new(2), &logits, &[7, 7]), logits);
        assert_eq!(
            applied(NoRepeatNgram::new(2), &logits, &[3, 3]),
            [0.0, 0.0, 0.0, OUT, 0.0]
        );
    }

    #[test]
    fn end_of_text_waits_for_the_length() {
        let minimum = MinimumLength::new(3, &[1, 99]);
        assert_eq!(applied(minimum.clone(), &[0.0, 9.0], &[5, 5]), [0.0, OUT]);
        assert_eq!(applied(minimum, &[0.0, 9.0], &[5, 5, 5]), [0.0, 9.0]);
    }
}
