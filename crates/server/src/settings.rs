//! What the server was told to do, and the state that every handler sees.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::Engine;
use crate::metrics::Metrics;
use crate::security::{ApiKey, Hosts};

/// What handlers share; cheap to clone.
#[derive(Debug, Clone)]
pub struct AppState {
    /// The model at work.
    pub engine: Engine,
    /// What the server was told.
    pub settings: Arc<Settings>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// What the server was told. Nothing of it is shown to clients but the model's name.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The model's name in `/v1/models` and in answers.
    pub name: String,
    /// When the server was started, in seconds since 1970: what `created` says of the model.
    pub started: u64,
    /// Most tokens of a continuation, whatever is asked for.
    pub max_tokens: Option<usize>,
    /// The key that clients must show.
    pub key: Option<ApiKey>,
    /// Names under which the server may be addressed.
    pub hosts: Hosts,
    /// Origins of other servers' pages that may use the server, exactly as browsers write them.
    pub origins: Vec<String>,
    /// Whether `/` has the editor page.
    pub page: bool,
    /// Whether `/metrics` may be read without the key.
    pub open_metrics: bool,
    /// Limits of connections and requests.
    pub limits: Limits,
}

/// Limits of connections and requests, so that no client can hold what others need.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// For a request's head to arrive, from its first byte on.
    pub header: Duration,
    /// For a request's body to arrive.
    pub body: Duration,
    /// For a connection without a request.
    pub idle: Duration,
    /// For a client to take anything of what it is sent.
    pub write: Duration,
    /// For running requests at shutdown.
    pub shutdown: Duration,
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Bytes of all bodies that are being received.
    pub bodies_bytes: usize,
    /// Levels of arrays and objects in a body of JSON.
    pub json_depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            header: Duration::from_secs(10),
            body: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            write: Duration::from_secs(30),
            shutdown: Duration::from_secs(30),
            body_bytes: 1 << 20,
            bodies_bytes: 16 << 20,
            json_depth: 64,
        }
    }
}
