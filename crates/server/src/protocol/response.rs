//! Bodies and events of OpenAI's completions: what stands around the choices.

use std::time::{SystemTime, UNIX_EPOCH};

use gpt2::TokenId;
use gpt2::generate::GenerationTimings;
use serde_json::{Value as Json, json};

use super::generation::random;
use super::served::Served;
use super::text::Piece;

/// Tokens that a request took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) prompt: usize,
    /// Of those, tokens that were in the cache.
    pub(crate) cached: usize,
    pub(crate) completion: usize,
    pub(crate) timings: GenerationTimings,
}

impl Tokens {
    /// Adds those of another prompt.
    pub(crate) fn add(&mut self, other: &Self) {
        self.prompt += other.prompt;
        self.cached += other.cached;
        self.completion += other.completion;
        let (own, more) = (&mut self.timings, &other.timings);
        own.prefill_tokens += more.prefill_tokens;
        own.prefill += more.prefill;
        own.decode_tokens += more.decode_tokens;
        own.decode += more.decode;
    }

    /// OpenAI's `usage`.
    pub(crate) fn usage(&self) -> Json {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": { "cached_tokens": self.cached },
        })
    }
}

/// A choice of a response, or a part of one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice<'a> {
    /// Its number among the choices of all prompts.
    pub(crate) index: usize,
    pub(crate) piece: &'a Piece,
    /// Alternatives of each token, where log-probabilities are wanted.
    pub(crate) logprobs: Option<usize>,
    /// The prompt's tokens, where token ids are wanted.
    pub(crate) prompt_ids: Option<&'a [TokenId]>,
}

/// What every body and event of one response begins with.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    /// Such as `cmpl-…`.
    pub(crate) id: String,
    /// Such as `text_completion`.
    pub(crate) object: &'static str,
    /// Seconds since 1970.
    pub(crate) created: u64,
}

impl Head {
    /// The head of a new response.
    pub(crate) fn new(prefix: &str, object: &'static str) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            id: format!("{prefix}-{:016x}{:08x}", random(), random() as u32),
            object,
            created: since.map_or(0, |since| since.as_secs()),
        }
    }

    /// A response with all of its choices.
    pub(crate) fn body(&self, served: &Served, choices: &[Json], tokens: &Tokens) -> Json {
        let mut body = self.with(served, choices);
        body["usage"] = tokens.usage();
        body
    }

    /// An event of a stream. With `include_usage`, only the last has one, and all others `null`.
    pub(crate) fn event(&self, served: &Served, choice: Json, include_usage: bool) -> Json {
        let mut event = self.with(served, &[choice]);
        if include_usage {
            event["usage"] = Json::Null;
        }
        event
    }

    /// The event of a stream that has its usage.
    pub(crate) fn usage_event(&self, served: &Served, tokens: &Tokens) -> Json {
        self.body(served, &[], tokens)
    }

    fn with(&self, served: &Served, choices: &[Json]) -> Json {
        json!({
            "id": self.id, "object": self.object, "created": self.created,
            "model": served.name(), "system_fingerprint": served.fingerprint(),
            "choices": choices,
        })
    }
}
