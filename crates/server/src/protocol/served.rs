//! What the protocols know of the model at work.

use std::sync::Arc;

use gpt2::chat::ChatFormat;
use gpt2::{Model, TokenId, Tokenizer};
use serde_json::{Value as Json, json};

use super::refusal;
use crate::error::ApiError;

/// A model and the names and limits under which it is served.
#[derive(Debug, Clone)]
pub struct Served {
    /// The model.
    pub model: Arc<Model>,
    /// Names that requests may call it by; the first is shown.
    pub names: Vec<String>,
    /// When the server was started, in seconds since 1970.
    pub created: u64,
    /// Most positions of a text.
    pub context: usize,
    /// Most tokens of a continuation, whatever is asked for.
    pub max_tokens: Option<usize>,
    /// Texts at work at a time.
    pub at_work: usize,
    /// Most levels of lists and objects in a body.
    pub json_depth: usize,
    /// The form of its conversations, or why it has none.
    pub chat: Result<ChatFormat, String>,
    fingerprint: String,
    /// Bytes of the longest token.
    pub(crate) token_bytes: usize,
}

impl Served {
    /// A model under a name, with no other limit than its context's.
    pub fn new(model: &Arc<Model>, name: impl Into<String>, context: usize) -> Self {
        let chat = model.tokenizer().and_then(|tokenizer| {
            let metadata = model.gguf().metadata();
            ChatFormat::of_model(metadata, tokenizer)
        });
        Self {
            model: Arc::clone(model),
            names: vec![name.into()],
            created: 0,
            context,
            max_tokens: None,
            at_work: 1,
            json_depth: 64,
            chat: chat.map_err(|error| error.to_string()),
            fingerprint: format!("fp_{:016x}", model.fingerprint()),
            token_bytes: model.tokenizer().map_or(0, longest_token),
        }
    }

    /// The name that responses show.
    pub fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// What changes whenever the weights do.
    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Most tokens of the continuations of prompts, of which the longest has `prompt` tokens: what
    /// is asked for, unless the server allows fewer.
    ///
    /// # Errors
    /// [`ApiError`] (400) when that prompt and its continuation do not fit the context.
    pub(crate) fn new_tokens(
        &self,
        field: &str,
        prompt: usize,
        asked: usize,
    ) -> Result<usize, ApiError> {
        let new = asked.min(self.max_tokens.unwrap_or(usize::MAX));
        if prompt.saturating_add(new) <= self.context {
            return Ok(new);
        }
        let context = self.context;
        let message = format!(
            "{field}: expected at most {context} tokens, the model's context, found {prompt} and \
             {new} to generate; shorten the prompt or ask for fewer"
        );
        Err(refusal::context_length(field, message))
    }

    /// Refuses a model that is not the one served; a request need not name one.
    pub(crate) fn check_model(&self, asked: Option<&str>) -> Result<(), ApiError> {
        asked.map_or(Ok(()), |name| self.check_name(name))
    }

    /// Refuses a name that is not the served model's.
    pub(crate) fn check_name(&self, name: &str) -> Result<(), ApiError> {
        if self.names.iter().any(|known| known == name) {
            return Ok(());
        }
        Err(refusal::model_not_found(name, self.name()))
    }

    /// Refuses to continue texts with a model that has no language-model head.
    pub(crate) fn check_generates(&self) -> Result<(), ApiError> {
        let hyperparameters = self.model.hyperparameters();
        if hyperparameters.predicts_tokens() {
            return Ok(());
        }
        let class = hyperparameters.class.name();
        Err(ApiError::invalid(format!(
            "expected a model that continues texts, found a {class}: use the endpoint of its head"
        ))
        .code("unsupported_model"))
    }

    /// The model as `/v1/models` lists it.
    pub fn description(&self) -> Json {
        json!({
            "id": self.name(), "object": "model", "created": self.created,
            "owned_by": "gpt2-edge", "max_model_len": self.context,
            "class": self.model.hyperparameters().class.name(),
            "chat_format": self.chat.as_ref().map(ChatFormat::name).ok(),
        })
    }

    /// The response of `/v1/models`.
    pub fn list(&self) -> Json {
        json!({ "object": "list", "data": [self.description()] })
    }
}

fn longest_token(tokenizer: &Tokenizer) -> usize {
    let ids = 0..tokenizer.vocabulary_size() as TokenId;
    let bytes = ids.map(|id| tokenizer.token_bytes(id, false).len());
    bytes.max().unwrap_or_default()
}
