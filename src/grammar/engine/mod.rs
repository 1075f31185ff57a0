//! The crate `llguidance` at work: its calls, its errors, its panics.

mod compiled;
mod state;
mod trie;

use std::fmt::Display;
use std::panic::AssertUnwindSafe;

pub(super) use compiled::Compiled;
pub(crate) use state::State;
pub use trie::TokenTrie;

use super::bounds::refusal;
use crate::Result;

/// The longest part of the engine's message that is passed on, in bytes.
const MESSAGE: usize = 400;

/// A call into the engine: what it refuses, and where it panics, is an error.
fn call<T, E: Display>(work: impl FnOnce() -> Result<T, E>) -> Result<T> {
    let work = || Ok(work().map_err(|error| error.to_string()));
    let done = llguidance::panic_utils::catch_unwind(AssertUnwindSafe(work));
    let done = done.unwrap_or_else(|panic| Err(panic.to_string()));
    done.map_err(|message| refusal(brief(&message)))
}

/// The first lines of the engine's message as one line, without its backtraces.
fn brief(message: &str) -> String {
    let own = message.split("<backtrace>").next().unwrap_or_default();
    let own = own.split("<non-verbose/>").next().unwrap_or_default();
    let words: Vec<&str> = own.split_whitespace().collect();
    let mut line = words.join(" ");
    if line.len() > MESSAGE {
        let end = (0..=MESSAGE).rev().find(|&end| line.is_char_boundary(end));
        line.truncate(end.unwrap_or(0));
        line.push('…');
    }
    line
}
