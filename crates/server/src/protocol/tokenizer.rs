//! vLLM's endpoints of the tokenizer: `/tokenize`, `/detokenize`, `/tokenizer_info`.

use std::sync::LazyLock;

use gpt2::TokenId;
use gpt2::tokenizer::{CHAT_TEMPLATE_KEY, EncodeOptions};
use serde_json::{Value as Json, json};

use super::fields::{Field, Kind, read};
use super::input::{check_ids, tokens};
use super::refusal;
use super::served::Served;
use crate::error::ApiError;

#[derive(Debug, Default)]
pub(super) struct Text {
    model: Option<String>,
    prompt: Option<String>,
    add_special_tokens: Option<bool>,
    return_token_strs: bool,
}

pub(super) static TEXT: LazyLock<Vec<Field<Text>>> = LazyLock::new(|| {
    vec![
        Field::new(
            "model",
            Kind::Name(|r: &mut Text| &mut r.model),
            "the model's name; may be left out",
        ),
        Field::new("prompt", Kind::Text(|r| &mut r.prompt), "the text"),
        Field::new(
            "add_special_tokens",
            Kind::Choice(|r| &mut r.add_special_tokens),
            "put around the text what the tokenizer puts there [true]",
        ),
        Field::new(
            "return_token_strs",
            Kind::Switch(|r| &mut r.return_token_strs),
            "add the tokens as the vocabulary spells them [false]",
        ),
        Field::new("messages", Kind::Refused("expected prompt, a text"), ""),
    ]
});

/// What `/tokenize` responds.
///
/// # Errors
/// [`ApiError`] (400) for a field that is wrong.
pub(crate) fn tokenize(body: &[u8], served: &Served) -> Result<Json, ApiError> {
    let request = read(&TEXT, body, served.json_depth)?;
    served.check_model(request.model.as_deref())?;
    let Some(prompt) = request.prompt else {
        return Err(refusal::field(
            "prompt",
            "prompt: expected a text, found none",
        ));
    };
    let options = EncodeOptions {
        add_special_tokens: request.add_special_tokens.unwrap_or(true),
        ..EncodeOptions::default()
    };
    let ids = tokens("prompt", &served.model, &prompt, options)?;
    let mut response = json!({
        "count": ids.len(), "max_model_len": served.context, "tokens": ids, "token_strs": null,
    });
    if request.return_token_strs {
        let tokenizer = served.model.tokenizer()?;
        let texts = ids.iter().map(|&id| tokenizer.token_text(id));
        response["token_strs"] = texts.map(Json::from).collect();
    }
    Ok(response)
}

#[derive(Debug, Default)]
pub(super) struct Ids {
    model: Option<String>,
    tokens: Option<Vec<TokenId>>,
}

pub(super) static IDS: LazyLock<Vec<Field<Ids>>> = LazyLock::new(|| {
    vec![
        Field::new(
            "model",
            Kind::Name(|r: &mut Ids| &mut r.model),
            "the model's name; may be left out",
        ),
        Field::new("tokens", Kind::Ids(|r| &mut r.tokens), "the tokens' ids"),
    ]
});

/// What `/detokenize` responds.
///
/// # Errors
/// [`ApiError`] (400) for a field that is wrong.
pub(crate) fn detokenize(body: &[u8], served: &Served) -> Result<Json, ApiError> {
    let request = read(&IDS, body, served.json_depth)?;
    served.check_model(request.model.as_deref())?;
    let Some(ids) = request.tokens else {
        return Err(refusal::field(
            "tokens",
            "tokens: expected a list of token ids, found none",
        ));
    };
    check_ids("tokens", &served.model, &ids)?;
    if !served.model.has_tokenizer() {
        return Err(ApiError::invalid("the model has no tokenizer"));
    }
    Ok(json!({ "prompt": served.model.tokenizer()?.decode(&ids) }))
}

/// What `/tokenizer_info` responds: what lm-evaluation-harness needs to know of a tokenizer that it
/// does not have.
///
/// # Errors
/// [`ApiError`] (400) for a model without a tokenizer.
pub(crate) fn info(served: &Served) -> Result<Json, ApiError> {
    let model = &served.model;
    if !model.has_tokenizer() {
        return Err(ApiError::invalid("the model has no tokenizer"));
    }
    let tokenizer = model.tokenizer()?;
    let text = |id: Option<TokenId>| {
        let bytes = tokenizer.token_bytes(id?, false);
        std::str::from_utf8(bytes).ok().map(str::to_owned)
    };
    let template = model.gguf().metadata().str(CHAT_TEMPLATE_KEY)?;
    Ok(json!({
        "eos_token": text(tokenizer.eos()), "bos_token": text(tokenizer.bos()),
        "unk_token": text(tokenizer.unknown()), "pad_token": text(tokenizer.padding()),
        "chat_template": template, "vocab_size": tokenizer.vocabulary_size(),
        "model_max_length": served.context,
    }))
}
