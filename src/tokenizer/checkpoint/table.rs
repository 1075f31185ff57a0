//! The tokens by id, and the ids of those with a role.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value as Json;

use super::definition::Definition;
use super::files::ConfigTokens;
use crate::gguf::Value;
use crate::tokenizer::settings::AddedToken;
use crate::tokenizer::vocabulary::TokenType;
use crate::{Error, Result, TokenId};

/// Ids of the tokens with a role.
#[derive(Debug)]
pub(super) struct Roles {
    pub(super) bos: Option<TokenId>,
    pub(super) eos: Option<TokenId>,
    pub(super) unknown: Option<TokenId>,
    pub(super) padding: Option<TokenId>,
}

impl Roles {
    /// What the configuration says, else the tokenizer, of ids that the model has.
    pub(super) fn choose(
        own: &HashMap<String, TokenId>,
        config: &ConfigTokens,
        table: &Table,
        warnings: &mut Vec<String>,
    ) -> Self {
        let mut choose = |name: &str, from_config: Option<u64>| -> Option<TokenId> {
            let own = own.get(name).copied().filter(|&id| table.has(id));
            let configured = from_config
                .and_then(|id| TokenId::try_from(id).ok())
                .filter(|&id| (id as usize) < config.vocabulary_size);
            if let Some(id) = from_config.filter(|_| configured.is_none()) {
                warnings.push(format!(
                    "config.json: the id of {name} is {id}, but the model has {} tokens; {}",
                    config.vocabulary_size,
                    own.map_or_else(
                        || "left out".to_owned(),
                        |id| format!("taking the tokenizer's, {id}")
                    ),
                ));
            }
            configured.or(own)
        };
        Self {
            bos: choose("bos_token", config.bos),
            eos: choose("eos_token", config.eos),
            unknown: choose("unk_token", None),
            padding: choose("pad_token", config.padding),
        }
    }

    /// The metadata keys of the ids.
    pub(super) fn entries(&self) -> impl Iterator<Item = (String, Value)> {
        let roles = [
            ("bos", self.bos),
            ("eos", self.eos),
            ("unknown", self.unknown),
            ("padding", self.padding),
        ];
        roles.into_iter().filter_map(|(name, id)| {
            let key = format!("tokenizer.ggml.{name}_token_id");
            id.map(|id| (key, id.into()))
        })
    }
}

/// The tokens by id, one place for each row of the model.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) rows: Vec<Option<(String, TokenType)>>,
}

impl Table {
    pub(super) fn new(rows: usize) -> Self {
        Self {
            rows: vec![None; rows],
        }
    }

    /// The texts of the tokens with a role, by the role's name.
    pub(super) fn texts(&self, roles: &HashMap<String, TokenId>) -> Json {
        let text = |id: TokenId| self.rows.get(id as usize)?.as_ref().map(|(text, _)| text);
        let named = roles
            .iter()
            .filter_map(|(name, id)| Some((name.clone(), text(*id)?.as_str().into())));
        // Sorted, so that a file's bytes depend on its source alone.
        Json::Object(named.collect::<BTreeMap<_, _>>().into_iter().collect())
    }

    pub(super) fn has(&self, id: TokenId) -> bool {
        matches!(self.rows.get(id as usize), Some(Some(_)))
    }

    /// Enters the vocabulary and the added tokens. What has no row is taken out of `definition`.
    pub(super) fn fill(
        &mut self,
        definition: &mut Definition,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        let place = definition.tokens_place;
        let mut outside = 0_usize;
        let mut example = None;
        for (token, id) in &definition.tokens {
            let Some(row) = self.rows.get_mut(*id as usize) else {
                outside += 1;
                example.get_or_insert_with(|| format!("{token:?} with id {id}"));
                continue;
            };
            if let Some((other, _)) = row {
                let message = format!("the id {id} is given to both {other:?} and {token:?}");
                return Err(Error::format(place, message));
            }
            *row = Some((token.clone(), TokenType::Normal));
        }
        let rows = self.rows.len();
        definition.settings.added_tokens.retain(|token| {
            let inside = (token.id as usize) < rows;
            if !inside {
                outside += 1;
                example.get_or_insert_with(|| format!("{:?} with id {}", token.content, token.id));
            }
            inside
        });
        for token in &definition.settings.added_tokens {
            self.add(token, place)?;
        }
        if let Some(example) = example {
            warnings.push(format!(
                "{outside} tokens have no row in the model, which has {rows}, and are left out \
                 (the first: {example})"
            ));
        }
        Ok(())
    }

    fn add(&mut self, token: &AddedToken, place: &str) -> Result<()> {
        let kind = if token.special {
            TokenType::Control
        } else {
            TokenType::UserDefined
        };
        let Some(row) = self.rows.get_mut(token.id as usize) else {
            return Ok(());
        };
        match row {
            Some((other, known)) if *other == token.content => *known = kind,
            Some((other, _)) => {
                return Err(Error::format(
                    place,
                    format!(
                        "the id {} is {other:?} here and {:?} among the added tokens",
                        token.id, token.content
                    ),
                ));
            }
            None => *row = Some((token.content.clone(), kind)),
        }
        Ok(())
    }

    /// Texts and type numbers. Rows without a token are filled as llama.cpp's converter does.
    pub(super) fn finish(self) -> (Vec<String>, Vec<i32>) {
        let row = |(id, row): (usize, Option<(String, TokenType)>)| {
            let (text, kind) = row.unwrap_or_else(|| (format!("[PAD{id}]"), TokenType::Unused));
            (text, kind.number())
        };
        self.rows.into_iter().enumerate().map(row).unzip()
    }
}
