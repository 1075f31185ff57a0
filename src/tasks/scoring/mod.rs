//! Log-probabilities of texts, and of continuations of a context, token by token.
//!
//! Texts are computed together, as many as the session has sequences, where that does not change
//! their scores; a context that follows itself in the list is computed once. Logits are never there
//! as a whole ([`pieces`]). A text longer than the context is scored in windows ([`windows`]).
//! Texts become tokens in [`text`], tokens words in [`words`]; all else here knows ids alone.

mod pieces;
mod request;
mod rounds;
mod text;
mod windows;
mod words;

use std::ops::ControlFlow;

use rayon::prelude::*;

use crate::gguf::TensorType;
use crate::machine::parallel;
use crate::sampling::{ScoreDetails, TokenScore, score_token};
use crate::session::{Batch, MAX_SEQUENCES, Model, Session};
use crate::{Error, Result, TokenId};

pub(super) use pieces::{pieces, rows_at_once};
pub use request::{ScoreRequest, TextScores};
use rounds::{Job, ROUND_TOKENS, Round, Rounds};
pub use text::ScoredText;
use windows::windows;
pub use words::{WordScore, word_scores};

/// How texts are scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScoreOptions {
    /// What is computed beside the log-probabilities.
    pub details: ScoreDetails,
    /// Of a text longer than the context, how many tokens each window after the first scores: the
    /// fewer, the more tokens are before each. By default as many as the context has positions,
    /// which is how lm-evaluation-harness rolls its windows.
    pub stride: Option<usize>,
    /// Whether texts are computed together.
    pub batching: Batching,
}

/// Whether texts are computed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Batching {
    /// [`Together`](Self::Together) where the model's matrices are f32, else
    /// [`Alone`](Self::Alone).
    #[default]
    Auto,
    /// As many as there is room for, which is faster. Sums are then in another order: with f32
    /// matrices a log-probability moves by some 10⁻⁵, with quantized ones, whose activations are
    /// rounded, by some 10⁻².
    Together,
    /// One at a time, so that a text has the same bits in any company. A context that texts share
    /// is computed once nevertheless.
    Alone,
}

const BATCHINGS: &[(&str, Batching)] = &[
    ("auto", Batching::Auto),
    ("together", Batching::Together),
    ("alone", Batching::Alone),
];

impl Batching {
    /// The way called `name`: `auto`, `together` or `alone`.
    pub fn from_name(name: &str) -> Option<Self> {
        let found = BATCHINGS.iter().find(|(known, _)| *known == name);
        found.map(|(_, batching)| *batching)
    }

    /// Every name.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BATCHINGS.iter().map(|(name, _)| *name)
    }

    /// Whether texts of `model` are computed one at a time.
    fn is_alone(self, model: &Model) -> Result<bool> {
        Ok(match self {
            Self::Auto => model.matrix_type()? != TensorType::F32,
            Self::Together => false,
            Self::Alone => true,
        })
    }
}

/// The sequences and the context of a session that suits [`score`]: as many texts side by side as a
/// session can have, in room for the model's positions and what is computed together. Every other
/// session works, too.
pub fn scoring_needs(model: &Model) -> (usize, usize) {
    let positions = model.hyperparameters().n_positions;
    (MAX_SEQUENCES, positions.saturating_add(ROUND_TOKENS))
}

/// Scores each of `requests` and hands it to `on_scored` with its number, in their order; a break
/// ends the work. The session's cache is emptied.
///
/// A text's context and tokens need no room together: where they have more tokens than the model
/// has positions, or the session cells, they are scored in windows, each token once. The beginning
/// of a context that is too long is left out.
///
/// # Errors
/// [`Error::OutOfRange`] for a stride of 0 or beyond the context, [`Error::Argument`] for an id
/// outside the vocabulary, [`Error::Unsupported`] for a model without a language-model head,
/// [`Error::Format`] when logits are not finite; as [`Session::run`], [`Error::Stopped`] among them
/// when the stop flag is set. What was handed to `on_scored` by then holds.
pub fn score(
    session: &mut Session,
    requests: &[ScoreRequest],
    options: &ScoreOptions,
    on_scored: &mut dyn FnMut(usize, TextScores) -> ControlFlow<()>,
) -> Result<()> {
    let model = session.model().clone();
    let most = session
        .context_size()
        .min(model.hyperparameters().n_positions);
    let stride = options.stride.unwrap_or(most);
    if !(1..=most).contains(&stride) {
        let expected = format!("from 1 to {most} (the context)");
        return Err(Error::out_of_range("stride", expected, &stride));
    }
    for request in requests {
        model.check_tokens(&request.context)?;
        model.check_tokens(&request.tokens)?;
    }
    let alone = options.batching.is_alone(&model)?;
    let mut pending = Pending::new(requests, most, stride);
    session.clear();
    let result = (|| {
        if pending.hand_over(on_scored).is_break() {
            return Ok(());
        }
        for round in Rounds::new(requests, most, stride, alone, session) {
            for (job, scores) in round
                .jobs
                .iter()
                .zip(compute(session, requests, &round, options)?)
            {
                pending.take(job, scores);
            }
            if pending.hand_over(on_scored).is_break() {
                break;
            }
        }
        Ok(())
    })();
    session.clear();
    result
}

/// Computes a round: the scores of each job.
fn compute(
    session: &mut Session,
    requests: &[ScoreRequest],
    round: &Round,
    options: &ScoreOptions,
) -> Result<Vec<Vec<TokenScore>>> {
    let batch = |tokens| Batch {
        tokens,
        ..Batch::default()
    };
    round.keep_prefix(session)?;
    if let Some(prefix) = round.prefix_to_compute(session)? {
        session.run(&batch(prefix))?;
    }
    let targets = round.jobs.iter().flat_map(|job| job.targets(requests));
    let targets: Vec<TokenId> = targets.copied().collect();
    let mut left = &targets[..];
    let vocabulary = session.model().hyperparameters().vocab_size;
    let mut scores = Vec::with_capacity(targets.len());
    for piece in pieces(round.tokens()?, rows_at_once(vocabulary)) {
        let output = session.run(&batch(piece))?;
        let (targets, rest) = left.split_at(output.rows().min(left.len()));
        left = rest;
        let rows = targets.par_iter().enumerate();
        let rows = rows.map(|(row, &id)| score_token(output.row(row), id, options.details));
        parallel::install(|| scores.par_extend(rows));
    }
    let mut scores = scores.into_iter();
    let of_job = |job: &Job| scores.by_ref().take(job.outputs()).collect();
    round.jobs.iter().map(of_job).collect()
}

/// Texts of which a part is still to be computed.
struct Pending {
    texts: Vec<TextScores>,
    /// Windows that are missing, of each text.
    missing: Vec<usize>,
    /// The next text to hand over.
    next: usize,
}

impl Pending {
    fn new(requests: &[ScoreRequest], most: usize, stride: usize) -> Self {
        let count = |request: &ScoreRequest| windows(request, most, stride).count();
        let missing: Vec<usize> = requests.iter().map(count).collect();
        let text = |(request, &windows): (&ScoreRequest, &usize)| TextScores {
            tokens: vec![None; request.tokens.len()],
            windows,
        };
        Self {
            texts: requests.iter().zip(&missing).map(text).collect(),
            missing,
            next: 0,
        }
    }

    fn take(&mut self, job: &Job, scores: Vec<TokenScore>) {
        let places = self.texts[job.request].tokens[job.first_target..].iter_mut();
        for (place, score) in places.zip(scores) {
            *place = Some(score);
        }
        self.missing[job.request] -= 1;
    }

    /// Hands over, in order, the texts that are complete.
    fn hand_over(
        &mut self,
        on_scored: &mut dyn FnMut(usize, TextScores) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        while self.missing.get(self.next) == Some(&0) {
            let text = std::mem::take(&mut self.texts[self.next]);
            on_scored(self.next, text)?;
            self.next += 1;
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_leave_out_what_has_no_score() {
        let token = |log_probability| {
            Some(TokenScore {
                log_probability,
                rank: None,
                entropy: None,
                top: Vec::new(),
            })
        };
        let scores = TextScores {
            tokens: vec![None, token(-1.0), token(-3.0)],
            windows: 1,
        };
        assert_eq!((scores.scored(), scores.sum()), (2, -4.0));
        assert_eq!(scores.mean(), Some(-2.0));
        assert!((scores.perplexity().unwrap() - libm::exp(2.0)).abs() < 1e-12);
        let nothing = TextScores::default();
        assert_eq!(
            (nothing.sum(), nothing.sum().is_sign_positive()),
            (0.0, true)
        );
        assert_eq!((nothing.mean(), nothing.perplexity()), (None, None));
    }
}
