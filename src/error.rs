//! The one error type of the library.
//!
//! Every message says what was expected, what was found, and where; the commands print it as one
//! line, the C interface maps each variant to a code.

use std::path::{Path, PathBuf};

/// What every fallible function of the library returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to open, read, map or write a file.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file concerned.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A file is broken: truncated, inconsistent, out of bounds.
    #[error("{place}: {message}")]
    Format {
        /// The file and the place in it: a field, tensor, key or byte offset.
        place: String,
        /// What was expected and what was found.
        message: String,
    },
    /// A file or request is well formed and asks for what this library does not do.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// An argument is outside what the operation allows.
    #[error("{0}")]
    Argument(String),
    /// More positions were asked for than the context or the model has.
    #[error(
        "the context is full: {needed} positions needed, {available} available; \
         shorten the text or raise the context size (the model's limit is {model_limit})"
    )]
    ContextFull {
        /// Positions the request needs in total.
        needed: usize,
        /// Positions the session has.
        available: usize,
        /// Positions the model was trained for.
        model_limit: usize,
    },
    /// A call into ggml was refused before it was made, or failed.
    #[error("{operation}: {message}")]
    Ggml {
        /// The ggml operation.
        operation: &'static str,
        /// The shapes and types involved and what is wrong with them.
        message: String,
    },
    /// Memory could not be had, or the plan exceeds the limit given.
    #[error("not enough memory: {0}")]
    Memory(String),
    /// The caller asked to stop.
    #[error("stopped on request")]
    Stopped,
    /// A broken invariant of this library: a bug.
    #[error("internal error, please report it: {0}")]
    Internal(String),
}

/// What sort of error it is: every error is of one kind.
///
/// The enum is exhaustive on purpose. Whoever translates errors (to the codes of the C interface, to a
/// status of HTTP, to an exception) writes one `match`, and the compiler says when a kind is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The operating system refused a file.
    Io,
    /// A file is broken.
    Format,
    /// What was asked for is not done by this library or this build of it.
    Unsupported,
    /// An argument is outside what the operation allows.
    Argument,
    /// More positions are needed than there are.
    ContextFull,
    /// Not enough memory.
    Memory,
    /// A computation failed.
    Backend,
    /// Ended because the caller asked for it.
    Stopped,
    /// A bug of this library.
    Internal,
}

impl Error {
    /// What sort of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } => ErrorKind::Io,
            Self::Format { .. } => ErrorKind::Format,
            Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::Argument(_) => ErrorKind::Argument,
            Self::ContextFull { .. } => ErrorKind::ContextFull,
            Self::Ggml { .. } => ErrorKind::Backend,
            Self::Memory(_) => ErrorKind::Memory,
            Self::Stopped => ErrorKind::Stopped,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// An [`Error::Io`] about `path`.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io {
            path: path.as_ref().to_path_buf(),
            source,
        }
    }

    /// An [`Error::Format`] at `place`.
    pub fn format(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Format {
            place: place.into(),
            message: message.into(),
        }
    }

    /// Puts `outer` (usually the file's name) before the place of an [`Error::Format`]; leaves other
    /// errors as they are.
    #[must_use]
    pub fn within(self, outer: impl AsRef<str>) -> Self {
        match self {
            Self::Format { place, message } => Self::Format {
                place: format!("{}: {place}", outer.as_ref()),
                message,
            },
            other => other,
        }
    }
}
