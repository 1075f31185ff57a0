//! The texts a command works on: arguments, lines of a file or of stdin, or ids.

use std::path::PathBuf;

use clap::Args;
use gpt2::TokenId;
use gpt2::session::Model;

use crate::failure::Failure;
use crate::prompt::{self, Ids};

/// Where texts come from.
#[derive(Debug, Args)]
pub(super) struct TextSource {
    #[command(flatten)]
    source: Source,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct Source {
    /// A text; may be repeated
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Vec<String>,
    /// A file with a text in every line; without any text, the lines of stdin
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A text as token ids, such as 1,2,3; may be repeated
    #[arg(long, value_name = "IDS", value_parser = prompt::parse_ids)]
    ids: Vec<Ids>,
}

/// A text, or ids that stand for one.
pub(super) struct Input {
    /// The text, unless ids were given.
    pub(super) text: Option<String>,
    pub(super) ids: Vec<TokenId>,
}

impl TextSource {
    /// Every text with its ids.
    pub(super) fn read(&self, model: &Model) -> Result<Vec<Input>, Failure> {
        let source = &self.source;
        if !source.ids.is_empty() {
            return source.ids.iter().map(|ids| of_ids(model, ids)).collect();
        }
        let texts = match (&source.file, source.prompt.is_empty()) {
            (Some(path), _) => lines(&prompt::read_file(path)?),
            (None, false) => source.prompt.clone(),
            (None, true) => lines(&prompt::read_stdin()?),
        };
        if texts.is_empty() {
            return Err(Failure::Work(
                "there is no text: give one with -p, or lines in a file (-f) or on stdin"
                    .to_owned(),
            ));
        }
        texts
            .into_iter()
            .map(|text| {
                Ok(Input {
                    ids: prompt::encode(model, &text)?,
                    text: Some(text),
                })
            })
            .collect()
    }
}

/// Ids without the padding on their left: without a mask the model would read it.
fn of_ids(model: &Model, Ids(ids): &Ids) -> Result<Input, Failure> {
    model.check_tokens(ids)?;
    let pad = model.hyperparameters().pad;
    let padding = ids.iter().take_while(|&&id| Some(id) == pad).count();
    match ids.get(padding..) {
        Some(own) if !own.is_empty() => Ok(Input {
            text: None,
            ids: own.to_vec(),
        }),
        _ => Err(Failure::Usage(
            "--ids: expected at least one token that is not padding".to_owned(),
        )),
    }
}

/// The lines that are not empty.
fn lines(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(str::to_owned).collect()
}
