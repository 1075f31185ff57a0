//! One text, or one search, as a state machine: it says what it needs computed, and takes the
//! result.
//!
//! A [`Decoder`] owns no loop and no session. [`Decoder::work`] gives changes of the cache and a
//! batch, [`Decoder::accept`] takes what came of it, [`Decoder::next_event`] gives the tokens. So
//! several can share a session, each in sequences of its own, and whoever drives them decides which
//! computes when. Every reason to end a text is found here; a method (a [`Decoding`]) only chooses
//! tokens.

use std::borrow::BorrowMut;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::beams::Beams;
use super::contrastive::Contrastive;
use super::decoding::{Decoding, Found, Outcome, Room};
use super::dola::Dola;
use super::method::Method;
use super::options::GenerationOptions;
use super::output::{Continuation, FinishReason, GenerationTimings, Step};
use super::request::Request;
use super::speculative::{Assistant, Drafter, NgramLookup, Speculative};
use super::stretch::{PIECE, Stretch};
use super::tokens::TokenByToken;
use super::work::{Compute, Work};
use super::writer::{Chosen, Writer};
use crate::session::{Output, OutputRows, SequenceId, Session};
use crate::{Error, Result, TokenId};

/// The part of a session that a decoder works in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Slot {
    /// The first of its sequences; it takes [`GenerationOptions::sequences`] of them.
    pub first: SequenceId,
    /// Most positions of a text that is made token by token; by default the session's context. A
    /// search ends when the session has no room for its next tokens.
    pub capacity: Option<usize>,
}

/// Ends a decoder from anywhere, with what there is: at its next step, in company without
/// disturbing the others. A session's [stop flag](Session::stop_flag) also ends what is being
/// computed.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks for the end.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the end was asked for.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What comes out of a decoder.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A token, from a search when it is over.
    Token(Step),
    /// A text is done.
    Finished {
        /// Which of the request's continuations, from 0.
        sequence: usize,
        /// All of it.
        continuation: Continuation,
    },
}

/// Where a decoder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The prompt is computed.
    Prompt,
    /// Tokens are chosen.
    Choosing,
    /// The texts of a search are emitted.
    Emitting,
    /// The last text has ended; the cache is to be left in order.
    Leaving,
    Done,
}

/// One request at work: a text that is made token by token (or several, one after the other), or a
/// search.
///
/// ```no_run
/// # use gpt2::generate::{Decoder, Event, GenerationOptions, Slot};
/// # fn example(session: &mut gpt2::session::Session, prompts: [&[u32]; 2]) -> gpt2::Result<()> {
/// let options = GenerationOptions::default();
/// // Two texts in one session, a token each in turn.
/// let mut decoders = Vec::new();
/// for (first, prompt) in prompts.into_iter().enumerate() {
///     let slot = Slot { first, capacity: None };
///     decoders.push(Decoder::new(session, slot, prompt, &options)?);
/// }
/// while decoders.iter().any(|decoder| !decoder.is_done()) {
///     for decoder in &mut decoders {
///         decoder.advance(session)?;
///         while let Some(event) = decoder.next_event()? {
///             if let Event::Token(step) = event {
///                 print!("{}", step.text);
///             }
///         }
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Decoder<'a> {
    request: Arc<Request>,
    method: Box<dyn Decoding + 'a>,
    cancel: Cancel,
    stage: Stage,
    /// The prompt and the tokens emitted after it.
    ids: Vec<TokenId>,
    /// Tokens that were chosen and not emitted yet.
    chosen: VecDeque<Chosen>,
    /// The text being written.
    writer: Option<Writer>,
    /// Score and reason to end of the search's text that is being emitted.
    found: Option<(f64, FinishReason)>,
    /// Texts of a search that were not emitted yet.
    waiting: VecDeque<Found>,
    /// Why the text being written ends, once that is known.
    ended: Option<FinishReason>,
    /// Continuations that are left to write.
    left: Range<usize>,
    /// Tokens of the prompt to compute.
    prefill_tokens: usize,
    timings: GenerationTimings,
    /// When the prompt was computed.
    prompt_end: Option<Instant>,
}

impl std::fmt::Debug for Decoder<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Decoder")
            .field("stage", &self.stage)
            .field("ids", &self.ids)
            .finish_non_exhaustive()
    }
}

impl<'a> Decoder<'a> {
    /// A decoder for `prompt` in `slot` of a session. Of what the slot's first sequence holds, the
    /// longest beginning of the prompt stays and is not computed again; the rest is cut.
    ///
    /// # Errors
    /// As [`generate`](super::generate) for what it refuses before it computes.
    pub fn new(
        session: &mut Session,
        slot: Slot,
        prompt: &[TokenId],
        options: &GenerationOptions,
    ) -> Result<Self> {
        let options = Arc::new(options.clone());
        let request = Request::new(session.model(), 0, prompt, &options)?;
        Self::of_request(session, slot, Arc::new(request), None)
    }

    /// [`Decoder::new`] with an assistant, whose session the decoder owns or borrows: it computes
    /// in that session by itself, within [`Decoder::work`].
    ///
    /// # Errors
    /// As [`generate_assisted`](super::generate_assisted) for what it refuses before it computes.
    pub fn assisted(
        session: &mut Session,
        slot: Slot,
        assistant: impl BorrowMut<Session> + 'a,
        prompt: &[TokenId],
        options: &GenerationOptions,
    ) -> Result<Self> {
        let options = Arc::new(options.clone());
        let request = Request::new(session.model(), 0, prompt, &options)?;
        let assistant = Assistant::new(Box::new(assistant), session, &request)?;
        Self::of_request(session, slot, Arc::new(request), Some(assistant))
    }

    /// Refuses what no decoder in this slot could do; gives the most positions of a text.
    pub(super) fn check(session: &Session, slot: Slot, request: &Request) -> Result<usize> {
        let options = &request.options;
        let room = room(session, slot);
        Writer::new(request, 0)?;
        match Method::of(options, false)? {
            Method::Tokens => drop(TokenByToken::new(room, 0..1, None, request)?),
            Method::Dola(layers) => {
                let dola = Dola::new(session, layers)?;
                drop(TokenByToken::new(room, 0..1, Some(dola), request)?);
            }
            _ => {
                request.chain(options.num_beams)?;
                if request.prompt.len() > room.capacity {
                    return Err(room.full(request.prompt.len()));
                }
            }
        }
        Ok(room.capacity)
    }

    /// A decoder for all continuations of a request.
    pub(super) fn of_request(
        session: &mut Session,
        slot: Slot,
        request: Arc<Request>,
        assistant: Option<Assistant<'a>>,
    ) -> Result<Self> {
        let options = &request.options;
        let method = Method::of(options, assistant.is_some())?;
        let continuations = match method {
            Method::Tokens | Method::Dola(_) => options.num_return_sequences,
            // One text, or texts that the search counts.
            _ => 1,
        };
        let available = session.sequences();
        let needed = slot.first.saturating_add(options.sequences());
        if needed > available {
            return Err(Error::TooFewSequences {
                parameter: options.parameter_of_sequences(),
                needed,
                available,
            });
        }
        let first = slot.first;
        let prompt = &request.prompt;
        let mut prefill_tokens = prompt.len();
        let method: Box<dyn Decoding + 'a> = match (method, assistant) {
            (Method::Tokens, _) => {
                return Self::token_by_token(session, slot, request, 0..continuations, None);
            }
            (Method::Dola(layers), _) => {
                let dola = Dola::new(session, layers)?;
                return Self::token_by_token(session, slot, request, 0..continuations, Some(dola));
            }
            (Method::Contrastive, _) => Box::new(Contrastive::new(session, first, &request)?),
            (Method::Beams, _) => {
                let cached = session.retain_prefix(first, Request::retainable(prompt))?;
                prefill_tokens -= cached;
                Box::new(Beams::new(session, first, cached, &request)?)
            }
            (Method::Speculative, assistant) => {
                let cached = session.retain_prefix(first, Request::retainable(prompt))?;
                prefill_tokens -= cached;
                let drafter: Box<dyn Drafter + 'a> = match assistant {
                    Some(assistant) => Box::new(assistant),
                    None => Box::new(NgramLookup::new(options)),
                };
                let room = room(session, slot);
                Box::new(Speculative::new(drafter, room, cached, &request)?)
            }
        };
        Self::with(request, method, 0..continuations, prefill_tokens)
    }

    /// A decoder for these continuations of a request, token by token.
    pub(super) fn token_by_token(
        session: &mut Session,
        slot: Slot,
        request: Arc<Request>,
        numbers: Range<usize>,
        dola: Option<Dola>,
    ) -> Result<Self> {
        let room = room(session, slot);
        let method = TokenByToken::new(room, numbers.clone(), dola, &request)?;
        let cached = session.retain_prefix(slot.first, Request::retainable(method.prompt()))?;
        let tokens = method.prompt().len() - cached;
        Self::with(
            request,
            Box::new(method.with_cached(cached)),
            numbers,
            tokens,
        )
    }

    /// A decoder for continuation `number` of a request, token by token, whose prompt another
    /// computes: it accepts the logits after the prompt, which must be in the slot's sequence by
    /// the time that it goes on.
    pub(super) fn of_continuation(
        session: &Session,
        slot: Slot,
        request: Arc<Request>,
        number: usize,
    ) -> Result<Self> {
        let numbers = number..number + 1;
        let method = TokenByToken::new(room(session, slot), numbers.clone(), None, &request)?;
        let tokens = request.prompt.len();
        Self::with(request, Box::new(method), numbers, tokens)
    }

    /// The decoder, ended by this flag.
    pub(super) fn cancelled_by(mut self, cancel: &Cancel) -> Self {
        self.cancel = cancel.clone();
        self
    }

    /// A decoder with its method.
    pub(super) fn with(
        request: Arc<Request>,
        method: Box<dyn Decoding + 'a>,
        numbers: Range<usize>,
        prefill_tokens: usize,
    ) -> Result<Self> {
        let mut left = numbers;
        let writer = Writer::new(&request, left.next().unwrap_or(0))?;
        Ok(Self {
            ids: request.prompt.clone(),
            request,
            method,
            cancel: Cancel::default(),
            stage: Stage::Prompt,
            chosen: VecDeque::new(),
            writer: Some(writer),
            found: None,
            waiting: VecDeque::new(),
            ended: None,
            left,
            prefill_tokens,
            timings: GenerationTimings::default(),
            prompt_end: None,
        })
    }

    /// Ends the decoder when it is [cancelled](Cancel::cancel).
    pub fn cancel_flag(&self) -> Cancel {
        self.cancel.clone()
    }

    /// Whether nothing more is wanted or will come.
    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Whether the prompt was computed. A text that ended before has reason
    /// [`FinishReason::Stopped`] and no token.
    pub fn is_prompt_computed(&self) -> bool {
        self.prompt_end.is_some()
    }

    /// What was computed so far, and the time since the decoder was made.
    pub fn timings(&self) -> GenerationTimings {
        self.timings
    }

    /// Ends the text of the last event with its token, for reason [`FinishReason::Stopped`]. A
    /// search goes on with its next text; otherwise the decoder is done.
    pub fn end_text(&mut self) {
        self.ended.get_or_insert(FinishReason::Stopped);
    }

    /// What must be done next; nothing when there are events to take first, or when the decoder is
    /// done. An assistant's model computes within this call.
    ///
    /// # Errors
    /// As [`generate`](super::generate); the decoder is done then.
    pub fn work(&mut self) -> Result<Option<Work>> {
        if self.stage == Stage::Leaving {
            self.stage = Stage::Done;
            let edits = self.method.leave(&self.ids);
            return Ok(Some(Work {
                edits,
                compute: None,
            }));
        }
        if self.stage == Stage::Done || self.has_events() {
            return Ok(None);
        }
        match self.method.work(&self.request, &self.ids) {
            Ok(work) => Ok(Some(work)),
            Err(error) => self.end_by(error).map(|()| None),
        }
    }

    /// Takes what came of [`Decoder::work`]: the rows of its batch, or the error. A stopped session
    /// and a full context end the text; other errors come back.
    ///
    /// # Errors
    /// As [`generate`](super::generate); the decoder is done then.
    pub fn accept(&mut self, result: Result<OutputRows<'_>>) -> Result<()> {
        let outcome = result.and_then(|rows| self.method.accept(&self.request, &self.ids, rows));
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => return self.end_by(error),
        };
        if self.stage == Stage::Prompt && !self.method.is_in_prompt() {
            self.stage = Stage::Choosing;
            self.prompt_end = Some(Instant::now());
            self.timings.prefill_tokens = self.prefill_tokens;
            self.timings.prefill = self.request.start.elapsed();
        }
        self.take(outcome)
    }

    /// One piece of work in `session`, unless there are events to take.
    ///
    /// # Errors
    /// As [`Decoder::work`] and [`Decoder::accept`].
    pub fn advance(&mut self, session: &mut Session) -> Result<()> {
        let Some(work) = self.work()? else {
            return Ok(());
        };
        if let Err(error) = work.edit(session) {
            return self.accept(Err(error));
        }
        work.compute
            .map_or(Ok(()), |compute| self.compute(session, &compute))
    }

    /// Computes and takes the result.
    pub(super) fn compute(&mut self, session: &mut Session, compute: &Compute) -> Result<()> {
        match compute {
            Compute::Run(batch) if batch.tokens.len() > PIECE => {
                self.compute_stretch(session, Stretch::new(batch.clone()))
            }
            Compute::Run(batch) => self.accept(session.run(batch).map(Output::all_rows)),
            Compute::Project(rows) => match session.project(rows) {
                Ok(logits) => {
                    let vocabulary = session.model().hyperparameters().vocab_size;
                    self.accept(Ok(Output::of_logits(logits, vocabulary).all_rows()))
                }
                Err(error) => self.accept(Err(error)),
            },
        }
    }

    /// Computes a stretch of text piece by piece and takes the result. An error leaves nothing of
    /// it in the cache.
    fn compute_stretch(&mut self, session: &mut Session, mut stretch: Stretch) -> Result<()> {
        let most = session.batch_size();
        loop {
            let piece = stretch.piece(most);
            let next = stretch.position() + piece.tokens.len();
            let start = stretch.start();
            stretch.skip_to(next);
            let result = session.run(&piece).map(Output::all_rows);
            if result.is_ok() && !stretch.is_done() {
                continue;
            }
            let failed = result.is_err();
            let accepted = self.accept(result);
            if let (true, Some((sequences, position))) = (failed, start) {
                for sequence in sequences.iter() {
                    session.truncate(sequence, position)?;
                }
            }
            return accepted;
        }
    }

    /// The next event; none until more is computed.
    ///
    /// # Errors
    /// As [`generate`](super::generate), when another text of the request begins; the decoder is
    /// done then.
    pub fn next_event(&mut self) -> Result<Option<Event>> {
        if self.writer.is_none() {
            return Ok(None);
        }
        if let Some(reason) = self.reason_to_end() {
            return self.finish_text(reason);
        }
        let (Some(chosen), Some(writer)) = (self.chosen.pop_front(), &mut self.writer) else {
            return Ok(None);
        };
        if self.stage == Stage::Choosing {
            self.ids.push(chosen.id);
        }
        let (step, ended) = writer.push(&self.request, chosen);
        self.ended = ended;
        Ok(Some(Event::Token(step)))
    }

    fn has_events(&self) -> bool {
        self.writer.is_some() && (!self.chosen.is_empty() || self.reason_to_end().is_some())
    }

    /// Why the text being written ends before another token of it, if it does.
    fn reason_to_end(&self) -> Option<FinishReason> {
        if self.ended.is_some() {
            return self.ended;
        }
        if self.stage == Stage::Emitting {
            let (_, reason) = self.found?;
            return self.chosen.is_empty().then_some(reason);
        }
        if self.cancel.is_cancelled() {
            return Some(FinishReason::Stopped);
        }
        let new = self.ids.len() - self.request.prompt.len();
        if self.stage != Stage::Choosing {
            return None;
        }
        if new > 0 && self.request.is_over_time() {
            return Some(FinishReason::Time);
        }
        (new >= self.request.max_new_tokens).then_some(FinishReason::Length)
    }

    /// A full context or a stop ends the text; other errors the decoder.
    fn end_by(&mut self, error: Error) -> Result<()> {
        let reason = match error {
            Error::Stopped => FinishReason::Stopped,
            Error::ContextFull { .. } if self.stage == Stage::Choosing => FinishReason::ContextFull,
            error => {
                self.writer = None;
                self.stage = Stage::Done;
                return Err(error);
            }
        };
        self.ended = Some(reason);
        Ok(())
    }

    /// Takes what a method gives.
    fn take(&mut self, outcome: Outcome) -> Result<()> {
        match outcome {
            Outcome::More => Ok(()),
            Outcome::Tokens(tokens) => {
                self.chosen.extend(tokens);
                Ok(())
            }
            Outcome::Texts(texts) => self.emit(texts),
        }
    }

    /// Begins to emit what a search found.
    fn emit(&mut self, texts: Vec<Found>) -> Result<()> {
        self.stage = Stage::Emitting;
        self.waiting = texts.into();
        self.left = 0..self.waiting.len();
        self.next_found()
    }

    /// The next text of a search, or the end.
    fn next_found(&mut self) -> Result<()> {
        let (Some(found), Some(number)) = (self.waiting.pop_front(), self.left.next()) else {
            self.leave();
            return Ok(());
        };
        self.writer = Some(Writer::new(&self.request, number)?);
        self.chosen = found.tokens.into();
        self.found = Some((found.score, found.reason));
        Ok(())
    }

    /// The text being written is done.
    fn finish_text(&mut self, reason: FinishReason) -> Result<Option<Event>> {
        self.ended = None;
        if self.stage == Stage::Choosing
            && let Some(found) = self.method.interrupt(&self.request, reason)
        {
            self.emit(found?)?;
            return self.next_event();
        }
        let Some(writer) = self.writer.take() else {
            return Ok(None);
        };
        let (sequence, mut continuation) = writer.finish(&self.request, reason);
        continuation.score = self.found.take().map(|(score, _)| score);
        self.chosen.clear();
        self.timings.decode_tokens = match self.method.computed() {
            Some(computed) => computed,
            None => self.timings.decode_tokens + continuation.ids.len().saturating_sub(1),
        };
        let end = self.prompt_end.as_ref().map(Instant::elapsed);
        self.timings.decode = end.unwrap_or_default();
        if self.stage == Stage::Emitting {
            self.next_found()?;
        } else if let (Some(number), false) = (self.left.next(), reason == FinishReason::Stopped) {
            self.begin_again(number)?;
        } else {
            self.leave();
        }
        Ok(Some(Event::Finished {
            sequence,
            continuation,
        }))
    }

    /// Begins another continuation of the prompt.
    fn begin_again(&mut self, number: usize) -> Result<()> {
        self.ids.truncate(self.request.prompt.len());
        self.writer = Some(Writer::new(&self.request, number)?);
        match self.method.begin_again(&self.request, number) {
            Ok(outcome) => self.take(outcome),
            Err(error) => self.end_by(error),
        }
    }

    /// Nothing more will be written.
    fn leave(&mut self) {
        self.writer = None;
        let nothing_to_do = self.method.leave(&self.ids).is_empty();
        self.stage = if nothing_to_do {
            Stage::Done
        } else {
            Stage::Leaving
        };
    }
}

/// Where in the cache a text lies that is made in `slot`, and how long it may grow.
fn room(session: &Session, slot: Slot) -> Room {
    let model_limit = session.model().hyperparameters().n_positions;
    let context = session.context_size().min(model_limit);
    Room {
        first: slot.first,
        capacity: slot.capacity.unwrap_or(context).min(context),
        model_limit,
    }
}
