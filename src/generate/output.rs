//! What comes of a generation: steps on the way, continuations at the end.

use std::ops::ControlFlow;
use std::time::Duration;

use crate::TokenId;
use crate::sampling::TokenScore;

/// Takes every token; a break ends the text.
pub(super) type OnToken<'a> = dyn FnMut(&Step) -> ControlFlow<()> + 'a;

/// Why a continuation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended the text, or nothing may follow by its grammar.
    Eos,
    /// `max_new_tokens` were generated.
    Length,
    /// A stop string appeared.
    Stop,
    /// The context has no room for another token.
    ContextFull,
    /// `max_time` was over.
    Time,
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
            Self::Time => "time",
            Self::Stopped => "stopped",
        }
    }
}

/// One token of a continuation.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Which of the requests, from 0.
    pub request: usize,
    /// Which of its continuations, from 0.
    pub sequence: usize,
    /// The token.
    pub id: TokenId,
    /// Text that became certain with it: whole characters, no part of a stop string, often empty.
    pub text: String,
    /// On request ([`GenerationOptions::logprobs`](super::GenerationOptions::logprobs)), its
    /// likelihood by the model's logits before any processor.
    pub score: Option<TokenScore>,
}

/// A continuation; the prompt is not part of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Continuation {
    /// Every token chosen, with the one that ended the text; a text that is over by its grammar
    /// has none.
    pub ids: Vec<TokenId>,
    /// Their text, up to a stop string and without special tokens.
    pub text: String,
    /// Why there is no more.
    pub finish_reason: FinishReason,
    /// The score that a search ranks by, Σ log p / length^`length_penalty`; a choice token by token
    /// has none.
    pub score: Option<f64>,
    /// On request, the scores that each token was chosen by, after all processors,
    /// `[tokens][vocabulary]`; in a beam search log-probabilities of the one token, not yet added
    /// up.
    pub scores: Vec<Vec<f32>>,
    /// On request, the model's logits for each token, `[tokens][vocabulary]`.
    pub logits: Vec<Vec<f32>>,
    /// On request, each token's likelihood by the model's logits before any processor.
    pub logprobs: Vec<TokenScore>,
}

impl Continuation {
    /// One that ended before it began.
    pub(super) fn stopped() -> Self {
        Self {
            ids: Vec::new(),
            text: String::new(),
            finish_reason: FinishReason::Stopped,
            score: None,
            scores: Vec::new(),
            logits: Vec::new(),
            logprobs: Vec::new(),
        }
    }

    /// Whether the caller asked for an end.
    pub(super) fn was_stopped(&self) -> bool {
        self.finish_reason == FinishReason::Stopped
    }
}

/// How long the model worked, without loading.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GenerationTimings {
    /// Tokens of the prompt that were computed: those in the cache are not among them.
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
    /// The continuations: in the order of their seeds, from a search the best first.
    pub sequences: Vec<Continuation>,
    /// How long it took.
    pub timings: GenerationTimings,
}

/// What came of several requests.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchGeneration {
    /// The continuations of each prompt, as [`Generation::sequences`].
    pub requests: Vec<Vec<Continuation>>,
    /// How long all of them took.
    pub timings: GenerationTimings,
}

impl GenerationTimings {
    /// Adds another generation's.
    pub(super) fn add(&mut self, other: &Self) {
        self.prefill_tokens += other.prefill_tokens;
        self.prefill += other.prefill;
        self.decode_tokens += other.decode_tokens;
        self.decode += other.decode;
    }
}
