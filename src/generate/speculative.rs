//! Several tokens in one pass: proposals of a smaller model or of the text itself, of which the model takes those
//! it would have written.
//!
//! Greedy decoding takes a proposal that is its own choice, so the result is the same as without. Sampling takes
//! a proposal drawn from q with probability min(1, p/q) and otherwise draws from max(p − q, 0), so the
//! distribution is the same as without (Leviathan et al. 2023, <https://arxiv.org/abs/2211.17192>).

use std::time::Instant;

use super::options::{FinishReason, Generation, GenerationOptions, GenerationTimings};
use super::writer::Writer;
use super::{OnToken, Request};
use crate::model::kv_cache::SequenceSet;
use crate::sampling::{Chain, Generator, greedy};
use crate::session::Batch;
use crate::session::Session;
use crate::tasks::softmax;
use crate::{Error, Result, TokenId};

/// From 64 tokens on attention adds in another order than for one.
const MOST_PROPOSALS: usize = 62;

/// A proposed token, with the distribution it was drawn from when it was drawn.
pub(super) struct Proposal {
    token: TokenId,
    /// Probabilities `[vocabulary]`; none for a proposal that was not drawn.
    probabilities: Option<Vec<f32>>,
}

/// Proposes how a text goes on.
pub(super) trait Drafter {
    /// At most `most` tokens after `ids`.
    fn propose(
        &mut self,
        ids: &[TokenId],
        most: usize,
        generator: &mut Generator,
    ) -> Result<Vec<Proposal>>;

    /// Is told how many of so many proposals were taken.
    fn learn(&mut self, _proposed: usize, _taken: usize) {}
}

/// What followed the same tokens before.
pub(super) struct PromptLookup {
    /// Tokens to propose at most.
    most: usize,
    /// Tokens to propose next: each costs a little, and wrong ones are for nothing.
    tokens: usize,
    longest: usize,
}

impl PromptLookup {
    pub(super) fn new(options: &GenerationOptions) -> Self {
        let most = options.prompt_lookup_num_tokens.unwrap_or(0);
        Self {
            most,
            tokens: most,
            longest: options.max_matching_ngram_size,
        }
    }
}

impl Drafter for PromptLookup {
    fn propose(
        &mut self,
        ids: &[TokenId],
        most: usize,
        _generator: &mut Generator,
    ) -> Result<Vec<Proposal>> {
        let found = followed(ids, self.longest, self.tokens.min(most));
        let proposal = |token| Proposal {
            token,
            probabilities: None,
        };
        Ok(found.into_iter().map(proposal).collect())
    }

    fn learn(&mut self, proposed: usize, taken: usize) {
        if proposed > 0 {
            // As many again as were right, and twice as many when all were.
            let next = if taken == proposed { 2 * taken } else { taken };
            self.tokens = next.clamp(self.most.min(1), self.most);
        }
    }
}

/// `most` ids that would follow if the text went on as it did before: after the place whose preceding ids agree with the end
/// of `ids` for longest, of at most `longest` ids; of several the earliest. Beyond the end of `ids`, what was just found is
/// repeated. Nothing when the last id did not occur before.
fn followed(ids: &[TokenId], longest: usize, most: usize) -> Vec<TokenId> {
    let (mut place, mut greatest) = (0, 0);
    for end in 1..ids.len() {
        let pairs = ids[..end].iter().rev().zip(ids.iter().rev());
        let agreeing = pairs.take(longest).take_while(|(a, b)| a == b).count();
        if agreeing > greatest {
            (place, greatest) = (end, agreeing);
        }
    }
    if greatest == 0 {
        return Vec::new();
    }
    let again = ids[place..].iter().copied().cycle();
    again.take(most).collect()
}

/// A smaller model with its own cache.
pub(super) struct Assistant<'a> {
    session: &'a mut Session,
    chain: Chain,
    do_sample: bool,
    /// Tokens to propose next.
    tokens: usize,
}

impl<'a> Assistant<'a> {
    /// # Errors
    /// [`Error::Argument`] when the vocabularies differ in size.
    pub(super) fn new(
        assistant: &'a mut Session,
        session: &Session,
        request: &Request<'_>,
    ) -> Result<Self> {
        let size = |session: &Session| session.model().hyperparameters().vocab_size;
        if size(assistant) != size(session) {
            return Err(Error::Argument(format!(
                "assistant model: expected a vocabulary of {} tokens, found {}",
                size(session),
                size(assistant)
            )));
        }
        Ok(Self {
            session: assistant,
            chain: request.chain(1)?,
            do_sample: request.options.sampling.do_sample,
            tokens: request.options.num_assistant_tokens,
        })
    }

    /// The logits after `ids`, of which the assistant has seen a part.
    fn logits(&mut self, ids: &[TokenId]) -> Result<Vec<f32>> {
        let held = self.session.tokens(0);
        let common = held.iter().zip(ids).take_while(|(a, b)| a == b).count();
        let common = common.min(ids.len().saturating_sub(1));
        self.session.truncate(0, common)?;
        Ok(self.session.prefill(&ids[common..])?.to_vec())
    }
}

impl Drafter for Assistant<'_> {
    fn propose(
        &mut self,
        ids: &[TokenId],
        most: usize,
        generator: &mut Generator,
    ) -> Result<Vec<Proposal>> {
        let mut ids = ids.to_vec();
        let mut proposals = Vec::new();
        for _ in 0..self.tokens.min(most) {
            let logits = match self.logits(&ids) {
                Ok(logits) => logits,
                // The smaller model may have the smaller context.
                Err(Error::ContextFull { .. }) => break,
                Err(error) => return Err(error),
            };
            let scores = self.chain.process(&logits, &ids);
            let token = generator.choose(scores, self.do_sample)?;
            proposals.push(Proposal {
                token,
                probabilities: self.do_sample.then(|| softmax(scores)),
            });
            ids.push(token);
        }
        Ok(proposals)
    }

    /// transformers' heuristic.
    fn learn(&mut self, proposed: usize, taken: usize) {
        if proposed == 0 {
            return;
        }
        self.tokens = if taken == proposed {
            self.tokens + 2
        } else {
            (self.tokens - 1).max(1)
        };
    }
}

/// Writes the continuation.
pub(super) fn write(
    session: &mut Session,
    drafter: &mut dyn Drafter,
    request: &Request<'_>,
    on_token: &mut OnToken<'_>,
) -> Result<Generation> {
    let mut generation = Generation {
        sequences: Vec::new(),
        timings: GenerationTimings::default(),
    };
    let start = Instant::now();
    let held = session.tokens(0);
    let common = held
        .iter()
        .zip(request.prompt)
        .take_while(|(a, b)| a == b)
        .count();
    let common = common.min(request.prompt.len().saturating_sub(1));
    session.truncate(0, common)?;
    let mut text = Text {
        request,
        ids: request.prompt.to_vec(),
        chain: request.chain(1)?,
        generator: Generator::new(request.options.seed),
        scores: Vec::new(),
        logits: Vec::new(),
    };
    // The prompt by itself, as without proposals, so that the first token is the same.
    let first = match session.prefill(&request.prompt[common..]) {
        Ok(logits) => text.first(logits)?,
        Err(Error::Stopped) => return Ok(generation),
        Err(error) => return Err(error),
    };
    generation.timings.prefill_tokens = request.prompt.len() - common;
    generation.timings.prefill = start.elapsed();
    let start = Instant::now();
    let mut writer = Writer::new(request, 0)?;
    let reason = text.write(first, session, drafter, &mut writer, on_token)?;
    generation.timings.decode = start.elapsed();
    // The first came of the prompt.
    generation.timings.decode_tokens = (text.ids.len() - request.prompt.len()).saturating_sub(1);
    let mut continuation = writer.finish(reason);
    // Proposals that were right may go on past the end.
    text.scores.truncate(continuation.ids.len());
    text.logits.truncate(continuation.ids.len());
    (continuation.scores, continuation.logits) = (text.scores, text.logits);
    generation.sequences.push(continuation);
    Ok(generation)
}

struct Text<'a, 'r> {
    request: &'r Request<'a>,
    /// Prompt and continuation; the cache holds all but the last.
    ids: Vec<TokenId>,
    chain: Chain,
    generator: Generator,
    /// On request, what each token was chosen by.
    scores: Vec<Vec<f32>>,
    /// On request, the model's logits for each token.
    logits: Vec<Vec<f32>>,
}

impl Text<'_, '_> {
    /// The token after the prompt.
    fn first(&mut self, logits: &[f32]) -> Result<TokenId> {
        let options = self.request.options;
        let scores = self.chain.process(logits, &self.ids);
        keep(options.output_scores, &mut self.scores, scores);
        keep(options.output_logits, &mut self.logits, logits);
        self.generator.choose(scores, options.sampling.do_sample)
    }

    /// Writes the continuation, of which `first` is known.
    fn write(
        &mut self,
        first: TokenId,
        session: &mut Session,
        drafter: &mut dyn Drafter,
        writer: &mut Writer<'_>,
        on_token: &mut OnToken<'_>,
    ) -> Result<FinishReason> {
        let end = self
            .request
            .prompt
            .len()
            .saturating_add(self.request.max_new_tokens);
        if self.request.max_new_tokens == 0 {
            return Ok(FinishReason::Length);
        }
        let mut tokens = vec![first];
        loop {
            for id in tokens {
                self.ids.push(id);
                if let Some(reason) = writer.push(id, on_token) {
                    // What was computed beyond is no part of the text.
                    session.truncate(0, self.ids.len() - 1)?;
                    return Ok(reason);
                }
            }
            if self.ids.len() >= end {
                return Ok(FinishReason::Length);
            }
            if self.request.is_over_time() {
                return Ok(FinishReason::Time);
            }
            tokens = match self.pass(session, drafter, end) {
                Ok(tokens) => tokens,
                Err(Error::Stopped) => return Ok(FinishReason::Stopped),
                Err(Error::ContextFull { .. }) => return Ok(FinishReason::ContextFull),
                Err(error) => return Err(error),
            };
        }
    }

    /// One pass over the last token and proposals; gives the tokens that follow, one at least.
    fn pass(
        &mut self,
        session: &mut Session,
        drafter: &mut dyn Drafter,
        end: usize,
    ) -> Result<Vec<TokenId>> {
        let options = self.request.options;
        let positions = session
            .context_size()
            .min(session.model().hyperparameters().n_positions);
        // Each proposal takes a position, and the model's own token after them is one of the rest.
        let most = (end - self.ids.len() - 1)
            .min(positions.saturating_sub(self.ids.len()))
            .min(MOST_PROPOSALS);
        let proposals = drafter.propose(&self.ids, most, &mut self.generator)?;
        let first = self.ids.len() - 1;
        let mut tokens = vec![self.ids[first]];
        tokens.extend(proposals.iter().map(|proposal| proposal.token));
        let mut batch = Batch::of_text(&tokens, first, SequenceSet::of(0)?, |_| true);
        // The text is the one without proposals, also where two tokens are almost equally likely.
        batch.batch_invariant = true;
        let output = session.run(&batch)?;
        let mut taken = Vec::new();
        let mut ids = self.ids.clone();
        for (row, proposal) in proposals.iter().enumerate() {
            let scores = self.chain.process(output.row(row), &ids);
            keep(options.output_scores, &mut self.scores, scores);
            keep(options.output_logits, &mut self.logits, output.row(row));
            let token = verify(scores, proposal, options, &mut self.generator)?;
            taken.push(token);
            ids.push(token);
            if token != proposal.token {
                break;
            }
        }
        let right = taken
            .iter()
            .zip(&proposals)
            .filter(|(a, b)| **a == b.token)
            .count();
        if right == proposals.len() {
            let scores = self.chain.process(output.row(right), &ids);
            keep(options.output_scores, &mut self.scores, scores);
            keep(options.output_logits, &mut self.logits, output.row(right));
            let do_sample = options.sampling.do_sample;
            taken.push(self.generator.choose(scores, do_sample)?);
        }
        drafter.learn(proposals.len(), right);
        session.truncate(0, first + 1 + right)?;
        Ok(taken)
    }
}

/// Keeps a row if it was asked for.
fn keep(wanted: bool, rows: &mut Vec<Vec<f32>>, row: &[f32]) {
    if wanted {
        rows.push(row.to_vec());
    }
}

/// The token for a place that has a proposal: the proposal, if it is taken, or another.
fn verify(
    scores: &[f32],
    proposal: &Proposal,
    options: &GenerationOptions,
    generator: &mut Generator,
) -> Result<TokenId> {
    let (true, Some(proposed)) = (options.sampling.do_sample, &proposal.probabilities) else {
        // A proposal that was not drawn is right when the model's own choice is the same.
        return generator.choose(scores, options.sampling.do_sample);
    };
    // Finds scores that are no numbers.
    greedy(scores)?;
    let wanted = softmax(scores);
    let place = proposal.token as usize;
    let (p, q) = (wanted[place], proposed[place]);
    if generator.uniform() * f64::from(q) <= f64::from(p) {
        return Ok(proposal.token);
    }
    let rest: Vec<f32> = wanted
        .iter()
        .zip(proposed)
        .map(|(p, q)| libm::logf((p - q).max(0.0)))
        .collect();
    // Rounding may leave nothing of equal distributions.
    if rest.iter().all(|log| *log == f32::NEG_INFINITY) {
        return generator.draw(scores);
    }
    generator.draw(&rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_end_is_looked_up_at_its_first_place() {
        let ids = [1, 2, 3, 4, 7, 1, 2, 9, 3, 7, 1, 2];
        assert_eq!(followed(&ids, 2, 3), [3, 4, 7]);
        assert_eq!(followed(&ids, 1, 1), [3]);
        // "3 7 1 2" did not occur; "7 1 2" did.
        assert_eq!(followed(&ids, 64, 2), [9, 3]);
        assert!(followed(&ids, 0, 2).is_empty());
        assert!(followed(&[1, 2, 3], 2, 4).is_empty());
        assert!(followed(&[1], 2, 4).is_empty());
        assert!(followed(&[], 2, 4).is_empty());
        // A text that repeats itself goes on to do so.
        assert_eq!(followed(&[5, 5], 2, 4), [5, 5, 5, 5]);
        assert_eq!(followed(&[8, 5, 6, 7, 5, 6], 64, 5), [7, 5, 6, 7, 5]);
    }

    #[test]
    fn sampling_keeps_the_distribution() {
        let options = GenerationOptions {
            sampling: crate::sampling::SamplingOptions {
                do_sample: true,
                ..Default::default()
            },
            ..GenerationOptions::default()
        };
        let (wanted, proposed) = ([0.5f32, 0.3, 0.2], [0.1f32, 0.7, 0.2]);
        let scores = wanted.map(libm::logf);
        let mut generator = Generator::new(3);
        let mut counts = [0u32; 3];
        for _ in 0..20_000 {
            let token = generator.draw(&proposed.map(libm::logf)).unwrap();
            let proposal = Proposal {
                token,
                probabilities: Some(proposed.to_vec()),
            };
            let token = verify(&scores, &proposal, &options, &mut generator).unwrap();
            counts[token as usize] += 1;
        }
        // Standard deviations: 71, 65, 57.
        for (count, expected) in counts.into_iter().zip([10_000u32, 6000, 4000]) {
            assert!(count.abs_diff(expected) < 4 * 71, "{counts:?}");
        }
    }
}
