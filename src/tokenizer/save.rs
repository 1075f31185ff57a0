//! The vocabulary files that a checkpoint would have, from what a GGUF file carries.
//!
//! Converting what is written here gives the same ids again, for files of this library and for
//! files of llama.cpp, which carry neither tokenizer.json nor settings.

use std::io::Write;
use std::path::Path;

use serde_json::{Map, Value as Json, json};

use super::Tokenizer;
use super::parts::{JSON_KEY, Model};
use super::settings::{PairPart, TokenizerSettings};
use crate::gguf::Metadata;
use crate::output::AtomicFile;
use crate::{Error, Result, TokenId};

/// A file's name and its contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VocabularyFile {
    /// Its name, without a folder.
    pub name: &'static str,
    /// What is in it.
    pub contents: String,
}

/// The vocabulary files of the tokenizer that a GGUF file carries: `tokenizer.json`,
/// `tokenizer_config.json` and `special_tokens_map.json`, and of byte-level BPE `vocab.json` and
/// `merges.txt` too.
///
/// # Errors
/// As [`Tokenizer::from_metadata`].
pub fn vocabulary_files(metadata: &Metadata) -> Result<Vec<VocabularyFile>> {
    let tokenizer = Tokenizer::from_metadata(metadata)?;
    let carried = metadata.str(JSON_KEY)?;
    let mut files = Vec::new();
    let mut file = |name, contents| files.push(VocabularyFile { name, contents });
    let is_byte_level = matches!(tokenizer.model, Model::ByteLevelBpe(_));
    if is_byte_level {
        let merges: Vec<&str> = metadata
            .required_strings("tokenizer.ggml.merges")?
            .collect::<Result<_>>()?;
        let vocabulary = Json::Object(tokenizer.listed(carried));
        let lines = merges.iter().map(|merge| format!("{merge}\n"));
        file("vocab.json", vocabulary.to_string());
        file(
            "merges.txt",
            std::iter::once("#version: 0.2\n".to_owned())
                .chain(lines)
                .collect(),
        );
        if carried.is_none() {
            let whole = tokenizer.definition(&vocabulary, &merges);
            file("tokenizer.json", whole.to_string());
        }
    }
    if let Some(json) = carried {
        file("tokenizer.json", json.to_owned());
    }
    let roles = tokenizer.roles();
    let template = metadata.str("tokenizer.chat_template")?;
    let config = tokenizer.config(is_byte_level, &roles, template);
    file("tokenizer_config.json", pretty(&config));
    file("special_tokens_map.json", pretty(&Json::Object(roles)));
    Ok(files)
}

/// Writes the [`vocabulary_files`] into `folder`, which is made if it is not there. Each file
/// appears whole; where one exists already and `overwrite` is false, none is written.
///
/// # Errors
/// As [`vocabulary_files`]; [`Error::Argument`] for files that exist; [`Error::Io`].
pub fn save_vocabulary_files(
    metadata: &Metadata,
    folder: &Path,
    overwrite: bool,
) -> Result<Vec<VocabularyFile>> {
    let files = vocabulary_files(metadata)?;
    std::fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
    let mut begun = Vec::new();
    for file in &files {
        let path = folder.join(file.name);
        let mut output = AtomicFile::create(&path, overwrite)?;
        output
            .write_all(file.contents.as_bytes())
            .map_err(|error| Error::io(&path, error))?;
        begun.push(output);
    }
    for output in begun {
        output.finish()?;
    }
    Ok(files)
}

fn pretty(json: &Json) -> String {
    format!("{json:#}\n")
}

impl Tokenizer {
    /// The tokens with their ids, without those that only the `carried` tokenizer.json adds.
    fn listed(&self, carried: Option<&str>) -> Map<String, Json> {
        let carried: Option<Json> = carried.and_then(|json| serde_json::from_str(json).ok());
        let of_model = carried
            .as_ref()
            .and_then(|json| json.pointer("/model/vocab")?.as_object());
        let ids = 0..self.vocabulary_size() as TokenId;
        ids.filter_map(|id| self.token_text(id).map(|text| (text, Json::from(id))))
            .filter(|(text, _)| of_model.is_none_or(|tokens| tokens.contains_key(text)))
            .collect()
    }

    /// The whole tokenizer as tokenizer.json says it.
    fn definition(&self, vocabulary: &Json, merges: &[&str]) -> Json {
        let settings = self.settings();
        let byte_level = |trim_offsets: bool| {
            json!({
                "type": "ByteLevel",
                "add_prefix_space": settings.add_prefix_space,
                "trim_offsets": trim_offsets,
                "use_regex": settings.use_regex,
            })
        };
        let pairs: Vec<Json> = merges
            .iter()
            .filter_map(|merge| merge.split_once(' '))
            .map(|(left, right)| json!([left, right]))
            .collect();
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": settings.added_tokens,
            "normalizer": null,
            "pre_tokenizer": byte_level(true),
            "post_processor": self.template().unwrap_or_else(|| byte_level(false)),
            "decoder": byte_level(true),
            "model": {
                "type": "BPE",
                "dropout": null,
                "unk_token": settings.unk_token,
                "continuing_subword_prefix": "",
                "end_of_word_suffix": "",
                "fuse_unk": settings.fuse_unk,
                "byte_fallback": false,
                "ignore_merges": settings.ignore_merges,
                "vocab": vocabulary,
                "merges": pairs,
            },
        })
    }

    /// What is put around texts; `None` when it is nothing.
    fn template(&self) -> Option<Json> {
        let TokenizerSettings {
            tokens_before,
            tokens_after,
            pair,
            ..
        } = self.settings();
        if tokens_before.is_empty() && tokens_after.is_empty() && pair.is_empty() {
            return None;
        }
        let token = |&id: &TokenId| PairPart::Token { id, type_id: 0 };
        let parts = |texts: &[PairPart]| -> Vec<PairPart> {
            let before = tokens_before.iter().map(token);
            let after = tokens_after.iter().map(token);
            before.chain(texts.iter().copied()).chain(after).collect()
        };
        let (first, second) = (
            PairPart::First { type_id: 0 },
            PairPart::Second { type_id: 1 },
        );
        let single = parts(&[first]);
        let pair = if pair.is_empty() {
            parts(&[first, second])
        } else {
            pair.clone()
        };
        let mut special = Map::new();
        for part in single.iter().chain(&pair) {
            if let PairPart::Token { id, .. } = part {
                let text = self.token_text(*id).unwrap_or_default();
                let defined = json!({"id": text, "ids": [id], "tokens": [text]});
                special.insert(text, defined);
            }
        }
        let written = |part: &PairPart| match part {
            PairPart::Token { id, type_id } => {
                let text = self.token_text(*id).unwrap_or_default();
                json!({"SpecialToken": {"id": text, "type_id": type_id}})
            }
            PairPart::First { type_id } => json!({"Sequence": {"id": "A", "type_id": type_id}}),
            PairPart::Second { type_id } => json!({"Sequence": {"id": "B", "type_id": type_id}}),
        };
        Some(json!({
            "type": "TemplateProcessing",
            "single": single.iter().map(written).collect::<Vec<_>>(),
            "pair": pair.iter().map(written).collect::<Vec<_>>(),
            "special_tokens": special,
        }))
    }

    /// The tokens with a role. A token that is text like any other stays out: to be named here
    /// would make it special.
    fn roles(&self) -> Map<String, Json> {
        let roles = [
            ("bos_token", self.bos()),
            ("eos_token", self.eos()),
            ("unk_token", self.unknown()),
            ("pad_token", self.padding()),
        ];
        let text = |id: Option<TokenId>| self.token_text(id.filter(|&id| self.is_special(id))?);
        roles
            .into_iter()
            .filter_map(|(role, id)| text(id).map(|text| (role.to_owned(), text.into())))
            .collect()
    }

    fn config(
        &self,
        is_byte_level: bool,
        roles: &Map<String, Json>,
        template: Option<&str>,
    ) -> Json {
        let settings = self.settings();
        let mut config = Map::new();
        let mut put = |name: &str, value: Json| config.insert(name.to_owned(), value);
        let class = if is_byte_level {
            put("add_prefix_space", settings.add_prefix_space.into());
            // Read where there is no tokenizer.json, which says it itself.
            let around = |ids: &[TokenId], id| id == ids.first().copied() && ids.len() == 1;
            put(
                "add_bos_token",
                around(&settings.tokens_before, self.bos()).into(),
            );
            put(
                "add_eos_token",
                around(&settings.tokens_after, self.eos()).into(),
            );
            "GPT2Tokenizer"
        } else {
            "PreTrainedTokenizerFast"
        };
        let added: Map<String, Json> = settings
            .added_tokens
            .iter()
            .map(|token| {
                let described = json!({
                    "content": token.content,
                    "lstrip": token.lstrip,
                    "normalized": token.normalized,
                    "rstrip": token.rstrip,
                    "single_word": token.single_word,
                    "special": token.special,
                });
                (token.id.to_string(), described)
            })
            .collect();
        put("added_tokens_decoder", added.into());
        put(
            "clean_up_tokenization_spaces",
            settings.clean_up_tokenization_spaces.into(),
        );
        if settings.split_special_tokens {
            put("split_special_tokens", true.into());
        }
        for role in ["bos_token", "eos_token", "unk_token", "pad_token"] {
            // Said to be none, or GPT-2's own would be taken.
            put(role, roles.get(role).cloned().unwrap_or(Json::Null));
        }
        put("tokenizer_class", class.into());
        if let Some(template) = template {
            put("chat_template", template.into());
        }
        config.into()
    }
}
