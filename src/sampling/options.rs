//! What a caller may ask of the choice of the next token, under transformers' names.

use std::fmt;
use std::sync::Arc;

use crate::TokenId;

/// Parameters of the choice, with transformers' names, meanings and defaults.
///
/// Numbers are `f64` because Python's are: `1 − top_p` is rounded once, as it is there. The fields
/// stand in the order in which they act; up to `begin_suppress_tokens` and from
/// `renormalize_logits` on they act on greedy decoding and beam search too.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingOptions {
    /// Draw from the distribution; otherwise take the largest score (greedy) and leave the
    /// warpers, `temperature` to `eta_cutoff`, aside. Default: false.
    pub do_sample: bool,
    /// How far to go from what the model says without the prompt to what it says with it; 1
    /// leaves guidance off, above 1 strengthens the prompt. Default: 1.
    pub guidance_scale: f64,
    /// Added to the score of a sequence's last id where the ids before it have just been written;
    /// −∞ forbids the sequence. Of a sequence given twice the last counts. Default: none.
    pub sequence_bias: Vec<(Vec<TokenId>, f64)>,
    /// Diverse beam search: subtracted from a token's score for every time that earlier groups
    /// chose it in the same step. Default: 0.
    pub diversity_penalty: f64,
    /// Above 1 makes the prompt's ids more likely; above 0. Default: 1.
    pub encoder_repetition_penalty: f64,
    /// Above 1 makes ids seen before (prompt included) less likely; above 0. Default: 1.
    pub repetition_penalty: f64,
    /// Subtracted from a token's score for every time that the completion has it. Default: 0.
    pub frequency_penalty: f64,
    /// Subtracted from the score of a token that the completion has. Default: 0.
    pub presence_penalty: f64,
    /// No run of this many ids may occur twice (prompt included); 0 allows all. Default: 0.
    pub no_repeat_ngram_size: usize,
    /// No run of this many ids of the prompt may occur again; 0 allows all. Default: 0.
    pub encoder_no_repeat_ngram_size: usize,
    /// Sequences that may not be written; one that is a single end of text is dropped. Default:
    /// none.
    pub bad_words_ids: Vec<Vec<TokenId>>,
    /// No end of text before this many ids in total, prompt included. Default: 0.
    pub min_length: usize,
    /// No end of text before this many new ids. Default: 0.
    pub min_new_tokens: usize,
    /// The only tokens that may come next. Default: all.
    pub prefix_allowed_tokens_fn: Option<PrefixAllowedTokensFn>,
    /// The token that must follow a prompt of one id. Default: none.
    pub forced_bos_token_id: Option<TokenId>,
    /// The tokens one of which must be the last that the maximum length allows. Default: none.
    pub forced_eos_token_id: Vec<TokenId>,
    /// Turn NaN to 0 and infinite scores to the largest and smallest numbers, so that broken
    /// logits do not end the generation. Default: false.
    pub remove_invalid_values: bool,
    /// (start, factor): after `start` new ids the ends of text grow more likely, exponentially
    /// by `factor`; the factor is above 0. Default: none.
    pub exponential_decay_length_penalty: Option<(usize, f64)>,
    /// Tokens never chosen. Default: none.
    pub suppress_tokens: Vec<TokenId>,
    /// Tokens never chosen as the first new one. Default: none.
    pub begin_suppress_tokens: Vec<TokenId>,
    /// Scores are divided by this; above 0. Default: 1.
    pub temperature: f64,
    /// Keep the best tokens until their entropy reaches this share of the best hundred's; in
    /// (0, 1], 1 keeps all. Default: 1.
    pub top_h: f64,
    /// Keep the k largest scores (and whatever ties with the last); 0 keeps all. Default: 50.
    pub top_k: usize,
    /// Keep the most probable tokens until their mass reaches this; in (0, 1], 1 keeps all.
    /// Default: 1.
    pub top_p: f64,
    /// Keep tokens at least this fraction as probable as the best; in [0, 1], 0 keeps all.
    /// Default: 0.
    pub min_p: f64,
    /// Keep the tokens whose information is nearest to the entropy, until their mass reaches
    /// this; in (0, 1], 1 keeps all. Default: 1.
    pub typical_p: f64,
    /// Keep tokens at least this probable; in [0, 1), 0 keeps all. Default: 0.
    pub epsilon_cutoff: f64,
    /// Keep tokens at least this probable, or less where the entropy is high; in [0, 1), 0 keeps
    /// all. Default: 0.
    pub eta_cutoff: f64,
    /// Make the scores log-probabilities again at the end. Default: false.
    pub renormalize_logits: bool,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        Self {
            do_sample: false,
            guidance_scale: 1.0,
            sequence_bias: Vec::new(),
            diversity_penalty: 0.0,
            encoder_repetition_penalty: 1.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            no_repeat_ngram_size: 0,
            encoder_no_repeat_ngram_size: 0,
            bad_words_ids: Vec::new(),
            min_length: 0,
            min_new_tokens: 0,
            prefix_allowed_tokens_fn: None,
            forced_bos_token_id: None,
            forced_eos_token_id: Vec::new(),
            remove_invalid_values: false,
            exponential_decay_length_penalty: None,
            suppress_tokens: Vec::new(),
            begin_suppress_tokens: Vec::new(),
            temperature: 1.0,
            top_h: 1.0,
            top_k: 50,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            epsilon_cutoff: 0.0,
            eta_cutoff: 0.0,
            renormalize_logits: false,
        }
    }
}

type Allowed = dyn Fn(&[TokenId]) -> Vec<TokenId> + Send + Sync;

/// A function from the ids so far (prompt included) to the ids that may come next.
///
/// Two are equal when they are clones of the same one.
#[derive(Clone)]
pub struct PrefixAllowedTokensFn(Arc<Allowed>);

impl PrefixAllowedTokensFn {
    /// `allowed` is asked once for every token and beam; ids it gives outside the vocabulary are
    /// passed over.
    pub fn new(allowed: impl Fn(&[TokenId]) -> Vec<TokenId> + Send + Sync + 'static) -> Self {
        Self(Arc::new(allowed))
    }

    /// The ids that may follow `ids`.
    pub fn allowed(&self, ids: &[TokenId]) -> Vec<TokenId> {
        (self.0)(ids)
    }
}

impl fmt::Debug for PrefixAllowedTokensFn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PrefixAllowedTokensFn")
    }
}

impl PartialEq for PrefixAllowedTokensFn {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_transformers() {
        let options = SamplingOptions::default();
        options.validate().unwrap();
        assert_eq!(
            (options.top_k, options.temperature, options.top_p),
            (50, 1.0, 1.0)
        );
    }

    #[test]
    fn values_out_of_range_are_named() {
        let with = |change: fn(&mut SamplingOptions)| {
            let mut options = SamplingOptions::default();
            change(&mut options);
            options.validate().unwrap_err().to_string()
        };
        assert!(with(|o| o.temperature = 0.0).contains("greedily"));
        assert!(with(|o| o.temperature = f64::NAN).contains("temperature"));
        assert!(with(|o| o.top_p = 0.0).contains("top_p must be above 0 and at most 1, found 0"));
        assert!(with(|o| o.top_p = 1.5).contains("found 1.5"));
        assert!(with(|o| o.min_p = -0.1).contains("min_p"));
        assert!(with(|o| o.typical_p = f64::NAN).contains("typical_p"));
        assert!(with(|o| o.repetition_penalty = f64::INFINITY).contains("repetition_penalty"));
        assert!(with(|o| o.encoder_repetition_penalty = 0.0).contains("encoder_repetition"));
        assert!(with(|o| o.guidance_scale = f64::NAN).contains("guidance_scale"));
        assert!(with(|o| o.diversity_penalty = -1.0).contains("at least 0, found -1"));
        assert!(with(|o| o.top_h = 0.0).contains("top_h"));
        assert!(with(|o| o.epsilon_cutoff = 1.0).contains("at least 0 and below 1, found 1"));
        assert!(with(|o| o.eta_cutoff = -0.5).contains("eta_cutoff"));
        assert!(
            with(|o| o.exponential_decay_length_penalty = Some((1, 0.0)))
                .contains("exponential_decay_length_penalty must be a number above 0, found 0")
        );
        assert!(with(|o| o.sequence_bias = vec![(vec![1], f64::NAN)]).contains("found NaN"));
        assert!(with(|o| o.sequence_bias = vec![(vec![1], f64::INFINITY)]).contains("found inf"));
        assert!(with(|o| o.sequence_bias = vec![(vec![], 1.0)]).contains("sequence_bias"));
        assert!(with(|o| o.bad_words_ids = vec![vec![1], vec![]]).contains("bad_words_ids"));
    }

    #[test]
    fn a_sequence_may_be_forbidden_by_its_bias() {
        let options = SamplingOptions {
            sequence_bias: vec![(vec![1], f64::NEG_INFINITY)],
            ..SamplingOptions::default()
        };
        options.validate().unwrap();
    }

    #[test]
    fn ids_outside_the_vocabulary_are_named() {
        let with = |change: fn(&mut SamplingOptions)| {
            let mut options = SamplingOptions::default();
            change(&mut options);
            options.check_ids(11).unwrap();
            options.check_ids(10).unwrap_err().to_string()
        };
        let message = with(|o| o.suppress_tokens = vec![9, 10]);
        assert_eq!(
            message,
            "suppress_tokens: ids must be below 10, the size of the vocabulary, found 10"
        );
        assert!(with(|o| o.begin_suppress_tokens = vec![10]).contains("begin_suppress_tokens"));
        assert!(with(|o| o.sequence_bias = vec![(vec![1, 10], 0.0)]).contains("sequence_bias"));
        assert!(with(|o| o.bad_words_ids = vec![vec![10, 1]]).contains("bad_words_ids"));
        assert!(with(|o| o.forced_bos_token_id = Some(10)).contains("forced_bos_token_id"));
        assert!(with(|o| o.forced_eos_token_id = vec![0, 10]).contains("forced_eos_token_id"));
    }
}
