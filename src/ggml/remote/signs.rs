//! Signs of life: what a worker and a client of this project add to ggml's RPC.
//!
//! A worker reads nothing while it computes, and a graph takes as long as it takes, so that its
//! silence says nothing. Therefore a client begins with [`GREETING`], before hello. A `gpt2 worker`
//! answers it by [`WELCOME`], and from then on sends [`ALIVE`] between its replies, twice a second,
//! for as long as it is at work or bytes arrive. What it sends stands where a reply's size would,
//! and is the size of none. Any other server of ggml's RPC closes the connection at such a
//! greeting, and is talked to without.

use std::io::{self, ErrorKind};
use std::time::Duration;

/// What a client sends first. Its first byte is no command that a client of ggml's RPC begins with.
pub(super) const GREETING: [u8; 16] = *b"gpt2-edge rpc 1\n";

/// Greeted, and waiting for its turn.
pub(super) const WELCOME: u64 = u64::MAX - 1;

/// Still there, and not waiting for anything.
pub(super) const ALIVE: u64 = u64::MAX;

/// How often a worker gives a sign of life.
pub(super) const INTERVAL: Duration = Duration::from_millis(500);

/// Whether there is nothing to read, or no room to write, at the moment.
pub(super) fn is_not_now(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}
