//! Moments of a generation at which the chain is looked at.

use gpt2::TokenId;
use gpt2::sampling::{
    Chain, ChainContext, PrefixAllowedTokensFn, Processor, SamplingOptions, StepInputs,
};

pub(crate) const VOCABULARY: usize = 300;
pub(crate) const EOS: [TokenId; 2] = [38, 39];

/// One moment of a generation.
pub(crate) struct Scenario {
    pub(crate) options: SamplingOptions,
    pub(crate) prompt: Vec<TokenId>,
    pub(crate) ids: Vec<TokenId>,
    pub(crate) chosen: Vec<TokenId>,
    pub(crate) beams: usize,
    pub(crate) max_length: usize,
    pub(crate) logits: Vec<f32>,
    pub(crate) unconditional: Vec<f32>,
}

/// Spread evenly up to 307 / `divisor`, and the tokens that the processors deal with among the
/// best.
fn logits(divisor: f32) -> Vec<f32> {
    let mut logits: Vec<f32> = (0..VOCABULARY)
        .map(|i| (i * 37 % 307) as f32 / divisor)
        .collect();
    for (token, score) in [(3, 290), (4, 300), (10, 280), (12, 310), (19, 295)] {
        logits[token] = score as f32 / divisor;
    }
    logits
}

/// A caller's own processor: one token gets a fixed score.
struct Favourite;

pub(crate) const FAVOURITE: TokenId = 7;
pub(crate) const FAVOURITE_SCORE: f32 = -2.7;

impl Processor for Favourite {
    fn apply(&mut self, logits: &mut [f32], _ids: &[TokenId]) {
        logits[FAVOURITE as usize] = FAVOURITE_SCORE;
    }
}

/// Only tokens 0 and 1 may not come, and after token 5 neither may 2.
pub(crate) fn allowed(ids: &[TokenId]) -> Vec<TokenId> {
    let first = if ids.last() == Some(&5) { 3 } else { 2 };
    (first..VOCABULARY as TokenId).collect()
}

impl Scenario {
    /// Everything on, in the middle of a text; the numbers are such that every processor finds
    /// something to do, and that the order of the warpers shows.
    pub(crate) fn middle() -> Self {
        let prompt = vec![3, 4, 5, 6, 4, 9];
        Self {
            options: SamplingOptions {
                do_sample: true,
                guidance_scale: 1.5,
                sequence_bias: vec![(vec![10], 0.75), (vec![5, 11], -1.5), (vec![12], 1.0)],
                diversity_penalty: 0.5,
                encoder_repetition_penalty: 1.25,
                repetition_penalty: 1.1,
                frequency_penalty: 0.1,
                presence_penalty: 0.05,
                no_repeat_ngram_size: 2,
                encoder_no_repeat_ngram_size: 2,
                bad_words_ids: vec![vec![13], vec![5, 14], vec![38]],
                min_length: 20,
                min_new_tokens: 6,
                prefix_allowed_tokens_fn: Some(PrefixAllowedTokensFn::new(allowed)),
                forced_bos_token_id: Some(1),
                forced_eos_token_id: vec![38, 15],
                remove_invalid_values: true,
                exponential_decay_length_penalty: Some((3, 2.0)),
                suppress_tokens: vec![16, 17, FAVOURITE],
                begin_suppress_tokens: vec![18, FAVOURITE],
                temperature: 2.456,
                top_h: 0.889,
                top_k: 74,
                top_p: 0.877,
                min_p: 0.126,
                typical_p: 0.843,
                epsilon_cutoff: 0.013,
                eta_cutoff: 0.54,
                renormalize_logits: true,
            },
            ids: [&prompt[..], &[8, 10, 12, 5]].concat(),
            prompt,
            chosen: vec![12, 19, 12, 3],
            beams: 1,
            max_length: 30,
            logits: logits(52.139),
            unconditional: (0..VOCABULARY)
                .map(|i| (i * 29 % 311) as f32 / 400.0)
                .collect(),
        }
    }

    /// The same where the warpers let more through.
    pub(crate) fn wide() -> Self {
        let mut scenario = Self::middle();
        let o = &mut scenario.options;
        (o.temperature, o.top_h, o.top_k, o.top_p) = (2.46, 0.99, 100, 0.98);
        (o.min_p, o.typical_p) = (0.2, 0.6);
        (o.epsilon_cutoff, o.eta_cutoff) = (0.001, 0.001);
        scenario
    }

    /// The first new token: what is suppressed at the beginning alone.
    pub(crate) fn beginning() -> Self {
        let mut scenario = Self::middle();
        scenario.ids.clone_from(&scenario.prompt);
        scenario.options.do_sample = false;
        scenario
    }

    /// A prompt of one id: the first token is forced.
    pub(crate) fn one_id(max_length: usize) -> Self {
        let mut scenario = Self::middle();
        scenario.prompt = vec![3];
        scenario.ids = vec![3];
        scenario.max_length = max_length;
        scenario.options.do_sample = false;
        scenario.options.renormalize_logits = false;
        scenario
    }

    pub(crate) fn chain(&self) -> Chain {
        let context = ChainContext {
            prompt: &self.prompt,
            eos: &EOS,
            beams: self.beams,
            max_length: Some(self.max_length),
        };
        let mut chain = Chain::new(&self.options, &context).unwrap();
        chain.push(Box::new(Favourite));
        chain
    }

    pub(crate) fn processed(&self) -> Vec<f64> {
        let inputs = StepInputs {
            ids: &self.ids,
            unconditional: Some(&self.unconditional),
            chosen: &self.chosen,
            allowed: None,
        };
        let mut chain = self.chain();
        let scores = chain.process_step(&self.logits, &inputs).unwrap();
        scores.iter().map(|score| f64::from(*score)).collect()
    }
}
