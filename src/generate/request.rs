//! A request, checked against its model: what every method is given.

use std::sync::Arc;
use std::time::Instant;

use super::options::GenerationOptions;
use crate::grammar::{Grammar, State};
use crate::sampling::{Chain, ChainContext};
use crate::session::Model;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result, TokenId};

/// A prompt and what is to be made of it.
pub(super) struct Request {
    pub(super) tokenizer: Option<Arc<Tokenizer>>,
    /// The ids that end a text.
    pub(super) eos: Vec<TokenId>,
    /// Which of several requests.
    pub(super) number: usize,
    pub(super) prompt: Vec<TokenId>,
    pub(super) options: Arc<GenerationOptions>,
    /// Most tokens of a continuation, with all limits counted.
    pub(super) max_new_tokens: usize,
    /// When the generation began.
    pub(super) start: Instant,
}

impl Request {
    /// Checks a request against its model.
    pub(super) fn new(
        model: &Model,
        number: usize,
        prompt: &[TokenId],
        options: &Arc<GenerationOptions>,
    ) -> Result<Self> {
        options.validate()?;
        model.check_tokens(prompt)?;
        let vocabulary = model.hyperparameters().vocab_size;
        options.sampling.check_ids(vocabulary)?;
        let tokenizer = match model.shared_tokenizer() {
            Ok(tokenizer) => Some(Arc::clone(tokenizer)),
            Err(error) if !options.stop.is_empty() || model.has_tokenizer() => return Err(error),
            Err(_) => None,
        };
        if prompt.is_empty() {
            return Err(Error::Argument(
                "expected at least one token, found none".to_owned(),
            ));
        }
        if let Some(length) = options.max_length
            && length <= prompt.len()
        {
            return Err(Error::Argument(format!(
                "max_length {length} leaves no room after a prompt of {} tokens; max_new_tokens \
                 counts without it",
                prompt.len()
            )));
        }
        let eos = options.eos.as_ref();
        Ok(Self {
            tokenizer,
            eos: eos.unwrap_or(&model.hyperparameters().eos).clone(),
            number,
            prompt: prompt.to_vec(),
            options: Arc::clone(options),
            max_new_tokens: options.new_tokens(prompt.len()),
            start: Instant::now(),
        })
    }

    /// The prompt without its last token, which is computed in any case: its logits are not in the
    /// cache.
    pub(super) fn retainable(prompt: &[TokenId]) -> &[TokenId] {
        &prompt[..prompt.len().saturating_sub(1)]
    }

    /// Whether the time for the generation is over.
    pub(super) fn is_over_time(&self) -> bool {
        let limit = self.options.max_time;
        limit.is_some_and(|limit| self.start.elapsed() > limit)
    }

    /// The state of a text in its grammar, if it has one.
    pub(super) fn grammar(&self) -> Result<Option<State>> {
        let grammar = self.options.grammar.as_ref();
        let begin = |grammar: &Grammar| grammar.begin(self.tokenizer.as_ref());
        grammar.map(begin).transpose()
    }

    /// The processors, for a search of `beams` beams.
    pub(super) fn chain(&self, beams: usize) -> Result<Chain> {
        let mut sampling = self.options.sampling.clone();
        if self.options.ignore_eos {
            sampling.min_new_tokens = usize::MAX;
        }
        let context = ChainContext {
            prompt: &self.prompt,
            eos: &self.eos,
            beams,
            max_length: Some(self.prompt.len().saturating_add(self.max_new_tokens)),
        };
        Chain::new(&sampling, &context)
    }
}
