//! Texts become tokens to score, which know their places.

use std::ops::Range;

use super::ScoreRequest;
use crate::session::Model;
use crate::tokenizer::EncodeOptions;
use crate::{Error, Result};

/// A text, ready to be scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScoredText {
    /// Its tokens, and those before them.
    pub request: ScoreRequest,
    /// The characters of the text that each token came from, from 0; empty for a token that the
    /// tokenizer put there.
    pub characters: Vec<Range<usize>>,
}

impl ScoredText {
    /// The tokens of `text` after those of `context`. The two are encoded apart, so that the tokens
    /// of a text are the same after any context: begin the text with the space that begins its
    /// first word. With `bos` the model's beginning of text stands before all, unless the tokenizer
    /// puts it there.
    ///
    /// # Errors
    /// [`Error::Argument`] for `bos` when the model names no such token; as
    /// [`Tokenizer::encode`](crate::Tokenizer::encode) and [`Model::tokenizer`].
    pub fn new(model: &Model, context: Option<&str>, bos: bool, text: &str) -> Result<Self> {
        let tokenizer = model.tokenizer()?;
        let within = EncodeOptions {
            add_special_tokens: false,
            ..EncodeOptions::default()
        };
        let mut before = Vec::new();
        if let Some(context) = context {
            before.extend_from_slice(&tokenizer.settings().tokens_before);
            before.extend(tokenizer.encode_with(context, within)?);
        }
        let around = if context.is_some() {
            within
        } else {
            EncodeOptions::default()
        };
        let spans = tokenizer.encode_with_offsets(text, around)?;
        if bos {
            let id = model.hyperparameters().bos.ok_or_else(|| {
                Error::Argument(
                    "expected a model with a token that begins texts, found none".to_owned(),
                )
            })?;
            let first = before.first().or(spans.first().map(|span| &span.id));
            let given = tokenizer.settings().tokens_before.first() == Some(&id);
            if !(given && first == Some(&id)) {
                before.insert(0, id);
            }
        }
        Ok(Self {
            request: ScoreRequest {
                context: before,
                tokens: spans.iter().map(|span| span.id).collect(),
            },
            characters: spans.into_iter().map(|span| span.characters).collect(),
        })
    }
}
