//! A tokenizer that is not byte-level BPE: its tokenizer.json goes into the file whole.
//!
//! What the folder's other files add to it (added tokens, BERT's flags) is written into it, as
//! transformers does when it loads the folder.

use std::collections::HashMap;

use serde_json::{Map, Value as Json};

use super::class::Class;
use super::definition::{Definition, read_post_processor};
use super::files::{ConfigTokens, GgufTokenizer, TokenizerFiles};
use super::table::{Roles, Table};
use super::{json, sentence_pieces, special, word_list};
use crate::gguf::Value;
use crate::tokenizer::parts::JSON_KEY;
use crate::tokenizer::settings::{PairPart, SETTINGS_KEY, TokenizerSettings};
use crate::tokenizer::whole;
use crate::{Error, Result, TokenId};

const PLACE: &str = "tokenizer.json";

/// What llama.cpp calls a model whose texts it leaves alone: it has no tokenizer that does the
/// same.
const NO_TOKENIZER: &str = "none";

/// The metadata of such a tokenizer; `class` is the name of its class, and `reason` says why it is
/// no byte-level BPE.
///
/// # Errors
/// [`Error::Unsupported`] with the reason where no file defines a whole tokenizer, or the feature
/// that runs it is off; [`Error::Format`] for one that is broken.
pub(super) fn to_gguf(
    files: &TokenizerFiles,
    mut tokenizer_config: Map<String, Json>,
    class: Option<&str>,
    config: &ConfigTokens,
    reason: &str,
) -> Result<GgufTokenizer> {
    if cfg!(not(feature = "tokenizers")) {
        return Err(Error::Unsupported(format!(
            "{reason}; without the feature 'tokenizers' only the byte-level BPE of GPT-2 can \
             be converted"
        )));
    }
    let mut warnings = files.notes.clone();
    // Both ways to read the file are closed then.
    let (mut tokenizer, tokens) =
        definition(files, &mut tokenizer_config, class, reason).map_err(|error| match error {
            Error::Format { place, message } => Error::format(
                place,
                format!("{message}; byte-level BPE it is not either: {reason}"),
            ),
            other => other,
        })?;
    let ids: HashMap<&str, TokenId> = tokens
        .iter()
        .map(|(token, id)| (token.as_str(), *id))
        .collect();
    let added = match tokenizer.get("added_tokens") {
        None | Some(Json::Null) => Vec::new(),
        Some(added) => serde_json::from_value(added.clone())
            .map_err(|error| Error::format("tokenizer.json: added_tokens", error.to_string()))?,
    };
    let special = special::collect(added, &ids, files, &tokenizer_config, Class::Other)?;
    drop(ids);
    warnings.extend(special.warnings);
    let mut added = special.added;
    // The library numbers tokens that its model does not have as they come.
    added.sort_by_key(|token| token.id);
    let listed = serde_json::to_value(&added)
        .map_err(|error| Error::format("tokenizer.json: added_tokens", error.to_string()))?;
    if let Some(object) = tokenizer.as_object_mut() {
        object.insert("added_tokens".to_owned(), listed);
    }
    let text = tokenizer.to_string();
    let library = whole::all_tokens(PLACE, text.as_bytes())?;
    if let Some(token) = added
        .iter()
        .find(|token| library.get(&token.content) != Some(&token.id))
    {
        let message = format!("{:?} cannot have the id {}", token.content, token.id);
        return Err(Error::format("tokenizer.json: added_tokens", message));
    }
    let mut settings = TokenizerSettings {
        added_tokens: added,
        clean_up_tokenization_spaces: tokenizer_config
            .get("clean_up_tokenization_spaces")
            .and_then(Json::as_bool)
            .unwrap_or(false),
        split_special_tokens: tokenizer_config
            .get("split_special_tokens")
            .and_then(Json::as_bool)
            .unwrap_or(false),
        ..TokenizerSettings::default()
    };
    let processor = tokenizer.get("post_processor").unwrap_or(&Json::Null);
    read_post_processor(processor, &mut settings)?;
    let mut definition = Definition {
        tokens,
        tokens_place: "tokenizer.json: model.vocab",
        merges: Vec::new(),
        merges_place: "tokenizer.json: model.merges".to_owned(),
        settings,
    };
    let mut table = Table::new(config.vocabulary_size);
    table.fill(&mut definition, &mut warnings)?;
    check_around(&definition.settings, &table)?;
    let roles = Roles::choose(&special.roles, config, &table, &mut warnings);
    let settings = serde_json::to_string(&definition.settings)
        .map_err(|error| Error::format(SETTINGS_KEY, error.to_string()))?;
    let (tokens, types) = table.finish();
    let mut entries: Vec<(String, Value)> = vec![
        ("tokenizer.ggml.model".to_owned(), NO_TOKENIZER.into()),
        ("tokenizer.ggml.tokens".to_owned(), tokens.into()),
        ("tokenizer.ggml.token_type".to_owned(), types.into()),
    ];
    entries.extend(roles.entries());
    entries.push((SETTINGS_KEY.to_owned(), settings.into()));
    if let Some(template) = files.template(&tokenizer_config)? {
        entries.push(("tokenizer.chat_template".to_owned(), template.into()));
    }
    entries.push((JSON_KEY.to_owned(), text.into()));
    Ok(GgufTokenizer { entries, warnings })
}

/// The tokenizer.json of a folder with its settings applied, and the tokens of its model. `config`
/// gets the roles that another kind of file has.
fn definition(
    files: &TokenizerFiles,
    config: &mut Map<String, Json>,
    class: Option<&str>,
    reason: &str,
) -> Result<(Json, Vec<(String, TokenId)>)> {
    let has_pair = files.vocabulary.is_some() || files.merges.is_some();
    let mut tokenizer: Json = if let Some(bytes) = &files.tokenizer {
        json::parse(PLACE, bytes)?
    } else if let Some(words) = files.word_list.as_ref().filter(|_| !has_pair) {
        word_list::to_tokenizer_json(words, config)?
    } else if let Some(file) = files.sentence_pieces.as_ref().filter(|_| !has_pair) {
        let (tokenizer, completed) = sentence_pieces::to_tokenizer_json(file, config, class)?;
        *config = completed;
        tokenizer
    } else {
        return Err(Error::Unsupported(reason.to_owned()));
    };
    apply_settings(&mut tokenizer, config);
    let tokens = whole::model_vocabulary(PLACE, tokenizer.to_string().as_bytes())?;
    Ok((tokenizer, tokens))
}

/// Takes out what is for training and for batches, and enters BERT's flags where its class reads
/// them.
fn apply_settings(tokenizer: &mut Json, config: &Map<String, Json>) {
    let Some(object) = tokenizer.as_object_mut() else {
        return;
    };
    for name in ["truncation", "padding"] {
        object.insert(name.to_owned(), Json::Null);
    }
    if let Some(dropout) = object
        .get_mut("model")
        .and_then(|model| model.get_mut("dropout"))
    {
        *dropout = Json::Null;
    }
    let class = config.get("tokenizer_class").and_then(Json::as_str);
    if let Some(normalizer) = object.get_mut("normalizer")
        && json::type_of(normalizer) == "BertNormalizer"
        && class.is_some_and(|class| class.starts_with("BertTokenizer"))
    {
        let clean = json::flag(normalizer, "clean_text");
        *normalizer = word_list::normalizer(config);
        if let (Some(clean), Some(fields)) = (clean, normalizer.as_object_mut()) {
            fields.insert("clean_text".to_owned(), clean.into());
        }
    }
}

/// Refuses tokens around a text that the model does not have.
fn check_around(settings: &TokenizerSettings, table: &Table) -> Result<()> {
    let around = settings.tokens_before.iter().chain(&settings.tokens_after);
    let pair = settings.pair.iter().filter_map(|part| match part {
        PairPart::Token { id, .. } => Some(id),
        PairPart::First { .. } | PairPart::Second { .. } => None,
    });
    match around.chain(pair).find(|&&id| !table.has(id)) {
        None => Ok(()),
        Some(id) => Err(Error::format(
            "tokenizer.json: post_processor",
            format!("puts the token {id} around a text, which the model does not have"),
        )),
    }
}
