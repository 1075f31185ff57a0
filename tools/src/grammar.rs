//! Grammars and schemas from files, for the commands that write texts.

use std::path::PathBuf;

use clap::Args;
use gpt2::generate::GenerationOptions;
use gpt2::grammar::Grammar;
use gpt2::session::Model;

use crate::failure::{Failure, one_line};
use crate::texts;

/// What a text must keep to.
#[derive(Debug, Args)]
#[command(next_help_heading = "Keeping to a grammar")]
pub(crate) struct GrammarFile {
    /// Write only what this grammar allows: a file in Lark's notation, with a rule named start
    #[arg(long, value_name = "FILE", conflicts_with = "json_schema")]
    grammar: Option<PathBuf>,
    /// Write only JSON that this schema allows
    #[arg(long, value_name = "FILE.json")]
    json_schema: Option<PathBuf>,
}

impl GrammarFile {
    /// Reads and compiles it, for a model's tokens.
    pub(crate) fn apply(
        &self,
        model: &Model,
        options: &mut GenerationOptions,
    ) -> Result<(), Failure> {
        let (path, make): (_, fn(_, &str) -> _) = match (&self.grammar, &self.json_schema) {
            (Some(path), _) => (path, Grammar::lark),
            (None, Some(path)) => (path, Grammar::json_schema),
            (None, None) => return Ok(()),
        };
        let text = texts::read_file(path)?;
        let grammar = make(model.token_trie()?, &text);
        let within = |error| Failure::Work(format!("{}: {}", path.display(), one_line(&error)));
        options.grammar = Some(grammar.map_err(within)?);
        Ok(())
    }
}
