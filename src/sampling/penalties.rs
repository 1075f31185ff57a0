//! Penalties for tokens that were written or chosen before.

use super::Processor;
use super::token_set::TokenSet;
use super::values::{change, parameter, positive_parameter};
use crate::TokenId;

/// Makes ids seen before less likely (Keskar et al. 2019, as transformers does it): a score below 0
/// is multiplied by the penalty, any other divided by it, once per distinct id of the prompt and
/// the continuation.
#[derive(Debug, Clone)]
pub struct RepetitionPenalty {
    penalty: f32,
    /// So that an id seen twice is penalized once.
    seen: TokenSet,
}

impl RepetitionPenalty {
    /// A penalty above 1 discourages, below 1 encourages repetition.
    pub fn new(penalty: f64) -> Self {
        Self {
            penalty: positive_parameter(penalty),
            seen: TokenSet::default(),
        }
    }
}

impl Processor for RepetitionPenalty {
    fn apply(&mut self, logits: &mut [f32], ids: &[TokenId]) {
        self.seen.reset(logits.len());
        for &id in ids {
            let Some(logit) = logits.get_mut(id as usize) else {
                continue;
            };
            if self.seen.insert(id) {
                let penalty = self.penalty;
                change(logit, |logit| {
                    if logit < 0.0 {
                        logit * penalty
                    } else {
                        logit / penalty
                    }
                });
            }
        }
    }
}

/// Makes the prompt's ids more likely, against inventions: [`RepetitionPenalty`] with the inverse
/// of the penalty, on the prompt alone.
#[derive(Debug, Clone)]
pub struct EncoderRepetitionPenalty {
    inverse: RepetitionPenalty,
    prompt: Vec<TokenId>,
}

impl EncoderRepetitionPenalty {
    /// A penalty above 1 encourages, below 1 discourages the ids of `prompt`.
    pub fn new(penalty: f64, prompt: &[TokenId]) -> Self {
        Self {
            inverse: RepetitionPenalty::new(1.0 / penalty),
            prompt: prompt.to_vec(),
        }
    }
}

impl Processor for EncoderRepetitionPenalty {
    fn apply(&mut self, logits: &mut [f32], _ids: &[TokenId]) {
        self.inverse.apply(logits, &self.prompt);
    }
}

/// Subtracts a penalty for every time that the completion has a token, the prompt not counted (as
/// `OpenAI` and vLLM do it).
#[derive(Debug, Clone)]
pub struct FrequencyPenalty {
    penalty: f32,
    prompt: usize,
    /// The completion's tokens, equal ones side by side.
    sorted: Vec<TokenId>,
}

impl FrequencyPenalty {
    /// A penalty above 0 discourages, below 0 encourages repetition; the completion begins after
    /// `prompt` ids.
    pub fn new(penalty: f64, prompt: usize) -> Self {
        Self {
            penalty: parameter(penalty),
            prompt,
            sorted: Vec::new(),
        }
    }
}

impl Processor for FrequencyPenalty {
    fn apply(&mut self, logits: &mut [f32], ids: &[TokenId]) {
        self.sorted.clear();
        self.sorted.extend(ids.iter().skip(self.prompt));
        self.sorted.sort_unstable();
        for equal in self.sorted.chunk_by(|a, b| a == b) {
            if let Some(logit) = logits.get_mut(equal[0] as usize) {
                change(logit, |logit| logit - self.penalty * equal.len() as f32);
            }
        }
    }
}

/// Subtracts a penalty from the score of every token that the completion has, the prompt not
/// counted (as `OpenAI` and vLLM do it).
#[derive(Debug, Clone)]
pub struct PresencePenalty {
    penalty: f32,
    prompt: usize,
    seen: TokenSet,
}

impl PresencePenalty {
    /// A penalty above 0 discourages, below 0 encourages repetition; the completion begins after
    /// `prompt` ids.
    pub fn new(penalty: f64, prompt: usize) -> Self {
        Self {
            penalty: parameter(penalty),
            prompt,
            seen: TokenSet::default(),
        }
    }
}

impl Processor for PresencePenalty {
    fn apply(&mut self, logits: &mut [f32], ids: &[TokenId]) {
        self.seen.reset(logits.len());
        for &id in ids.iter().skip(self.prompt) {
            if let Some(logit) = logits.get_mut(id as usize)
                && self.seen.insert(id)
            {
                change(logit, |logit| logit - self.penalty);
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
            penalty: parameter(penalty),
        }
    }

    /// `chosen` are the tokens that the beams of earlier groups chose in this step.
    pub fn apply(&mut self, logits: &mut [f32], chosen: &[TokenId]) {
        for (index, token) in chosen.iter().enumerate() {
            // Once per token, so that penalty · count is rounded as it is there.
            if chosen[..index].contains(token) {
                continue;
            }
            if let Some(logit) = logits.get_mut(*token as usize) {
                let count = chosen.iter().filter(|other| *other == token).count();
                change(logit, |logit| logit - self.penalty * count as f32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{OUT, applied};
    use super::*;

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
    fn repetition_penalty_of_nothing_and_of_what_is_no_number() {
        let penalty = RepetitionPenalty::new(2.0);
        assert_eq!(applied(penalty.clone(), &[1.0, OUT], &[]), [1.0, OUT]);
        let result = applied(penalty, &[f32::NAN, OUT], &[0, 1]);
        assert!(result[0].is_nan());
        assert_eq!(result[1], OUT);
    }

    #[test]
    fn encoder_repetition_penalty_raises_the_prompt() {
        // The rule with ½: 3 / ½ = 6, −3 · ½ = −1.5; id 3 is no part of the prompt, 9 of nothing.
        let penalty = EncoderRepetitionPenalty::new(2.0, &[0, 1, 0, 9]);
        let logits = [3.0, -3.0, 0.0, 5.0];
        assert_eq!(applied(penalty, &logits, &[3, 3]), [6.0, -1.5, 0.0, 5.0]);
        let nothing = EncoderRepetitionPenalty::new(2.0, &[]);
        assert_eq!(applied(nothing, &logits, &[0, 1]), logits);
    }

    #[test]
    fn frequency_and_presence_count_the_completion_alone() {
        let logits = [3.0, -3.0, 0.0, OUT];
        // A prompt of two ids, then 1 three times, 2 once, and 9, which is outside the vocabulary.
        let ids = [0, 2, 1, 2, 1, 9, 1, 3];
        let frequency = FrequencyPenalty::new(0.5, 2);
        assert_eq!(applied(frequency, &logits, &ids), [3.0, -4.5, -0.5, OUT]);
        let presence = PresencePenalty::new(0.5, 2);
        assert_eq!(applied(presence, &logits, &ids), [3.0, -3.5, -0.5, OUT]);
        // Below 0 they encourage.
        let frequency = FrequencyPenalty::new(-1.0, 6);
        assert_eq!(applied(frequency, &logits, &ids), [3.0, -2.0, 0.0, OUT]);
        // Nothing is written yet.
        assert_eq!(
            applied(FrequencyPenalty::new(1.0, 8), &logits, &ids),
            logits
        );
        assert_eq!(applied(PresencePenalty::new(1.0, 9), &logits, &ids), logits);
    }

    #[test]
    fn presence_forgets_between_calls() {
        let mut penalty = PresencePenalty::new(1.0, 0);
        let mut logits = [4.0, 4.0];
        penalty.apply(&mut logits, &[1]);
        penalty.apply(&mut logits, &[1]);
        assert_eq!(logits, [4.0, 2.0]);
    }

    #[test]
    fn diversity_penalty_counts_the_choices() {
        let mut logits = [1.0, 1.0, -1.0, OUT];
        // Token 0 twice: 1 − 2·0.5; token 2 once: −1 − 0.5; 9 is outside the vocabulary.
        DiversityPenalty::new(0.5).apply(&mut logits, &[0, 2, 9, 0, 3]);
        assert_eq!(logits, [0.0, 1.0, -1.5, OUT]);
    }
}
