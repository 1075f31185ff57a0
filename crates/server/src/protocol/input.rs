//! What a request gives the model to read: texts, or tokens.

use gpt2::tokenizer::EncodeOptions;
use gpt2::{Model, TokenId};
use serde_json::Value as Json;

use super::refusal;
use super::served::Served;
use crate::error::ApiError;

/// Bytes that a token may stand for, if the vocabulary has no longer ones: a text too long for the
/// context is refused before it is cut into tokens.
const TOKEN_BYTES: usize = 128;

/// Texts or tokens, as OpenAI's `prompt` and `input` have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    Text(String),
    Texts(Vec<String>),
    Ids(Vec<TokenId>),
    IdLists(Vec<Vec<TokenId>>),
}

/// A text with its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prompt {
    /// The text, unless tokens were given.
    pub(crate) text: Option<String>,
    pub(crate) ids: Vec<TokenId>,
}

impl Input {
    /// What `json` is; an empty list is none.
    pub(crate) fn of(json: &Json) -> Option<Self> {
        let text = |json: &Json| json.as_str().map(str::to_owned);
        match json {
            Json::String(text) => Some(Self::Text(text.clone())),
            Json::Array(items) => match items.first()? {
                Json::String(_) => items
                    .iter()
                    .map(text)
                    .collect::<Option<_>>()
                    .map(Self::Texts),
                Json::Number(_) => ids(json).map(Self::Ids),
                Json::Array(_) => {
                    let lists = items.iter().map(ids).collect::<Option<_>>();
                    lists.map(Self::IdLists)
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// How many texts it is.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Text(_) | Self::Ids(_) => 1,
            Self::Texts(texts) => texts.len(),
            Self::IdLists(lists) => lists.len(),
        }
    }

    /// The tokens of each text, of which there may be none; `field` is what it is called.
    ///
    /// # Errors
    /// [`ApiError`] (400) for a text that does not fit the context, and for ids outside the
    /// vocabulary.
    pub(crate) fn prompts(self, field: &str, served: &Served) -> Result<Vec<Prompt>, ApiError> {
        let of_text = |text: String| Prompt::of_text(field, served, text);
        let of_ids = |ids: Vec<TokenId>| {
            check_ids(field, &served.model, &ids)?;
            check_fits(field, ids.len(), served.context)?;
            Ok(Prompt { text: None, ids })
        };
        match self {
            Self::Text(text) => Ok(vec![of_text(text)?]),
            Self::Texts(texts) => texts.into_iter().map(of_text).collect(),
            Self::Ids(ids) => Ok(vec![of_ids(ids)?]),
            Self::IdLists(lists) => lists.into_iter().map(of_ids).collect(),
        }
    }
}

impl Prompt {
    /// A text with its tokens; special tokens that stand in it are those tokens.
    pub(crate) fn of_text(field: &str, served: &Served, text: String) -> Result<Self, ApiError> {
        check_bytes(field, served, &text)?;
        let ids = tokens(field, &served.model, &text, EncodeOptions::default())?;
        check_fits(field, ids.len(), served.context)?;
        let text = Some(text);
        Ok(Self { text, ids })
    }

    /// Refuses a prompt without tokens.
    pub(crate) fn check_not_empty(&self, field: &str) -> Result<(), ApiError> {
        if self.ids.is_empty() {
            let message = format!("{field}: expected at least one token, found none");
            return Err(refusal::field(field, message));
        }
        Ok(())
    }
}

/// Tokens of the longest of `prompts`.
pub(crate) fn longest(prompts: &[Prompt]) -> usize {
    let lengths = prompts.iter().map(|prompt| prompt.ids.len());
    lengths.max().unwrap_or_default()
}

/// Refuses a text that cannot fit the context, before it is cut into tokens.
pub(crate) fn check_bytes(field: &str, served: &Served, text: &str) -> Result<(), ApiError> {
    let longest = served.context;
    if text.len() <= longest.saturating_mul(TOKEN_BYTES.max(served.token_bytes)) {
        return Ok(());
    }
    let message = format!(
        "{field}: expected at most {longest} tokens, the model's context, found a text of {} bytes",
        text.len()
    );
    Err(refusal::context_length(field, message))
}

/// The tokens of a text of any length.
pub(crate) fn tokens(
    field: &str,
    model: &Model,
    text: &str,
    options: EncodeOptions,
) -> Result<Vec<TokenId>, ApiError> {
    if !model.has_tokenizer() {
        return Err(refusal::field(
            field,
            format!("{field}: expected token ids, found a text, and the model has no tokenizer"),
        ));
    }
    let tokenizer = model.tokenizer()?;
    // A text that the tokenizer has no tokens for is the request's.
    let tokens = tokenizer.encode_with(text, options);
    tokens.map_err(|error| refusal::field(field, format!("{field}: {error}")))
}

/// Refuses a text that is longer than the context.
pub(crate) fn check_fits(field: &str, found: usize, longest: usize) -> Result<(), ApiError> {
    if found <= longest {
        return Ok(());
    }
    let message =
        format!("{field}: expected at most {longest} tokens, the model's context, found {found}");
    Err(refusal::context_length(field, message))
}

/// Refuses ids outside the vocabulary.
pub(crate) fn check_ids(field: &str, model: &Model, ids: &[TokenId]) -> Result<(), ApiError> {
    let size = model.hyperparameters().vocab_size;
    match ids.iter().find(|id| **id as usize >= size) {
        Some(id) => Err(refusal::field(
            field,
            format!(
                "{field}: expected token ids below {size}, the size of the vocabulary, found {id}; \
                 clients that cut texts with another model's tokenizer (tiktoken) must send texts: \
                 with LangChain, check_embedding_ctx_length=False"
            ),
        )),
        None => Ok(()),
    }
}

/// A token id.
fn id(json: &Json) -> Option<TokenId> {
    TokenId::try_from(json.as_u64()?).ok()
}

/// A list of token ids.
pub(super) fn ids(json: &Json) -> Option<Vec<TokenId>> {
    json.as_array()?.iter().map(id).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_input_is_texts_or_tokens_and_not_both() {
        let count = |json: Json| Input::of(&json).map(|input| input.count());
        assert_eq!(count(json!("a")), Some(1));
        assert_eq!(count(json!(["a", "b"])), Some(2));
        assert_eq!(count(json!([1, 2, 3])), Some(1));
        assert_eq!(count(json!([[1], [2, 3]])), Some(2));
        for wrong in [
            json!([]),
            json!(1),
            json!({}),
            json!([1, "a"]),
            json!(["a", 1]),
            json!([[1], "a"]),
            json!([1.5]),
            json!([-1]),
            json!([4_294_967_296u64]),
            json!([[["a"]]]),
            json!([null]),
            json!([true]),
            json!([["a"]]),
        ] {
            assert_eq!(count(wrong.clone()), None, "{wrong}");
        }
    }
}
