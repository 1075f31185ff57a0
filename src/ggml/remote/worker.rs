//! What is known of a worker for as long as ggml has its address.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// A worker of another machine. Lost once, it stays lost: what was in its memory is gone. Who
/// opens its address once more gets another.
pub(super) struct Worker {
    /// As the user writes it, without `rpc://`.
    address: String,
    places: Vec<SocketAddr>,
    /// Connections that there are.
    connections: AtomicUsize,
    lost: OnceLock<String>,
    without_signs: AtomicBool,
}

/// Whether any worker of this process is lost.
static ANY_LOST: AtomicBool = AtomicBool::new(false);

/// Whether any worker of this process is lost; rarely, so that it is worth knowing first.
pub(super) fn any_lost() -> bool {
    ANY_LOST.load(Ordering::Acquire)
}

impl Worker {
    pub(super) fn new(address: &str, places: Vec<SocketAddr>) -> Arc<Self> {
        Arc::new(Self {
            address: address.to_owned(),
            places,
            connections: AtomicUsize::new(0),
            lost: OnceLock::new(),
            without_signs: AtomicBool::new(false),
        })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn places(&self) -> &[SocketAddr] {
        &self.places
    }

    /// Marks the worker as lost; the first reason counts.
    pub(super) fn lose(&self, problem: String) {
        let _ = self.lost.set(problem);
        ANY_LOST.store(true, Ordering::Release);
    }

    /// Why it is lost.
    pub(super) fn loss(&self) -> Option<&str> {
        self.lost.get().map(String::as_str)
    }

    /// Whether this process talks to it.
    pub(super) fn is_connected(&self) -> bool {
        self.connections.load(Ordering::Acquire) > 0
    }

    pub(super) fn begin_connection(&self) {
        self.connections.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn end_connection(&self) {
        self.connections.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether it may know signs of life.
    pub(super) fn may_give_signs(&self) -> bool {
        !self.without_signs.load(Ordering::Relaxed)
    }

    /// It is another server than `gpt2 worker`.
    pub(super) fn gives_no_signs(&self) {
        self.without_signs.store(true, Ordering::Relaxed);
    }
}
