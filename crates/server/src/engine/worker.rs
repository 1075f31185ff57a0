//! The model's thread: takes what the handles queue, steps the scheduler, hands events out.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::Instant;

use gpt2::Session;
use tokio::sync::oneshot;

use super::plan::Plan;
use super::shared::{Command, Job, Place, Shared};
use super::ticket::Events;
use gpt2::generate::{RequestId, ScheduledRequest, Scheduler, SchedulerEvent, SchedulerOptions};

/// How the model's thread ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was closed, and nothing was at work any more.
    Closed,
    /// It panicked, with these words: a bug.
    Panicked(String),
}

/// Starts the thread; the receiver is told when it ends.
pub(super) fn start(
    shared: Arc<Shared>,
    plan: &Plan,
    commands: Receiver<Command>,
) -> gpt2::Result<oneshot::Receiver<Ended>> {
    let session = Session::new(Arc::clone(&shared.model), plan.session)?;
    let second = Session::new(Arc::clone(&shared.model), plan.second)?;
    let options = SchedulerOptions {
        texts: plan.texts,
        ..SchedulerOptions::default()
    };
    let (started, start) = mpsc::channel();
    let (ended, receiver) = oneshot::channel();
    let run = move || {
        let scheduler = match Scheduler::new(&session, options) {
            Ok(scheduler) => scheduler,
            Err(error) => return drop(started.send(error)),
        };
        drop(started);
        let mut worker = Worker {
            shared: Arc::clone(&shared),
            session,
            second,
            scheduler,
            options,
            commands,
            requests: HashMap::new(),
            jobs: VecDeque::new(),
            closing: false,
        };
        let result = catch_unwind(AssertUnwindSafe(|| worker.run()));
        shared.closing.store(true, Ordering::Release);
        // Whoever waits for an answer has none.
        drop(worker);
        let _ = ended.send(match result {
            Ok(()) => Ended::Closed,
            Err(payload) => Ended::Panicked(words(payload.as_ref())),
        });
    };
    let spawned = thread::Builder::new().name("model".to_owned()).spawn(run);
    spawned.map_err(|error| gpt2::Error::Memory(format!("a thread for the model: {error}")))?;
    match start.recv() {
        Ok(error) => Err(error),
        Err(_) => Ok(receiver),
    }
}

/// What a panic said.
fn words(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no words").to_owned()
}

struct Worker {
    shared: Arc<Shared>,
    session: Session,
    /// For embeddings and task heads.
    second: Session,
    scheduler: Scheduler,
    options: SchedulerOptions,
    commands: Receiver<Command>,
    requests: HashMap<RequestId, Running>,
    jobs: VecDeque<(Job, Place)>,
    closing: bool,
}

/// A request that the scheduler has.
struct Running {
    events: Events,
    arrived: Instant,
    /// When its first sequence had its newest token.
    newest: Option<Instant>,
    cancelled: bool,
    _place: Place,
}

impl Worker {
    fn run(&mut self) {
        self.show_load();
        loop {
            self.take_commands();
            // One job between two steps: texts at work wait for one at most.
            if let Some((job, _place)) = self.jobs.pop_front() {
                job(&mut self.second);
            }
            self.cancel_abandoned();
            self.step();
            self.show_load();
            if self.closing && self.is_idle() {
                return;
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.scheduler.is_idle() && self.jobs.is_empty() && self.requests.is_empty()
    }

    /// Takes all commands that came; without work, waits for one.
    fn take_commands(&mut self) {
        if self.is_idle() && !self.closing {
            match self.commands.recv() {
                Ok(command) => self.take(command),
                // No handle is left that could ask for anything.
                Err(_) => self.closing = true,
            }
        }
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.take(command),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.closing = true;
                    return;
                }
            }
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Generate {
                request,
                events,
                arrived,
                place,
            } => self.add(*request, events, arrived, place),
            Command::Call { job, place } => self.jobs.push_back((job, place)),
            Command::Close => self.closing = true,
        }
    }

    fn add(
        &mut self,
        request: ScheduledRequest,
        mut events: Events,
        arrived: Instant,
        place: Place,
    ) {
        if events.is_abandoned(arrived, self.shared.options.unread) {
            self.shared.metrics.cancelled();
            return;
        }
        match self.scheduler.add(&self.session, request) {
            Ok(id) => {
                let running = Running {
                    events,
                    arrived,
                    newest: None,
                    cancelled: false,
                    _place: place,
                };
                self.requests.insert(id, running);
            }
            Err(error) => events.refuse(error),
        }
    }

    /// Cancels what nobody reads.
    fn cancel_abandoned(&mut self) {
        let (now, most) = (Instant::now(), self.shared.options.unread);
        for (&id, running) in &mut self.requests {
            if !running.cancelled && running.events.is_abandoned(now, most) {
                running.cancelled = true;
                self.shared.metrics.cancelled();
                self.scheduler.cancel(id);
            }
        }
    }

    fn step(&mut self) {
        if self.scheduler.is_idle() {
            return;
        }
        match self.scheduler.step(&mut self.session) {
            Ok(events) => events.into_iter().for_each(|event| self.hand_out(event)),
            Err(error) => self.fail_all(&error),
        }
        if self.scheduler.is_idle() && !self.requests.is_empty() {
            // Every request has a last event; one without would be waited for, for ever.
            tracing::error!("internal error (a bug): requests without an end");
            self.requests.clear();
        }
    }

    fn hand_out(&mut self, event: SchedulerEvent) {
        let metrics = &self.shared.metrics;
        let id = event.request();
        let Some(running) = self.requests.get_mut(&id) else {
            return;
        };
        match &event {
            SchedulerEvent::Token { step, .. } => {
                metrics.token();
                if step.sequence == 0 {
                    let now = Instant::now();
                    match running.newest.replace(now) {
                        Some(before) => metrics.token_time(now - before),
                        None => metrics.first_token_time(now - running.arrived),
                    }
                }
            }
            SchedulerEvent::Done { usage, .. } => {
                metrics.done(usage, running.arrived.elapsed());
            }
            _ => {}
        }
        let last = matches!(
            event,
            SchedulerEvent::Done { .. } | SchedulerEvent::Failed { .. }
        );
        // Who lost the request is told by the end of the events.
        if !running.cancelled {
            running.events.send(event);
        }
        if last {
            self.requests.remove(&id);
        }
    }

    /// A step that failed as a whole: every request ends, and another scheduler begins.
    fn fail_all(&mut self, error: &gpt2::Error) {
        tracing::error!("a step failed: {error}");
        for (request, running) in self.requests.drain() {
            running.events.send(SchedulerEvent::Failed {
                request,
                error: gpt2::Error::Ggml {
                    operation: "generation",
                    message: error.to_string(),
                },
            });
        }
        self.session.clear();
        match Scheduler::new(&self.session, self.options) {
            Ok(scheduler) => self.scheduler = scheduler,
            // It took the same options before.
            Err(error) => panic!("the scheduler does not start again: {error}"),
        }
    }

    fn show_load(&self) {
        let load = self.scheduler.load(&self.session);
        self.shared.metrics.load(&load, self.jobs.len());
    }
}
