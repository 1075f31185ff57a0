//! Which windows are computed together, and what of a context stays in the cache between them.
//!
//! A round fills the session's sequences. Texts that follow the same context share its cells; that
//! context stays for the next round. The last token of a context is not shared: its logits, which
//! are not in the cache, score the first token of each text.

use std::iter::Peekable;
use std::vec::IntoIter;

use super::ROUND_TOKENS;
use super::ScoreRequest;
use super::windows::windows;
use crate::session::{BatchToken, SequenceSet, Session};
use crate::{Result, TokenId};

/// A window to compute.
pub(super) struct Job {
    /// The request it is of.
    pub(super) request: usize,
    /// The first token of the request that it scores.
    pub(super) first_target: usize,
    /// What goes into the model.
    inputs: Vec<TokenId>,
    /// How many of them are the neighbours' as well.
    shared: usize,
    /// The first input whose output is wanted.
    first_output: usize,
}

impl Job {
    /// How many tokens it scores.
    pub(super) fn outputs(&self) -> usize {
        self.inputs.len() - self.first_output
    }

    /// The tokens it scores.
    pub(super) fn targets<'a>(&self, requests: &'a [ScoreRequest]) -> &'a [TokenId] {
        &requests[self.request].tokens[self.first_target..][..self.outputs()]
    }

    fn prefix(&self) -> &[TokenId] {
        &self.inputs[..self.shared]
    }

    fn own(&self) -> usize {
        self.inputs.len() - self.shared
    }
}

/// Windows that are computed together, each in a sequence of its own.
pub(super) struct Round {
    pub(super) jobs: Vec<Job>,
    /// What all of them begin with.
    prefix: Vec<TokenId>,
}

impl Round {
    /// Leaves in the cache what the round begins with, or nothing.
    pub(super) fn keep_prefix(&self, session: &mut Session) -> Result<()> {
        for sequence in 0..session.sequences() {
            session.retain_prefix(sequence, &self.prefix)?;
        }
        if !self.is_in_cache(session) {
            session.clear();
        }
        Ok(())
    }

    /// Whether every sequence has the prefix.
    fn is_in_cache(&self, session: &Session) -> bool {
        (0..session.sequences()).all(|sequence| session.length(sequence) == self.prefix.len())
    }

    /// The tokens of the prefix, unless they are in the cache.
    pub(super) fn prefix_to_compute(&self, session: &Session) -> Result<Option<Vec<BatchToken>>> {
        if self.is_in_cache(session) {
            return Ok(None);
        }
        let mut sequences = SequenceSet::default();
        for sequence in 0..session.sequences() {
            sequences = sequences.with(sequence)?;
        }
        let tokens = self.prefix.iter().enumerate();
        let tokens = tokens.map(|(position, &token)| BatchToken {
            token,
            position,
            sequences,
            ..BatchToken::default()
        });
        Ok(Some(tokens.collect()))
    }

    /// The tokens of the texts.
    pub(super) fn tokens(&self) -> Result<Vec<BatchToken>> {
        let mut tokens = Vec::new();
        for (sequence, job) in self.jobs.iter().enumerate() {
            let sequences = SequenceSet::of(sequence)?;
            let own = job.inputs.iter().enumerate().skip(job.shared);
            tokens.extend(own.map(|(position, &token)| BatchToken {
                token,
                position,
                sequences,
                output: position >= job.first_output,
                ..BatchToken::default()
            }));
        }
        Ok(tokens)
    }
}

/// The rounds of a list of requests.
pub(super) struct Rounds<'a> {
    requests: &'a [ScoreRequest],
    /// Most inputs of a window, and how many tokens a later one scores.
    most: usize,
    stride: usize,
    /// Whether the work for a window must not depend on its neighbours.
    alone: bool,
    /// Windows of a round at most, and the session's cells.
    sequences: usize,
    cells: usize,
    next_request: usize,
    /// Windows of the request before that one.
    jobs: Peekable<IntoIter<Job>>,
}

impl<'a> Rounds<'a> {
    pub(super) fn new(
        requests: &'a [ScoreRequest],
        most: usize,
        stride: usize,
        alone: bool,
        session: &Session,
    ) -> Self {
        Self {
            requests,
            most,
            stride,
            alone,
            sequences: if alone { 1 } else { session.sequences() },
            cells: session.context_size(),
            next_request: 0,
            jobs: Vec::new().into_iter().peekable(),
        }
    }

    /// The next job, unless `fits` says no.
    fn next_job(&mut self, fits: impl Fn(&Job) -> bool) -> Option<Job> {
        while self.jobs.peek().is_none() {
            let request = self.next_request;
            if request >= self.requests.len() {
                return None;
            }
            self.next_request += 1;
            self.jobs = self.jobs_of(request).into_iter().peekable();
        }
        self.jobs.next_if(fits)
    }

    fn jobs_of(&self, number: usize) -> Vec<Job> {
        let request = &self.requests[number];
        let context = request.context.len();
        let whole = context + request.tokens.len() <= self.most + 1;
        // What is computed for a window must depend on it alone: then the context is always apart.
        let shared = if whole && (self.alone || self.has_neighbour(number)) {
            context.saturating_sub(1)
        } else {
            0
        };
        let windows = windows(request, self.most, self.stride);
        let job = |window: super::windows::Window| {
            let all = request.context.iter().chain(&request.tokens);
            let inputs = all.skip(window.inputs.start).take(window.inputs.len());
            Job {
                request: number,
                first_target: window.scored.start - context,
                inputs: inputs.copied().collect(),
                shared,
                first_output: window.scored.start - 1 - window.inputs.start,
            }
        };
        windows.map(job).collect()
    }

    /// Whether the request before or after this one has the same context.
    fn has_neighbour(&self, number: usize) -> bool {
        let context = &self.requests[number].context;
        let same =
            |other: Option<&ScoreRequest>| other.is_some_and(|other| other.context == *context);
        let before = number.checked_sub(1).map(|before| &self.requests[before]);
        !context.is_empty() && (same(before) || same(self.requests.get(number + 1)))
    }
}

impl Iterator for Rounds<'_> {
    type Item = Round;

    fn next(&mut self) -> Option<Round> {
        let first = self.next_job(|_| true)?;
        let prefix = first.prefix().to_vec();
        let mut own = first.own();
        let mut jobs = vec![first];
        while jobs.len() < self.sequences {
            let room = ROUND_TOKENS.min(self.cells - prefix.len());
            let room = room.saturating_sub(own);
            let fits = |job: &Job| job.prefix() == prefix && job.own() <= room;
            let Some(job) = self.next_job(fits) else {
                break;
            };
            own += job.own();
            jobs.push(job);
        }
        Some(Round { jobs, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(requests: &[ScoreRequest], sequences: usize, cells: usize) -> Rounds<'_> {
        Rounds {
            requests,
            most: 8,
            stride: 8,
            alone: false,
            sequences,
            cells,
            next_request: 0,
            jobs: Vec::new().into_iter().peekable(),
        }
    }

    fn request(context: &[TokenId], tokens: &[TokenId]) -> ScoreRequest {
        ScoreRequest {
            context: context.to_vec(),
            tokens: tokens.to_vec(),
        }
    }

    /// Of each round, its prefix and the requests in it.
    fn shape(rounds: Rounds<'_>) -> Vec<(usize, Vec<usize>)> {
        let requests = |round: &Round| round.jobs.iter().map(|job| job.request).collect();
        rounds
            .map(|round| (round.prefix.len(), requests(&round)))
            .collect()
    }

    #[test]
    fn texts_that_share_a_context_are_together() {
        let (first, second): ([TokenId; 3], [TokenId; 2]) = ([1, 2, 3], [4, 5]);
        let requests = [
            request(&first, &[6]),
            request(&first, &[6, 7]),
            request(&second, &[6]),
            request(&[], &[6, 7]),
            request(&[], &[]),
            request(&[], &[8]),
            request(&second, &[6]),
            request(&second, &[7]),
        ];
        assert_eq!(
            shape(rounds(&requests, 4, 16)),
            [(2, vec![0, 1]), (0, vec![2, 3]), (1, vec![6, 7])]
        );
        // One sequence, one text at a time.
        assert_eq!(shape(rounds(&requests, 1, 16)).len(), 6);
        // And few cells hold few texts.
        assert_eq!(
            shape(rounds(&requests, 4, 4))[..2],
            [(2, vec![0]), (2, vec![1])]
        );
    }

    #[test]
    fn what_is_computed_alone_does_not_depend_on_the_neighbours() {
        let requests = [request(&[1, 2, 3], &[6]), request(&[1, 2, 3], &[6, 7])];
        let alone = |requests| Rounds {
            alone: true,
            ..rounds(requests, 1, 16)
        };
        assert_eq!(shape(alone(&requests)), [(2, vec![0]), (2, vec![1])]);
        assert_eq!(shape(alone(&requests[..1])), [(2, vec![0])]);
        assert_eq!(shape(alone(&[request(&[], &[1, 2])])), [(0, vec![0])]);
    }

    #[test]
    fn a_long_text_is_alone_in_its_windows() {
        let long: Vec<TokenId> = (0..20).collect();
        let requests = [request(&[1, 2], &long), request(&[1, 2], &[3])];
        let shapes = shape(rounds(&requests, 4, 16));
        assert_eq!(shapes, [(0, vec![0, 0]), (0, vec![0]), (1, vec![1])]);
        let mut targets = Vec::new();
        for round in rounds(&requests, 4, 16) {
            for job in &round.jobs {
                targets.extend_from_slice(job.targets(&requests));
            }
        }
        assert_eq!(targets, (0..20).chain([3]).collect::<Vec<_>>());
    }
}
