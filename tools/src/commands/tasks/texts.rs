//! What a command of the heads works on: texts, or ids in their place.

use clap::Args;
use gpt2::TokenId;
use gpt2::session::Model;

use crate::failure::Failure;
use crate::prompt::{self, Ids};
use crate::texts::{Reading, TEXTS, TextSource};

/// Where texts come from.
#[derive(Debug, Args)]
pub(super) struct InputSource {
    #[command(flatten)]
    texts: TextSource,
    /// A text as token ids, such as 1,2,3; may be repeated
    #[arg(long, value_name = "IDS", value_parser = prompt::parse_ids, conflicts_with = TEXTS)]
    ids: Vec<Ids>,
}

/// A text, or ids that stand for one.
pub(super) struct Input {
    /// The text, unless ids were given.
    pub(super) text: Option<String>,
    pub(super) ids: Vec<TokenId>,
}

impl InputSource {
    /// Every text with its ids; the lines of stdin are texts.
    pub(super) fn read(&self, model: &Model) -> Result<Vec<Input>, Failure> {
        if !self.ids.is_empty() {
            return self.ids.iter().map(|ids| of_ids(model, ids)).collect();
        }
        let texts = self.texts.read(Reading {
            lines_of_stdin: true,
            ..Reading::default()
        })?;
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
