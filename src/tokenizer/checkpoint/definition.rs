//! The tokenizer as tokenizer.json, or vocab.json with merges.txt, define it.

use serde::Deserialize;
use serde_json::Value;

use super::json::{self, MergeText, VocabularyMap, flag, type_of};
use crate::tokenizer::settings::{AddedToken, PairPart, TokenizerSettings};
use crate::{Error, Result, TokenId};

/// What one of the two forms says, before the other files add to it.
#[derive(Debug)]
pub(super) struct Definition {
    /// Tokens with their ids.
    pub(super) tokens: Vec<(String, TokenId)>,
    /// Where they were found, for errors.
    pub(super) tokens_place: &'static str,
    /// Merges as `a b`, lowest rank first.
    pub(super) merges: Vec<String>,
    /// Where they were found, for errors.
    pub(super) merges_place: String,
    /// Added tokens and behaviour.
    pub(super) settings: TokenizerSettings,
}

#[derive(Debug, Deserialize)]
struct TokenizerJson {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    model: ModelJson,
}

#[derive(Debug, Deserialize)]
struct ModelJson {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    vocab: VocabularyMap,
    merges: Option<Vec<MergeText>>,
    dropout: Option<f32>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    fuse_unk: bool,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
}

/// The pattern that `ByteLevel` has built in, as tokenizers that spell it out write it.
const PATTERN: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

fn unsupported(what: impl AsRef<str>) -> Error {
    Error::Unsupported(format!("tokenizer.json: {}", what.as_ref()))
}

/// Reads tokenizer.json, and warns of what it says that has no effect here.
pub(super) fn from_tokenizer_json(bytes: &[u8], warnings: &mut Vec<String>) -> Result<Definition> {
    let file: TokenizerJson = json::parse("tokenizer.json", bytes)?;
    let model = file.model;
    // Old files leave the type out; of the models only BPE has merges.
    let kind = match (&model.kind, &model.merges) {
        (Some(kind), _) => kind.as_str(),
        (None, Some(_)) => "BPE",
        (None, None) => "unnamed",
    };
    let (VocabularyMap::Tokens(tokens), Some(merges), "BPE") = (model.vocab, model.merges, kind)
    else {
        return Err(unsupported(format!("model.type is {kind}")));
    };
    let affixes = [
        (
            "continuing_subword_prefix",
            &model.continuing_subword_prefix,
        ),
        ("end_of_word_suffix", &model.end_of_word_suffix),
    ];
    for (name, affix) in affixes {
        if let Some(affix) = affix.as_deref().filter(|affix| !affix.is_empty()) {
            return Err(unsupported(format!("model.{name} is {affix:?}")));
        }
    }
    if model.byte_fallback {
        return Err(unsupported("model.byte_fallback is true"));
    }
    if !file.normalizer.is_null() {
        return Err(unsupported(format!(
            "normalizer is {}",
            type_of(&file.normalizer)
        )));
    }
    if !file.decoder.is_null() && type_of(&file.decoder) != "ByteLevel" {
        return Err(unsupported(format!(
            "decoder is {}",
            type_of(&file.decoder)
        )));
    }
    if model.dropout.is_some_and(|dropout| dropout != 0.0) {
        warnings.push(
            "tokenizer.json: model.dropout, which makes tokens random, is for training and left out"
                .to_owned(),
        );
    }
    let mut settings = TokenizerSettings {
        added_tokens: file.added_tokens,
        ignore_merges: model.ignore_merges,
        unk_token: model.unk_token,
        fuse_unk: model.fuse_unk,
        ..TokenizerSettings::default()
    };
    read_pre_tokenizer(&file.pre_tokenizer, &mut settings)?;
    read_post_processor(&file.post_processor, &mut settings)?;
    Ok(Definition {
        tokens,
        tokens_place: "tokenizer.json: model.vocab",
        merges: merges.into_iter().map(|merge| merge.0).collect(),
        merges_place: "tokenizer.json: model.merges".to_owned(),
        settings,
    })
}

fn read_pre_tokenizer(part: &Value, settings: &mut TokenizerSettings) -> Result<()> {
    let parts = match part.get("pretokenizers").and_then(Value::as_array) {
        Some(parts) if type_of(part) == "Sequence" => parts.as_slice(),
        _ => std::slice::from_ref(part),
    };
    let (spelled_out, byte_level) = match parts {
        [byte_level] => (false, byte_level),
        [split, byte_level] if is_pattern(split) => (true, byte_level),
        _ => (false, part),
    };
    if byte_level.is_null() {
        return Err(unsupported("there is no pre_tokenizer"));
    }
    if type_of(byte_level) != "ByteLevel" {
        let names: Vec<&str> = parts.iter().map(type_of).collect();
        return Err(unsupported(format!(
            "pre_tokenizer is {}",
            names.join(", then ")
        )));
    }
    let by_pattern = flag(byte_level, "use_regex").unwrap_or(true);
    let prefix = flag(byte_level, "add_prefix_space").unwrap_or(true);
    if spelled_out && (by_pattern || prefix) {
        return Err(unsupported(
            "pre_tokenizer is Split, then a ByteLevel that splits or adds spaces again",
        ));
    }
    settings.use_regex = by_pattern || spelled_out;
    settings.add_prefix_space = prefix;
    Ok(())
}

fn is_pattern(split: &Value) -> bool {
    type_of(split) == "Split"
        && split.pointer("/pattern/Regex").and_then(Value::as_str) == Some(PATTERN)
        && split.get("behavior").and_then(Value::as_str) == Some("Isolated")
        && flag(split, "invert") != Some(true)
}

/// Enters what a `post_processor` puts around one text and around two.
pub(super) fn read_post_processor(part: &Value, settings: &mut TokenizerSettings) -> Result<()> {
    let parts = match part.get("processors").and_then(Value::as_array) {
        Some(parts) if type_of(part) == "Sequence" => parts.as_slice(),
        _ => std::slice::from_ref(part),
    };
    for part in parts.iter().filter(|part| !part.is_null()) {
        let around = match type_of(part) {
            // It trims offsets at most; the tokens stay.
            "ByteLevel" => continue,
            "TemplateProcessing" => template(part),
            "RobertaProcessing" | "BertProcessing" => classifier_and_separator(part),
            other => return Err(unsupported(format!("post_processor is {other}"))),
        }
        .ok_or_else(|| {
            let message = format!("a {} that names no ids for its tokens", type_of(part));
            Error::format("tokenizer.json: post_processor", message)
        })?;
        settings.tokens_before.splice(0..0, around.before);
        settings.tokens_after.extend(around.after);
        settings.pair = around.pair;
    }
    Ok(())
}

/// What stands around one text, and how two are put together.
struct Around {
    before: Vec<TokenId>,
    after: Vec<TokenId>,
    pair: Vec<PairPart>,
}

fn classifier_and_separator(part: &Value) -> Option<Around> {
    let id = |name: &str| part.get(name)?.get(1).and_then(id_of);
    let (classifier, separator) = (id("cls")?, id("sep")?);
    let token = |id, type_id| PairPart::Token { id, type_id };
    let (first, separated) = (PairPart::First { type_id: 0 }, token(separator, 0));
    // RoBERTa parts texts by two separators and knows one type only.
    let second = if type_of(part) == "RobertaProcessing" {
        [separated, PairPart::Second { type_id: 0 }, separated].to_vec()
    } else {
        [PairPart::Second { type_id: 1 }, token(separator, 1)].to_vec()
    };
    Some(Around {
        before: vec![classifier],
        after: vec![separator],
        pair: [vec![token(classifier, 0), first, separated], second].concat(),
    })
}

fn id_of(value: &Value) -> Option<TokenId> {
    value.as_u64().and_then(|id| TokenId::try_from(id).ok())
}

/// What a template says; `None` where it names tokens it does not define.
fn template(part: &Value) -> Option<Around> {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let mut text_seen = false;
    for piece in template_parts(part, "single")? {
        match piece {
            PairPart::Token { id, .. } if text_seen => after.push(id),
            PairPart::Token { id, .. } => before.push(id),
            PairPart::First { .. } | PairPart::Second { .. } => text_seen = true,
        }
    }
    let pair = match part.get("pair") {
        None | Some(Value::Null) => Vec::new(),
        Some(_) => template_parts(part, "pair")?,
    };
    text_seen.then_some(Around {
        before,
        after,
        pair,
    })
}

/// The parts of a template by its name in the file.
fn template_parts(part: &Value, name: &str) -> Option<Vec<PairPart>> {
    let mut parts = Vec::new();
    for piece in part.get(name)?.as_array()? {
        let type_of = |part: &Value| {
            let id = part.get("type_id").map_or(Some(0), Value::as_u64);
            id.and_then(|id| u32::try_from(id).ok())
        };
        if let Some(text) = piece.get("Sequence") {
            let type_id = type_of(text)?;
            parts.push(match text.get("id").and_then(Value::as_str) {
                Some("B") => PairPart::Second { type_id },
                _ => PairPart::First { type_id },
            });
            continue;
        }
        let token = piece.get("SpecialToken")?;
        let type_id = type_of(token)?;
        let known = part
            .get("special_tokens")?
            .get(token.get("id")?.as_str()?)?;
        for id in known.get("ids")?.as_array()? {
            let id = id_of(id)?;
            parts.push(PairPart::Token { id, type_id });
        }
    }
    Some(parts)
}

/// Reads vocab.json and merges.txt, which have these names.
pub(super) fn from_vocabulary_files(
    vocabulary: &[u8],
    merges: &[u8],
    [vocabulary_name, merges_name]: [&'static str; 2],
) -> Result<Definition> {
    let VocabularyMap::Tokens(tokens) = json::parse(vocabulary_name, vocabulary)? else {
        let message = "expected an object of tokens and their ids";
        return Err(Error::format(vocabulary_name, message));
    };
    let text = json::text(merges_name, merges)?;
    // Only the header is a comment: `# #` is a merge. Editors leave spaces and blank lines behind.
    let merges = text
        .lines()
        .filter(|line| !line.starts_with("#version"))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|merge| !merge.is_empty())
        .collect();
    Ok(Definition {
        tokens,
        tokens_place: vocabulary_name,
        merges,
        merges_place: format!("{merges_name}: merge "),
        settings: TokenizerSettings::default(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with_post_processor(part: &Value) -> Result<(Vec<TokenId>, Vec<TokenId>)> {
        let mut settings = TokenizerSettings::default();
        read_post_processor(part, &mut settings)?;
        Ok((settings.tokens_before, settings.tokens_after))
    }

    #[test]
    fn post_processors_say_what_is_put_around() -> Result<()> {
        let template = json!({
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "<s>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "</s>", "type_id": 0}},
            ],
            "special_tokens": {
                "<s>": {"id": "<s>", "ids": [7], "tokens": ["<s>"]},
                "</s>": {"id": "</s>", "ids": [8, 9], "tokens": ["<", "s>"]},
            },
        });
        let byte_level = json!({"type": "ByteLevel", "trim_offsets": false});
        let sequence = json!({"type": "Sequence", "processors": [byte_level, template]});
        let roberta = json!({"type": "RobertaProcessing", "cls": ["<s>", 1], "sep": ["</s>", 2]});
        assert_eq!(with_post_processor(&Value::Null)?, (vec![], vec![]));
        assert_eq!(with_post_processor(&byte_level)?, (vec![], vec![]));
        assert_eq!(with_post_processor(&template)?, (vec![7], vec![8, 9]));
        assert_eq!(with_post_processor(&sequence)?, (vec![7], vec![8, 9]));
        assert_eq!(with_post_processor(&roberta)?, (vec![1], vec![2]));
        for broken in [
            json!({"type": "TemplateProcessing", "single": []}),
            json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}]}),
            json!({"type": "RobertaProcessing"}),
            json!({"type": "Other"}),
        ] {
            assert!(with_post_processor(&broken).is_err(), "{broken}");
        }
        Ok(())
    }

    #[test]
    fn pre_tokenizers_that_mean_gpt2_are_known() -> Result<()> {
        let byte_level = |prefix: bool, regex: bool| -> Value {
            json!({"type": "ByteLevel", "add_prefix_space": prefix, "use_regex": regex})
        };
        let split = |pattern: &str| -> Value {
            json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"})
        };
        let sequence = |parts: Value| json!({"type": "Sequence", "pretokenizers": parts});
        let settings = |part: &Value| {
            let mut settings = TokenizerSettings::default();
            read_pre_tokenizer(part, &mut settings)?;
            Ok((settings.add_prefix_space, settings.use_regex))
        };
        for (part, expected) in [
            (byte_level(false, true), (false, true)),
            (byte_level(true, false), (true, false)),
            (json!({"type": "ByteLevel"}), (true, true)),
            (sequence(json!([byte_level(false, true)])), (false, true)),
            (
                sequence(json!([split(PATTERN), byte_level(false, false)])),
                (false, true),
            ),
        ] {
            assert_eq!(settings(&part)?, expected, "{part}");
        }
        for refused in [
            Value::Null,
            json!({"type": "Whitespace"}),
            sequence(json!([split("x"), byte_level(false, false)])),
            sequence(json!([split(PATTERN), byte_level(false, true)])),
            sequence(json!([{"type": "Digits"}, byte_level(false, true)])),
        ] {
            let found: Result<(bool, bool)> = settings(&refused);
            assert!(found.is_err(), "{refused}");
        }
        Ok(())
    }
}
