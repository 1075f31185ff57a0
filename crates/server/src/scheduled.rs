//! The shape of `gpt2::generate`'s scheduler, until that is merged.

use std::collections::VecDeque;

use gpt2::generate::{Continuation, GenerationOptions, GenerationTimings, Step};
use gpt2::sampling::{ScoreDetails, TokenScore};
use gpt2::{Error, Result, Session, TokenId};

pub struct SchedulerOptions {
    pub texts: usize,
    pub chunk: usize,
    pub idle_chunk: usize,
    pub batch_invariant: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RequestId(u64);

#[derive(Debug, Clone)]
pub struct ScheduledRequest {
    pub prompt: Vec<TokenId>,
    pub options: GenerationOptions,
    pub prompt_scores: Option<ScoreDetails>,
}

#[derive(Debug)]
pub enum SchedulerEvent {
    PromptScores {
        request: RequestId,
        first: usize,
        scores: Vec<Option<TokenScore>>,
    },
    Token {
        request: RequestId,
        step: Step,
    },
    Finished {
        request: RequestId,
        sequence: usize,
        continuation: Continuation,
    },
    Done {
        request: RequestId,
        usage: Usage,
    },
    Failed {
        request: RequestId,
        error: Error,
    },
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub prompt_tokens: usize,
    pub cached_tokens: usize,
    pub completion_tokens: usize,
    pub timings: GenerationTimings,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SchedulerLoad {
    pub waiting: usize,
    pub running: usize,
    pub reserved_positions: usize,
    pub cached_positions: usize,
    pub context: usize,
}

pub struct Scheduler {
    last: u64,
    waiting: VecDeque<(RequestId, ScheduledRequest)>,
    cancelled: Vec<RequestId>,
}

impl Scheduler {
    pub fn new(_session: &Session, _options: SchedulerOptions) -> Result<Self> {
        Ok(Self {
            last: 0,
            waiting: VecDeque::new(),
            cancelled: Vec::new(),
        })
    }

    pub fn add(&mut self, _session: &Session, request: ScheduledRequest) -> Result<RequestId> {
        self.last += 1;
        self.waiting.push_back((RequestId(self.last), request));
        Ok(RequestId(self.last))
    }

    /// One request at a time, whole.
    pub fn step(&mut self, session: &mut Session) -> Result<Vec<SchedulerEvent>> {
        let mut events = Vec::new();
        let Some((id, request)) = self.waiting.pop_front() else {
            return Ok(events);
        };
        if !self.cancelled.contains(&id) {
            let mut steps = Vec::new();
            let done = gpt2::generate::generate_with(
                session,
                &request.prompt,
                &request.options,
                &mut |step| {
                    steps.push(step.clone());
                    std::ops::ControlFlow::Continue(())
                },
            )?;
            events.extend(
                steps
                    .into_iter()
                    .map(|step| SchedulerEvent::Token { request: id, step }),
            );
            for (sequence, continuation) in done.sequences.into_iter().enumerate() {
                events.push(SchedulerEvent::Finished {
                    request: id,
                    sequence,
                    continuation,
                });
            }
        }
        events.push(SchedulerEvent::Done {
            request: id,
            usage: Usage::default(),
        });
        Ok(events)
    }

    pub fn cancel(&mut self, request: RequestId) {
        self.cancelled.push(request);
    }

    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn load(&self, _session: &Session) -> SchedulerLoad {
        SchedulerLoad {
            waiting: self.waiting.len(),
            ..SchedulerLoad::default()
        }
    }
}
