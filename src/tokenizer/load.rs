//! Reads a tokenizer out of GGUF metadata.

use super::added_tokens::AddedTokens;
use super::bpe::Merges;
use super::model::ByteLevelBpe;
use super::parts::{JSON_KEY, Model, Parts, SpecialTokens};
use super::settings::{AddedToken, PairPart, SETTINGS_KEY, TokenizerSettings};
use super::vocabulary::{TokenType, Vocabulary};
use super::whole::Whole;
use crate::gguf::Metadata;
use crate::{Error, Result, TokenId};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TOKEN_TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";

/// Names of GPT-2's pattern. Files from before llama.cpp wrote the key have none, and a GPT-2 whose
/// vocabulary its converter did not recognize says `default`.
const PATTERN_NAMES: [&str; 3] = ["gpt-2", "gpt2", "default"];

pub(super) fn from_metadata(metadata: &Metadata) -> Result<Parts> {
    let whole = whole_json(metadata)?;
    let types = token_types(metadata)?;
    let tokens = metadata.required_strings(TOKENS)?;
    let count = tokens.len();
    if let Some(types) = &types
        && types.len() != count
    {
        return Err(Error::format(
            TOKEN_TYPES,
            format!(
                "expected {count} types, one for each token, found {}",
                types.len()
            ),
        ));
    }
    let type_of = |id: usize| {
        let number = types.as_ref().and_then(|types| types.get(id));
        number.map_or(TokenType::Normal, |&number| TokenType::from_number(number))
    };
    let tokens = tokens
        .enumerate()
        .map(|(id, text)| text.map(|text| (text, type_of(id))));
    let vocabulary = match whole {
        Some(_) => Vocabulary::build_verbatim(tokens, count)?,
        None => Vocabulary::build(tokens, count)?,
    };
    let special = special_tokens(metadata, count)?;
    let settings = match metadata.str(SETTINGS_KEY)? {
        Some(json) => parse_settings(json, count)?,
        None => settings_of_llama_cpp(metadata, &vocabulary, &special)?,
    };
    let added = AddedTokens::new(&settings.added_tokens)?;
    let model = if let Some(json) = whole {
        Model::Whole(Box::new(Whole::new(JSON_KEY, json, vocabulary)?))
    } else {
        let merges = metadata.required_strings(MERGES)?;
        let merges = Merges::build(merges, &vocabulary, MERGES)?;
        Model::ByteLevelBpe(Box::new(ByteLevelBpe::new(vocabulary, merges, &settings)?))
    };
    Ok(Parts {
        model,
        added,
        special,
        settings,
    })
}

/// The tokenizer.json of a file whose tokenizer is not byte-level BPE; other kinds without one are
/// refused.
fn whole_json(metadata: &Metadata) -> Result<Option<&str>> {
    let model = metadata.required_str(MODEL)?;
    if model != "gpt2" {
        if let Some(json) = metadata.str(JSON_KEY)? {
            return Ok(Some(json));
        }
        return Err(Error::Unsupported(format!(
            "{MODEL} = {model:?} without {JSON_KEY}: only \"gpt2\" (byte-level BPE) is known \
             without it; convert the model again from its checkpoint"
        )));
    }
    match metadata.str(PRE)? {
        Some(name) if !PATTERN_NAMES.contains(&name) => Err(Error::Unsupported(format!(
            "{PRE} = {name:?}: text would be cut differently than the model learned; \
             only \"gpt-2\" is known"
        ))),
        _ => Ok(None),
    }
}

fn token_types(metadata: &Metadata) -> Result<Option<Vec<u32>>> {
    metadata.u32s(TOKEN_TYPES)
}

fn special_tokens(metadata: &Metadata, count: usize) -> Result<SpecialTokens> {
    let id = |name: &str| -> Result<Option<TokenId>> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let Some(id) = metadata.u32(&key)? else {
            return Ok(None);
        };
        // llama.cpp writes -1 for "none".
        if id == TokenId::MAX {
            return Ok(None);
        }
        check_id(&key, id, count).map(Some)
    };
    Ok(SpecialTokens {
        bos: id("bos")?,
        eos: id("eos")?,
        unknown: id("unknown")?,
        padding: id("padding")?,
    })
}

fn check_id(place: &str, id: TokenId, count: usize) -> Result<TokenId> {
    if (id as usize) < count {
        return Ok(id);
    }
    let message = format!("expected the id of one of {count} tokens, found {id}");
    Err(Error::format(place, message))
}

fn parse_settings(json: &str, count: usize) -> Result<TokenizerSettings> {
    let settings: TokenizerSettings = serde_json::from_str(json)
        .map_err(|error| Error::format(SETTINGS_KEY, error.to_string()))?;
    let added = settings.added_tokens.iter().map(|token| token.id);
    let around = settings.tokens_before.iter().chain(&settings.tokens_after);
    let pair = settings.pair.iter().filter_map(|part| match part {
        PairPart::Token { id, .. } => Some(*id),
        PairPart::First { .. } | PairPart::Second { .. } => None,
    });
    for id in added.chain(around.copied()).chain(pair) {
        check_id(SETTINGS_KEY, id, count)?;
    }
    Ok(settings)
}

/// llama.cpp's files tell added tokens by their type only.
fn settings_of_llama_cpp(
    metadata: &Metadata,
    vocabulary: &Vocabulary,
    special: &SpecialTokens,
) -> Result<TokenizerSettings> {
    let mut added_tokens = Vec::new();
    for id in (0..).take(vocabulary.len()) {
        let special = match vocabulary.token_type(id) {
            Some(TokenType::Control) => true,
            Some(TokenType::UserDefined) => false,
            _ => continue,
        };
        added_tokens.push(AddedToken {
            id,
            content: vocabulary.text(id).unwrap_or_default(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: !special,
            special,
        });
    }
    let around = |key: &str, id: Option<TokenId>| -> Result<Vec<TokenId>> {
        let wanted = metadata.bool(key)?.unwrap_or(false);
        Ok(id.filter(|_| wanted).into_iter().collect())
    };
    Ok(TokenizerSettings {
        added_tokens,
        add_prefix_space: metadata
            .bool("tokenizer.ggml.add_space_prefix")?
            .unwrap_or(false),
        tokens_before: around("tokenizer.ggml.add_bos_token", special.bos)?,
        tokens_after: around("tokenizer.ggml.add_eos_token", special.eos)?,
        ..TokenizerSettings::default()
    })
}
