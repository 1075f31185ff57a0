//! The commands: `gpt2` runs models, `gpt2-convert` makes them.
//!
//! Here arguments become typed options and results become text or JSON; the work itself is the
//! library's. Data goes to stdout, everything else to stderr.

mod arguments;
mod commands;
mod convert;
mod demo;
mod failure;
mod grammar;
mod interrupt;
mod logging;
mod memory;
mod prompt;
mod report;
mod spelling;
mod stream;
mod tensors;
mod texts;
mod version;

pub use commands::gpt2;
pub use convert::gpt2_convert;
