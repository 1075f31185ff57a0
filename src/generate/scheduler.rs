//! Many requests at once over one session, none of which changes another's answer.
//!
//! A [`Scheduler`] owns no loop, no thread and no session: it is asked for one step after the
//! other. A step drops what was cancelled; admits requests in the order of their arrival, as long
//! as the positions that each may need fit; computes the newest token of every text in one run; and
//! then some tokens of a prompt, so that a long one delays the others by a piece of it at a time.
//! Two prompts take turns, so that a short one need not wait for a long one.
//!
//! - *What a text needs is reserved.* Prompt and `max_new_tokens`, the prompt once for all
//!   continuations of a request: a request that was admitted is never put off again.
//! - *A text is a function of its own request.* Where a prompt is cut follows from its length alone
//!   (`stretch.rs`), and what one prompt takes over of another are whole pieces of it.
//! - *Every method is a decoder.* Texts that are made token by token are computed together; searches
//!   and guided texts are requests like others, with runs of their own.

mod active;
mod interface;
mod places;
mod prompt_scores;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

pub use interface::{
    RequestId, ScheduledRequest, SchedulerEvent, SchedulerLoad, SchedulerOptions, Usage,
};

use super::decoder::{Cancel, Decoder};
use super::output::GenerationTimings;
use super::request::Request;
use super::stretch::PIECE;
use crate::session::{Batch, Session};
use crate::{Error, Result};
use active::{Active, Waiting};
use places::Places;

/// Requests that are at work in one session, and those that wait.
///
/// ```no_run
/// use gpt2::generate::{
///     GenerationOptions, ScheduledRequest, Scheduler, SchedulerEvent, SchedulerOptions,
/// };
/// # fn example(session: &mut gpt2::session::Session, prompts: [Vec<u32>; 2]) -> gpt2::Result<()> {
/// let options = SchedulerOptions {
///     texts: session.sequences(),
///     ..SchedulerOptions::default()
/// };
/// let mut scheduler = Scheduler::new(session, options)?;
/// for prompt in prompts {
///     let options = GenerationOptions::default();
///     let prompt_scores = None;
///     scheduler.add(session, ScheduledRequest { prompt, options, prompt_scores })?;
/// }
/// // More may be added between any two steps.
/// while !scheduler.is_idle() {
///     for event in scheduler.step(session)? {
///         match event {
///             SchedulerEvent::Token { request, step } => println!("{request:?}: {}", step.text),
///             SchedulerEvent::Failed { request, error } => println!("{request:?}: {error}"),
///             _ => {}
///         }
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Scheduler {
    options: SchedulerOptions,
    /// The session's positions.
    context: usize,
    next_id: u64,
    waiting: VecDeque<Waiting>,
    /// In the order of their admission.
    running: Vec<Active>,
    places: Places,
    /// Whether the session was looked at.
    begun: bool,
    /// Whether texts wait until all prompts that are at work are computed: more is done together.
    prompts_first: bool,
    /// The request and the text whose prompt was computed last.
    last_prompt: Option<(RequestId, usize)>,
    timings: GenerationTimings,
}

impl std::fmt::Debug for Scheduler {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Scheduler")
            .field("options", &self.options)
            .field("waiting", &self.waiting.len())
            .field("running", &self.running.len())
            .finish_non_exhaustive()
    }
}

impl Scheduler {
    /// A scheduler for this session, to which nothing else may be added from now on. What it holds
    /// is kept as if requests had ended there.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] naming the option that is out of its range.
    pub fn new(session: &Session, options: SchedulerOptions) -> Result<Self> {
        for (name, value, most) in [
            ("texts", options.texts, session.sequences()),
            ("chunk", options.chunk, usize::MAX),
            ("idle_chunk", options.idle_chunk, usize::MAX),
        ] {
            if !(1..=most).contains(&value) {
                let expected = match most {
                    usize::MAX => "at least 1".to_owned(),
                    most => format!("from 1 to {most}, the session's sequences"),
                };
                return Err(Error::out_of_range(name, expected, &value));
            }
        }
        Ok(Self {
            options,
            context: session.context_size(),
            next_id: 0,
            waiting: VecDeque::new(),
            running: Vec::new(),
            places: Places::new(session, options.chunk.min(PIECE)),
            begun: false,
            prompts_first: false,
            last_prompt: None,
            timings: GenerationTimings::default(),
        })
    }

    /// A scheduler for requests of which the whole is waited for: texts wait until all prompts at
    /// work are computed, and prompts stay to their last token.
    pub(super) fn for_batch(session: &Session) -> Result<Self> {
        let options = SchedulerOptions {
            texts: session.sequences(),
            chunk: session.batch_size(),
            idle_chunk: session.batch_size(),
            ..SchedulerOptions::default()
        };
        let mut scheduler = Self::new(session, options)?;
        scheduler.prompts_first = true;
        scheduler.places.keeps_rests = true;
        Ok(scheduler)
    }

    /// Leaves the last prompt in sequence 0, and nothing in the others.
    pub(super) fn leave(&mut self, session: &mut Session) -> Result<()> {
        self.places.leave(session)
    }

    /// Queues a request.
    ///
    /// # Errors
    /// As [`generate`](super::generate) for what it refuses before it computes;
    /// [`Error::TooFewSequences`] for a search with more beams or candidates than there may be
    /// texts at a time.
    pub fn add(&mut self, session: &Session, request: ScheduledRequest) -> Result<RequestId> {
        let options = Arc::new(request.options);
        let checked = Request::new(session.model(), 0, &request.prompt, &options)?;
        self.add_request(session, checked, request.prompt_scores)
    }

    /// Queues a request that was checked against its model.
    pub(super) fn add_request(
        &mut self,
        session: &Session,
        request: Request,
        scores: Option<crate::sampling::ScoreDetails>,
    ) -> Result<RequestId> {
        let capacity = Decoder::check(session, &request)?;
        let options = &request.options;
        let prompt = request.prompt.len();
        if scores.is_some() && (prompt > capacity || options.is_contrastive()) {
            let what = if prompt > capacity {
                "longer than the context"
            } else {
                "of contrastive search (penalty_alpha)"
            };
            return Err(Error::Argument(format!(
                "scores of a prompt {what} are not computed"
            )));
        }
        let mut reservation = options.reservation(prompt.min(capacity), capacity);
        if reservation.sequences > self.options.texts {
            return Err(Error::TooFewSequences {
                parameter: options.parameter_of_sequences(),
                needed: reservation.sequences,
                available: self.options.texts,
            });
        }
        // What needs more ends when the context is full, as it does alone.
        reservation.text = reservation.text.min(self.context - reservation.prompt);
        let id = RequestId(self.next_id);
        self.next_id += 1;
        self.waiting.push_back(Waiting {
            id,
            request,
            cancel: Cancel::default(),
            scores,
            reservation,
        });
        Ok(id)
    }

    /// Does what comes next: some work of every text, and of a prompt. Nothing when there is
    /// nothing to do.
    ///
    /// What a request cannot do is an event of that request, and the others go on. A session that
    /// is [stopped](Session::stop_flag) ends all texts at work with what there is.
    ///
    /// # Errors
    /// [`Error::Argument`] for another session than the scheduler was made for.
    pub fn step(&mut self, session: &mut Session) -> Result<Vec<SchedulerEvent>> {
        if session.sequences() != self.places.len() || session.context_size() != self.context {
            return Err(Error::Argument(
                "a scheduler works in the session that it was made for".to_owned(),
            ));
        }
        if !std::mem::replace(&mut self.begun, true) {
            self.places.adopt(session)?;
        }
        let mut events = Vec::new();
        self.drop_cancelled(&mut events);
        self.admit(session)?;
        self.proceed(session, &mut events)?;
        self.decode(session)?;
        self.proceed(session, &mut events)?;
        self.prefill(session, &mut events);
        self.proceed(session, &mut events)?;
        Ok(events)
    }

    /// Ends a request with what there is: its positions are free after the next step, which says
    /// that it is done. One that is over or unknown is left alone.
    pub fn cancel(&mut self, request: RequestId) {
        if let Some(flag) = self.cancel_flag(request) {
            flag.cancel();
        }
    }

    /// What [cancels](Scheduler::cancel) a request, from another thread too; none when it is over.
    pub fn cancel_flag(&self, request: RequestId) -> Option<Cancel> {
        let waiting = self.waiting.iter().map(|one| (one.id, &one.cancel));
        let running = self.running.iter().map(|one| (one.id, one.cancel_flag()));
        let found = waiting.chain(running).find(|(id, _)| *id == request);
        found.map(|(_, flag)| flag.clone())
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// How much there is to do, and what it takes of the session.
    pub fn load(&self, session: &Session) -> SchedulerLoad {
        SchedulerLoad {
            waiting: self.waiting.len(),
            running: self.running.len(),
            reserved_positions: self.reserved(),
            cached_positions: session.positions_only_of(self.places.warm()),
            context: self.context,
        }
    }

    /// What was computed for all requests, and how long it took.
    pub fn timings(&self) -> GenerationTimings {
        self.timings
    }

    fn reserved(&self) -> usize {
        self.running.iter().map(Active::reserved).sum()
    }

    /// Lets requests go that were cancelled before they began.
    fn drop_cancelled(&mut self, events: &mut Vec<SchedulerEvent>) {
        self.waiting.retain(|waiting| {
            let cancelled = waiting.cancel.is_cancelled();
            if cancelled {
                events.push(SchedulerEvent::Done {
                    request: waiting.id,
                    usage: Usage {
                        prompt_tokens: waiting.request.prompt.len(),
                        ..Usage::default()
                    },
                });
            }
            !cancelled
        });
    }

    /// Begins what fits, in the order of arrival: first more continuations of what is at work.
    fn admit(&mut self, session: &mut Session) -> Result<()> {
        for index in 0..self.running.len() {
            while self.running[index].wants_more() {
                let needed = self.running[index].reservation();
                if !self.has_room(needed.sequences, needed.text) {
                    return Ok(());
                }
                let Some(first) = self.places.take(session, needed.sequences, None)? else {
                    return Ok(());
                };
                self.running[index].grow(session, first);
            }
        }
        while let Some(next) = self.waiting.front() {
            let needed = next.reservation;
            if !self.has_room(needed.sequences, needed.positions(1)) {
                break;
            }
            let shares = next.request.options.shares_prompt() && next.scores.is_none();
            let prompt = shares.then_some(&next.request.prompt[..]);
            let Some(first) = self.places.take(session, needed.sequences, prompt)? else {
                break;
            };
            let Some(next) = self.waiting.pop_front() else {
                break;
            };
            let mut active = Active::new(session, next, first);
            while active.wants_more() && {
                let all = active.reserved() + needed.text;
                self.has_room(needed.sequences, all)
            } {
                let Some(first) = self.places.take(session, needed.sequences, None)? else {
                    break;
                };
                active.grow(session, first);
            }
            let wants_more = active.wants_more();
            self.running.push(active);
            if wants_more {
                break;
            }
        }
        Ok(())
    }

    /// Whether so many sequences and positions can be given away.
    fn has_room(&self, sequences: usize, positions: usize) -> bool {
        self.places.at_work() + sequences <= self.options.texts
            && self.reserved() + positions <= self.context
    }

    /// Takes what the decoders have to give, finds what each needs next, and lets go what is over.
    fn proceed(&mut self, session: &mut Session, events: &mut Vec<SchedulerEvent>) -> Result<()> {
        for active in &mut self.running {
            active.proceed(session, &mut self.places, events);
            while active.replace(session) {
                active.proceed(session, &mut self.places, events);
            }
            active.release(session, &mut self.places)?;
        }
        while let Some(over) = self.running.iter().position(Active::is_over) {
            events.push(self.running.remove(over).last_event());
        }
        Ok(())
    }

    /// Computes the newest token of every text: those that are made token by token together.
    fn decode(&mut self, session: &mut Session) -> Result<()> {
        let prompts = |active: &Active| active.stretches().next().is_some();
        if self.prompts_first && self.running.iter().any(prompts) {
            return Ok(());
        }
        let start = Instant::now();
        let mut together = Vec::new();
        let mut apart = Vec::new();
        for (request, active) in self.running.iter_mut().enumerate() {
            for (text, batch) in active.take_newest() {
                if is_plain(&batch) {
                    together.push((request, text, batch));
                } else {
                    apart.push((request, text, batch));
                }
            }
        }
        let rows = together.len().max(1);
        let runs = rows.div_ceil(rows_of_a_run(session));
        for texts in together.chunks(rows.div_ceil(runs)) {
            self.decode_together(session, texts)?;
        }
        for (request, text, batch) in apart {
            self.timings.decode_tokens += batch.tokens.len();
            self.run(session, request, text, &batch)?;
        }
        self.timings.decode += start.elapsed();
        Ok(())
    }

    /// One run for texts that each need one token.
    fn decode_together(
        &mut self,
        session: &mut Session,
        texts: &[(usize, usize, Batch)],
    ) -> Result<()> {
        if let [(request, text, batch)] = texts {
            self.timings.decode_tokens += 1;
            return self.run(session, *request, *text, batch);
        }
        if texts.is_empty() {
            return Ok(());
        }
        let tokens = texts.iter().flat_map(|(_, _, batch)| &batch.tokens);
        let batch = Batch {
            tokens: tokens.copied().collect(),
            batch_invariant: self.options.batch_invariant,
            ..Batch::default()
        };
        self.places.make_room(session, batch.tokens.len())?;
        match session.run(&batch) {
            Ok(output) => {
                self.timings.decode_tokens += texts.len();
                for (row, &(request, text, _)) in texts.iter().enumerate() {
                    self.running[request].accept(text, Ok(output.rows_from(row, 1)));
                }
            }
            // Each finds its own error, and whoever can goes on.
            Err(_) => {
                for (request, text, batch) in texts {
                    self.run(session, *request, *text, batch)?;
                }
            }
        }
        Ok(())
    }

    /// A run for one text.
    fn run(
        &mut self,
        session: &mut Session,
        request: usize,
        text: usize,
        batch: &Batch,
    ) -> Result<()> {
        self.places.make_room(session, batch.tokens.len())?;
        let result = session.run(batch).map(crate::session::Output::all_rows);
        self.running[request].accept(text, result);
        Ok(())
    }

    /// Computes some tokens of a prompt: of the two oldest, the one whose turn it is.
    fn prefill(&mut self, session: &mut Session, events: &mut Vec<SchedulerEvent>) {
        let stretches = self
            .running
            .iter()
            .enumerate()
            .flat_map(|(request, active)| {
                let texts = active.stretches();
                texts.map(move |text| (request, active.id, text))
            });
        let oldest: Vec<_> = stretches.take(2).collect();
        let other =
            |&&(_, id, text): &&(usize, RequestId, usize)| Some((id, text)) != self.last_prompt;
        let Some(&(request, id, text)) = oldest.iter().find(other).or(oldest.first()) else {
            return;
        };
        self.last_prompt = Some((id, text));
        let most = if self.running.iter().any(Active::is_decoding) {
            self.options.chunk
        } else {
            self.options.idle_chunk.max(self.options.chunk)
        };
        let most = most.min(session.batch_size());
        let start = Instant::now();
        let active = &mut self.running[request];
        let count = active.prefill(text, session, &mut self.places, most, events);
        self.timings.prefill_tokens += count;
        self.timings.prefill += start.elapsed();
    }
}

/// Whether a batch can be part of a larger run: one token of which logits are wanted.
fn is_plain(batch: &Batch) -> bool {
    let plain = Batch {
        tokens: Vec::new(),
        ..Batch::default()
    };
    batch.tokens.len() == 1
        && plain
            == Batch {
                tokens: Vec::new(),
                ..*batch
            }
}

/// The most texts whose newest tokens are computed in one run, such that each has the bits that it
/// has alone: products and attention have another order of summation for more.
fn rows_of_a_run(session: &Session) -> usize {
    let _ = session;
    31
}
