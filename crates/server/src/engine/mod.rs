//! The model at work, seen from the handlers: a handle that queues requests and gives their events.
//!
//! One thread owns the session and its scheduler (`worker.rs`); nothing here waits for it. Knows no
//! HTTP.

mod plan;
mod shared;
mod ticket;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use gpt2::{Model, Session};
use tokio::sync::oneshot;

pub use plan::{Plan, PlanOptions};
pub use shared::EngineOptions;
pub use ticket::Ticket;
pub use worker::Ended;

use crate::metrics::Metrics;
use gpt2::generate::ScheduledRequest;
use shared::{Command, Job, Place, Shared};

/// A handle on the model's thread; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

/// Why the engine did not take a request, or did not finish it.
#[derive(Debug)]
pub enum EngineError {
    /// The queue is full.
    Busy {
        /// An estimate of when a place will be free.
        retry_after: Duration,
    },
    /// The server is shutting down.
    Closing,
    /// The library refused the request.
    Refused(gpt2::Error),
    /// The model's thread ended, or gave the request up because nobody read its events.
    Lost,
}

impl fmt::Display for EngineError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy { retry_after } => {
                let seconds = retry_after.as_secs();
                write!(formatter, "the queue is full; try again in {seconds} s")
            }
            Self::Closing => formatter.write_str("the server is shutting down"),
            Self::Refused(error) => error.fmt(formatter),
            Self::Lost => formatter.write_str("the request was lost"),
        }
    }
}

impl std::error::Error for EngineError {}

impl fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = formatter.debug_struct("Engine");
        parts
            .field("context", &self.shared.context)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Starts the model's thread on sessions as `plan` has them. The receiver is told when the
    /// thread ends, and why.
    ///
    /// # Errors
    /// Those of [`Session::new`] and of the scheduler; [`gpt2::Error::Memory`] when the system
    /// refuses a thread.
    pub fn start(
        model: Arc<Model>,
        plan: &Plan,
        options: EngineOptions,
        metrics: Arc<Metrics>,
    ) -> gpt2::Result<(Self, oneshot::Receiver<Ended>)> {
        let (commands, queue) = mpsc::channel();
        let shared = Arc::new(Shared {
            context: plan.context,
            texts: plan.texts,
            model,
            options,
            places: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            metrics,
        });
        let ended = worker::start(Arc::clone(&shared), plan, queue)?;
        Ok((Self { shared, commands }, ended))
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.shared.model
    }

    /// Most positions of one text, prompt and continuation together.
    pub fn context(&self) -> usize {
        self.shared.context
    }

    /// Texts at work at a time.
    pub fn texts(&self) -> usize {
        self.shared.texts
    }

    /// Whether requests are still taken.
    pub fn is_open(&self) -> bool {
        !self.shared.closing.load(Ordering::Acquire)
    }

    /// Queues a request. Dropping the ticket cancels it, waiting or at work.
    ///
    /// What the scheduler refuses comes as the ticket's event `Failed`.
    ///
    /// # Errors
    /// [`EngineError::Busy`] when the queue is full, [`EngineError::Closing`] at shutdown,
    /// [`EngineError::Lost`] when the model's thread has ended.
    pub fn generate(&self, mut request: ScheduledRequest) -> Result<Ticket, EngineError> {
        let place = self.place()?;
        if let Some(most) = self.shared.options.timeout {
            let time = &mut request.options.max_time;
            *time = Some(time.map_or(most, |time| time.min(most)));
        }
        let (events, ticket) = ticket::channel();
        self.send(Command::Generate {
            request: Box::new(request),
            events,
            arrived: Instant::now(),
            place,
        })?;
        Ok(ticket)
    }

    /// Calls `job` with a session of one sequence, for embeddings and task heads, on the model's
    /// thread, between two steps of the texts at work. A future that is dropped before its turn
    /// never runs the job.
    ///
    /// # Errors
    /// As [`Engine::generate`]; [`EngineError::Refused`] with the job's error.
    pub async fn with_session<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Session) -> gpt2::Result<T> + Send + 'static,
    ) -> Result<T, EngineError> {
        let place = self.place()?;
        let (answer, result) = oneshot::channel();
        let job = move |session: &mut Session| {
            if !answer.is_closed() {
                // Who does not wait any more does not need it.
                let _ = answer.send(job(session));
            }
        };
        let job: Job = Box::new(job);
        self.send(Command::Call { job, place })?;
        match result.await {
            Ok(result) => result.map_err(EngineError::Refused),
            Err(_) => Err(EngineError::Lost),
        }
    }

    /// Takes no more requests; the model's thread ends when the last is done.
    pub fn close(&self) {
        self.shared.closing.store(true, Ordering::Release);
        // A thread that has ended is closed already.
        let _ = self.commands.send(Command::Close);
    }

    fn send(&self, command: Command) -> Result<(), EngineError> {
        self.commands.send(command).map_err(|_| EngineError::Lost)
    }

    fn place(&self) -> Result<Place, EngineError> {
        if !self.is_open() {
            return Err(EngineError::Closing);
        }
        let most = self.shared.texts.saturating_add(self.shared.options.queue);
        let places = &self.shared.places;
        let taken = places.fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
            (taken < most).then_some(taken + 1)
        });
        match taken {
            Ok(_) => {
                self.shared.metrics.request(1);
                Ok(Place(Arc::clone(&self.shared)))
            }
            Err(_) => Err(EngineError::Busy {
                retry_after: self.wait_estimate(),
            }),
        }
    }

    /// When half of the queue will have been done, by the time that requests took of late: all that
    /// were refused come back at once otherwise.
    fn wait_estimate(&self) -> Duration {
        let rounds = self.shared.options.queue / (2 * self.shared.texts) + 1;
        let typical = self.shared.metrics.typical();
        let estimate = typical.saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX));
        estimate.clamp(Duration::from_secs(1), Duration::from_secs(60))
    }
}
