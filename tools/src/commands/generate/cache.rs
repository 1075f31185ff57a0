//! The prompt's cache in a file, so that the next run need not compute it.

use std::path::{Path, PathBuf};

use clap::Args;
use gpt2::TokenId;
use gpt2::session::Session;

use crate::failure::{Failure, one_line};
use crate::report::check_place;
use crate::stream::note;

/// Where a cache is kept.
#[derive(Debug, Args)]
#[command(next_help_heading = "Running the model")]
pub(super) struct PromptCache {
    /// Keep the prompt's cache in this file; what it has of a later prompt is not computed again
    #[arg(long = "prompt-cache", id = "prompt_cache", value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// Keep the continuation's cache too
    #[arg(long = "prompt-cache-all", id = "prompt_cache_all")]
    #[arg(requires = "prompt_cache")]
    all: bool,
    /// Use the file and leave it as it is
    #[arg(long = "prompt-cache-ro", id = "prompt_cache_ro")]
    #[arg(requires = "prompt_cache", conflicts_with = "prompt_cache_all")]
    read_only: bool,
}

impl PromptCache {
    /// Where the cache is written to, if it is.
    fn target(&self) -> Option<&Path> {
        self.file.as_deref().filter(|_| !self.read_only)
    }

    /// Whether the cache is written.
    pub(super) fn is_wanted(&self) -> bool {
        self.target().is_some()
    }

    /// Finds now and not at the end what is in the way of the file.
    pub(super) fn check(&self) -> Result<(), Failure> {
        self.target().map_or(Ok(()), |path| check_place(path, true))
    }

    /// Brings the file's cache into the session, when there is a file.
    pub(super) fn restore(&self, session: &mut Session) -> Result<(), Failure> {
        let Some(path) = self.file.as_deref().filter(|path| path.exists()) else {
            return Ok(());
        };
        match session.restore(0, path) {
            Ok(tokens) => note!("{}: {tokens} tokens restored", path.display()),
            Err(gpt2::Error::ContextFull { needed, .. }) => {
                note!(
                    "warning: {}: its {needed} tokens do not fit the context and were left aside",
                    path.display()
                );
            }
            Err(error) => {
                return Err(Failure::Work(format!(
                    "{}; name another file for this model, or delete {}",
                    one_line(&error),
                    path.display()
                )));
            }
        }
        Ok(())
    }

    /// Writes what the session holds of the prompt, or all of it. A file that is there was
    /// restored, so it is a cache of this model and may be replaced.
    pub(super) fn save(&self, session: &mut Session, prompt: &[TokenId]) -> Result<(), Failure> {
        let Some(path) = self.target() else {
            return Ok(());
        };
        let computed = &prompt[..prompt.len().saturating_sub(1)];
        if !session.tokens(0).starts_with(computed) {
            note!(
                "warning: {}: not written, since the context moved on from the prompt",
                path.display()
            );
            return Ok(());
        }
        if !self.all {
            session.retain_prefix(0, prompt)?;
        }
        Ok(session.save(0, path, true)?)
    }
}
