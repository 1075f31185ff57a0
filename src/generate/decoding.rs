//! What a decoding method is to a decoder.

use super::output::FinishReason;
use super::request::Request;
use super::work::{Edit, Work};
use super::writer::Chosen;
use crate::session::{OutputRows, SequenceId};
use crate::{Error, Result, TokenId};

/// A decoding method. Every call is given the text: the prompt and what was emitted after it.
pub(super) trait Decoding {
    /// What to compute next, after all chosen tokens were emitted.
    ///
    /// # Errors
    /// [`Error::ContextFull`] when there is no room for another token.
    fn work(&mut self, request: &Request, ids: &[TokenId]) -> Result<Work>;

    /// Takes what was computed.
    fn accept(
        &mut self,
        request: &Request,
        ids: &[TokenId],
        rows: OutputRows<'_>,
    ) -> Result<Outcome>;

    /// Whether the prompt is still being computed.
    fn is_in_prompt(&self) -> bool;

    /// Begins continuation `number` of the same prompt after another has ended.
    fn begin_again(&mut self, _request: &Request, _number: usize) -> Result<Outcome> {
        Ok(Outcome::More)
    }

    /// What a search has found when it is ended from outside; nothing for who is not a search.
    fn interrupt(
        &mut self,
        _request: &Request,
        _reason: FinishReason,
    ) -> Option<Result<Vec<Found>>> {
        None
    }

    /// What to do to the cache after the text has ended.
    fn leave(&self, _ids: &[TokenId]) -> Vec<Edit> {
        Vec::new()
    }

    /// Tokens computed after the prompt, where they are not those of the text.
    fn computed(&self) -> Option<usize> {
        None
    }
}

/// Where a text lies in the cache and how long it may grow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) first: SequenceId,
    /// Most tokens that fit.
    pub(super) capacity: usize,
    /// Most that the model was made for.
    pub(super) model_limit: usize,
}

impl Room {
    /// The error of a text that needs more positions than there are.
    pub(super) fn full(self, needed: usize) -> Error {
        Error::ContextFull {
            needed,
            available: self.capacity,
            model_limit: self.model_limit,
        }
    }
}

/// What came of a computation.
pub(super) enum Outcome {
    /// More must be computed before a token is chosen.
    More,
    /// The tokens that follow.
    Tokens(Vec<Chosen>),
    /// A search is over; its texts, best first.
    Texts(Vec<Found>),
}

/// A text that a search found.
pub(super) struct Found {
    pub(super) tokens: Vec<Chosen>,
    /// Σ log p / length^`length_penalty`.
    pub(super) score: f64,
    /// Why it ended.
    pub(super) reason: FinishReason,
}
