//! Where turns come from: a terminal or stdin.

use std::io;

use super::editor::Editor;
use super::lines::read_turn;
use crate::failure::Failure;

/// Where turns come from.
pub(super) trait Source {
    /// The next turn; none at the end.
    fn next_turn(&mut self) -> Result<Option<String>, Failure>;
}

/// A terminal with a line editor, or stdin as it is.
pub(super) enum Lines {
    Terminal(Box<Editor>),
    Plain,
}

impl Source for Lines {
    fn next_turn(&mut self) -> Result<Option<String>, Failure> {
        match self {
            Self::Terminal(editor) => editor.next_turn(),
            Self::Plain => read_turn(&mut io::stdin().lock()),
        }
    }
}
