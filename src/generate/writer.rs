//! Ids become a continuation: text without special tokens and stop strings, and a reason to end.

use super::options::GenerationOptions;
use super::output::{Continuation, FinishReason, Step};
use super::request::Request;
use super::stop::StopStrings;
use crate::sampling::{ScoreDetails, TokenScore, score_token};
use crate::tokenizer::{DecodeOptions, TokenStream};
use crate::{Result, TokenId};

/// One continuation as it is written.
pub(super) struct Writer {
    sequence: usize,
    stream: Option<TokenStream>,
    stops: StopStrings,
    written: Continuation,
}

/// A token that a method chose, with what it was chosen by where that was asked for.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    pub(super) id: TokenId,
    /// After all processors, `[vocabulary]`.
    pub(super) scores: Option<Vec<f32>>,
    /// The model's logits, `[vocabulary]`.
    pub(super) logits: Option<Vec<f32>>,
    /// Its likelihood by the model's logits.
    pub(super) logprob: Option<TokenScore>,
    /// Whether nothing may follow by the grammar.
    pub(super) is_last: bool,
}

impl Chosen {
    /// Token `id` alone.
    pub(super) fn plain(id: TokenId) -> Self {
        Self {
            id,
            scores: None,
            logits: None,
            logprob: None,
            is_last: false,
        }
    }

    /// Token `id`, chosen by `scores` and, before all processors, `logits`, each `[vocabulary]`;
    /// keeps what the options ask for.
    ///
    /// # Errors
    /// [`Error::Format`](crate::Error::Format) when log-probabilities are asked for and the logits
    /// have none.
    pub(super) fn new(
        options: &GenerationOptions,
        id: TokenId,
        scores: &[f32],
        logits: &[f32],
    ) -> Result<Self> {
        let score = |top| {
            let details = ScoreDetails {
                top,
                ..ScoreDetails::default()
            };
            score_token(logits, id, details)
        };
        Ok(Self {
            id,
            scores: options.output_scores.then(|| scores.to_vec()),
            logits: options.output_logits.then(|| logits.to_vec()),
            logprob: options.logprobs.map(score).transpose()?,
            is_last: false,
        })
    }
}

impl Writer {
    /// A continuation of the request, number `sequence` of several.
    pub(super) fn new(request: &Request, sequence: usize) -> Result<Self> {
        let decode = DecodeOptions {
            skip_special_tokens: true,
            ..DecodeOptions::default()
        };
        let tokenizer = request.tokenizer.as_ref();
        Ok(Self {
            sequence,
            stream: tokenizer.map(|tokenizer| TokenStream::new(tokenizer, decode)),
            stops: StopStrings::new(&request.options.stop)?,
            written: Continuation::stopped(),
        })
    }

    /// Takes the next token; gives the step, and the reason when the text ends with it.
    pub(super) fn push(
        &mut self,
        request: &Request,
        chosen: Chosen,
    ) -> (Step, Option<FinishReason>) {
        let id = chosen.id;
        self.written.ids.push(id);
        self.written.scores.extend(chosen.scores);
        self.written.logits.extend(chosen.logits);
        self.written.logprobs.extend(chosen.logprob.clone());
        let is_eos = request.eos.contains(&id);
        let piece = match (&mut self.stream, &request.tokenizer) {
            (Some(stream), Some(tokenizer)) if !is_eos => stream.push(tokenizer, id),
            _ => String::new(),
        };
        let released = self.stops.push(&piece);
        self.written.text.push_str(&released.text);
        let step = Step {
            request: request.number,
            sequence: self.sequence,
            id,
            text: released.text,
            score: chosen.logprob,
        };
        let reason = if released.stopped {
            Some(FinishReason::Stop)
        } else {
            (is_eos || chosen.is_last).then_some(FinishReason::Eos)
        };
        (step, reason)
    }

    /// The continuation, ended for this reason.
    pub(super) fn finish(
        mut self,
        request: &Request,
        finish_reason: FinishReason,
    ) -> (usize, Continuation) {
        if finish_reason != FinishReason::Stop {
            let rest = match (&mut self.stream, &request.tokenizer) {
                (Some(stream), Some(tokenizer)) => stream.finish(tokenizer),
                _ => String::new(),
            };
            let released = self.stops.push(&rest);
            self.written.text.push_str(&released.text);
            self.written.text.push_str(&self.stops.finish());
        }
        self.written.finish_reason = finish_reason;
        (self.sequence, self.written)
    }
}
