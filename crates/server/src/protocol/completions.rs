//! `POST /v1/completions`: OpenAI's legacy interface, which is that of models that continue texts.

use std::sync::LazyLock;

use gpt2::Model;
use gpt2::sampling::{ScoreDetails, TokenScore};
use serde_json::{Map, Value as Json, json};

use super::choice_fields::fields as shared;
use super::choices::{ALTERNATIVES, Choices, Form, HasChoices, check_scores};
use super::fields::{Field, Kind, read};
use super::generation::Generation;
use super::input::{Input, Prompt, longest};
use super::refusal;
use super::response::Choice;
use super::served::Served;
use super::text::{TextToken, finish_name, finite, token_name};
use crate::error::ApiError;

/// Tokens of a text where the request does not say.
const TOKENS: u64 = 16;
/// Tokens that a request may ask for; the context bounds them further.
const MOST: u64 = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct Request {
    choices: Choices,
    prompt: Option<Input>,
    max_tokens: Option<u64>,
    best_of: Option<u64>,
    logprobs: Option<u64>,
    echo: bool,
}

impl HasChoices for Request {
    fn choices(&mut self) -> &mut Choices {
        &mut self.choices
    }
}

pub(super) static FIELDS: LazyLock<Vec<Field<Request>>> = LazyLock::new(|| {
    use Kind::{Count, Refused, Switch};
    let mut fields = vec![
        Field::new(
            "prompt",
            Kind::Input(|r: &mut Request| &mut r.prompt),
            "what to continue [the end of text]",
        ),
        Field::new(
            "max_tokens",
            Count(|r| &mut r.max_tokens, 0..=MOST),
            "most tokens of a text [16]; 0 only with `echo`",
        ),
        Field::new(
            "best_of",
            Count(|r| &mut r.best_of, 1..=super::choices::CHOICES),
            "write this many texts and return the `n` of the best mean log-probability [n]",
        ),
        Field::new(
            "logprobs",
            Count(|r| &mut r.logprobs, 0..=ALTERNATIVES),
            "the log-probability of each token, and of the n likeliest",
        ),
        Field::new(
            "echo",
            Switch(|r| &mut r.echo),
            "begin each text with its prompt; its tokens get log-probabilities as well [false]",
        ),
        Field::new(
            "suffix",
            Refused("GPT-2 models were not trained to fill in the middle"),
            "",
        ),
    ];
    fields.extend(shared());
    fields
});

/// A request for completions, checked, with the tokens of its prompts.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) generation: Generation,
    pub(crate) form: Form,
}

impl Plan {
    /// What `body` asks for.
    ///
    /// # Errors
    /// [`ApiError`] (400) for a field that is wrong, 404 for another model.
    pub(crate) fn of(body: &[u8], served: &Served) -> Result<Self, ApiError> {
        let mut request: Request = read(&FIELDS, body, served.json_depth)?;
        served.check_model(request.choices.model.as_deref())?;
        served.check_generates()?;
        let (prompts, count) = request.prompts(served)?;
        let asked = request.max_tokens.unwrap_or(TOKENS);
        if asked == 0 && !request.echo {
            let message = "max_tokens: expected at least 1 without echo, found 0";
            return Err(refusal::field("max_tokens", message));
        }
        let new_tokens = served.new_tokens("prompt", longest(&prompts), asked as usize)?;
        let logprobs = request.logprobs.map(|count| count as usize);
        let mut choices = request.choices;
        let best_of = request.best_of;
        let counts = choices.complete(served, count, best_of, new_tokens, logprobs)?;
        if let Some(alternatives) = logprobs {
            let echoed = |prompt: &Prompt| if request.echo { prompt.ids.len() } else { 0 };
            let tokens: usize = prompts
                .iter()
                .map(|prompt| echoed(prompt) + new_tokens)
                .sum();
            check_scores(tokens.saturating_mul(counts.returned), alternatives)?;
        }
        let prompt_scores = logprobs.filter(|_| request.echo).map(|top| ScoreDetails {
            top,
            ..ScoreDetails::default()
        });
        let form = choices.form(logprobs);
        Ok(Self {
            generation: Generation {
                prompts,
                options: choices.options,
                seed: choices.seed,
                counts,
                echo: request.echo,
                prompt_scores,
            },
            form,
        })
    }
}

impl Request {
    /// The prompts: without one, or with an empty one, what begins a text.
    fn prompts(&mut self, served: &Served) -> Result<(Vec<Prompt>, usize), ApiError> {
        let beginning = |text: Option<String>| -> Result<Prompt, ApiError> {
            let hyperparameters = served.model.hyperparameters();
            let first = hyperparameters.eos.first().copied().or(hyperparameters.bos);
            let Some(first) = first else {
                let message = "prompt: expected at least one token, found none";
                return Err(refusal::field("prompt", message));
            };
            let ids = vec![first];
            Ok(Prompt { text, ids })
        };
        let Some(input) = self.prompt.take() else {
            return Ok((vec![beginning(Some(String::new()))?], 1));
        };
        let count = input.count();
        if count as u64 > super::choices::CHOICES {
            let most = super::choices::CHOICES;
            let message = format!("prompt: expected at most {most} prompts, found {count}");
            return Err(refusal::field("prompt", message));
        }
        let mut prompts = input.prompts("prompt", served)?;
        for prompt in &mut prompts {
            if prompt.text.as_deref() == Some("") && prompt.ids.is_empty() {
                *prompt = beginning(prompt.text.take())?;
            }
            prompt.check_not_empty("prompt")?;
        }
        Ok((prompts, count))
    }
}

/// A choice of the response, or of an event of a stream.
pub(crate) fn choice(model: &Model, choice: Choice<'_>) -> Json {
    let piece = choice.piece;
    let mut json = json!({
        "index": choice.index,
        "text": piece.text,
        "logprobs": choice.logprobs.map(|top| log_probabilities(model, &piece.tokens, top)),
        "finish_reason": piece.finish.map(finish_name),
    });
    if let Some(prompt) = choice.prompt_ids {
        json["token_ids"] = piece.ids().into();
        json["prompt_token_ids"] = prompt.into();
    }
    json
}

/// What lm-evaluation-harness and other readers of the legacy interface expect: the token itself is
/// always among its alternatives, with the identical number.
fn log_probabilities(model: &Model, tokens: &[TextToken], top: usize) -> Json {
    let names: Vec<String> = tokens
        .iter()
        .map(|token| token_name(model, token.id))
        .collect();
    let own = tokens.iter().map(|token| token.score.as_ref().map(number));
    let alternatives = tokens.iter().zip(&names).map(|(token, name)| {
        let score = token.score.as_ref()?;
        let mut map = Map::new();
        let others = score.top.iter().take(top);
        for other in others {
            keep_larger(
                &mut map,
                token_name(model, other.id),
                finite(other.log_probability),
            );
        }
        keep_larger(&mut map, name.clone(), number(score));
        Some(map)
    });
    json!({
        "tokens": names,
        "token_logprobs": own.collect::<Vec<_>>(),
        "top_logprobs": alternatives.collect::<Vec<_>>(),
        "text_offset": tokens.iter().map(|token| token.offset).collect::<Vec<_>>(),
    })
}

/// Two tokens may have the same text; the likelier counts.
fn keep_larger(map: &mut Map<String, Json>, name: String, value: f64) {
    match map.get(&name).and_then(Json::as_f64) {
        Some(there) if there >= value => {}
        _ => {
            map.insert(name, value.into());
        }
    }
}

fn number(score: &TokenScore) -> f64 {
    finite(score.log_probability)
}
