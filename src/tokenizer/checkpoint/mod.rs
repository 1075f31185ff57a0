//! The converter's side: a checkpoint's tokenizer files become GGUF metadata.
//!
//! A Hugging Face folder says what its tokenizer is in up to six files that overlap. Here they
//! become one definition ([`definition`], [`special`]), checked against the model's vocabulary size
//! and written under llama.cpp's keys, with [`TokenizerSettings`] for what those keys cannot say.
//! Pure functions over bytes; the only file access is [`TokenizerFiles::read`].

mod characters;
mod class;
mod definition;
mod files;
mod json;
mod numbering;
mod pieces;
mod protobuf;
mod read;
mod sentence_pieces;
mod special;
mod table;
mod whole;
mod word_list;

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value as Json};

use super::bpe::{self, Merges};
use super::settings::{
    CHAT_TEMPLATE_KEY, PairPart, SETTINGS_KEY, SPECIAL_TOKENS_KEY, TokenizerSettings,
};
use super::vocabulary::{TokenType, Vocabulary};
use crate::gguf::Value;
use crate::{Error, Result, TokenId};
use class::Class;
use definition::Definition;
pub use files::{ConfigTokens, GgufTokenizer, TokenizerFiles};
use table::{Roles, Table};

/// The most rows a vocabulary may have; GPT-2 models have up to some 65,000.
const MAX_VOCABULARY: usize = 1 << 20;

impl TokenizerFiles {
    /// The metadata that carries this tokenizer in a GGUF file, for this library and for llama.cpp.
    ///
    /// # Errors
    /// [`Error::Format`] for a file that is broken or contradicts itself or another, with its name
    /// and the place in it; [`Error::Unsupported`] for a tokenizer that is neither byte-level BPE
    /// nor, with the feature `tokenizers`, one of that library's, by what it is.
    pub fn to_gguf(&self, config: &ConfigTokens) -> Result<GgufTokenizer> {
        let mut warnings = self.notes.clone();
        let tokenizer_config: Map<String, Json> = match &self.tokenizer_config {
            Some(bytes) => json::parse("tokenizer_config.json", bytes)?,
            None => Map::new(),
        };
        if config.vocabulary_size > MAX_VOCABULARY {
            let message = format!(
                "expected at most {MAX_VOCABULARY}, found {}",
                config.vocabulary_size
            );
            return Err(Error::format("config.json: vocab_size", message));
        }
        let class_name = class::name(self, &tokenizer_config)?;
        let class = Class::of(class_name.as_deref());
        let mut definition = match self.definition(class_name.as_deref(), &mut warnings) {
            Err(Error::Unsupported(reason)) => {
                let class = class_name.as_deref();
                return whole::to_gguf(self, tokenizer_config, class, config, &reason);
            }
            definition => definition?,
        };
        let ids: HashMap<&str, TokenId> = definition
            .tokens
            .iter()
            .map(|(token, id)| (token.as_str(), *id))
            .collect();
        let added = std::mem::take(&mut definition.settings.added_tokens);
        let special = special::collect(added, &ids, self, &tokenizer_config, class)?;
        drop(ids);
        warnings.extend(special.warnings);
        definition.settings.added_tokens = special.added;

        let mut table = Table::new(config.vocabulary_size);
        table.fill(&mut definition, &mut warnings)?;
        check_merges(&mut definition, &table, &mut warnings)?;

        let roles = Roles::choose(&special.roles, config, &table, &mut warnings);
        let own = Own {
            config: &tokenizer_config,
            class,
            bos: special.roles.get("bos_token").copied(),
            eos: special.roles.get("eos_token").copied(),
            has_whole: self.tokenizer.is_some(),
        };
        own.complete(&mut definition.settings, &table)?;
        let texts = table.texts(&special.roles);
        let mut entries = self.entries(definition, table, &roles, &tokenizer_config)?;
        // The roles above may be the model's; a template means the tokenizer's.
        if entries.iter().any(|(key, _)| key == CHAT_TEMPLATE_KEY) {
            entries.push((SPECIAL_TOKENS_KEY.to_owned(), texts.to_string().into()));
        }
        Ok(GgufTokenizer { entries, warnings })
    }

    fn definition(&self, class: Option<&str>, warnings: &mut Vec<String>) -> Result<Definition> {
        if let Some(bytes) = &self.tokenizer {
            return definition::from_tokenizer_json(bytes, warnings);
        }
        let has_pair = self.vocabulary.is_some() || self.merges.is_some();
        if let Some(class) = class.filter(|class| has_pair && Class::of(Some(class)) != Class::Gpt2)
        {
            return Err(Error::Unsupported(format!(
                "tokenizer_config.json: tokenizer_class {class:?} without a tokenizer.json; \
                 only the byte-level BPE of GPT2Tokenizer can be converted from vocab.json and \
                 merges.txt"
            )));
        }
        let names @ [vocabulary_name, merges_name] = self.names();
        let alone = |there: &str, missing: &str| {
            Error::format(
                missing,
                format!("expected beside {there}, found no such file"),
            )
        };
        match (&self.vocabulary, &self.merges) {
            (Some(vocabulary), Some(merges)) => {
                definition::from_vocabulary_files(vocabulary, merges, names)
            }
            (Some(_), None) => Err(alone(vocabulary_name, merges_name)),
            (None, Some(_)) => Err(alone(merges_name, vocabulary_name)),
            (None, _) if self.word_list.is_some() => Err(Error::Unsupported(
                "vocab.txt: a WordPiece vocabulary".to_owned(),
            )),
            (None, _) if self.sentence_pieces.is_some() => Err(Error::Unsupported(
                "spiece.model: a SentencePiece vocabulary".to_owned(),
            )),
            (None, _) => Err(Error::format(
                "tokenizer.json",
                "expected this file, or vocab.json with merges.txt, found neither",
            )),
        }
    }

    fn entries(
        &self,
        definition: Definition,
        table: Table,
        roles: &Roles,
        config: &Map<String, Json>,
    ) -> Result<Vec<(String, Value)>> {
        let settings = definition.settings;
        let (tokens, types) = table.finish();
        let mut entries: Vec<(String, Value)> = Vec::new();
        let mut put = |key: &str, value: Value| entries.push((key.to_owned(), value));
        put("tokenizer.ggml.model", "gpt2".into());
        put("tokenizer.ggml.pre", "gpt-2".into());
        put("tokenizer.ggml.tokens", tokens.into());
        put("tokenizer.ggml.token_type", types.into());
        put("tokenizer.ggml.merges", definition.merges.into());
        for (key, value) in roles.entries() {
            put(&key, value);
        }
        let around = |ids: &[TokenId], id: Option<TokenId>| id.is_some_and(|id| ids == [id]);
        put(
            "tokenizer.ggml.add_bos_token",
            around(&settings.tokens_before, roles.bos).into(),
        );
        if around(&settings.tokens_after, roles.eos) {
            put("tokenizer.ggml.add_eos_token", true.into());
        }
        put(
            "tokenizer.ggml.add_space_prefix",
            settings.add_prefix_space.into(),
        );
        let json = serde_json::to_string(&settings)
            .map_err(|error| Error::format(SETTINGS_KEY, error.to_string()))?;
        put(SETTINGS_KEY, json.into());
        if let Some(template) = self.template(config)? {
            put(CHAT_TEMPLATE_KEY, template.into());
        }
        if let Some(bytes) = &self.tokenizer {
            let text = json::text("tokenizer.json", bytes)?;
            put("tokenizer.huggingface.json", json::compact(text).into());
        }
        Ok(entries)
    }

    /// The chat template: a file of its own, or in the configuration one text or several by name.
    fn template(&self, config: &Map<String, Json>) -> Result<Option<String>> {
        if let Some(bytes) = &self.chat_template {
            let text = json::text("chat_template.jinja", bytes)?;
            return Ok(Some(text.to_owned()));
        }
        let template = match config.get("chat_template") {
            Some(Json::Array(named)) => named
                .iter()
                .find(|entry| entry.get("name").and_then(Json::as_str) == Some("default"))
                .and_then(|entry| entry.get("template")),
            other => other,
        };
        Ok(template.and_then(Json::as_str).map(str::to_owned))
    }
}

/// Takes out merges that need a token without a row, and refuses those of unknown tokens.
fn check_merges(
    definition: &mut Definition,
    table: &Table,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let outside: HashSet<&str> = definition
        .tokens
        .iter()
        .filter(|(_, id)| !table.has(*id))
        .map(|(token, _)| token.as_str())
        .collect();
    if !outside.is_empty() {
        let before = definition.merges.len();
        definition.merges.retain(|merge| {
            let (left, right) = merge.split_once(' ').unwrap_or((merge, ""));
            let joined = [left, right].concat();
            ![left, right, &joined]
                .iter()
                .any(|token| outside.contains(*token))
        });
        let removed = before - definition.merges.len();
        if removed > 0 {
            warnings.push(format!(
                "{removed} merges of tokens without a row are left out"
            ));
        }
    }
    let place = &definition.merges_place;
    let rows = table.rows.iter().map(|row| {
        Ok(row
            .as_ref()
            .map_or(("", TokenType::Unused), |(text, kind)| {
                (text.as_str(), *kind)
            }))
    });
    let vocabulary = Vocabulary::build(rows, table.rows.len())?;
    let mut scratch = Vec::new();
    for (rank, merge) in definition.merges.iter().enumerate() {
        let (left, right) = bpe::parts(merge).unwrap_or_default();
        for part in [left, right] {
            if !part.is_empty() && vocabulary.find_text(part, &mut scratch).is_none() {
                let message = format!("{part:?} of the merge {merge:?} is not in the vocabulary");
                return Err(Error::format(format!("{place}[{rank}]"), message));
            }
        }
    }
    let merges = definition.merges.iter().map(|merge| Ok(merge.as_str()));
    Merges::build(merges, &vocabulary, place)?;
    let missing: Vec<u8> = (0..=u8::MAX)
        .filter(|&byte| vocabulary.find(&[byte]).is_none())
        .collect();
    if let Some(first) = missing
        .first()
        .filter(|_| definition.settings.unk_token.is_none())
    {
        warnings.push(format!(
            "{} of the 256 bytes have no token (the first: {first:#04x}); text loses them",
            missing.len()
        ));
    }
    Ok(())
}

/// What `tokenizer_config.json` says of more than the tokens.
struct Own<'a> {
    config: &'a Map<String, Json>,
    class: Class,
    /// The tokenizer's own markers; the model's may be others.
    bos: Option<TokenId>,
    eos: Option<TokenId>,
    /// There is a tokenizer.json.
    has_whole: bool,
}

impl Own<'_> {
    fn flag(&self, name: &str) -> Option<bool> {
        self.config.get(name).and_then(Json::as_bool)
    }

    /// Enters it into `settings`, and checks the ids that are put around a text.
    fn complete(&self, settings: &mut TokenizerSettings, table: &Table) -> Result<()> {
        if self.class == Class::Gpt2 || !self.has_whole {
            settings.add_prefix_space = self.flag("add_prefix_space").unwrap_or(false);
        }
        settings.clean_up_tokenization_spaces =
            self.flag("clean_up_tokenization_spaces").unwrap_or(false);
        settings.split_special_tokens = self.flag("split_special_tokens").unwrap_or(false);
        // A tokenizer.json says itself what is put around a text.
        if !self.has_whole {
            self.put_around(settings);
        }
        let around = settings.tokens_before.iter().chain(&settings.tokens_after);
        if let Some(id) = around.into_iter().find(|&&id| !table.has(id)) {
            let message =
                format!("puts the token {id} around a text, which the model does not have");
            return Err(Error::format("tokenizer.json: post_processor", message));
        }
        if let Some(unknown) = &settings.unk_token {
            let known = table.rows.iter().flatten().any(|(text, _)| text == unknown);
            if !known {
                let message = format!("{unknown:?} is not in the vocabulary");
                return Err(Error::format("tokenizer.json: model.unk_token", message));
            }
        }
        Ok(())
    }

    /// Each of two texts gets its own markers.
    fn put_around(&self, settings: &mut TokenizerSettings) {
        let wanted = |id: Option<TokenId>, name: &str| id.filter(|_| self.flag(name) == Some(true));
        let bos = wanted(self.bos, "add_bos_token");
        let eos = wanted(self.eos, "add_eos_token");
        settings.tokens_before.extend(bos);
        settings.tokens_after.extend(eos);
        if bos.is_none() && eos.is_none() {
            return;
        }
        let texts = [
            (PairPart::First { type_id: 0 }, 0),
            (PairPart::Second { type_id: 1 }, 1),
        ];
        for (text, type_id) in texts {
            let token = |id: TokenId| PairPart::Token { id, type_id };
            settings.pair.extend(bos.map(token));
            settings.pair.push(text);
            settings.pair.extend(eos.map(token));
        }
    }
}
