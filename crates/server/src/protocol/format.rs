//! The form that a text must have: any, JSON, or a grammar's.

use gpt2::grammar::Grammar;
use serde_json::Value as Json;

use super::refusal;
use super::served::Served;
use crate::error::ApiError;

const RESPONSE_FORMAT: &str = "response_format";

/// What a text must keep to, and the field that said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TextFormat {
    field: &'static str,
    rules: Rules,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rules {
    /// Any JSON object.
    JsonObject,
    /// JSON that a schema allows.
    JsonSchema(String),
    /// A grammar in Lark's notation.
    Lark(String),
}

impl TextFormat {
    /// `OpenAI`'s `response_format`; none for plain text.
    ///
    /// # Errors
    /// [`ApiError`] (400) for another type, and for a schema that is missing.
    pub(crate) fn of_response_format(json: &Json) -> Result<Option<Self>, ApiError> {
        let kind = json.get("type").and_then(Json::as_str);
        let rules = match kind {
            Some("text") => return Ok(None),
            Some("json_object") => Rules::JsonObject,
            Some("json_schema") => {
                let schema = json.get("json_schema").and_then(|it| it.get("schema"));
                let Some(schema) = schema.filter(|schema| schema.is_object()) else {
                    let message = "response_format: expected json_schema.schema, an object, found \
                                   none";
                    return Err(refusal::field(RESPONSE_FORMAT, message));
                };
                Rules::JsonSchema(schema.to_string())
            }
            _ => {
                let expected = "an object with type text, json_object or json_schema";
                return Err(refusal::expected(RESPONSE_FORMAT, expected, json));
            }
        };
        Ok(Some(Self {
            field: RESPONSE_FORMAT,
            rules,
        }))
    }

    /// vLLM's `guided_json`: a schema, as an object or as its text.
    pub(crate) fn of_schema(field: &'static str, json: &Json) -> Option<Self> {
        let schema = match json {
            Json::Object(_) => json.to_string(),
            Json::String(text) => text.clone(),
            _ => return None,
        };
        let rules = Rules::JsonSchema(schema);
        Some(Self { field, rules })
    }

    /// A grammar's text.
    pub(crate) fn of_grammar(field: &'static str, json: &Json) -> Option<Self> {
        let rules = Rules::Lark(json.as_str()?.to_owned());
        Some(Self { field, rules })
    }

    /// The grammar, ready for texts. May take seconds.
    ///
    /// # Errors
    /// [`ApiError`] (400) says what is wrong with it, or which bound it exceeds.
    pub(crate) fn compile(&self, served: &Served) -> Result<Grammar, ApiError> {
        let compiled = served
            .model
            .token_trie()
            .and_then(|trie| match &self.rules {
                Rules::JsonObject => Grammar::json_object(trie),
                Rules::JsonSchema(schema) => Grammar::json_schema(trie, schema),
                Rules::Lark(text) => Grammar::lark(trie, text),
            });
        compiled.map_err(|error| refusal::of_library(error, self.field))
    }
}

/// Whether reading this request may compile a grammar.
pub(crate) fn may_compile(body: &[u8]) -> bool {
    let names: [&[u8]; 4] = [b"json_object", b"json_schema", b"grammar", b"guided_json"];
    let mut places = 0..body.len();
    places.any(|place| names.iter().any(|name| body[place..].starts_with(name)))
}

/// Puts the one form of a text, of which there may be none.
///
/// # Errors
/// [`ApiError`] (400) when there is another one.
pub(crate) fn put(
    place: &mut Option<TextFormat>,
    format: Option<TextFormat>,
) -> Result<(), ApiError> {
    match (&*place, format) {
        (_, None) => Ok(()),
        (None, found) => {
            *place = found;
            Ok(())
        }
        (Some(other), Some(found)) => Err(refusal::field(
            found.field,
            format!(
                "{}: expected none beside {}, found both",
                found.field, other.field
            ),
        )),
    }
}
