//! What goes into a scheduler, and what comes out of it.

use crate::generate::options::GenerationOptions;
use crate::generate::output::{Continuation, GenerationTimings, Step};
use crate::sampling::{ScoreDetails, TokenScore};
use crate::{Error, TokenId};

/// How a scheduler works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedulerOptions {
    /// Texts at work at a time, each beam of a search counted as one: at most the session's
    /// sequences. Default: 4.
    pub texts: usize,
    /// Most tokens of a prompt that one step computes beside texts that are being written: what a
    /// long prompt delays them by. Default: 64.
    pub chunk: usize,
    /// The same when nothing else is being written. Default: 256.
    pub idle_chunk: usize,
    /// Compute the newest tokens of all texts [batch-invariant](crate::session::Batch), whatever
    /// the model's type.
    pub batch_invariant: bool,
}

impl Default for SchedulerOptions {
    fn default() -> Self {
        Self {
            texts: 4,
            chunk: 64,
            idle_chunk: 256,
            batch_invariant: false,
        }
    }
}

/// Names a request of a scheduler; later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RequestId(pub(super) u64);

/// A prompt and what is wanted of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduledRequest {
    /// The prompt.
    pub prompt: Vec<TokenId>,
    /// How it is continued. With `prompt_scores`, `max_new_tokens` may be 0: then nothing is
    /// generated. The time limit counts from when the request is admitted.
    pub options: GenerationOptions,
    /// Score every token of the prompt, with these details.
    pub prompt_scores: Option<ScoreDetails>,
}

/// What comes out of a step.
#[derive(Debug)]
pub enum SchedulerEvent {
    /// Scores of the prompt's tokens, in pieces, in order.
    PromptScores {
        /// The request.
        request: RequestId,
        /// The position of the first of these tokens.
        first: usize,
        /// A score for each, by the model's logits; none for position 0, which nothing comes
        /// before.
        scores: Vec<Option<TokenScore>>,
    },
    /// A token of a continuation.
    Token {
        /// The request.
        request: RequestId,
        /// The token; which of the continuations it belongs to is in its `sequence`.
        step: Step,
    },
    /// A continuation has ended.
    Finished {
        /// The request.
        request: RequestId,
        /// Which of its continuations, from 0.
        sequence: usize,
        /// All of it.
        continuation: Continuation,
    },
    /// All that was wanted has come, or the request was cancelled: no more events of it.
    Done {
        /// The request.
        request: RequestId,
        /// What it took.
        usage: Usage,
    },
    /// The request failed: no more events of it.
    Failed {
        /// The request.
        request: RequestId,
        /// Why.
        error: Error,
    },
}

impl SchedulerEvent {
    /// The request that the event is of.
    pub fn request(&self) -> RequestId {
        match self {
            Self::PromptScores { request, .. }
            | Self::Token { request, .. }
            | Self::Finished { request, .. }
            | Self::Done { request, .. }
            | Self::Failed { request, .. } => *request,
        }
    }
}

/// What a request took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that were in the cache already.
    pub cached_tokens: usize,
    /// Tokens of all continuations.
    pub completion_tokens: usize,
    /// How long it was at work: from its admission to its first token, and from there to its last.
    pub timings: GenerationTimings,
}

/// How much a scheduler has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SchedulerLoad {
    /// Requests that were not admitted yet.
    pub waiting: usize,
    /// Requests at work.
    pub running: usize,
    /// Positions of the cache that those at work may need.
    pub reserved_positions: usize,
    /// Positions that only prompts hold which are kept for later ones; they are let go when the
    /// positions are needed.
    pub cached_positions: usize,
    /// Positions that the session has.
    pub context: usize,
}
