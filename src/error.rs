//! The one error type of the library.
//!
//! Every message says what was expected, what was found, and where. It names parameters and fields
//! of this library, never a flag of a command: the commands say which of theirs would help.

use std::fmt;
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
    /// A file or folder is no GGUF file, but something else that is known.
    #[error("{place}: expected a GGUF file, found {found}")]
    NotGguf {
        /// The file.
        place: String,
        /// What it is, and what to do where it stands for another file.
        found: String,
        /// Whether it is a checkpoint, of which a conversion makes a GGUF file.
        convertible: bool,
    },
    /// An argument is not what the operation allows.
    #[error("{0}")]
    Argument(String),
    /// A number is outside its range.
    #[error("{name} must be {expected}, found {found}")]
    OutOfRange {
        /// The parameter.
        name: &'static str,
        /// The range.
        expected: String,
        /// The value.
        found: String,
    },
    /// A parameter was given a value of another type.
    #[error("{name}: expected {expected}, found {found}")]
    WrongType {
        /// The parameter.
        name: &'static str,
        /// What it may be.
        expected: &'static str,
        /// The value, as it was written.
        found: String,
    },
    /// There is no parameter of this name.
    #[error("{0} is no parameter of a generation")]
    UnknownParameter(String),
    /// A file exists and was not to be replaced.
    #[error("{}: the file exists", .0.display())]
    Exists(PathBuf),
    /// The context or the model has fewer positions than are needed.
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
    /// A method of decoding needs more sequences than the session has.
    #[error("{parameter} needs a session of {needed} sequences, found one of {available}")]
    TooFewSequences {
        /// The parameter of the generation that asks for the method.
        parameter: &'static str,
        /// Sequences the method needs.
        needed: usize,
        /// Sequences the session has.
        available: usize,
    },
    /// The session has no sequence of this number.
    #[error("expected a sequence below the session's {available}, found {found}")]
    NoSuchSequence {
        /// The number, from 0.
        found: usize,
        /// Sequences the session has.
        available: usize,
    },
    /// A call into ggml was refused before it was made, or failed.
    #[error("{operation}: {message}")]
    Ggml {
        /// The ggml operation.
        operation: &'static str,
        /// The shapes and types involved and what is wrong with them.
        message: String,
    },
    /// A worker on another machine cannot be used, or is lost: what it computed and what was in its
    /// memory is gone.
    #[error("rpc://{address}: {message}")]
    Worker {
        /// The worker, as `HOST:PORT`.
        address: String,
        /// What happened and what to do.
        message: String,
    },
    /// A model with one session is larger than a limit allows; nothing was allocated.
    #[error("not enough memory: {0}")]
    TooLittleMemory(Box<MemoryShortage>),
    /// The system refused memory, or a thread.
    #[error("not enough memory: {0}")]
    Memory(String),
    /// The system refused to keep memory from being swapped out.
    #[error(
        "not enough memory: locking {bytes} bytes failed ({source}); raise the limit (ulimit -l)"
    )]
    NotLocked {
        /// How much was to be locked.
        bytes: usize,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A grammar or schema is wrong, exceeds a bound, or cannot be followed any further.
    #[error("grammar: {0}")]
    Grammar(String),
    /// Stopped by the caller.
    #[error("stopped on request")]
    Stopped,
    /// A broken invariant of this library: a bug.
    #[error("internal error, please report it: {0}")]
    Internal(String),
}

/// What sort of error it is: every error is of one kind.
///
/// The enum is exhaustive on purpose. Whoever translates errors (to the codes of the C interface,
/// to a status of HTTP, to an exception) writes one `match`, and the compiler says when a kind is
/// missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The operating system refused a file.
    Io,
    /// A file is broken.
    Format,
    /// Not done by this library, or by this build of it.
    Unsupported,
    /// An argument is outside what the operation allows.
    Argument,
    /// More positions are needed than there are.
    ContextFull,
    /// Not enough memory.
    Memory,
    /// A computation failed.
    Backend,
    /// Stopped by the caller.
    Stopped,
    /// A bug of this library.
    Internal,
}

impl Error {
    /// What sort of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } => ErrorKind::Io,
            Self::Format { .. } | Self::NotGguf { .. } => ErrorKind::Format,
            Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::Argument(_)
            | Self::OutOfRange { .. }
            | Self::WrongType { .. }
            | Self::UnknownParameter(_)
            | Self::TooFewSequences { .. }
            | Self::NoSuchSequence { .. }
            | Self::Grammar(_)
            | Self::Exists(_) => ErrorKind::Argument,
            Self::ContextFull { .. } => ErrorKind::ContextFull,
            Self::Ggml { .. } | Self::Worker { .. } => ErrorKind::Backend,
            Self::TooLittleMemory(_) | Self::Memory(_) | Self::NotLocked { .. } => {
                ErrorKind::Memory
            }
            Self::Stopped => ErrorKind::Stopped,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// An [`Error::Io`] about `path`. A link whose target is not there is said to be one: the
    /// system says only that there is no file.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        let source = match std::fs::read_link(path.as_ref()) {
            Ok(target) if source.kind() == std::io::ErrorKind::NotFound => std::io::Error::new(
                source.kind(),
                format!("a link to {}, which is not there", target.display()),
            ),
            _ => source,
        };
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

    /// An [`Error::OutOfRange`] of the parameter `name`.
    pub(crate) fn out_of_range(
        name: &'static str,
        expected: impl Into<String>,
        found: &impl ToString,
    ) -> Self {
        Self::OutOfRange {
            name,
            expected: expected.into(),
            found: found.to_string(),
        }
    }

    /// Puts `outer` (usually the file's name) before the place of an [`Error::Format`] or an
    /// [`Error::NotGguf`]; leaves other errors as they are.
    #[must_use]
    pub fn within(self, outer: impl AsRef<str>) -> Self {
        match self {
            Self::Format { place, message } => Self::Format {
                place: format!("{}: {place}", outer.as_ref()),
                message,
            },
            // It is about the whole file, so the file's name is all there is to say of the place.
            Self::NotGguf {
                found, convertible, ..
            } => Self::NotGguf {
                place: outer.as_ref().to_owned(),
                found,
                convertible,
            },
            other => other,
        }
    }
}

/// What a model with one session needs of memory, what there is, and what would fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryShortage {
    /// Bytes of the weights, as far as the limit counts them.
    pub weights: u64,
    /// Bytes of the KV cache.
    pub cache: u64,
    /// Bytes of the computation's intermediate results.
    pub computation: u64,
    /// Bytes of everything else: the tokenizer, descriptions of tensors, threads.
    pub other: u64,
    /// Bytes that the limit leaves.
    pub available: u64,
    /// Bytes that the limit allows in all.
    pub total: u64,
    /// The limit that is exceeded most.
    pub limit: MemoryLimit,
    /// What would fit; `None` when nothing that is known does.
    pub suggestion: Option<MemorySuggestion>,
}

/// Whose a limit on memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryLimit {
    /// The caller's: [`ModelOptions::memory`](crate::session::ModelOptions::memory).
    Stated,
    /// One of the system, such as `ulimit -v` or the memory cgroup.
    System(&'static str),
}

/// Settings with which a model fits into memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemorySuggestion {
    /// Positions of the context.
    pub context: usize,
    /// The type of the KV cache, such as `q8_0`.
    pub cache_type: &'static str,
    /// Bytes that the limit must allow; `None` when it may stay as it is.
    pub limit: Option<u64>,
    /// The type that the model could be converted to instead of raising the limit.
    pub model_type: Option<&'static str>,
}

impl MemoryShortage {
    /// Bytes that are needed in all.
    pub fn needed(&self) -> u64 {
        let parts = [self.weights, self.cache, self.computation, self.other];
        parts.into_iter().fold(0, u64::saturating_add)
    }
}

impl MemoryLimit {
    /// Its name, as messages say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stated => "the memory option",
            Self::System(name) => name,
        }
    }
}

impl fmt::Display for MemoryShortage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "expected {} (weights {}, cache {}, computation {}, all else {}), found {} of the {} \
             that {} allows",
            Mebibytes(self.needed()),
            Mebibytes(self.weights),
            Mebibytes(self.cache),
            Mebibytes(self.computation),
            Mebibytes(self.other),
            Mebibytes(self.available),
            Mebibytes(self.total),
            self.limit.name(),
        )?;
        let Some(suggestion) = &self.suggestion else {
            return Ok(());
        };
        let MemorySuggestion {
            context,
            cache_type,
            ..
        } = suggestion;
        write!(
            formatter,
            "; would fit: a context of {context} and a {cache_type} cache"
        )?;
        if let Some(limit) = suggestion.limit {
            let name = self.limit.name();
            write!(formatter, " within {} of {name}", Mebibytes(limit))?;
        }
        if let Some(model_type) = suggestion.model_type {
            write!(formatter, ", or the model converted to {model_type}")?;
        }
        Ok(())
    }
}

/// Bytes as `ulimit` and memory limits count them: in powers of 1024.
struct Mebibytes(u64);

impl fmt::Display for Mebibytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.1} MiB", self.0 as f64 / f64::from(1 << 20))
    }
}
