//! What a grammar may cost. Everything beyond is an error, so that a grammar from anywhere neither
//! holds a thread up nor takes the memory.

use llguidance::api::ParserLimits;

use crate::{Error, Result};

/// Bytes of a grammar or a schema.
pub(super) const BYTES: usize = 256 << 10;

/// Definitions of a grammar, or schemas in a schema: each may refer to the next, and is compiled
/// within the one before.
pub(super) const DEFINITIONS: usize = 4096;

/// Properties of an object that have schemas: each is four items of the parser's row, of which
/// there may be 2000.
pub(super) const PROPERTIES: usize = 500;

/// Levels of a schema.
pub(super) const LEVELS: usize = 64;

/// Stack of the thread that compiles, in bytes: enough for as many definitions within each other.
/// It is address space until it is used.
pub(super) const STACK: usize = 128 << 20;

/// What the engine may spend. Its unit is a node of an expression: about 50 of them take a
/// microsecond when a grammar is compiled, 15 in a step.
pub(super) fn limits() -> ParserLimits {
    ParserLimits {
        max_items_in_row: 2000,
        initial_lexer_fuel: 1_000_000,
        step_lexer_fuel: 200_000,
        step_max_items: 50_000,
        // Of a kilobyte or two each, for every text.
        max_lexer_states: 10_000,
        max_grammar_size: 100_000,
        // It takes as long as it takes.
        precompute_large_lexemes: false,
        verbose_errors: false,
    }
}

/// Refuses a text that is too large.
pub(super) fn check_size(text: &str) -> Result<()> {
    if text.len() <= BYTES {
        return Ok(());
    }
    Err(refusal(format!(
        "expected at most {BYTES} bytes, found {}",
        text.len()
    )))
}

pub(super) fn refusal(message: impl Into<String>) -> Error {
    Error::Grammar(message.into())
}
