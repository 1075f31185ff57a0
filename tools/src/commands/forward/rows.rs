//! The rows of a batch: what the arguments say of each, brought to one length.

use clap::Args;
use gpt2::TokenId;
use gpt2::session::{BatchToken, Model, SequenceSet};

use crate::failure::Failure;
use crate::prompt::{self, Ids};
use crate::texts::{Reading, TEXTS, TextSource};

/// The rows, and what is said of them; every list may be repeated, once a row.
#[derive(Debug, Args)]
pub(super) struct Source {
    #[command(flatten)]
    texts: TextSource,
    /// A row of token ids, such as 1,2,3; may be repeated
    #[arg(long, value_name = "IDS", value_parser = prompt::parse_ids, conflicts_with = TEXTS)]
    ids: Vec<Ids>,
    /// For a row of tokens, 1 where they are seen and 0 where not [default: the row's own tokens
    /// are]
    #[arg(long, value_name = "MASK", value_parser = prompt::parse_ids)]
    attention_mask: Vec<Ids>,
    /// For a row of tokens, where they stand [default: 0,1,2...]
    #[arg(long, value_name = "POSITIONS", value_parser = prompt::parse_ids)]
    position_ids: Vec<Ids>,
    /// For a row of tokens, tokens whose embeddings are added
    #[arg(long, value_name = "IDS", value_parser = prompt::parse_ids)]
    token_type_ids: Vec<Ids>,
    /// With double heads, the token of each row that the choice is scored at [default: the last]
    #[arg(long, value_name = "INDICES", value_parser = prompt::parse_ids)]
    mc_token_ids: Option<Ids>,
}

/// The rows of a batch, all of one length.
pub(super) struct Rows {
    pub(super) all: Vec<Row>,
    /// Tokens of each row, padding included.
    pub(super) length: usize,
    /// The token that each row's choice is scored at.
    pub(super) choice_tokens: Vec<usize>,
}

/// One row.
pub(super) struct Row {
    /// Its tokens, padding included.
    pub(super) ids: Vec<TokenId>,
    /// Tokens without the padding that was added.
    pub(super) own: usize,
    mask: Vec<bool>,
    position_ids: Option<Vec<usize>>,
    token_types: Option<Vec<TokenId>>,
}

impl Row {
    /// The tokens from `start` on, at most `count`, for sequence 0; all have output.
    pub(super) fn batch(&self, start: usize, count: usize) -> Result<Vec<BatchToken>, Failure> {
        let sequences = SequenceSet::of(0)?;
        let token = |index: usize| BatchToken {
            token: self.ids[index],
            position: index,
            position_id: self.position_ids.as_ref().map(|ids| ids[index]),
            token_type: self.token_types.as_ref().map(|types| types[index]),
            masked: !self.mask[index],
            sequences,
            output: true,
        };
        let end = (start + count).min(self.ids.len());
        Ok((start..end).map(token).collect())
    }
}

impl Source {
    /// The rows as the model will see them: shorter ones are padded on the right and masked there.
    pub(super) fn rows(&self, model: &Model, texts: &[String]) -> Result<Rows, Failure> {
        let tokens = self.tokens(model, texts)?;
        let length = tokens.iter().map(Vec::len).max().unwrap_or_default();
        let hyperparameters = model.hyperparameters();
        // Any token will do where it is masked; this one is also known as padding by the heads.
        let usual = hyperparameters.eos.first().copied();
        let pad = hyperparameters.pad.or(usual).unwrap_or(0);
        let count = tokens.len();
        let masks = per_row("--attention-mask", &self.attention_mask, count)?;
        let positions = per_row("--position-ids", &self.position_ids, count)?;
        let types = per_row("--token-type-ids", &self.token_type_ids, count)?;
        let rows = tokens
            .into_iter()
            .zip(masks.zip(positions).zip(types))
            .map(|(mut ids, ((mask, positions), types))| {
                let own = ids.len();
                model.check_tokens(&ids)?;
                let list = |name, list: Option<&Ids>, filling: u32| {
                    list.map(|list| filled(name, list, own, length, filling))
                        .transpose()
                };
                let mask = match list("--attention-mask", mask, 0)? {
                    Some(mask) => mask.into_iter().map(seen).collect::<Result<_, _>>()?,
                    None => (0..length).map(|index| index < own).collect(),
                };
                let position_ids = list("--position-ids", positions, 0)?;
                let limit = hyperparameters.n_positions;
                let beyond = |position: &&u32| **position as usize >= limit;
                if let Some(found) = position_ids.iter().flatten().find(beyond) {
                    return Err(Failure::Usage(format!(
                        "--position-ids: expected positions below the model's {limit}, \
                         found {found}"
                    )));
                }
                ids.resize(length, pad);
                Ok(Row {
                    ids,
                    own,
                    mask,
                    position_ids: position_ids
                        .map(|ids| ids.into_iter().map(|id| id as usize).collect()),
                    token_types: list("--token-type-ids", types, 0)?,
                })
            })
            .collect::<Result<Vec<Row>, Failure>>()?;
        Ok(Rows {
            choice_tokens: self.choice_tokens(&rows)?,
            all: rows,
            length,
        })
    }

    /// The texts, read before a model is loaded; none when rows are given as ids.
    pub(super) fn texts(&self) -> Result<Vec<String>, Failure> {
        if self.ids.is_empty() {
            self.texts.read(Reading::default())
        } else {
            Ok(Vec::new())
        }
    }

    fn tokens(&self, model: &Model, texts: &[String]) -> Result<Vec<Vec<TokenId>>, Failure> {
        let mut rows: Vec<Vec<TokenId>> = self.ids.iter().map(|Ids(ids)| ids.clone()).collect();
        for text in texts {
            rows.push(prompt::encode(model, text)?);
        }
        match rows.iter().position(Vec::is_empty) {
            Some(row) => Err(Failure::Usage(format!("--ids: row {row} has no token"))),
            None => Ok(rows),
        }
    }

    fn choice_tokens(&self, rows: &[Row]) -> Result<Vec<usize>, Failure> {
        let Some(Ids(given)) = &self.mc_token_ids else {
            return Ok(rows.iter().map(|row| row.own - 1).collect());
        };
        if given.len() != rows.len() {
            return Err(Failure::Usage(format!(
                "--mc-token-ids: expected an index for each of {} rows, found {}",
                rows.len(),
                given.len()
            )));
        }
        Ok(given.iter().map(|&index| index as usize).collect())
    }
}

/// One list for each row, or none for any.
fn per_row<'a>(
    name: &str,
    lists: &'a [Ids],
    rows: usize,
) -> Result<impl Iterator<Item = Option<&'a Ids>> + use<'a>, Failure> {
    if !lists.is_empty() && lists.len() != rows {
        return Err(Failure::Usage(format!(
            "{name}: expected one for each of {rows} rows, or none, found {}",
            lists.len()
        )));
    }
    Ok((0..rows).map(|row| lists.get(row)))
}

/// A list for a row's own tokens or for all of them, filled up to `length`.
fn filled(
    name: &str,
    Ids(list): &Ids,
    own: usize,
    length: usize,
    filling: u32,
) -> Result<Vec<u32>, Failure> {
    if ![own, length].contains(&list.len()) {
        return Err(Failure::Usage(format!(
            "{name}: expected {own} values for a row of {own} tokens, found {}",
            list.len()
        )));
    }
    let mut list = list.clone();
    list.resize(length, filling);
    Ok(list)
}

fn seen(value: u32) -> Result<bool, Failure> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(Failure::Usage(format!(
            "--attention-mask: expected 0 or 1, found {other}"
        ))),
    }
}
