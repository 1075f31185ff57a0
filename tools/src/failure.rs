//! How a command ends: its exit status, and its one line when it fails.

use std::env;
use std::error::Error;
use std::io;
use std::process::ExitCode;

use clap::{ColorChoice, Parser};
use gpt2::{ErrorKind, MemoryLimit, MemoryShortage};

use crate::stream::{self, note};
use crate::{interrupt, spelling};

/// Why a command did not do its work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The work failed; the line says what was expected, what was found and what to do.
    Work(String),
    /// Wrong usage, wrong values of flags included.
    Usage(String),
    /// Wrong usage that was said already.
    UsageSaid,
    /// Ctrl-C came before there was anything to show.
    Interrupted(String),
    /// The output is a broken pipe: its reader has enough, which is no failure.
    ClosedPipe,
}

impl Failure {
    /// A failure of work on files alone, whose contents the library may refuse as arguments.
    pub(crate) fn of_files(error: gpt2::Error) -> Self {
        match Self::from(error) {
            Self::Usage(line) => Self::Work(line),
            other => other,
        }
    }

    /// A failure while working on `place`, usually a file's name.
    pub(crate) fn at(place: impl std::fmt::Display, error: &dyn Error) -> Self {
        Self::Work(format!("{place}: {}", one_line(error)))
    }
}

/// What the library says, and which flags help: it knows none.
impl From<gpt2::Error> for Failure {
    fn from(error: gpt2::Error) -> Self {
        use gpt2::Error::{Exists, Grammar, NotGguf, NotLocked, Stopped, TooLittleMemory};
        // The arguments that the library refuses are values of flags here, but for those that are
        // files.
        let is_usage =
            error.kind() == ErrorKind::Argument && !matches!(error, Exists(_) | Grammar(_));
        if matches!(error, Stopped) {
            return Self::Interrupted(one_line(&error));
        }
        let line = match &error {
            TooLittleMemory(shortage) => {
                format!("not enough memory: {}", memory_advice(shortage))
            }
            Exists(_) => format!(
                "{}; choose another name or give --force to replace it",
                one_line(&error)
            ),
            NotGguf {
                place,
                convertible: true,
                ..
            } => format!(
                "{}; convert it first: gpt2-convert {place} -o model.gguf --type q8_0",
                one_line(&error)
            ),
            NotLocked { .. } => format!("{} or leave out --mlock", one_line(&error)),
            _ => one_line(&error),
        };
        if is_usage {
            Self::Usage(line)
        } else {
            Self::Work(line)
        }
    }
}

/// What a model needs of memory, and the flags with which it would fit.
fn memory_advice(shortage: &MemoryShortage) -> String {
    let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let limit = match shortage.limit {
        MemoryLimit::Stated => "--mem",
        MemoryLimit::System(name) => name,
    };
    let facts = format!(
        "expected {} (weights {}, cache {}, computation {}, all else {}), found {} of the {} that \
         {limit} allows",
        mebibytes(shortage.needed()),
        mebibytes(shortage.weights),
        mebibytes(shortage.cache),
        mebibytes(shortage.computation),
        mebibytes(shortage.other),
        mebibytes(shortage.available),
        mebibytes(shortage.total),
    );
    let Some(fitting) = &shortage.suggestion else {
        return facts;
    };
    let (context, cache_type) = (fitting.context, fitting.cache_type);
    let within = fitting.limit.map_or_else(String::new, |total| {
        format!(" within {} of {limit}", mebibytes(total))
    });
    let converted = fitting.model_type.map_or_else(String::new, |name| {
        format!(", or the model converted to {name}")
    });
    format!("{facts}; would fit: -c {context} --cache-type {cache_type}{within}{converted}")
}

/// From writing to stdout: files name themselves through [`Failure::at`] or [`gpt2::Error`].
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::ClosedPipe
        } else {
            Self::at("stdout", &error)
        }
    }
}

/// The most characters of an error that are shown from its beginning, and as many from its end:
/// errors quote broken files.
const SHOWN: usize = 500;

/// An error with its causes, in one line that a terminal shows as it is.
pub(crate) fn one_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Many messages quote their cause already.
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    let line = line
        .split(['\r', '\n'])
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    printable(&shortened(line))
}

/// A long text without its middle.
fn shortened(text: String) -> String {
    let head = text.char_indices().nth(SHOWN).map(|(index, _)| index);
    let tail = text.char_indices().nth_back(SHOWN).map(|(index, _)| index);
    match (head, tail) {
        (Some(head), Some(tail)) if head < tail => {
            format!("{} ... {}", &text[..head], &text[tail..])
        }
        _ => text,
    }
}

/// Escapes what would move a terminal's cursor or change its colours.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// What became of several results, each of which was tried whatever became of the others: all that
/// failed are told.
pub(crate) fn all(results: impl IntoIterator<Item = Result<(), Failure>>) -> Result<(), Failure> {
    use Failure::{ClosedPipe, Work};
    let failures = results.into_iter().filter_map(Result::err);
    let together = failures.reduce(|first, second| match (first, second) {
        (Work(first), Work(second)) => Work(format!("{first}; {second}")),
        (ClosedPipe, other) => other,
        (first, _) => first,
    });
    together.map_or(Ok(()), Err)
}

/// The program's arguments. Help that was asked for is the result: it is written here, and ends the
/// program with success.
pub(crate) fn parse<A: Parser>() -> Result<Option<A>, Failure> {
    let color = if stream::colors_are_wanted() {
        ColorChoice::Auto
    } else {
        ColorChoice::Never
    };
    let arguments = spelling::normalized(A::command(), env::args_os());
    let mut command = A::command().color(color);
    let parsed = command
        .try_get_matches_from_mut(arguments)
        .and_then(|matches| A::from_arg_matches(&matches));
    let error = match parsed.map_err(|error| error.format(&mut command)) {
        Ok(arguments) => return Ok(Some(arguments)),
        Err(error) => error,
    };
    let written = error.print().and_then(|()| stream::flush_results());
    if error.use_stderr() {
        return Err(Failure::UsageSaid);
    }
    written?;
    Ok(None)
}

/// Tells how a command ended and gives its exit status: 0 done, 1 failed, 2 asked wrongly, 130
/// ended
/// by Ctrl-C and 143 by SIGTERM, with what there was.
pub(crate) fn exit_code(result: Result<(), Failure>) -> ExitCode {
    let (line, status) = match result {
        Ok(()) | Err(Failure::ClosedPipe) if interrupt::happened() => {
            return ExitCode::from(interrupt::status());
        }
        Ok(()) | Err(Failure::ClosedPipe) => return ExitCode::SUCCESS,
        Err(Failure::UsageSaid) => return ExitCode::from(2),
        Err(Failure::Work(line)) => (line, 1),
        Err(Failure::Usage(line)) => (line, 2),
        Err(Failure::Interrupted(line)) => (line, interrupt::status()),
    };
    note!("error: {line}");
    ExitCode::from(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_said_once_and_in_one_line() {
        let error = gpt2::Error::io("a.gguf", io::Error::other("no\n such thing"));
        assert_eq!(one_line(&error), "a.gguf: no such thing");
    }

    #[test]
    fn what_a_file_says_cannot_take_the_terminal_over() {
        let error = gpt2::Error::format("a.json", format!("'\u{1b}[2J{}'", "x".repeat(1 << 20)));
        let line = one_line(&error);
        assert!(line.starts_with("a.json: '\\u{1b}[2Jxxx"), "{line}");
        assert!(line.ends_with("xxx'") && line.len() < 3 * SHOWN, "{line}");
        assert_eq!(shortened("é".repeat(2 * SHOWN)), "é".repeat(2 * SHOWN));
    }

    #[test]
    fn the_flags_that_help_are_named() {
        let line = |error: gpt2::Error| match Failure::from(error) {
            Failure::Work(line) => line,
            other => panic!("{other:?}"),
        };
        let exists = line(gpt2::Error::Exists("a.gguf".into()));
        assert_eq!(
            exists,
            "a.gguf: the file exists; choose another name or give --force to replace it"
        );
        let locked = line(gpt2::Error::NotLocked {
            bytes: 9,
            source: io::Error::other("no"),
        });
        assert!(
            locked.ends_with("(ulimit -l) or leave out --mlock"),
            "{locked}"
        );
        let shortage = MemoryShortage {
            weights: 3 << 20,
            cache: 1 << 20,
            computation: 0,
            other: 0,
            available: 2 << 20,
            total: 2 << 20,
            limit: MemoryLimit::Stated,
            suggestion: Some(gpt2::MemorySuggestion {
                context: 32,
                cache_type: "q8_0",
                limit: Some(4 << 20),
                model_type: Some("q4_k"),
            }),
        };
        let short = line(gpt2::Error::TooLittleMemory(Box::new(shortage)));
        assert_eq!(
            short,
            "not enough memory: expected 4.0 MiB (weights 3.0 MiB, cache 1.0 MiB, computation 0.0 \
             MiB, \
             all else 0.0 MiB), found 2.0 MiB of the 2.0 MiB that --mem allows; would fit: -c 32 \
             --cache-type q8_0 within 4.0 MiB of --mem, or the model converted to q4_k"
        );
    }

    #[test]
    fn of_several_results_every_failure_is_told() {
        let work = |line: &str| Err(Failure::Work(line.to_owned()));
        assert!(all([Ok(()), Ok(())]).is_ok());
        let Err(Failure::Work(line)) =
            all([work("a"), Ok(()), Err(Failure::ClosedPipe), work("b")])
        else {
            panic!("not told");
        };
        assert_eq!(line, "a; b");
        let closed = all([Ok(()), Err(Failure::ClosedPipe)]);
        assert!(matches!(closed, Err(Failure::ClosedPipe)));
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let closed = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(matches!(closed, Failure::ClosedPipe));
        assert!(matches!(
            Failure::from(io::Error::other("full")),
            Failure::Work(_)
        ));
    }
}
