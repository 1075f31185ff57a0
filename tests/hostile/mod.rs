//! Broken files, built in code: for each its bytes and what the error must say.
//!
//! Every test binary that needs them says `mod hostile;`. A new kind of file gets a module here and
//! a function that returns its cases.

#![allow(
    dead_code,
    reason = "every test binary uses its own part of this module"
)]
#![allow(clippy::too_many_lines, reason = "tables are long")]

mod bin;
pub(crate) mod bundle;
pub(crate) mod config;
pub(crate) mod gguf;
pub(crate) mod hdf5;
pub(crate) mod model;
pub(crate) mod msgpack;
pub(crate) mod pickle;
pub(crate) mod random;
pub(crate) mod raw;
pub(crate) mod safetensors;
pub(crate) mod tiny;
pub(crate) mod tokenizer;
mod vocabulary;
pub(crate) mod writers;

use tiny::Files;

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

/// A checkpoint's folder that must not be converted.
#[derive(Debug, Clone)]
pub(crate) struct HostileFolder {
    /// What is wrong with it.
    pub(crate) name: &'static str,
    /// What is in it.
    pub(crate) files: Files,
    /// A phrase of the error.
    pub(crate) expect: &'static str,
}

/// What is wrong, the folder, a phrase of the error: a line of a table.
type FolderCase = (&'static str, Files, &'static str);

fn folders(cases: impl IntoIterator<Item = FolderCase>) -> Vec<HostileFolder> {
    let hostile = |(name, files, expect)| HostileFolder {
        name,
        files,
        expect,
    };
    cases.into_iter().map(hostile).collect()
}

/// The valid folder with one file replaced.
fn with(name: &str, bytes: impl Into<Vec<u8>>) -> Files {
    let mut files = tiny::checkpoint();
    files.insert(name.to_owned(), bytes.into());
    files
}

/// The valid folder without one file.
fn lacking(name: &str) -> Files {
    let mut files = tiny::checkpoint();
    files.remove(name);
    files
}
