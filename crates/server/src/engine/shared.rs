//! What the handles and the model's thread share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gpt2::generate::ScheduledRequest;
use gpt2::{Model, Session};

use super::ticket::Events;
use crate::metrics::Metrics;

/// How the engine treats its requests.
#[derive(Debug, Clone, Copy)]
pub struct EngineOptions {
    /// Requests that may wait beyond those at work.
    pub queue: usize,
    /// A request whose reader stays 64 events behind for this long is cancelled.
    pub unread: Duration,
    /// Most time that a request may take, from its first step on.
    pub timeout: Option<Duration>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            queue: 64,
            unread: Duration::from_secs(30),
            timeout: None,
        }
    }
}

/// What the handles and the model's thread both see.
pub(super) struct Shared {
    pub(super) model: Arc<Model>,
    /// Most positions of one text.
    pub(super) context: usize,
    /// Texts at work at a time.
    pub(super) texts: usize,
    pub(super) options: EngineOptions,
    /// Requests and calls that have a place: waiting or at work.
    pub(super) places: AtomicUsize,
    pub(super) closing: AtomicBool,
    pub(super) metrics: Arc<Metrics>,
}

/// A place among the requests that wait or work; free again when dropped.
pub(super) struct Place(pub(super) Arc<Shared>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.metrics.request(-1);
        self.0.places.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What the model's thread is asked for.
pub(super) enum Command {
    Generate {
        request: Box<ScheduledRequest>,
        events: Events,
        arrived: Instant,
        place: Place,
    },
    Call {
        job: Job,
        place: Place,
    },
    /// End when nothing is at work any more.
    Close,
}

pub(super) type Job = Box<dyn FnOnce(&mut Session) + Send>;
