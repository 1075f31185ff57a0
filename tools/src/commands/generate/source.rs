//! The prompts of a generation.

use clap::Args;
use gpt2::TokenId;
use gpt2::generate::unpadded;
use gpt2::session::Model;

use crate::failure::Failure;
use crate::prompt::{self, Ids};
use crate::texts::{Reading, TEXTS, TextSource};

/// Where the prompts come from.
#[derive(Debug, Args)]
pub(super) struct Source {
    #[command(flatten)]
    texts: TextSource,
    /// The tokens to continue, such as 1,2,3; several lists are continued together
    #[arg(long, value_name = "IDS", value_parser = prompt::parse_ids, conflicts_with = TEXTS)]
    ids: Vec<Ids>,
    /// For the tokens of an --ids, 0 for padding, which is left out, and 1 for the others [default:
    /// all but the model's padding token]
    #[arg(long, value_name = "MASK", value_parser = prompt::parse_ids)]
    attention_mask: Vec<Ids>,
}

/// A prompt.
pub(super) struct Prompt {
    /// As it was given.
    pub(super) ids: Vec<TokenId>,
    /// Without padding.
    pub(super) own: Vec<TokenId>,
}

impl Source {
    /// The texts, read before a model is loaded; none when prompts are given as ids.
    pub(super) fn texts(&self) -> Result<Vec<String>, Failure> {
        if !self.ids.is_empty() {
            return Ok(Vec::new());
        }
        if !self.attention_mask.is_empty() {
            return Err(Failure::Usage(
                "--attention-mask: expected prompts given as --ids".to_owned(),
            ));
        }
        self.texts.read(Reading {
            may_be_empty: true,
            ..Reading::default()
        })
    }

    /// The prompts: `texts` as tokens, or the ids.
    pub(super) fn prompts(&self, model: &Model, texts: &[String]) -> Result<Vec<Prompt>, Failure> {
        if texts.is_empty() {
            return self.of_ids(model);
        }
        let encoded = texts.iter().map(|text| {
            let ids = prompt::encode(model, text)?;
            Ok(Prompt {
                own: ids.clone(),
                ids,
            })
        });
        encoded.collect()
    }

    fn of_ids(&self, model: &Model) -> Result<Vec<Prompt>, Failure> {
        let (lists, masks) = (&self.ids, &self.attention_mask);
        if !masks.is_empty() && masks.len() != lists.len() {
            return Err(Failure::Usage(format!(
                "--attention-mask: expected one for each of {} prompts, or none, found {}",
                lists.len(),
                masks.len()
            )));
        }
        let prompts = lists.iter().enumerate().map(|(index, Ids(ids))| {
            if ids.is_empty() {
                let ids = prompt::encode(model, "")?;
                return Ok(Prompt {
                    own: ids.clone(),
                    ids,
                });
            }
            model.check_tokens(ids)?;
            let own = match masks.get(index) {
                Some(Ids(mask)) => seen(ids, mask)?,
                None => unpadded(model, ids),
            };
            if own.is_empty() {
                return Err(Failure::Usage(
                    "--ids: expected at least one token that is not padding".to_owned(),
                ));
            }
            Ok(Prompt {
                ids: ids.clone(),
                own,
            })
        });
        prompts.collect()
    }
}

/// The tokens whose mask is 1.
fn seen(ids: &[TokenId], mask: &[u32]) -> Result<Vec<TokenId>, Failure> {
    if mask.len() != ids.len() {
        return Err(Failure::Usage(format!(
            "--attention-mask: expected {} values for as many tokens, found {}",
            ids.len(),
            mask.len()
        )));
    }
    if let Some(other) = mask.iter().find(|value| **value > 1) {
        return Err(Failure::Usage(format!(
            "--attention-mask: expected 0 or 1, found {other}"
        )));
    }
    let kept = ids.iter().zip(mask).filter(|(_, value)| **value == 1);
    Ok(kept.map(|(id, _)| *id).collect())
}
