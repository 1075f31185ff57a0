//! Where turns come from: a terminal or stdin.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::editor::{Editor, PROMPT};
use super::lines::read_turn;
use super::talk::harmless;
use crate::failure::Failure;
use crate::stream::write_result;

/// Where turns come from.
pub(super) trait Source {
    /// The next turn; none at the end.
    fn next_turn(&mut self) -> Result<Option<String>, Failure>;
}

/// Where lines come from.
pub(super) enum Lines {
    /// A terminal with a line editor.
    Terminal(Box<Editor>),
    /// A terminal that knows no escape sequences: lines as the system edits them.
    Bare,
    /// Stdin as it is.
    Plain {
        /// Set while a line is waited for.
        waiting: Arc<AtomicBool>,
    },
}

impl Source for Lines {
    fn next_turn(&mut self) -> Result<Option<String>, Failure> {
        match self {
            Self::Terminal(editor) => editor.next_turn(),
            Self::Bare => {
                write_result(PROMPT)?;
                read_turn(&mut io::stdin().lock())
            }
            Self::Plain { waiting } => {
                waiting.store(true, Ordering::Relaxed);
                let turn = read_turn(&mut io::stdin().lock());
                waiting.store(false, Ordering::Relaxed);
                turn
            }
        }
    }
}

/// Texts from the command line, then lines.
pub(super) struct Turns {
    pub(super) first: VecDeque<String>,
    pub(super) lines: Lines,
}

impl Source for Turns {
    fn next_turn(&mut self) -> Result<Option<String>, Failure> {
        match self.first.pop_front() {
            Some(turn) => {
                if !matches!(self.lines, Lines::Plain { .. }) {
                    // As if it had been typed.
                    write_result(&format!("{PROMPT}{}\n", harmless(&turn)))?;
                }
                Ok(Some(turn))
            }
            None => self.lines.next_turn(),
        }
    }
}
