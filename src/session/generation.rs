//! What a generation is asked for and what comes of it.

use std::time::Duration;

use super::stop::StopStrings;
use crate::sampling::SamplingOptions;
use crate::{Error, Result, TokenId};

/// What to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationOptions {
    /// How each token is chosen.
    pub sampling: SamplingOptions,
    /// Starts the draws; sequence n of several uses `seed + n`. Default: 0.
    pub seed: u64,
    /// Most tokens of a continuation. Default: 128.
    pub max_new_tokens: usize,
    /// Continuations of the same prompt; more than one only with sampling. Default: 1.
    pub num_return_sequences: usize,
    /// The tokens that end a text; by default those the model names.
    pub eos: Option<Vec<TokenId>>,
    /// Never choose a token that ends the text. Default: false.
    pub ignore_eos: bool,
    /// Texts that end the continuation; they are not part of it.
    pub stop: Vec<String>,
}

impl Default for GenerationOptions {
    fn default() -> Self {
        Self {
            sampling: SamplingOptions::default(),
            seed: 0,
            max_new_tokens: 128,
            num_return_sequences: 1,
            eos: None,
            ignore_eos: false,
            stop: Vec::new(),
        }
    }
}

impl GenerationOptions {
    /// Checks the options that need no model.
    ///
    /// # Errors
    /// [`Error::Argument`] names the option, what it may be and what was found.
    pub fn validate(&self) -> Result<()> {
        self.sampling.validate()?;
        StopStrings::new(&self.stop)?;
        match self.num_return_sequences {
            0 => Err(Error::Argument(
                "num_return_sequences must be at least 1, found 0".to_owned(),
            )),
            2.. if !self.sampling.do_sample => Err(Error::Argument(format!(
                "num_return_sequences {} needs sampling (do_sample): greedy decoding has one result",
                self.num_return_sequences
            ))),
            _ => Ok(()),
        }
    }
}

/// Why a continuation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended the text.
    Eos,
    /// `max_new_tokens` were generated.
    Length,
    /// A stop string appeared.
    Stop,
    /// The context has no room for another token.
    ContextFull,
    /// The caller asked for an end.
    Stopped,
}

impl FinishReason {
    /// The reason as the commands report it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Eos => "eos",
            Self::Length => "length",
            Self::Stop => "stop",
            Self::ContextFull => "context_full",
            Self::Stopped => "stopped",
        }
    }
}

/// One token of a continuation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'a> {
    /// Which of the continuations, from 0.
    pub sequence: usize,
    /// The token.
    pub id: TokenId,
    /// Text that became certain with it: whole characters, no part of a stop string, often empty.
    pub text: &'a str,
}

/// A continuation; the prompt is not part of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Continuation {
    /// Every token chosen, with the one that ended the text.
    pub ids: Vec<TokenId>,
    /// Their text, up to a stop string and without special tokens.
    pub text: String,
    /// Why there is no more.
    pub finish_reason: FinishReason,
    /// The score that a search ranks by; a choice token by token has none.
    pub score: Option<f64>,
}

/// How long the model worked, without loading.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GenerationTimings {
    /// Tokens of the prompt that were computed: those the session held already are not among them.
    pub prefill_tokens: usize,
    /// Time for the prompt.
    pub prefill: Duration,
    /// Tokens computed after the prompt: the last one chosen needs no computation.
    pub decode_tokens: usize,
    /// Time from the first choice to the last.
    pub decode: Duration,
}

/// What came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// The continuations, in the order of their seeds.
    pub sequences: Vec<Continuation>,
    /// How long it took.
    pub timings: GenerationTimings,
}
