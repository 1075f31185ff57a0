//! Ids become a continuation: text without special tokens and stop strings, and a reason to end.

use super::Request;
use super::options::{Continuation, FinishReason, Step};
use super::stop::StopStrings;
use crate::tokenizer::{DecodeOptions, StreamDecoder};
use crate::{Result, TokenId};

/// One continuation as it is written.
pub(super) struct Writer<'a> {
    eos: &'a [TokenId],
    row: usize,
    sequence: usize,
    ids: Vec<TokenId>,
    decoder: Option<StreamDecoder<'a>>,
    stops: StopStrings<'a>,
    text: String,
}

impl<'a> Writer<'a> {
    /// A continuation of the request, number `sequence` of several.
    pub(super) fn new(request: &Request<'a>, sequence: usize) -> Result<Self> {
        let decode = DecodeOptions {
            skip_special_tokens: true,
            ..DecodeOptions::default()
        };
        Ok(Self {
            eos: request.eos,
            row: request.row,
            sequence,
            ids: Vec::new(),
            decoder: request
                .tokenizer
                .map(|tokenizer| StreamDecoder::new(tokenizer, decode)),
            stops: StopStrings::new(&request.options.stop)?,
            text: String::new(),
        })
    }

    /// Takes the next token and hands it on; gives the reason when the text ends with it.
    pub(super) fn push(
        &mut self,
        id: TokenId,
        on_token: &mut super::OnToken<'_>,
    ) -> Option<FinishReason> {
        self.ids.push(id);
        let is_eos = self.eos.contains(&id);
        let piece = match &mut self.decoder {
            Some(decoder) if !is_eos => decoder.push(id),
            _ => String::new(),
        };
        let released = self.stops.push(&piece);
        self.text.push_str(&released.text);
        let step = Step {
            row: self.row,
            sequence: self.sequence,
            id,
            text: &released.text,
        };
        let flow = on_token(&step);
        if released.stopped {
            Some(FinishReason::Stop)
        } else if is_eos {
            Some(FinishReason::Eos)
        } else {
            flow.is_break().then_some(FinishReason::Stopped)
        }
    }

    /// The continuation, ended for this reason.
    pub(super) fn finish(mut self, finish_reason: FinishReason) -> Continuation {
        if finish_reason != FinishReason::Stop {
            let rest = self.decoder.as_mut().map(StreamDecoder::finish);
            let released = self.stops.push(&rest.unwrap_or_default());
            self.text.push_str(&released.text);
            self.text.push_str(&self.stops.finish());
        }
        Continuation {
            ids: self.ids,
            text: self.text,
            finish_reason,
            score: None,
            scores: Vec::new(),
            logits: Vec::new(),
        }
    }
}
