//! Sequences made more or less likely, down to never.

use std::collections::BTreeMap;

use super::Processor;
use super::values::{change, parameter};
use crate::TokenId;

/// Adds a bias to the score of a sequence's last id where the ids before it have just been written.
///
/// As in transformers 4: the biases of one id are summed before they are added to its score, and a
/// sequence counts only where there are at least as many ids as it has.
#[derive(Debug, Clone)]
pub struct SequenceBias {
    /// By last id: the ids before it, shortest first where they are none, and the bias.
    rules: BTreeMap<TokenId, Vec<(Vec<TokenId>, f32)>>,
}

impl SequenceBias {
    /// Biases of sequences; of a sequence given twice the last counts, and one without ids is
    /// passed over.
    pub fn new(biases: &[(Vec<TokenId>, f64)]) -> Self {
        let sequences = biases.iter().map(|(sequence, bias)| (&sequence[..], *bias));
        Self::from_sequences(sequences)
    }

    fn from_sequences<'a>(sequences: impl Iterator<Item = (&'a [TokenId], f64)>) -> Self {
        let as_score = |bias: f64| match bias {
            f64::NEG_INFINITY => f32::NEG_INFINITY,
            number => parameter(number),
        };
        let mut rules: BTreeMap<TokenId, Vec<(Vec<TokenId>, f32)>> = BTreeMap::new();
        let mut places: BTreeMap<&[TokenId], usize> = BTreeMap::new();
        for (sequence, bias) in sequences {
            let Some((last, before)) = sequence.split_last() else {
                continue;
            };
            let same = rules.entry(*last).or_default();
            if let Some(rule) = places.get(sequence).and_then(|place| same.get_mut(*place)) {
                rule.1 = as_score(bias);
            } else {
                places.insert(sequence, same.len());
                same.push((before.to_vec(), as_score(bias)));
            }
        }
        for same in rules.values_mut() {
            // Single ids come first in the sum, as they do there; the others keep their order.
            same.sort_by_key(|(before, _)| !before.is_empty());
        }
        Self { rules }
    }
}

impl Processor for SequenceBias {
    fn apply(&mut self, logits: &mut [f32], ids: &[TokenId]) {
        for (&last, same) in &self.rules {
            let Some(logit) = logits.get_mut(last as usize) else {
                continue;
            };
            let biases = same
                .iter()
                .filter(|(before, _)| {
                    before.is_empty() || (before.len() < ids.len() && ids.ends_with(before))
                })
                .map(|(_, bias)| *bias);
            // −∞ is not summed: beside large numbers it could make NaN.
            if biases.clone().any(|bias| bias == f32::NEG_INFINITY) {
                *logit += f32::NEG_INFINITY;
            } else {
                let sum: f32 = biases.sum();
                change(logit, |logit| logit + sum);
            }
        }
    }
}

/// Forbids sequences: [`SequenceBias`] of −∞.
#[derive(Debug, Clone)]
pub struct BadWords {
    bias: SequenceBias,
}

impl BadWords {
    /// Never one of `sequences`, except those that are a single id of `eos`: a text must be able
    /// to end.
    pub fn new(sequences: &[Vec<TokenId>], eos: &[TokenId]) -> Self {
        let ends_text = |sequence: &[TokenId]| matches!(sequence, [id] if eos.contains(id));
        let forbidden = sequences
            .iter()
            .map(|sequence| (&sequence[..], f64::NEG_INFINITY))
            .filter(|(sequence, _)| !ends_text(sequence));
        Self {
            bias: SequenceBias::from_sequences(forbidden),
        }
    }
}

impl Processor for BadWords {
    fn apply(&mut self, logits: &mut [f32], ids: &[TokenId]) {
        self.bias.apply(logits, ids);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{OUT, applied};
    use super::*;

    #[test]
    fn biases_follow_what_was_written() {
        let bias = SequenceBias::new(&[
            (vec![0], -1.0),
            (vec![2, 0], 4.0),
            (vec![1, 2, 0], 8.0),
            (vec![2, 1], 16.0),
            (vec![9], 1.0),
            (vec![9, 1], 32.0),
        ]);
        let logits = [0.5, 0.5, 0.5];
        // Nothing written: the single id alone.
        assert_eq!(applied(bias.clone(), &logits, &[]), [-0.5, 0.5, 0.5]);
        // … 0 2: id 0 gets −1 + 4, id 1 gets 16.
        assert_eq!(applied(bias.clone(), &logits, &[0, 2]), [3.5, 16.5, 0.5]);
        // … 0 1 2: −1 + 4 + 8.
        assert_eq!(
            applied(bias.clone(), &logits, &[0, 1, 2]),
            [11.5, 16.5, 0.5]
        );
        // An id outside the vocabulary may stand before one inside it.
        assert_eq!(applied(bias, &logits, &[0, 9]), [-0.5, 32.5, 0.5]);
    }

    #[test]
    fn a_sequence_needs_a_history_of_its_own_length() {
        // Two ids written for a sequence of three: its beginning is there, and still not enough.
        let bias = SequenceBias::new(&[(vec![1, 2, 0], 8.0)]);
        assert_eq!(applied(bias.clone(), &[0.0; 3], &[1, 2]), [0.0; 3]);
        assert_eq!(applied(bias, &[0.0; 3], &[0, 1, 2]), [8.0, 0.0, 0.0]);
    }

    #[test]
    fn the_last_of_equal_sequences_counts() {
        let bias = SequenceBias::new(&[
            (vec![0], 1.0),
            (vec![1, 0], 8.0),
            (vec![0], 2.0),
            (vec![], 64.0),
            (vec![1, 0], 16.0),
        ]);
        assert_eq!(applied(bias, &[0.0, 0.0], &[0, 1]), [18.0, 0.0]);
    }

    #[test]
    fn a_bias_may_forbid_and_keeps_what_is_no_number() {
        let bias =
            SequenceBias::new(&[(vec![0], f64::NEG_INFINITY), (vec![1], 5.0), (vec![2], 5.0)]);
        let result = applied(bias, &[3.0, OUT, f32::NAN], &[]);
        assert_eq!(result[..2], [OUT, OUT]);
        assert!(result[2].is_nan());
        assert_eq!(applied(SequenceBias::new(&[]), &[1.0], &[]), [1.0]);
    }

    #[test]
    fn bad_words_are_not_completed() {
        let words = BadWords::new(&[vec![0], vec![1, 2], vec![3], vec![1, 3], vec![99]], &[3]);
        let logits = [1.0; 4];
        // The end of text, 3, may come alone but not after 1.
        assert_eq!(
            applied(words.clone(), &logits, &[0, 0]),
            [OUT, 1.0, 1.0, 1.0]
        );
        assert_eq!(applied(words, &logits, &[0, 1]), [OUT, 1.0, OUT, OUT]);
    }
}
