//! Many requests at once over one session.

mod interface;

use std::collections::VecDeque;
use std::sync::Arc;

pub use interface::{
    RequestId, ScheduledRequest, SchedulerEvent, SchedulerLoad, SchedulerOptions, Usage,
};

use super::decoder::{Cancel, Decoder, Event, Slot};
use super::request::Request;
use crate::session::{SequenceId, Session};
use crate::{Error, Result};

/// Many requests at once over one session.
pub struct Scheduler {
    options: SchedulerOptions,
    next: u64,
    waiting: VecDeque<(RequestId, Cancel, Request)>,
    running: Vec<Running>,
}

struct Running {
    id: RequestId,
    first: SequenceId,
    sequences: usize,
    prompt: usize,
    completion: usize,
    decoder: Decoder<'static>,
}

impl std::fmt::Debug for Scheduler {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Scheduler")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Scheduler {
    /// A scheduler for this session, which is its own from now on.
    ///
    /// # Errors
    /// [`Error::Argument`] when an option is out of its range.
    pub fn new(session: &Session, options: SchedulerOptions) -> Result<Self> {
        let least = options.texts.min(options.chunk).min(options.idle_chunk);
        if least == 0 || options.texts > session.sequences() {
            return Err(Error::Argument("options out of range".to_owned()));
        }
        Ok(Self {
            options,
            next: 0,
            waiting: VecDeque::new(),
            running: Vec::new(),
        })
    }

    /// Queues a request.
    ///
    /// # Errors
    /// As [`generate`](super::generate) for what it refuses before it computes.
    pub fn add(&mut self, session: &Session, request: ScheduledRequest) -> Result<RequestId> {
        let options = Arc::new(request.options);
        let request = Request::new(session.model(), 0, &request.prompt, &options)?;
        let id = RequestId(self.next);
        self.next += 1;
        self.waiting.push_back((id, Cancel::default(), request));
        Ok(id)
    }

    /// One step of all that is at work.
    ///
    /// # Errors
    /// None of a single request.
    pub fn step(&mut self, session: &mut Session) -> Result<Vec<SchedulerEvent>> {
        let mut events = Vec::new();
        while let Some((id, cancel, request)) = self.waiting.pop_front() {
            let first = self
                .running
                .iter()
                .map(|one| one.first + one.sequences)
                .max();
            let first = first.unwrap_or(0);
            let sequences = request.options.sequences();
            if cancel.is_cancelled() {
                let usage = Usage::default();
                events.push(SchedulerEvent::Done { request: id, usage });
                continue;
            }
            if first > 0 && first + sequences > self.options.texts {
                self.waiting.push_front((id, cancel, request));
                break;
            }
            let prompt = request.prompt.len();
            let slot = Slot {
                first,
                capacity: None,
            };
            match Decoder::of_request(session, slot, Arc::new(request), None) {
                Ok(decoder) => self.running.push(Running {
                    id,
                    first,
                    sequences,
                    prompt,
                    completion: 0,
                    decoder,
                }),
                Err(error) => events.push(SchedulerEvent::Failed { request: id, error }),
            }
        }
        let mut failed = Vec::new();
        for one in &mut self.running {
            if let Err(error) = one.step(session, &mut events) {
                events.push(SchedulerEvent::Failed {
                    request: one.id,
                    error,
                });
                failed.push(one.id);
            } else if one.decoder.is_done() {
                events.push(SchedulerEvent::Done {
                    request: one.id,
                    usage: Usage {
                        prompt_tokens: one.prompt,
                        completion_tokens: one.completion,
                        timings: one.decoder.timings(),
                        ..Usage::default()
                    },
                });
            }
        }
        self.running
            .retain(|one| !one.decoder.is_done() && !failed.contains(&one.id));
        Ok(events)
    }

    /// Ends a request.
    pub fn cancel(&mut self, request: RequestId) {
        for (id, cancel, _) in &self.waiting {
            if *id == request {
                cancel.cancel();
            }
        }
        for one in &self.running {
            if one.id == request {
                one.decoder.cancel_flag().cancel();
            }
        }
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// How much there is to do.
    pub fn load(&self, session: &Session) -> SchedulerLoad {
        SchedulerLoad {
            waiting: self.waiting.len(),
            running: self.running.len(),
            context: session.context_size(),
            ..SchedulerLoad::default()
        }
    }
}

impl Running {
    fn step(&mut self, session: &mut Session, events: &mut Vec<SchedulerEvent>) -> Result<()> {
        self.decoder.advance(session)?;
        let request = self.id;
        while let Some(event) = self.decoder.next_event()? {
            events.push(match event {
                Event::Token(step) => SchedulerEvent::Token { request, step },
                Event::Finished {
                    sequence,
                    continuation,
                } => {
                    self.completion += continuation.ids.len();
                    SchedulerEvent::Finished {
                        request,
                        sequence,
                        continuation,
                    }
                }
            });
        }
        Ok(())
    }
}
