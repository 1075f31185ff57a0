//! The C interface of gpt2-edge: `include/gpt2.h`, over the library's public Rust interface.
//!
//! The header is the documentation: it says of every function who owns what, from which threads it
//! may be called and what can go wrong. Here each function is three steps: look handles up, check
//! what pointers give, call Rust. Shared by all: [`status`] turns errors and panics into codes,
//! `handles` knows which handles are alive, `exclusive` lets one call at a time use a session or
//! sampler, `locks` has what is locked for the process, `fork` knows what is left of it all in a
//! child process, `buffers` reads and fills the caller's memory, `structs` reads options of any
//! age.
//!
//! This room knows of C and of the public interface, and of nothing behind that.
#![allow(
    unsafe_code,
    reason = "callers' pointers are read and written in this module"
)]
#![allow(
    non_camel_case_types,
    clippy::missing_safety_doc,
    reason = "names and duties are those of include/gpt2.h"
)]

mod about;
mod buffers;
mod cache;
mod convert;
mod exclusive;
mod fork;
mod generate;
mod handles;
#[cfg(test)]
mod header_tests;
mod locks;
mod log;
mod model;
mod results;
mod run;
mod sampler;
mod score;
mod session;
mod status;
mod structs;
mod tasks;
mod tokens;

pub use about::*;
pub use buffers::GPT2_NUL_TERMINATED;
pub use cache::*;
pub use convert::*;
pub use generate::*;
pub use log::*;
pub use model::*;
pub use results::*;
pub use run::*;
pub use sampler::*;
pub use score::*;
pub use session::*;
pub use status::*;
pub use tasks::*;
pub use tokens::*;
