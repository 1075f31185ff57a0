//! Several tokens in one pass: drafts of a smaller model or of the text itself, of which the model
//! accepts those it would have written.
//!
//! Greedy decoding accepts a draft that is its own choice, so the result is the same as without.
//! Sampling accepts a draft drawn from q with probability min(1, p/q) and otherwise draws from
//! max(p − q, 0), so the distribution is the same as without (Leviathan et al. 2023,
//! <https://arxiv.org/abs/2211.17192>).

use std::borrow::BorrowMut;

use super::decoding::{Decoding, Outcome, Room};
use super::options::GenerationOptions;
use super::request::Request;
use super::work::{Edit, Work, last_of_text};
use super::writer::Chosen;
use crate::sampling::{Chain, Generator, greedy, softmax};
use crate::session::{Batch, OutputRows, SequenceSet, Session};
use crate::{Error, Result, TokenId};

/// From 64 tokens on attention adds in another order than for one.
const MAX_DRAFTS: usize = 62;

/// A drafted token, with the distribution it was drawn from when it was drawn.
pub(super) struct Draft {
    token: TokenId,
    /// Probabilities `[vocabulary]`; none for a draft that was not drawn.
    probabilities: Option<Vec<f32>>,
}

/// Drafts how a text goes on.
pub(super) trait Drafter {
    /// At most `most` tokens after `ids`.
    fn draft(
        &mut self,
        ids: &[TokenId],
        most: usize,
        generator: &mut Generator,
    ) -> Result<Vec<Draft>>;

    /// Is told how many of the drafted tokens were accepted.
    fn feedback(&mut self, drafted: usize, accepted: usize);
}

/// Drafts what followed the same n-gram before.
pub(super) struct NgramLookup {
    /// Tokens to draft at most.
    most: usize,
    /// Tokens to draft next: each costs a little, and wrong ones are for nothing.
    tokens: usize,
    longest: usize,
}

impl NgramLookup {
    pub(super) fn new(options: &GenerationOptions) -> Self {
        let most = options.prompt_lookup_num_tokens.unwrap_or(0);
        Self {
            most,
            tokens: most,
            longest: options.max_matching_ngram_size,
        }
    }
}

impl Drafter for NgramLookup {
    fn draft(
        &mut self,
        ids: &[TokenId],
        most: usize,
        _generator: &mut Generator,
    ) -> Result<Vec<Draft>> {
        let found = ngram_lookup(ids, self.longest, self.tokens.min(most));
        let draft = |token| Draft {
            token,
            probabilities: None,
        };
        Ok(found.into_iter().map(draft).collect())
    }

    fn feedback(&mut self, drafted: usize, accepted: usize) {
        if drafted > 0 {
            // As many again as were right, and twice as many when all were.
            let next = if accepted == drafted {
                2 * accepted
            } else {
                accepted
            };
            self.tokens = next.clamp(self.most.min(1), self.most);
        }
    }
}

/// `most` ids that would follow if the text went on as it did before: after the n-gram that agrees
/// with the end of `ids` for longest, of at most `longest` ids; of several the earliest. Beyond the
/// end of `ids`, what was just found is repeated. Nothing when the last id did not occur before.
fn ngram_lookup(ids: &[TokenId], longest: usize, most: usize) -> Vec<TokenId> {
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

/// A smaller model in a session of its own, where it computes within [`Drafter::draft`].
pub(super) struct Assistant<'a> {
    session: Box<dyn BorrowMut<Session> + 'a>,
    chain: Chain,
    do_sample: bool,
    /// Tokens to draft next.
    tokens: usize,
}

impl<'a> Assistant<'a> {
    /// # Errors
    /// [`Error::Argument`] when the vocabularies differ in size.
    pub(super) fn new(
        assistant: Box<dyn BorrowMut<Session> + 'a>,
        session: &Session,
        request: &Request,
    ) -> Result<Self> {
        let size = |session: &Session| session.model().hyperparameters().vocab_size;
        let (found, expected) = (size((*assistant).borrow()), size(session));
        if found != expected {
            return Err(Error::Argument(format!(
                "assistant model: expected a vocabulary of {expected} tokens, found {found}"
            )));
        }
        Ok(Self {
            session: assistant,
            chain: request.chain(1)?,
            do_sample: request.options.sampling.do_sample,
            tokens: request.options.num_assistant_tokens,
        })
    }
}

impl Drafter for Assistant<'_> {
    fn draft(
        &mut self,
        ids: &[TokenId],
        most: usize,
        generator: &mut Generator,
    ) -> Result<Vec<Draft>> {
        let session = (*self.session).borrow_mut();
        let mut ids = ids.to_vec();
        let mut drafts = Vec::new();
        for _ in 0..self.tokens.min(most) {
            let cached = session.retain_prefix(0, Request::retainable(&ids))?;
            let logits = match session.prefill(&ids[cached..]) {
                Ok(logits) => logits,
                // The smaller model may have the smaller context.
                Err(Error::ContextFull { .. }) => break,
                Err(error) => return Err(error),
            };
            let scores = self.chain.process(logits, &ids);
            let token = generator.choose(scores, self.do_sample)?;
            drafts.push(Draft {
                token,
                probabilities: self.do_sample.then(|| softmax(scores)),
            });
            ids.push(token);
        }
        Ok(drafts)
    }

    /// transformers' heuristic.
    fn feedback(&mut self, drafted: usize, accepted: usize) {
        if drafted == 0 {
            return;
        }
        self.tokens = if accepted == drafted {
            self.tokens.saturating_add(2)
        } else {
            (self.tokens - 1).max(1)
        };
    }
}

/// Chooses tokens, several at a time where drafts are right.
pub(super) struct Speculative<'a> {
    room: Room,
    drafter: Box<dyn Drafter + 'a>,
    /// Tokens of the prompt in the cache: all, once the prompt was computed.
    cached: usize,
    begun: bool,
    /// What is being verified.
    drafts: Vec<Draft>,
    chain: Chain,
    generator: Generator,
}

impl<'a> Speculative<'a> {
    /// With the first `cached` tokens of the prompt in the cache.
    pub(super) fn new(
        drafter: Box<dyn Drafter + 'a>,
        room: Room,
        cached: usize,
        request: &Request,
    ) -> Result<Self> {
        Ok(Self {
            room,
            drafter,
            cached,
            begun: false,
            drafts: Vec::new(),
            chain: request.chain(1)?,
            generator: Generator::new(request.options.seed),
        })
    }

    /// What was drafted beyond the text, or rejected, is no part of it.
    fn cut(&self, ids: &[TokenId]) -> Edit {
        Edit::Truncate {
            sequence: self.room.first,
            length: ids.len() - 1,
        }
    }

    /// The token after `ids` by its logits, `draft` or another.
    fn choose(
        &mut self,
        request: &Request,
        ids: &[TokenId],
        logits: &[f32],
        draft: Option<&Draft>,
    ) -> Result<Chosen> {
        let options = &request.options;
        let scores = self.chain.process(logits, ids);
        let generator = &mut self.generator;
        let id = match draft {
            Some(draft) => verify(scores, draft, options, generator)?,
            None => generator.choose(scores, options.sampling.do_sample)?,
        };
        Chosen::new(options, id, scores, logits)
    }
}

impl Decoding for Speculative<'_> {
    fn work(&mut self, request: &Request, ids: &[TokenId]) -> Result<Work> {
        if !self.begun {
            // The prompt by itself, as without drafts, so that the first token is the same.
            let tokens = &ids[self.cached..];
            let batch = last_of_text(tokens, self.cached, self.room.first)?;
            return Ok(Work::run(Vec::new(), batch));
        }
        let last = ids.len() - 1;
        if last >= self.room.capacity {
            return Err(self.room.full(ids.len()));
        }
        let end = request.prompt.len().saturating_add(request.max_new_tokens);
        // Each draft takes a position, and the model's own token after them is one of the rest.
        let most = (end - ids.len() - 1)
            .min(self.room.capacity - ids.len())
            .min(MAX_DRAFTS);
        self.drafts = self.drafter.draft(ids, most, &mut self.generator)?;
        let mut tokens = vec![ids[last]];
        tokens.extend(self.drafts.iter().map(|draft| draft.token));
        let sequences = SequenceSet::of(self.room.first)?;
        let mut batch = Batch::of_text(&tokens, last, sequences, |_| true);
        // The text is the one without drafts, also where two tokens are almost equally likely.
        batch.batch_invariant = true;
        Ok(Work::run(vec![self.cut(ids)], batch))
    }

    fn accept(
        &mut self,
        request: &Request,
        ids: &[TokenId],
        rows: OutputRows<'_>,
    ) -> Result<Outcome> {
        if !self.begun {
            self.begun = true;
            self.cached = ids.len();
            if request.max_new_tokens == 0 {
                return Ok(Outcome::Tokens(Vec::new()));
            }
            let first = self.choose(request, ids, rows.logits(0), None)?;
            return Ok(Outcome::Tokens(vec![first]));
        }
        let drafts = std::mem::take(&mut self.drafts);
        let mut ids = ids.to_vec();
        let mut tokens = Vec::new();
        let mut accepted = 0;
        for (row, draft) in drafts.iter().enumerate() {
            let chosen = self.choose(request, &ids, rows.logits(row), Some(draft))?;
            let right = chosen.id == draft.token;
            ids.push(chosen.id);
            tokens.push(chosen);
            if !right {
                break;
            }
            accepted += 1;
        }
        if accepted == drafts.len() {
            let own = self.choose(request, &ids, rows.logits(accepted), None)?;
            tokens.push(own);
        }
        self.drafter.feedback(drafts.len(), accepted);
        Ok(Outcome::Tokens(tokens))
    }

    fn is_in_prompt(&self) -> bool {
        !self.begun
    }

    fn leave(&self, ids: &[TokenId]) -> Vec<Edit> {
        // A text without a token leaves the whole prompt.
        if self.begun && ids.len() > self.cached {
            vec![self.cut(ids)]
        } else {
            Vec::new()
        }
    }
}

/// The token for a position that has a draft: the draft, if it is accepted, or another.
fn verify(
    scores: &[f32],
    draft: &Draft,
    options: &GenerationOptions,
    generator: &mut Generator,
) -> Result<TokenId> {
    let (true, Some(drafted)) = (options.sampling.do_sample, &draft.probabilities) else {
        // A draft that was not drawn is right when the model's own choice is the same.
        return generator.choose(scores, options.sampling.do_sample);
    };
    // Refuses NaN.
    greedy(scores)?;
    let wanted = softmax(scores);
    let place = draft.token as usize;
    let (p, q) = (wanted[place], drafted[place]);
    if generator.uniform() * f64::from(q) <= f64::from(p) {
        return Ok(draft.token);
    }
    let rest: Vec<f32> = wanted
        .iter()
        .zip(drafted)
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
        assert_eq!(ngram_lookup(&ids, 2, 3), [3, 4, 7]);
        assert_eq!(ngram_lookup(&ids, 1, 1), [3]);
        // "3 7 1 2" did not occur; "7 1 2" did.
        assert_eq!(ngram_lookup(&ids, 64, 2), [9, 3]);
        assert!(ngram_lookup(&ids, 0, 2).is_empty());
        assert!(ngram_lookup(&[1, 2, 3], 2, 4).is_empty());
        assert!(ngram_lookup(&[1], 2, 4).is_empty());
        assert!(ngram_lookup(&[], 2, 4).is_empty());
        // A text that repeats itself goes on to do so.
        assert_eq!(ngram_lookup(&[5, 5], 2, 4), [5, 5, 5, 5]);
        assert_eq!(ngram_lookup(&[8, 5, 6, 7, 5, 6], 64, 5), [7, 5, 6, 7, 5]);
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
        let (wanted, drafted) = ([0.5f32, 0.3, 0.2], [0.1f32, 0.7, 0.2]);
        let scores = wanted.map(libm::logf);
        let mut generator = Generator::new(3);
        let mut counts = [0u32; 3];
        for _ in 0..20_000 {
            let token = generator.draw(&drafted.map(libm::logf)).unwrap();
            let draft = Draft {
                token,
                probabilities: Some(drafted.to_vec()),
            };
            let token = verify(&scores, &draft, &options, &mut generator).unwrap();
            counts[token as usize] += 1;
        }
        // Standard deviations: 71, 65, 57.
        for (count, expected) in counts.into_iter().zip([10_000u32, 6000, 4000]) {
            assert!(count.abs_diff(expected) < 4 * 71, "{counts:?}");
        }
    }
}
