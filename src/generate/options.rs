//! The options of a generation.

use std::time::Duration;

use super::stop::StopStrings;
use crate::grammar::Grammar;
use crate::sampling::SamplingOptions;
use crate::{Error, Result, TokenId};

/// Continuations that one prompt may have: all are kept until the last is done.
const MAX_RETURNED: usize = 1 << 16;

/// What to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationOptions {
    /// How each token is chosen.
    pub sampling: SamplingOptions,
    /// Starts the draws; sequence n of several uses `seed + n`. Default: 0.
    pub seed: u64,
    /// Most tokens of a continuation. Default: 128.
    pub max_new_tokens: usize,
    /// Most tokens of prompt and continuation together; of this and `max_new_tokens` the shorter
    /// counts. Default: no limit.
    pub max_length: Option<usize>,
    /// Continuations of the same prompt: with sampling up to 65536, from a search at most its
    /// beams. Default: 1.
    pub num_return_sequences: usize,
    /// Texts that a beam search keeps at a time; 1 is no search. Default: 1.
    pub num_beams: usize,
    /// Groups that the beams are divided into, which avoid each other's tokens. Default: 1.
    pub num_beam_groups: usize,
    /// The power of its length that a text's score is divided by: above 0 prefers long texts, below
    /// 0 short ones. Default: 1.
    pub length_penalty: f64,
    /// When a beam search ends.
    pub early_stopping: EarlyStopping,
    /// Contrastive search, when above 0 without sampling: how much likeness to what came before
    /// costs; at most 1. Default: 0.
    pub penalty_alpha: f64,
    /// Contrast the last layer with an earlier one of these. Default: not.
    pub dola_layers: Option<DolaLayers>,
    /// Draft this many tokens that followed the same text before. Default: not.
    pub prompt_lookup_num_tokens: Option<usize>,
    /// The longest stretch of text that prompt lookup looks for: the longer what agrees, the
    /// likelier is what follows. Default: 64 (transformers' is 2; the text is the same).
    pub max_matching_ngram_size: usize,
    /// Tokens that an assistant model drafts first; grows by 2 when all were right, falls by 1
    /// when not. Default: 5.
    pub num_assistant_tokens: usize,
    /// What guidance (`sampling.guidance_scale`) steers away from; by default the prompt's last
    /// token.
    pub negative_prompt: Option<Vec<TokenId>>,
    /// End after the step in which this much time is over, from the start of the generation on.
    pub max_time: Option<Duration>,
    /// When the context is full, go on with this many tokens of the beginning and the newest half
    /// of what the context holds, recomputed. Default: end there.
    pub on_overflow: Option<usize>,
    /// Keep the scores after all processors of every step.
    pub output_scores: bool,
    /// Keep the model's logits of every step.
    pub output_logits: bool,
    /// Keep the log-probability of every token chosen, by the model's logits before any processor,
    /// and of as many of the likeliest tokens; none by default.
    pub logprobs: Option<usize>,
    /// The tokens that end a text; by default those the model names.
    pub eos: Option<Vec<TokenId>>,
    /// Never choose a token that ends the text. Default: false.
    pub ignore_eos: bool,
    /// Texts that end the continuation; they are not part of it.
    pub stop: Vec<String>,
    /// What the continuation must keep to. A text that nothing may follow ends there, for
    /// [`FinishReason::Eos`](super::FinishReason::Eos); one that `max_new_tokens` cuts is only the
    /// beginning of one that does. Default: none.
    pub grammar: Option<Grammar>,
}

impl Default for GenerationOptions {
    fn default() -> Self {
        Self {
            sampling: SamplingOptions::default(),
            seed: 0,
            max_new_tokens: 128,
            max_length: None,
            num_return_sequences: 1,
            num_beams: 1,
            num_beam_groups: 1,
            length_penalty: 1.0,
            early_stopping: EarlyStopping::default(),
            penalty_alpha: 0.0,
            dola_layers: None,
            prompt_lookup_num_tokens: None,
            max_matching_ngram_size: 64,
            num_assistant_tokens: 5,
            negative_prompt: None,
            max_time: None,
            on_overflow: None,
            output_scores: false,
            output_logits: false,
            logprobs: None,
            eos: None,
            ignore_eos: false,
            stop: Vec::new(),
            grammar: None,
        }
    }
}

impl GenerationOptions {
    /// Checks each value, and those that belong together.
    pub(super) fn check_values(&self) -> Result<()> {
        self.check_ranges()?;
        StopStrings::new(&self.stop)?;
        if !self.num_beams.is_multiple_of(self.num_beam_groups) {
            return Err(Error::Argument(format!(
                "num_beams {} must be a multiple of num_beam_groups {}",
                self.num_beams, self.num_beam_groups
            )));
        }
        if self.num_beam_groups > 1 && self.sampling.do_sample {
            return Err(Error::Argument(
                "num_beam_groups above 1 does not go with sampling (do_sample)".to_owned(),
            ));
        }
        if self.num_return_sequences > MAX_RETURNED {
            return Err(Error::out_of_range(
                "num_return_sequences",
                format!("at most {MAX_RETURNED}"),
                &self.num_return_sequences,
            ));
        }
        let several = self.num_return_sequences > 1;
        if self.num_beams > 1 && self.num_return_sequences > self.num_beams {
            return Err(Error::out_of_range(
                "num_return_sequences",
                format!("at most num_beams, {}", self.num_beams),
                &self.num_return_sequences,
            ));
        }
        if several && self.num_beams == 1 && !self.sampling.do_sample {
            return Err(Error::Argument(format!(
                "num_return_sequences {} needs sampling (do_sample) or as many beams: greedy \
                 decoding has one result",
                self.num_return_sequences
            )));
        }
        Ok(())
    }

    /// Most tokens of a continuation of `prompt` tokens.
    pub(super) fn new_tokens(&self, prompt: usize) -> usize {
        let room = self.max_length.map(|length| length.saturating_sub(prompt));
        room.map_or(self.max_new_tokens, |room| room.min(self.max_new_tokens))
    }
}

/// When a beam search ends (`early_stopping`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum EarlyStopping {
    /// When no text in progress is better than the worst finished one (false).
    #[default]
    WhenUnlikely,
    /// As soon as there are as many finished texts as beams (true).
    WhenFull,
    /// When no text in progress can become better ("never").
    WhenImpossible,
}

/// The layers that `DoLa` chooses from (`dola_layers`; Chuang et al. 2023,
/// <https://arxiv.org/abs/2309.03883>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DolaLayers {
    /// Every second one of the lower half.
    Low,
    /// Every second one of the upper half.
    High,
    /// These, counted from 0, which is the embedding.
    These(Vec<usize>),
}
