//! Contrastive search: of the likely tokens the one whose hidden state is least like those before it
//! (Su et al. 2022, <https://arxiv.org/abs/2202.06417>).
//!
//! score = (1 − α)·p − α·max cos(h, hᵢ), over the `top_k` most probable tokens, h being the last hidden state of
//! the candidate and hᵢ those of all tokens before it.

use std::time::Instant;

use super::candidates::{Best, Candidate};
use super::options::{Continuation, FinishReason, Generation, GenerationTimings};
use super::writer::Writer;
use super::{OnToken, Request};
use crate::model::kv_cache::SequenceSet;
use crate::sampling::{Chain, greedy, log_softmax};
use crate::session::Session;
use crate::session::{Batch, BatchToken};
use crate::{Error, Result, TokenId};

pub(super) fn search(
    session: &mut Session,
    request: &Request<'_>,
    on_token: &mut OnToken<'_>,
) -> Result<Generation> {
    let mut generation = Generation {
        sequences: Vec::new(),
        timings: GenerationTimings::default(),
    };
    let start = Instant::now();
    let mut search = Search::new(session, request)?;
    match search.prefill(session) {
        Ok(()) => {}
        Err(Error::Stopped) => return Ok(generation),
        Err(error) => return Err(error),
    }
    generation.timings.prefill = start.elapsed();
    generation.timings.prefill_tokens = request.prompt.len();
    let start = Instant::now();
    let mut writer = Writer::new(request, 0)?;
    let reason = search.run(session, &mut writer, on_token)?;
    generation.timings.decode = start.elapsed();
    generation.timings.decode_tokens = search.computed;
    generation.sequences.push(Continuation {
        scores: search.output_scores,
        logits: search.output_logits,
        ..writer.finish(reason)
    });
    Ok(generation)
}

struct Search<'a, 'r> {
    request: &'r Request<'a>,
    chain: Chain,
    /// Prompt and continuation.
    ids: Vec<TokenId>,
    width: usize,
    /// The last hidden states of `ids`, each of length 1, row-major.
    directions: Vec<f32>,
    /// The logits after `ids`.
    logits: Vec<f32>,
    computed: usize,
    /// On request, what each token was chosen by.
    output_scores: Vec<Vec<f32>>,
    /// On request, the model's logits for each token.
    output_logits: Vec<Vec<f32>>,
}

impl<'a, 'r> Search<'a, 'r> {
    fn new(session: &Session, request: &'r Request<'a>) -> Result<Self> {
        Ok(Self {
            request,
            chain: request.chain(1)?,
            ids: request.prompt.to_vec(),
            width: session.model().hyperparameters().n_embd,
            directions: Vec::new(),
            logits: Vec::new(),
            computed: 0,
            output_scores: Vec::new(),
            output_logits: Vec::new(),
        })
    }

    /// Computes the prompt, whose every hidden state counts, for all candidates.
    fn prefill(&mut self, session: &mut Session) -> Result<()> {
        let candidates = self.request.options.sampling.top_k;
        session.truncate(candidates - 1, 0)?;
        for sequence in 0..candidates {
            session.truncate(sequence, 0)?;
        }
        // All but the last token without their logits.
        let Some((last, before)) = self.ids.split_last() else {
            return Err(Error::Argument(
                "expected at least one token, found none".to_owned(),
            ));
        };
        for (tokens, logits) in [(before, false), (std::slice::from_ref(last), true)] {
            let start = session.length(0);
            let mut batch = Batch::of_text(tokens, start, SequenceSet::of(0)?, |_| true);
            (batch.logits, batch.last_hidden_state) = (logits, true);
            let output = session.run(&batch)?;
            extend_directions(&mut self.directions, &output.last_hidden_state, self.width);
            if logits {
                self.logits = output.row(0).to_vec();
            }
        }
        session.reorder(&vec![0; candidates])
    }

    fn run(
        &mut self,
        session: &mut Session,
        writer: &mut Writer<'_>,
        on_token: &mut OnToken<'_>,
    ) -> Result<FinishReason> {
        for _ in 0..self.request.max_new_tokens {
            let id = match self.step(session) {
                Ok(id) => id,
                Err(Error::Stopped) => return Ok(FinishReason::Stopped),
                Err(Error::ContextFull { .. }) => return Ok(FinishReason::ContextFull),
                Err(error) => return Err(error),
            };
            if let Some(reason) = writer.push(id, on_token) {
                return Ok(reason);
            }
            if self.request.is_over_time() {
                return Ok(FinishReason::Time);
            }
        }
        Ok(FinishReason::Length)
    }

    /// Computes every candidate, keeps the best and gives its token.
    fn step(&mut self, session: &mut Session) -> Result<TokenId> {
        let options = self.request.options;
        greedy(&self.logits)?;
        let scores = self.chain.process(&self.logits, &self.ids);
        let (chosen_by, raw) = (
            options.output_scores.then(|| scores.to_vec()),
            options.output_logits.then(|| self.logits.clone()),
        );
        let mut log_probabilities = Vec::new();
        log_softmax(scores, &mut log_probabilities);
        let mut best = Best::new(options.sampling.top_k);
        best.offer(0, log_probabilities.into_iter());
        let candidates = best.finish();
        let mut batch = Batch {
            last_hidden_state: true,
            ..Batch::default()
        };
        for (sequence, candidate) in candidates.iter().enumerate() {
            batch.tokens.push(BatchToken {
                token: candidate.token,
                position: self.ids.len(),
                sequences: SequenceSet::of(sequence)?,
                output: true,
                ..BatchToken::default()
            });
        }
        let output = session.run(&batch)?;
        self.computed += candidates.len();
        let mut directions = Vec::new();
        extend_directions(&mut directions, &output.last_hidden_state, self.width);
        let chosen = most_contrastive(
            &candidates,
            &directions,
            &self.directions,
            self.width,
            options.penalty_alpha as f32,
        );
        // Kept only now: the candidates may not have fitted.
        self.output_scores.extend(chosen_by);
        self.output_logits.extend(raw);
        let row = chosen * self.width;
        self.directions
            .extend_from_slice(&directions[row..row + self.width]);
        self.logits.clear();
        self.logits.extend_from_slice(output.row(chosen));
        let token = candidates[chosen].token;
        self.ids.push(token);
        session.reorder(&vec![chosen; options.sampling.top_k])?;
        Ok(token)
    }
}

/// The place of the candidate with the largest (1 − α)·p − α·max cos, of equals the more probable.
fn most_contrastive(
    candidates: &[Candidate],
    directions: &[f32],
    before: &[f32],
    width: usize,
    alpha: f32,
) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    let rows = candidates.iter().zip(directions.chunks_exact(width));
    for (place, (candidate, direction)) in rows.enumerate() {
        let cosine =
            |other: &[f32]| -> f32 { direction.iter().zip(other).map(|(a, b)| a * b).sum() };
        let likeness = before
            .chunks_exact(width)
            .map(cosine)
            .fold(f32::NEG_INFINITY, f32::max);
        let score = (1.0 - alpha) * libm::expf(candidate.score) - alpha * likeness;
        if score > best.1 {
            best = (place, score);
        }
    }
    best.0
}

/// Appends rows of hidden states, each divided by its length.
fn extend_directions(directions: &mut Vec<f32>, states: &[f32], width: usize) {
    for row in states.chunks_exact(width) {
        let length = row
            .iter()
            .map(|x| f64::from(*x) * f64::from(*x))
            .sum::<f64>()
            .sqrt();
        directions.extend(row.iter().map(|x| (f64::from(*x) / length) as f32));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likeness_costs() {
        let candidate = |token, probability: f32| Candidate {
            beam: 0,
            token,
            score: libm::logf(probability),
        };
        let candidates = [candidate(7, 0.6), candidate(8, 0.4)];
        // The first is what was there already (cosine 1), the second is half of it (cosine .6).
        let (directions, before) = ([1.0, 0.0, 0.6, 0.8], [0.0, -1.0, 1.0, 0.0]);
        let chosen = |alpha| most_contrastive(&candidates, &directions, &before, 2, alpha);
        // .9·.6 − .1·1 = .44 against .9·.4 − .1·.6 = .3; .5·.6 − .5 = −.2 against .5·.4 − .5·.6 = −.1.
        assert_eq!((chosen(0.1), chosen(0.5)), (0, 1));
    }

    #[test]
    fn directions_have_length_one() {
        let mut directions = vec![9.0];
        extend_directions(&mut directions, &[3.0, 4.0], 2);
        assert_eq!(directions, [9.0, 0.6, 0.8]);
    }
}
