//! Several texts whose whole is waited for: all continuations of one prompt or of many, in a
//! scheduler of their own.

use std::collections::VecDeque;

use super::decoder::Cancel;
use super::output::{BatchGeneration, Continuation, OnToken, Step};
use super::request::Request;
use super::scheduler::{RequestId, Scheduler, SchedulerEvent};
use crate::Result;
use crate::session::Session;

/// Requests that are made together. When one text is stopped, all are.
#[derive(Debug)]
pub(super) struct Together {
    scheduler: Scheduler,
    requests: Vec<Written>,
    /// What a step gave and was not taken yet.
    events: VecDeque<SchedulerEvent>,
}

/// What there is of a request.
#[derive(Debug)]
struct Written {
    id: RequestId,
    cancel: Cancel,
    continuations: Vec<Option<Continuation>>,
}

impl Together {
    /// Queues the requests. Several have equal shares of the session's context.
    pub(super) fn new(session: &Session, requests: Vec<Request>) -> Result<Self> {
        let share = session.context_size() / session.sequences();
        let mut scheduler = Scheduler::for_batch(session, (requests.len() > 1).then_some(share))?;
        let mut written = Vec::with_capacity(requests.len());
        for request in requests {
            let count = request.options.num_return_sequences;
            let id = scheduler.add_request(session, request, None)?;
            written.push(Written {
                id,
                cancel: scheduler.cancel_flag(id).unwrap_or_default(),
                continuations: vec![None; count],
            });
        }
        Ok(Self {
            scheduler,
            requests: written,
            events: VecDeque::new(),
        })
    }

    /// The flag that ends the first request, and with it all.
    pub(super) fn cancel_flag(&self) -> Cancel {
        let first = self.requests.first();
        first
            .map(|written| written.cancel.clone())
            .unwrap_or_default()
    }

    /// Ends all texts with what there is.
    pub(super) fn stop(&self) {
        for request in &self.requests {
            request.cancel.cancel();
        }
    }

    /// The next token of any of the texts; none when all have ended.
    pub(super) fn step(&mut self, session: &mut Session) -> Result<Option<Step>> {
        loop {
            match self.events.pop_front() {
                Some(SchedulerEvent::Token { step, .. }) => return Ok(Some(step)),
                Some(SchedulerEvent::Finished {
                    request,
                    sequence,
                    continuation,
                }) => {
                    if continuation.was_stopped() {
                        self.stop();
                    }
                    let written = self.requests.iter_mut().find(|one| one.id == request);
                    let place = written.and_then(|one| one.continuations.get_mut(sequence));
                    if let Some(place) = place {
                        *place = Some(continuation);
                    }
                }
                Some(SchedulerEvent::Failed { error, .. }) => {
                    // Nothing more comes after an error.
                    self.events.clear();
                    self.scheduler.give_up();
                    return Err(error);
                }
                Some(SchedulerEvent::PromptScores { .. } | SchedulerEvent::Done { .. }) => {}
                None if self.scheduler.is_idle() => return Ok(None),
                None => match self.scheduler.step(session) {
                    Ok(events) => self.events = events.into(),
                    Err(error) => {
                        self.scheduler.give_up();
                        return Err(error);
                    }
                },
            }
        }
    }

    /// Everything, with empty texts for those whose turn had not come when they were stopped. The
    /// session keeps the last prompt, in sequence 0.
    pub(super) fn finish(&mut self, session: &mut Session) -> Result<BatchGeneration> {
        self.leave(session)?;
        let requests = self.requests.drain(..).map(|written| {
            let all = written.continuations.into_iter();
            all.map(|one| one.unwrap_or_else(Continuation::stopped))
                .collect()
        });
        Ok(BatchGeneration {
            requests: requests.collect(),
            timings: self.scheduler.timings(),
        })
    }

    /// Leaves a prompt in the session's sequence 0, and nothing in the others.
    pub(super) fn leave(&mut self, session: &mut Session) -> Result<()> {
        self.scheduler.leave(session)
    }
}

/// Writes the continuations of all requests, as many at a time as the session has sequences and
/// positions for.
pub(super) fn write(
    session: &mut Session,
    requests: Vec<Request>,
    on_token: &mut OnToken<'_>,
) -> Result<BatchGeneration> {
    let mut together = Together::new(session, requests)?;
    loop {
        match together.step(session) {
            Ok(Some(step)) => {
                if on_token(&step).is_break() {
                    together.stop();
                }
            }
            Ok(None) => return together.finish(session),
            Err(error) => {
                together.leave(session)?;
                return Err(error);
            }
        }
    }
}
