//! `POST /v1/chat/completions`: OpenAI's conversations, by the form that the model was made for.

use std::sync::LazyLock;

use gpt2::Model;
use gpt2::chat::{ChatFormat, Message, Role};
use gpt2::sampling::TokenScore;
use serde_json::{Value as Json, json};

use super::choice_fields::fields as shared;
use super::choices::{ALTERNATIVES, Choices, Form, HasChoices, check_scores};
use super::fields::{Field, Kind, read};
use super::generation::Generation;
use super::input::{Prompt, check_bytes, check_fits, longest};
use super::refusal;
use super::response::Choice;
use super::served::Served;
use super::text::{TextToken, described, finish_name};
use crate::error::ApiError;

/// Tokens that a request may ask for; the context bounds them further.
const MOST: u64 = 1 << 20;
/// Turns of a conversation: each has a token at least.
const MESSAGES: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Request {
    choices: Choices,
    messages: Vec<Message>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    logprobs: bool,
    top_logprobs: Option<u64>,
}

impl HasChoices for Request {
    fn choices(&mut self) -> &mut Choices {
        &mut self.choices
    }
}

pub(super) static FIELDS: LazyLock<Vec<Field<Request>>> = LazyLock::new(|| {
    use Kind::{Count, Other, Refused, Switch};
    let no_tools = "GPT-2 models were not trained to call functions";
    let text_alone = "this server answers with text alone";
    let mut fields = vec![
        Field::new(
            "messages",
            Other("a list of messages", |r: &mut Request, json| {
                r.messages = messages(json)?;
                Ok(())
            }),
            "the conversation: `role` (system, developer, user, assistant) and `content` (a text \
             or parts of the type text)",
        ),
        Field::new(
            "max_completion_tokens",
            Count(|r| &mut r.max_completion_tokens, 1..=MOST),
            "most tokens of a reply [what the context has room for]",
        ),
        Field::new(
            "max_tokens",
            Count(|r| &mut r.max_tokens, 1..=MOST),
            "the older name of `max_completion_tokens`",
        ),
        Field::new(
            "logprobs",
            Switch(|r| &mut r.logprobs),
            "the log-probability of each token [false]",
        ),
        Field::new(
            "top_logprobs",
            Count(|r| &mut r.top_logprobs, 0..=ALTERNATIVES),
            "and of the n likeliest; needs `logprobs` [0]",
        ),
        Field::new("tools", Refused(no_tools), ""),
        Field::new("functions", Refused(no_tools), ""),
        Field::new("audio", Refused(text_alone), ""),
        Field::new(
            "modalities",
            Other("[\"text\"]", |_, json| {
                if *json == json!(["text"]) {
                    return Ok(());
                }
                Err(refusal::unsupported("modalities", text_alone_advice()))
            }),
            "only `[\"text\"]`",
        ),
    ];
    let ignored = [
        "parallel_tool_calls",
        "tool_choice",
        "function_call",
        "reasoning_effort",
        "verbosity",
        "prediction",
        "web_search_options",
    ];
    fields.extend(ignored.map(|name| Field::new(name, Kind::Ignored, "")));
    fields.extend(shared());
    fields
});

fn text_alone_advice() -> &'static str {
    "this server answers with text alone: expected [\"text\"]"
}

/// A request for replies, checked, with the tokens of the conversation.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) generation: Generation,
    pub(crate) form: Form,
    /// Whether replies are set apart by white space, which is no part of them.
    pub(crate) trims: bool,
}

impl Plan {
    /// What `body` asks for.
    ///
    /// # Errors
    /// [`ApiError`] (400) for a field that is wrong, 404 for another model.
    pub(crate) fn of(body: &[u8], served: &Served) -> Result<Self, ApiError> {
        let request = read(&FIELDS, body, served.json_depth)?;
        served.check_model(request.choices.model.as_deref())?;
        served.check_generates()?;
        if request.messages.is_empty() {
            let message = "messages: expected at least one message, found none";
            return Err(refusal::field("messages", message));
        }
        let logprobs = request.alternatives()?;
        let format = served.chat.as_ref().map_err(|reason| {
            ApiError::invalid(format!("the model has no form of conversations: {reason}"))
        })?;
        let prompt = render(format, served, &request.messages)?;
        let prompts = [prompt];
        // What is left, unless the request says.
        let left = served.context.saturating_sub(prompts[0].ids.len()).max(1);
        let asked = request.max_completion_tokens.or(request.max_tokens);
        let asked = asked.map_or(left, |asked| asked as usize);
        let new_tokens = served.new_tokens("messages", longest(&prompts), asked)?;
        let mut choices = request.choices;
        let tokenizer = served.model.tokenizer()?;
        choices.stop.extend(format.stop_strings());
        let own = &served.model.hyperparameters().eos;
        let mut ends = format.end_tokens(tokenizer);
        ends.extend(
            own.iter()
                .filter(|id| !ends.contains(id))
                .copied()
                .collect::<Vec<_>>(),
        );
        choices.options.eos = Some(ends);
        let counts = choices.complete(served, 1, None, new_tokens, logprobs)?;
        if let Some(alternatives) = logprobs {
            check_scores(new_tokens.saturating_mul(counts.returned), alternatives)?;
        }
        let form = choices.form(logprobs);
        Ok(Self {
            generation: Generation {
                prompts: prompts.into(),
                options: choices.options,
                seed: choices.seed,
                counts,
                echo: false,
                prompt_scores: None,
            },
            form,
            trims: format.name() == ChatFormat::transcript().name(),
        })
    }
}

impl Request {
    /// How many alternatives of each token the response has, where it has log-probabilities.
    fn alternatives(&self) -> Result<Option<usize>, ApiError> {
        match (self.logprobs, self.top_logprobs) {
            (true, count) => Ok(Some(count.unwrap_or_default() as usize)),
            (false, None | Some(0)) => Ok(None),
            (false, Some(_)) => Err(refusal::field(
                "top_logprobs",
                "top_logprobs: expected logprobs true with it, found none",
            )),
        }
    }
}

/// The tokens of a conversation, as the template and its special tokens make them.
fn render(format: &ChatFormat, served: &Served, messages: &[Message]) -> Result<Prompt, ApiError> {
    const NAME: &str = "messages";
    let of_template = |error: gpt2::Error| refusal::field(NAME, format!("{NAME}: {error}"));
    let text = format.text(messages, true).map_err(of_template)?;
    check_bytes(NAME, served, &text)?;
    let tokenizer = served.model.tokenizer()?;
    let ids = format.encode(tokenizer, messages).map_err(of_template)?;
    check_fits(NAME, ids.len(), served.context)?;
    let prompt = Prompt {
        text: Some(text),
        ids,
    };
    prompt.check_not_empty(NAME)?;
    Ok(prompt)
}

fn messages(json: &Json) -> Result<Vec<Message>, ApiError> {
    const NAME: &str = "messages";
    let Some(items) = json.as_array() else {
        return Err(refusal::expected(NAME, "a list of messages", json));
    };
    if items.len() > MESSAGES {
        return Err(refusal::expected(
            NAME,
            format!("at most {MESSAGES} messages"),
            json,
        ));
    }
    let numbered = items.iter().enumerate();
    numbered
        .map(|(index, item)| message(&format!("{NAME}[{index}]"), item))
        .collect()
}

fn message(place: &str, json: &Json) -> Result<Message, ApiError> {
    let Some(map) = json.as_object() else {
        return Err(refusal::expected(place, "an object", json));
    };
    let role = map.get("role").unwrap_or(&Json::Null);
    let known = match role.as_str() {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        _ => {
            let place = format!("{place}.role");
            let roles = "system, developer, user or assistant";
            return Err(refusal::expected(&place, roles, role));
        }
    };
    for (name, value) in map {
        // Names of speakers have no place in the forms of GPT-2 models.
        let known = matches!(name.as_str(), "role" | "content" | "name" | "refusal");
        if !known && !value.is_null() {
            let name = format!("{place}.{}", refusal::shortened(name));
            return Err(refusal::unsupported(&name, "expected role and content"));
        }
    }
    let place = format!("{place}.content");
    let content = content(&place, map.get("content").unwrap_or(&Json::Null))?;
    Ok(Message::new(known, content))
}

/// A text, or the texts of parts one after the other.
fn content(place: &str, json: &Json) -> Result<String, ApiError> {
    let expected = "a text or a list of {\"type\": \"text\", \"text\": …}";
    let part = |json: &Json| {
        let kind = json.get("type").and_then(Json::as_str);
        let text = json.get("text").and_then(Json::as_str);
        kind.filter(|kind| *kind == "text")
            .and(text)
            .map(str::to_owned)
    };
    let text = match json {
        Json::String(text) => Some(text.clone()),
        Json::Array(parts) => parts.iter().map(part).collect(),
        _ => None,
    };
    text.ok_or_else(|| refusal::expected(place, expected, json))
}

/// Leaves out the white space around a reply, as it comes in pieces.
#[derive(Debug, Default)]
pub(crate) struct Trimmer {
    began: bool,
    held: String,
}

impl Trimmer {
    /// What of `text` is known to be part of the reply.
    pub(crate) fn push(&mut self, text: &str) -> String {
        let mut all = std::mem::take(&mut self.held);
        all.push_str(text);
        let all = if self.began { &all } else { all.trim_start() };
        let certain = all.trim_end().len();
        self.began |= certain > 0;
        if self.began {
            all[certain..].clone_into(&mut self.held);
        }
        all[..certain].to_owned()
    }
}

/// A choice of the response.
pub(crate) fn choice(model: &Model, choice: Choice<'_>) -> Json {
    let text = &choice.piece.text;
    let message = json!({ "role": "assistant", "content": text, "refusal": null });
    with_rest(model, choice, "message", message)
}

/// A choice of an event of a stream; an end without text is an empty delta.
pub(crate) fn delta(model: &Model, choice: Choice<'_>) -> Json {
    let piece = choice.piece;
    let delta = if piece.text.is_empty() && piece.finish.is_some() {
        json!({})
    } else {
        json!({ "content": piece.text })
    };
    with_rest(model, choice, "delta", delta)
}

/// The first event of a choice of a stream.
pub(crate) fn beginning(index: usize) -> Json {
    json!({
        "index": index, "delta": { "role": "assistant", "content": "" }, "logprobs": null,
        "finish_reason": null,
    })
}

fn with_rest(model: &Model, choice: Choice<'_>, name: &str, content: Json) -> Json {
    let piece = choice.piece;
    let mut json = json!({ "index": choice.index });
    json[name] = content;
    // The last event, which has no text, has none.
    let scores = choice
        .logprobs
        .filter(|_| name == "message" || !piece.tokens.is_empty());
    json["logprobs"] = scores.map_or(Json::Null, |top| {
        let tokens = piece.tokens.iter();
        let content: Vec<Json> = tokens
            .map(|token| log_probability(model, token, top))
            .collect();
        json!({ "content": content, "refusal": null })
    });
    json["finish_reason"] = piece.finish.map(finish_name).into();
    if let Some(prompt) = choice.prompt_ids {
        json["token_ids"] = piece.ids().into();
        json["prompt_token_ids"] = prompt.into();
    }
    json
}

fn log_probability(model: &Model, token: &TextToken, top: usize) -> Json {
    let score = token.score.as_ref();
    let mut entry = described(model, token.id, score.map(|score| score.log_probability));
    let others = score
        .iter()
        .flat_map(|score: &&TokenScore| score.top.iter().take(top));
    let others = others.map(|other| described(model, other.id, Some(other.log_probability)));
    entry["top_logprobs"] = others.collect();
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_around_a_reply_is_left_out() {
        let trimmed = |pieces: &[&str]| -> Vec<String> {
            let mut trimmer = Trimmer::default();
            pieces.iter().map(|piece| trimmer.push(piece)).collect()
        };
        assert_eq!(
            trimmed(&[" ", " Anne", " ", "\n", "Elliot. ", "\n"]),
            ["", "Anne", "", "", " \nElliot.", ""]
        );
        assert_eq!(trimmed(&["\n \n", ""]), ["", ""]);
    }

    #[test]
    fn messages_are_texts_of_known_roles() {
        let read = |json: Json| messages(&json).map_err(|error| error.message);
        let parts = json!([{ "role": "user", "content": [
            { "type": "text", "text": "a" }, { "type": "text", "text": "b" },
        ], "name": "x" }]);
        assert_eq!(read(parts).unwrap(), [Message::user("ab")]);
        let developer = json!([{ "role": "developer", "content": "c", "tool_calls": null }]);
        assert_eq!(read(developer).unwrap(), [Message::system("c")]);
        for (wrong, part) in [
            (json!({}), "messages: expected a list"),
            (json!([1]), "messages[0]: expected an object"),
            (
                json!([{ "role": "tool", "content": "" }]),
                "messages[0].role",
            ),
            (json!([{ "role": "user" }]), "messages[0].content"),
            (
                json!([{ "role": "user", "content": [{ "type": "image_url" }] }]),
                "content",
            ),
            (
                json!([{ "role": "assistant", "content": "", "tool_calls": [1] }]),
                "tool_calls",
            ),
        ] {
            let message = read(wrong).unwrap_err();
            assert!(message.contains(part), "{message}");
        }
    }
}
