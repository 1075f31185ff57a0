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
//! - *Every method is a decoder.* Texts that are made token by token are computed together;
//!   searches and guided texts are requests like others, with runs of their own.

mod active;
mod admission;
mod compute;
mod interface;
mod places;
mod prompt;
mod prompt_scores;

use std::collections::VecDeque;
use std::sync::Arc;

pub use interface::{
    RequestId, ScheduledRequest, SchedulerEvent, SchedulerLoad, SchedulerOptions, Usage,
};

use super::decoder::{Cancel, Decoder, Slot};
use super::output::GenerationTimings;
use super::request::Request;
use super::stretch::PIECE;
use crate::sampling::ScoreDetails;
use crate::session::Session;
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
    /// Most positions of a text; by default the session's.
    capacity: Option<usize>,
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
            capacity: None,
            next_id: 0,
            waiting: VecDeque::new(),
            running: Vec::new(),
            places: Places::new(session, options.chunk.min(session.batch_size()).min(PIECE)),
            begun: false,
            prompts_first: false,
            last_prompt: None,
            timings: GenerationTimings::default(),
        })
    }

    /// A scheduler for requests of which the whole is waited for: texts wait until all prompts at
    /// work are computed, texts have at most `capacity` positions, and prompts stay to their last
    /// token.
    pub(super) fn for_batch(session: &Session, capacity: Option<usize>) -> Result<Self> {
        let options = SchedulerOptions {
            texts: session.sequences(),
            chunk: session.batch_size(),
            idle_chunk: session.batch_size(),
            ..SchedulerOptions::default()
        };
        let mut scheduler = Self::new(session, options)?;
        scheduler.prompts_first = true;
        scheduler.capacity = capacity;
        scheduler.places.keeps_rests = true;
        Ok(scheduler)
    }

    /// Forgets all requests.
    pub(super) fn give_up(&mut self) {
        self.waiting.clear();
        self.running.clear();
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
        scores: Option<ScoreDetails>,
    ) -> Result<RequestId> {
        let slot = Slot {
            first: 0,
            capacity: self.capacity,
        };
        let capacity = Decoder::check(session, slot, &request)?;
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
            capacity,
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

    /// Takes what the decoders have to give, finds what each needs next, and lets go what is over.
    fn proceed(&mut self, session: &mut Session, events: &mut Vec<SchedulerEvent>) -> Result<()> {
        for active in &mut self.running {
            active.proceed(session, &mut self.places, events);
            while active.replace(session, &mut self.places) {
                active.proceed(session, &mut self.places, events);
            }
            active.release(session, &mut self.places)?;
        }
        while let Some(over) = self.running.iter().position(Active::is_over) {
            events.push(self.running.remove(over).last_event());
        }
        Ok(())
    }
}
