//! Texts from the command line, files and stdin: the same flags and the same rules in every
//! command that takes text.
//!
//! What a text is used for is the command's business; here is only where it comes from, and how
//! line ends are counted. Which sources may be combined is said once, by the group of
//! [`TextSource`]: none with another.

use std::borrow::Cow;
use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{StringValueParser, TypedValueParser};

use crate::failure::Failure;
use crate::stream::note;

/// The group of all sources of text: what cannot stand beside a text `conflicts_with` it.
pub(crate) const TEXTS: &str = "texts";

/// Where texts come from: one of these sources, and stdin without any.
#[derive(Debug, Args)]
#[group(id = TEXTS, multiple = false)]
pub(crate) struct TextSource {
    /// A text; may be repeated. Without any text, stdin is read
    #[arg(value_name = "TEXT", allow_negative_numbers = true)]
    positional: Vec<String>,
    /// A text, too; may be repeated
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Vec<String>,
    /// A file that is one text, - for stdin; may be repeated
    #[arg(short, long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// A file with a text in every line that is not empty, - for stdin; may be repeated
    #[arg(long, value_name = "FILE")]
    lines: Vec<PathBuf>,
}

/// What is kept of a text.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A prompt: `\r\n` counts as `\n`, and of a file and stdin one newline at the end is dropped,
    /// which editors and `echo` put there.
    #[default]
    Prompt,
    /// A document: as a prompt, with the newline at its end.
    Document,
    /// Every byte, but for the byte order mark of a file.
    Verbatim,
}

/// How a command reads its texts.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) form: Form,
    /// Whether stdin has a text in every line, as a file of `--lines`, instead of one text.
    pub(crate) lines_of_stdin: bool,
    /// Whether an empty stdin is an empty text; otherwise it is refused.
    pub(crate) may_be_empty: bool,
}

impl TextSource {
    /// Whether a text was given as an argument or a file.
    pub(crate) fn is_given(&self) -> bool {
        !(self.positional.is_empty()
            && self.prompt.is_empty()
            && self.file.is_empty()
            && self.lines.is_empty())
    }

    /// All texts, in the order given: at least one.
    ///
    /// # Errors
    /// Files that cannot be read or are no text; no text at all.
    pub(crate) fn read(&self, reading: Reading) -> Result<Vec<String>, Failure> {
        let form = reading.form;
        if !self.is_given() {
            return of_stdin(reading);
        }
        let mut texts: Vec<String> = self
            .positional
            .iter()
            .chain(&self.prompt)
            .map(|text| of_argument(text, form))
            .collect();
        for path in &self.file {
            texts.push(whole(read(path, form)?, form));
        }
        for path in &self.lines {
            texts.extend(lines(&read(path, form)?, form));
        }
        match self.lines.first() {
            Some(path) if texts.is_empty() => Err(Failure::Work(format!(
                "{}: expected lines of text, found none",
                path.display()
            ))),
            _ => Ok(texts),
        }
    }

    /// The only text of a command that takes one.
    ///
    /// # Errors
    /// As [`TextSource::read`]; more than one text.
    pub(crate) fn read_one(&self, reading: Reading) -> Result<String, Failure> {
        let mut texts = self.read(reading)?;
        match (texts.pop(), texts.len()) {
            (Some(text), 0) => Ok(text),
            (_, others) => Err(Failure::Usage(format!(
                "expected one text, found {}",
                others + 1
            ))),
        }
    }
}

/// The text of stdin, or its lines.
fn of_stdin(reading: Reading) -> Result<Vec<String>, Failure> {
    let text = of_whole_stdin(reading.form)?;
    let texts = if reading.lines_of_stdin {
        lines(&text, reading.form)
    } else if text.is_empty() && !reading.may_be_empty {
        Vec::new()
    } else {
        vec![whole(text, reading.form)]
    };
    if texts.is_empty() {
        return Err(Failure::Usage(
            "there is no text: give one as an argument (or with -p), in a file (-f, or --lines for \
             a text per line) or on stdin"
                .to_owned(),
        ));
    }
    Ok(texts)
}

/// Takes the value of another flag as a prompt.
pub(crate) fn prompt_parser() -> impl TypedValueParser<Value = String> {
    StringValueParser::new().map(|text| of_argument(&text, Form::Prompt))
}

fn of_argument(text: &str, form: Form) -> String {
    match form {
        Form::Verbatim => text.to_owned(),
        // `$(cat FILE)` drops the last newline and leaves what came before it.
        Form::Prompt | Form::Document => {
            let text = unix_newlines(text);
            text.strip_suffix('\r').unwrap_or(&text).to_owned()
        }
    }
}

/// A file or stdin as one text.
fn whole(text: String, form: Form) -> String {
    match form {
        Form::Verbatim => text,
        Form::Document => unix_newlines(&text).into_owned(),
        Form::Prompt => {
            let text = unix_newlines(&text);
            let line_end = ['\n', '\r'];
            text.strip_suffix(line_end).unwrap_or(&text).to_owned()
        }
    }
}

/// The lines that are not empty.
fn lines(text: &str, form: Form) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| of_argument(line, form)).collect()
}

fn unix_newlines(text: &str) -> Cow<'_, str> {
    if text.contains("\r\n") {
        Cow::Owned(text.replace("\r\n", "\n"))
    } else {
        Cow::Borrowed(text)
    }
}

/// A file, or stdin under the name `-`.
fn read(path: &Path, form: Form) -> Result<String, Failure> {
    if path.as_os_str() == "-" {
        return of_whole_stdin(form);
    }
    let bytes = fs::read(path).map_err(|error| Failure::at(path.display(), &error))?;
    Ok(without_mark(utf8(bytes, &path.display().to_string())?))
}

/// All of stdin.
fn of_whole_stdin(form: Form) -> Result<String, Failure> {
    let text = read_stdin()?;
    Ok(match form {
        Form::Verbatim => text,
        Form::Prompt | Form::Document => without_mark(text),
    })
}

/// A whole file as text, with `\n` for `\r\n` and without a byte order mark.
pub(crate) fn read_file(path: &Path) -> Result<String, Failure> {
    Ok(whole(read(path, Form::Document)?, Form::Document))
}

/// All of stdin as text, as it is.
pub(crate) fn read_stdin() -> Result<String, Failure> {
    let mut stdin = io::stdin().lock();
    if stdin.is_terminal() {
        note!("reading from the terminal; Ctrl-D at the beginning of a line ends it");
    }
    let mut bytes = Vec::new();
    stdin
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::at("stdin", &error))?;
    utf8(bytes, "stdin")
}

fn utf8(bytes: Vec<u8>, place: &str) -> Result<String, Failure> {
    let wide = bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]);
    String::from_utf8(bytes).map_err(|error| {
        let found = match error.utf8_error().valid_up_to() {
            0 if wide => "UTF-16; save it as UTF-8".to_owned(),
            offset => format!("something else at byte {offset}"),
        };
        Failure::Work(format!("{place}: expected UTF-8 text, found {found}"))
    })
}

/// Editors on Windows put a byte order mark at the beginning of a text.
pub(crate) fn without_mark(mut text: String) -> String {
    if text.starts_with('\u{FEFF}') {
        text.drain(..'\u{FEFF}'.len_utf8());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_count_the_same_wherever_a_text_comes_from() {
        for (windows, unix) in [
            ("a\r\nb", "a\nb"),
            ("a\r\n\r\n", "a\n\n"),
            ("\r\n", "\n"),
            ("a\rb\r\n", "a\rb\n"),
        ] {
            for form in [Form::Prompt, Form::Document] {
                assert_eq!(of_argument(windows, form), of_argument(unix, form));
                assert_eq!(
                    whole(windows.to_owned(), form),
                    whole(unix.to_owned(), form)
                );
                assert_eq!(lines(windows, form), lines(unix, form));
            }
            assert_eq!(of_argument(windows, Form::Verbatim), windows);
            assert_eq!(whole(windows.to_owned(), Form::Verbatim), windows);
        }
    }

    #[test]
    fn one_newline_at_the_end_of_a_prompt_is_dropped() {
        let prompt = |text: &str| whole(text.to_owned(), Form::Prompt);
        for text in ["a", "a\n", "a\r\n", "a\r"] {
            assert_eq!(prompt(text), "a", "{text:?}");
        }
        assert_eq!(prompt("a\n\n"), "a\n");
        assert_eq!(prompt("a\r\n\r\n"), "a\n");
        assert_eq!(prompt("\n"), "");
        assert_eq!(whole("a\r\n".to_owned(), Form::Document), "a\n");
        // Of an argument nothing but what a shell left of `\r\n`.
        assert_eq!(of_argument("a\n", Form::Prompt), "a\n");
        assert_eq!(of_argument("a\r", Form::Prompt), "a");
    }

    #[test]
    fn what_is_not_text_is_said_with_its_place() {
        for (bytes, said) in [
            (&b"a\xFF"[..], "byte 1"),
            (b"\xFF", "byte 0"),
            (b"\xFF\xFEa\0", "UTF-16"),
        ] {
            let Err(Failure::Work(line)) = utf8(bytes.to_vec(), "x.txt") else {
                panic!("accepted");
            };
            assert!(line.contains("x.txt") && line.contains(said), "{line}");
        }
    }
}
