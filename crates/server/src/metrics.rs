//! What is counted, in Prometheus' text format. Nothing of a prompt, a text or a key is in it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use gpt2::generate::{SchedulerLoad, Usage};

/// The type of the text that [`Metrics::text`] gives.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// An answer's route and status. Routes are those of the program, so that clients cannot make
/// more.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    route: String,
    status: u16,
}

/// All that is counted since the start.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    answers: Family<Answer, Counter>,
    generated: Counter,
    prompt: Counter,
    prompt_cached: Counter,
    cancelled: Counter,
    requests: Gauge,
    waiting: Gauge,
    running: Gauge,
    reserved: Gauge,
    cached: Gauge,
    context: Gauge,
    connections: Gauge,
    first_token: Histogram,
    token: Histogram,
    /// A running mean of the time that a request takes, in microseconds.
    typical: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at nothing.
    pub fn new() -> Self {
        let short = || Histogram::new(exponential_buckets(0.001, 2.0, 14));
        let mut metrics = Self {
            registry: Registry::with_prefix("gpt2"),
            answers: Family::default(),
            generated: Counter::default(),
            prompt: Counter::default(),
            prompt_cached: Counter::default(),
            cancelled: Counter::default(),
            requests: Gauge::default(),
            waiting: Gauge::default(),
            running: Gauge::default(),
            reserved: Gauge::default(),
            cached: Gauge::default(),
            context: Gauge::default(),
            connections: Gauge::default(),
            first_token: short(),
            token: short(),
            typical: AtomicU64::new(0),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        let answers = self.answers.clone();
        registry.register(
            "http_requests",
            "Requests answered, by route and status",
            answers,
        );
        for (name, help, counter) in [
            ("generated_tokens", "Tokens generated", &self.generated),
            ("prompt_tokens", "Tokens of prompts", &self.prompt),
            (
                "prompt_tokens_cached",
                "Tokens of prompts found in the cache",
                &self.prompt_cached,
            ),
            (
                "requests_cancelled",
                "Requests whose client left or did not read",
                &self.cancelled,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        for (name, help, gauge) in [
            ("requests", "Requests waiting or at work", &self.requests),
            ("requests_waiting", "Requests in the queue", &self.waiting),
            ("texts_running", "Texts at work", &self.running),
            (
                "cache_positions_reserved",
                "Positions that requests may need",
                &self.reserved,
            ),
            (
                "cache_positions_used",
                "Positions that hold a token",
                &self.cached,
            ),
            ("cache_positions", "Positions there are", &self.context),
            ("connections", "Connections open", &self.connections),
        ] {
            registry.register(name, help, gauge.clone());
        }
        let times = "Seconds from a request's arrival to its first token";
        registry.register(
            "time_to_first_token_seconds",
            times,
            self.first_token.clone(),
        );
        let times = "Seconds from one token of a text to the next";
        registry.register("time_per_token_seconds", times, self.token.clone());
    }

    /// Everything, in the text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// An answer was given.
    pub(crate) fn answered(&self, route: &str, status: u16) {
        let route = route.to_owned();
        self.answers.get_or_create(&Answer { route, status }).inc();
    }

    /// A connection was opened, or (-1) closed.
    pub(crate) fn connection(&self, change: i64) {
        self.connections.inc_by(change);
    }

    /// A request took a place, or (-1) gave it back.
    pub(crate) fn request(&self, change: i64) {
        self.requests.inc_by(change);
    }

    /// A request was cancelled.
    pub(crate) fn cancelled(&self) {
        self.cancelled.inc();
    }

    /// A token was generated.
    pub(crate) fn token(&self) {
        self.generated.inc();
    }

    /// The first token came this long after its request.
    pub(crate) fn first_token_time(&self, time: Duration) {
        self.first_token.observe(time.as_secs_f64());
    }

    /// A token came this long after the one before.
    pub(crate) fn token_time(&self, time: Duration) {
        self.token.observe(time.as_secs_f64());
    }

    /// A request is done, this long after it came.
    pub(crate) fn done(&self, usage: &Usage, time: Duration) {
        self.prompt.inc_by(usage.prompt_tokens as u64);
        self.prompt_cached.inc_by(usage.cached_tokens as u64);
        // The model's thread alone writes it.
        let before = self.typical.load(Ordering::Relaxed);
        let new = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let mean = if before == 0 {
            new
        } else {
            before / 8 * 7 + new / 8
        };
        self.typical.store(mean, Ordering::Relaxed);
    }

    /// What the scheduler has to do, and `jobs` beside it.
    pub(crate) fn load(&self, load: &SchedulerLoad, jobs: usize) {
        for (gauge, value) in [
            (&self.waiting, load.waiting + jobs),
            (&self.running, load.running),
            (&self.reserved, load.reserved_positions),
            (&self.cached, load.cached_positions),
            (&self.context, load.context),
        ] {
            gauge.set(value as i64);
        }
    }

    /// The time that a request takes, of late.
    pub(crate) fn typical(&self) -> Duration {
        Duration::from_micros(self.typical.load(Ordering::Relaxed))
    }
}
