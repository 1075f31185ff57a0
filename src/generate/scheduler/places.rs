//! Which sequences of the session are at work, and which hold prompts that later ones may begin
//! with.
//!
//! A prompt that was computed stays after its request has ended (it is *warm*), as long as neither
//! its sequence nor its cells are needed. Only whole pieces of a prompt are taken over: those have
//! the bits that the next request would compute itself (see `stretch.rs`), and what was generated
//! after a prompt has not.

use std::ops::Range;
use std::sync::Arc;

use crate::generate::work::Edit;
use crate::session::{SequenceId, SequenceSet, Session};
use crate::{Error, Result, TokenId};

/// What a sequence is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    AtWork,
    /// It holds a prompt.
    Warm,
}

#[derive(Debug, Clone)]
struct Place {
    state: State,
    /// The prompt that it holds the beginning of.
    prompt: Arc<[TokenId]>,
    /// Tokens of it that are in the cache.
    computed: usize,
    /// When it was last used; later is greater.
    used: u64,
}

/// The sequences of a session.
#[derive(Debug)]
pub(super) struct Places {
    all: Vec<Place>,
    /// Tokens of a piece.
    piece: usize,
    /// Whether what is no whole piece stays too, for whoever comes after the scheduler.
    pub(super) keeps_rests: bool,
    clock: u64,
}

impl Places {
    /// As many as the session has, none at work. Pieces of prompts have `piece` tokens.
    pub(super) fn new(session: &Session, piece: usize) -> Self {
        let free = Place {
            state: State::Free,
            prompt: Arc::default(),
            computed: 0,
            used: 0,
        };
        Self {
            all: vec![free; session.sequences()],
            piece,
            keeps_rests: false,
            clock: 0,
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// How many are at work.
    pub(super) fn at_work(&self) -> usize {
        let at_work = self.all.iter().filter(|place| place.state == State::AtWork);
        at_work.count()
    }

    /// The sequences that hold prompts of requests that have ended.
    pub(super) fn warm(&self) -> SequenceSet {
        let warm = self.all.iter().enumerate();
        let warm = warm.filter(|(_, place)| place.state == State::Warm);
        warm.filter_map(|(sequence, _)| SequenceSet::of(sequence).ok())
            .fold(SequenceSet::default(), SequenceSet::union)
    }

    /// Keeps what the session holds already, as prompts of requests that have ended.
    pub(super) fn adopt(&mut self, session: &mut Session) -> Result<()> {
        for sequence in 0..self.all.len() {
            let tokens = session.tokens(sequence);
            let place = &mut self.all[sequence];
            place.computed = tokens.len();
            place.prompt = tokens.into();
            place.state = State::Warm;
            self.keep_or_free(session, sequence)?;
        }
        Ok(())
    }

    /// Takes `count` sequences in a row for a request with this prompt, and empties them: those
    /// that are free, or used least recently. None when too many are at work. Where a prompt is
    /// given, the first may still hold the beginning of it; [`Places::reuse`] tells.
    pub(super) fn take(
        &mut self,
        session: &mut Session,
        count: usize,
        prompt: Option<&[TokenId]>,
    ) -> Result<Option<SequenceId>> {
        let best = prompt.and_then(|prompt| self.longest(prompt, None));
        let best = best.map(|(sequence, _)| sequence);
        let ranges = (0..=self.all.len().saturating_sub(count)).map(|first| first..first + count);
        let available = ranges.filter(|range| {
            let places = self.all.get(range.clone());
            places.is_some_and(|places| places.iter().all(|place| place.state != State::AtWork))
        });
        let cost = |range: &Range<SequenceId>| {
            let used = self.all[range.clone()].iter().filter_map(|place| {
                let warm = place.state == State::Warm;
                warm.then_some(place.used)
            });
            let holds_best = best.is_some_and(|best| range.contains(&best));
            (holds_best, used.max().unwrap_or(0))
        };
        let Some(range) = available.min_by_key(cost) else {
            return Ok(None);
        };
        let first = range.start;
        if let Some(best) = best.filter(|best| range.contains(best)) {
            session.fork(best, first)?;
            self.all[first] = self.all[best].clone();
        } else {
            self.free(session, first)?;
        }
        for sequence in first + 1..range.end {
            self.free(session, sequence)?;
        }
        for sequence in range {
            self.all[sequence].state = State::AtWork;
            self.touch(sequence);
        }
        Ok(Some(first))
    }

    /// Brings into `sequence` as much of the beginning of `prompt` as any sequence holds and at
    /// least `more` tokens, in whole pieces and without the prompt's last token; gives how many
    /// tokens these are, if there are any.
    pub(super) fn reuse(
        &mut self,
        session: &mut Session,
        sequence: SequenceId,
        prompt: &Arc<[TokenId]>,
        more: usize,
    ) -> Result<Option<usize>> {
        let Some((from, length)) = self.longest(prompt, Some(sequence)) else {
            return Ok(None);
        };
        if length < more.max(1) {
            return Ok(None);
        }
        session.fork(from, sequence)?;
        // What counts is what the session holds.
        let found = session.retain_prefix(sequence, &prompt[..length])?;
        let found = self.whole_pieces(found);
        session.truncate(sequence, found)?;
        self.touch(from);
        self.computed(sequence, prompt, found);
        Ok(Some(found))
    }

    /// The sequence that holds the longest beginning of `prompt`, of equals `own`, and the tokens
    /// that can be taken over: whole pieces, without the prompt's last token.
    fn longest(&self, prompt: &[TokenId], own: Option<SequenceId>) -> Option<(SequenceId, usize)> {
        let wanted = &prompt[..prompt.len().saturating_sub(1)];
        let lengths = (0..self.all.len()).map(|sequence| {
            let common = common(self.cached(sequence), wanted);
            (sequence, self.whole_pieces(common))
        });
        let found = lengths.filter(|(_, length)| *length > 0);
        found.max_by_key(|(sequence, length)| (*length, Some(*sequence) == own))
    }

    /// Notes that `sequence` holds the first `length` tokens of `prompt`.
    pub(super) fn computed(
        &mut self,
        sequence: SequenceId,
        prompt: &Arc<[TokenId]>,
        length: usize,
    ) {
        let place = &mut self.all[sequence];
        place.prompt = Arc::clone(prompt);
        place.computed = length.min(prompt.len());
    }

    /// Notes what edits cut.
    pub(super) fn cut(&mut self, edits: &[Edit]) {
        for edit in edits {
            if let Edit::Truncate { sequence, length } = edit {
                let place = &mut self.all[*sequence];
                place.computed = place.computed.min(*length);
            }
        }
    }

    /// Lets the sequences of a text go; the first stays warm when it holds a prompt.
    pub(super) fn release(
        &mut self,
        session: &mut Session,
        first: SequenceId,
        count: usize,
    ) -> Result<()> {
        for sequence in first + 1..first + count {
            self.free(session, sequence)?;
        }
        self.all[first].state = State::Warm;
        self.touch(first);
        self.keep_or_free(session, first)
    }

    /// Lets the sequences of a text go, with all they hold.
    pub(super) fn discard(
        &mut self,
        session: &mut Session,
        first: SequenceId,
        count: usize,
    ) -> Result<()> {
        (first..first + count).try_for_each(|sequence| self.free(session, sequence))
    }

    /// Keeps a warm sequence, unless another holds as much; others that hold less of the same go.
    fn keep_or_free(&mut self, session: &mut Session, sequence: SequenceId) -> Result<()> {
        let place = &self.all[sequence];
        let kept = if self.keeps_rests {
            place.computed
        } else {
            self.whole_pieces(place.computed)
        };
        let cached = place.prompt[..kept].to_vec();
        let mut others = (0..self.all.len()).filter(|&other| other != sequence);
        let same = others.find(|&other| self.cached(other).starts_with(&cached));
        if cached.is_empty() || same.is_some() {
            if let Some(other) = same {
                self.touch(other);
            }
            return self.free(session, sequence);
        }
        for other in 0..self.all.len() {
            let less = other != sequence && cached.starts_with(self.cached(other));
            if less && self.all[other].state == State::Warm {
                self.free(session, other)?;
            }
        }
        self.all[sequence].computed = kept;
        session.truncate(sequence, kept)
    }

    /// Leaves what was used last in sequence 0, and nothing in the others.
    pub(super) fn leave(&mut self, session: &mut Session) -> Result<()> {
        let warm = (0..self.all.len()).filter(|&place| self.all[place].state == State::Warm);
        let last = warm.max_by_key(|&place| self.all[place].used);
        session.fork(last.unwrap_or(0), 0)?;
        (1..self.all.len()).try_for_each(|sequence| self.free(session, sequence))
    }

    /// The beginning of a prompt that a sequence holds.
    fn cached(&self, sequence: SequenceId) -> &[TokenId] {
        let place = &self.all[sequence];
        &place.prompt[..place.computed]
    }

    /// How many of `tokens` tokens are whole pieces.
    fn whole_pieces(&self, tokens: usize) -> usize {
        tokens / self.piece * self.piece
    }

    /// Empties a sequence.
    fn free(&mut self, session: &mut Session, sequence: SequenceId) -> Result<()> {
        session.truncate(sequence, 0)?;
        let place = &mut self.all[sequence];
        place.state = State::Free;
        place.prompt = Arc::default();
        place.computed = 0;
        Ok(())
    }

    /// Makes room for `positions` new positions: prompts of requests that have ended go, those
    /// used least recently first.
    ///
    /// # Errors
    /// [`Error::Internal`] when requests at work have taken more than was reserved for them.
    pub(super) fn make_room(&mut self, session: &mut Session, positions: usize) -> Result<()> {
        while session.free_positions() < positions {
            let warm = self.all.iter().enumerate();
            let warm = warm.filter(|(_, place)| place.state == State::Warm);
            let Some((oldest, _)) = warm.min_by_key(|(_, place)| place.used) else {
                return Err(Error::Internal(format!(
                    "scheduler: expected {positions} free positions, found {}",
                    session.free_positions()
                )));
            };
            self.free(session, oldest)?;
        }
        Ok(())
    }

    fn touch(&mut self, sequence: SequenceId) {
        self.clock += 1;
        self.all[sequence].used = self.clock;
    }
}

/// How many of the first tokens are the same.
fn common(a: &[TokenId], b: &[TokenId]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
