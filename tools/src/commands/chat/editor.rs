//! The line editor.

use std::fs;
use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{ColorMode, CompletionType, Config, Context, Helper};

use super::{commands, lines, parameters};
use crate::failure::Failure;
use crate::stream::note;

/// What stands before the line that is typed.
pub(super) const PROMPT: &str = "> ";
/// Lines that the history keeps.
const KEPT_LINES: usize = 1000;

/// Reads turns from a terminal.
pub(super) struct Editor {
    editor: rustyline::Editor<Turns, FileHistory>,
    /// Where lines are kept for the next conversation.
    history: Option<PathBuf>,
}

impl Editor {
    /// An editor that remembers the lines in the file `history`, as far as that can be read.
    pub(super) fn new(history: Option<PathBuf>) -> Result<Self, Failure> {
        let config = Config::builder()
            .max_history_size(KEPT_LINES)
            .map_err(|error| failure(&error))?
            .completion_type(CompletionType::List)
            .color_mode(ColorMode::Disabled)
            .build();
        let mut editor = rustyline::Editor::with_config(config).map_err(|error| failure(&error))?;
        editor.set_helper(Some(Turns));
        let mut made = Self { editor, history };
        made.load();
        Ok(made)
    }

    fn load(&mut self) {
        let Some(path) = &self.history else { return };
        if !path.exists() {
            return;
        }
        if let Err(error) = self.editor.load_history(path) {
            let path = path.display();
            note!("warning: {path}: {error}; going on without a history");
            self.history = None;
        }
    }

    /// The next turn; none at the end. Ctrl-C starts the line over.
    pub(super) fn next_turn(&mut self) -> Result<Option<String>, Failure> {
        loop {
            match self.editor.readline(PROMPT) {
                Ok(typed) => {
                    // A text that was pasted may have them.
                    let typed = typed.replace("\r\n", "\n");
                    self.remember(&typed);
                    return Ok(Some(lines::turn(&typed)));
                }
                Err(ReadlineError::Eof) => return Ok(None),
                Err(ReadlineError::Interrupted | ReadlineError::Signal(_)) => (),
                Err(error) => return Err(failure(&error)),
            }
        }
    }

    /// Keeps what was typed, at once: the program may end in any way.
    fn remember(&mut self, typed: &str) {
        if typed.trim().is_empty() {
            return;
        }
        let kept = self.editor.add_history_entry(typed).and_then(|_| {
            let Some(path) = &self.history else {
                return Ok(());
            };
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            self.editor.append_history(path)
        });
        if let Err(error) = kept {
            note!("warning: the history is not kept: {error}");
            self.history = None;
        }
    }
}

fn failure(error: &ReadlineError) -> Failure {
    Failure::at("terminal", error)
}

/// What the editor must know of turns: where they end, and the commands that Tab completes.
struct Turns;

impl Helper for Turns {}
impl Highlighter for Turns {}
impl Hinter for Turns {
    type Hint = String;
}

impl Validator for Turns {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        Ok(if lines::is_complete(context.input()) {
            ValidationResult::Valid(None)
        } else {
            ValidationResult::Incomplete
        })
    }
}

impl Completer for Turns {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(complete(&line[..position]))
    }
}

/// Where the word at the end of `typed` begins, and what it may become.
fn complete(typed: &str) -> (usize, Vec<String>) {
    let (start, candidates): (usize, Vec<String>) = match typed.strip_prefix("/set ") {
        Some(_) => (
            "/set ".len(),
            parameters::names().map(|name| format!("{name}=")).collect(),
        ),
        None if typed.starts_with('/') => (
            0,
            commands::names_and_aliases().map(str::to_owned).collect(),
        ),
        None => return (typed.len(), Vec::new()),
    };
    let word = &typed[start..];
    let fitting = |candidate: &String| candidate.starts_with(word);
    (start, candidates.into_iter().filter(fitting).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_parameters_are_completed() {
        assert_eq!(complete("/st"), (0, vec!["/stats".to_owned()]));
        assert_eq!(complete("/set tem"), (5, vec!["temperature=".to_owned()]));
        assert_eq!(complete("/").1.len(), commands::names_and_aliases().count());
        assert_eq!(complete("/q"), (0, vec!["/quit".to_owned()]));
        assert_eq!(complete("hello /s"), (8, Vec::new()));
    }
}
