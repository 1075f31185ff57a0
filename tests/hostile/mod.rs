//! Broken files, built in code: for each its bytes and what the error must say.
//!
//! Every test binary that needs them says `mod hostile;`. A new kind of file gets a module here and
//! a function that returns its cases.

#![allow(
    dead_code,
    reason = "every test binary uses its own part of this module"
)]

pub(crate) mod gguf;
pub(crate) mod raw;

pub(crate) use gguf::gguf_cases;

/// A file that must be refused.
#[derive(Debug, Clone)]
pub(crate) struct HostileFile {
    /// What is wrong with it.
    pub(crate) name: &'static str,
    /// What it is called on the disk, unique among the cases of its kind.
    pub(crate) file_name: String,
    /// Its contents.
    pub(crate) bytes: Vec<u8>,
    /// A phrase of the error.
    pub(crate) expect: &'static str,
}
