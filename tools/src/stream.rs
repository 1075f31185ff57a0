//! The two streams of a command: results on stdout, notes on stderr.
//!
//! Nothing else in this package writes to them; a test of the architecture holds that. A result
//! that cannot be written is an error of the command. A note that cannot be written is dropped:
//! a full disk, a closed terminal or a reader that left costs a note, never a result.

use std::env;
use std::fmt;
use std::io::{self, IsTerminal, Write};

/// Writes a line to stderr; it is formatted as by `format!`.
macro_rules! note {
    ($($argument:tt)*) => {
        $crate::stream::note_line(::std::format_args!($($argument)*))
    };
}

pub(crate) use note;

/// What [`note!`] calls.
pub(crate) fn note_line(line: fmt::Arguments) {
    note_text(&format!("{line}\n"));
}

/// Writes a text to stderr as it is.
pub(crate) fn note_text(text: &str) {
    // In one piece, so that lines of several programs do not mix.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Whether notes go to a terminal where a line can be written over. `NO_COLOR` is for colours, and
/// is heard here as well: a bar is ornament.
pub(crate) fn notes_are_on_terminal() -> bool {
    io::stderr().is_terminal() && colors_are_wanted()
}

/// Whether a terminal may be sent colours.
pub(crate) fn colors_are_wanted() -> bool {
    let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    escapes_are_understood() && !no_color
}

/// Whether the terminal, if there is one, does something about escape sequences but print them.
pub(crate) fn escapes_are_understood() -> bool {
    match env::var_os("TERM") {
        Some(name) => !name.is_empty() && name != "dumb",
        None => cfg!(windows),
    }
}

/// Writes a part of the result to stdout, at once.
///
/// # Errors
/// [`io::ErrorKind::BrokenPipe`] when the reader left; any other when stdout cannot be written.
pub(crate) fn write_result(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes what crates left in the buffer of stdout.
///
/// # Errors
/// As [`write_result`].
pub(crate) fn flush_results() -> io::Result<()> {
    io::stdout().flush()
}

/// Whether results go to a terminal.
pub(crate) fn results_are_on_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Stderr for crates that want something to write to; it never fails.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Notes;

impl Write for Notes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_takes_all_that_it_is_given() {
        note!("a note of {} bytes", 18);
        assert_eq!(Notes.write(b"and another\n").unwrap(), 12);
    }
}
