//! BERT's `vocab.txt`, a token a line, as the tokenizer.json that transformers would make of it.

use serde_json::{Map, Value as Json, json};

use super::json;
use crate::{Error, Result};

/// The tokens that BERT's tokenizer knows by role, with the texts they have where nothing else is
/// said.
const ROLES: [(&str, &str); 5] = [
    ("pad_token", "[PAD]"),
    ("unk_token", "[UNK]"),
    ("cls_token", "[CLS]"),
    ("sep_token", "[SEP]"),
    ("mask_token", "[MASK]"),
];

/// A word of more characters than this is unknown as a whole.
const MOST_CHARACTERS: u32 = 100;

/// The tokenizer.json of the words, by the settings of `tokenizer_config.json`.
///
/// # Errors
/// [`Error::Format`] for what is not UTF-8, and for a list without the tokens that stand around a
/// text or for the unknown.
pub(super) fn to_tokenizer_json(words: &[u8], config: &Map<String, Json>) -> Result<Json> {
    let text = json::text("vocab.txt", words)?.replace("\r\n", "\n");
    // Of a word that stands twice the last line counts, as in a dictionary.
    let vocabulary: Map<String, Json> = text
        .strip_suffix('\n')
        .unwrap_or(&text)
        .split('\n')
        .enumerate()
        .map(|(id, word)| (word.to_owned(), id.into()))
        .collect();
    let role = |name: &str| -> Result<(String, Json)> {
        let default = ROLES.iter().find(|(role, _)| *role == name);
        let given = config.get(name).and_then(text_of);
        let token = given.or(default.map(|(_, text)| *text)).unwrap_or_default();
        let id = vocabulary.get(token).cloned().ok_or_else(|| {
            Error::format("vocab.txt", format!("expected the {name} {token:?} in it"))
        })?;
        Ok((token.to_owned(), id))
    };
    let (unknown, _) = role("unk_token")?;
    let (classifier, classifier_id) = role("cls_token")?;
    let (separator, separator_id) = role("sep_token")?;
    let added: Vec<Json> = ROLES
        .iter()
        .filter_map(|(name, _)| role(name).ok())
        .map(|(content, id)| {
            json!({
                "id": id, "content": content, "special": true, "normalized": false,
                "single_word": false, "lstrip": false, "rstrip": false,
            })
        })
        .collect();
    let special =
        |token: &str, type_id: u32| json!({"SpecialToken": {"id": token, "type_id": type_id}});
    let sequence = |text: &str, type_id: u32| json!({"Sequence": {"id": text, "type_id": type_id}});
    let defined = |token: &str, id: &Json| json!({"id": token, "ids": [id], "tokens": [token]});
    let mut tokens = Map::new();
    tokens.insert(classifier.clone(), defined(&classifier, &classifier_id));
    tokens.insert(separator.clone(), defined(&separator, &separator_id));
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": normalizer(config),
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [special(&classifier, 0), sequence("A", 0), special(&separator, 0)],
            "pair": [
                special(&classifier, 0), sequence("A", 0), special(&separator, 0),
                sequence("B", 1), special(&separator, 1),
            ],
            "special_tokens": tokens,
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece",
            "unk_token": unknown,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": MOST_CHARACTERS,
            "vocab": vocabulary,
        },
    }))
}

/// What BERT does to a text before it cuts it.
pub(super) fn normalizer(config: &Map<String, Json>) -> Json {
    let flag = |name: &str| config.get(name).and_then(Json::as_bool);
    json!({
        "type": "BertNormalizer",
        "clean_text": true,
        "handle_chinese_chars": flag("tokenize_chinese_chars").unwrap_or(true),
        "strip_accents": flag("strip_accents"),
        "lowercase": flag("do_lower_case").unwrap_or(true),
    })
}

/// A token given as a text, or described.
fn text_of(token: &Json) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}
