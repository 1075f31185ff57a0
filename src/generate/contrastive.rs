//! Contrastive search: of the likely tokens the one whose hidden state is least like those before
//! it (Su et al. 2022, <https://arxiv.org/abs/2202.06417>).
//!
//! score = (1 − α)·p − α·max cos(h, hᵢ), over the `top_k` most probable tokens, h being the last
//! hidden state of the candidate and hᵢ those of all tokens before it.

use super::candidates::{Best, Candidate};
use super::decoding::{Decoding, Outcome};
use super::request::Request;
use super::work::{Edit, Work};
use super::writer::Chosen;
use crate::sampling::{Chain, greedy, log_softmax};
use crate::session::{Batch, BatchToken, OutputRows, SequenceId, SequenceSet, Session};
use crate::{Result, TokenId};

/// What is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The prompt without its last token: hidden states alone.
    Prompt,
    /// The prompt's last token, with its logits.
    PromptEnd,
    /// Candidates for the next token.
    Candidates,
}

/// A contrastive search.
pub(super) struct Contrastive {
    first: SequenceId,
    /// Sequences, one for each candidate.
    count: usize,
    stage: Stage,
    chain: Chain,
    n_embd: usize,
    /// The last hidden states of the text, each of length 1, row-major.
    directions: Vec<f32>,
    /// The logits after the text.
    logits: Vec<f32>,
    /// What is computed, most probable first.
    candidates: Vec<Candidate>,
    /// Tokens that the candidates were chosen by, where it was asked for.
    scores: Option<Vec<f32>>,
    /// Which of the sequences all continue next.
    parent: usize,
    computed: usize,
}

impl Contrastive {
    /// A search in as many sequences from `first` on as there are candidates; they are emptied,
    /// since every hidden state of the prompt counts.
    pub(super) fn new(session: &mut Session, first: SequenceId, request: &Request) -> Result<Self> {
        for sequence in first..first + request.options.sampling.top_k {
            session.truncate(sequence, 0)?;
        }
        Ok(Self {
            first,
            count: request.options.sampling.top_k,
            stage: match request.prompt[..] {
                [_] => Stage::PromptEnd,
                _ => Stage::Prompt,
            },
            chain: request.chain(1)?,
            n_embd: session.model().hyperparameters().n_embd,
            directions: Vec::new(),
            logits: Vec::new(),
            candidates: Vec::new(),
            scores: None,
            parent: 0,
            computed: 0,
        })
    }

    /// All sequences continue the chosen one.
    fn all_continue(&self) -> Edit {
        Edit::Reorder {
            first: self.first,
            parents: vec![self.parent; self.count],
        }
    }

    /// The candidates for the token after `ids`.
    fn candidates(&mut self, request: &Request, ids: &[TokenId]) -> Result<Batch> {
        let options = &request.options;
        greedy(&self.logits)?;
        let scores = self.chain.process(&self.logits, ids);
        self.scores = options.output_scores.then(|| scores.to_vec());
        let mut log_probabilities = Vec::new();
        log_softmax(scores, &mut log_probabilities);
        let mut best = Best::new(options.sampling.top_k);
        best.offer(0, log_probabilities.into_iter());
        self.candidates = best.finish();
        let mut batch = Batch {
            last_hidden_state: true,
            ..Batch::default()
        };
        for (sequence, candidate) in (self.first..).zip(&self.candidates) {
            batch.tokens.push(BatchToken {
                token: candidate.token,
                position: ids.len(),
                sequences: SequenceSet::of(sequence)?,
                output: true,
                ..BatchToken::default()
            });
        }
        Ok(batch)
    }
}

impl Decoding for Contrastive {
    fn work(&mut self, request: &Request, ids: &[TokenId]) -> Result<Work> {
        let last = ids.len() - 1;
        let (tokens, position, logits) = match self.stage {
            Stage::Prompt => (&ids[..last], 0, false),
            Stage::PromptEnd => (&ids[last..], last, true),
            Stage::Candidates => {
                let edits = vec![self.all_continue()];
                return Ok(Work::run(edits, self.candidates(request, ids)?));
            }
        };
        let sequences = SequenceSet::of(self.first)?;
        let mut batch = Batch::of_text(tokens, position, sequences, |_| true);
        (batch.logits, batch.last_hidden_state) = (logits, true);
        Ok(Work::run(Vec::new(), batch))
    }

    fn accept(
        &mut self,
        request: &Request,
        _ids: &[TokenId],
        rows: OutputRows<'_>,
    ) -> Result<Outcome> {
        match self.stage {
            Stage::Prompt => {
                extend_directions(&mut self.directions, rows.last_hidden_state(), self.n_embd);
                self.stage = Stage::PromptEnd;
                Ok(Outcome::More)
            }
            Stage::PromptEnd => {
                extend_directions(&mut self.directions, rows.last_hidden_state(), self.n_embd);
                rows.logits(0).clone_into(&mut self.logits);
                self.stage = Stage::Candidates;
                Ok(Outcome::More)
            }
            Stage::Candidates => {
                self.computed += self.candidates.len();
                let mut directions = Vec::new();
                extend_directions(&mut directions, rows.last_hidden_state(), self.n_embd);
                let chosen = most_contrastive(
                    &self.candidates,
                    &directions,
                    &self.directions,
                    self.n_embd,
                    request.options.penalty_alpha as f32,
                );
                let scores = self.scores.take().unwrap_or_default();
                let id = self.candidates[chosen].token;
                let token = Chosen::new(&request.options, id, &scores, &self.logits)?;
                let row = chosen * self.n_embd;
                self.directions
                    .extend_from_slice(&directions[row..row + self.n_embd]);
                rows.logits(chosen).clone_into(&mut self.logits);
                self.parent = chosen;
                Ok(Outcome::Tokens(vec![token]))
            }
        }
    }

    fn is_in_prompt(&self) -> bool {
        self.stage != Stage::Candidates
    }

    fn computed(&self) -> Option<usize> {
        Some(self.computed)
    }

    /// Every sequence holds the text.
    fn leave(&self, _ids: &[TokenId]) -> Vec<Edit> {
        if self.is_in_prompt() {
            return Vec::new();
        }
        vec![self.all_continue()]
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
        // .9·.6 − .1·1 = .44 against .9·.4 − .1·.6 = .3; .5·.6 − .5 = −.2 against .5·.4 − .5·.6 =
        // −.1.
        assert_eq!((chosen(0.1), chosen(0.5)), (0, 1));
    }

    #[test]
    fn directions_have_length_one() {
        let mut directions = vec![9.0];
        extend_directions(&mut directions, &[3.0, 4.0], 2);
        assert_eq!(directions, [9.0, 0.6, 0.8]);
    }
}
