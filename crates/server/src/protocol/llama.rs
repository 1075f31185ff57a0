//! llama.cpp's `POST /completion`: the small set of it that editors use.

use std::sync::LazyLock;
use std::time::Duration;

use gpt2::generate::{FinishReason, GenerationOptions};
use gpt2::sampling::SamplingOptions;
use serde_json::{Value as Json, json};

use super::choice_fields::set_temperature;
use super::choices::{ALTERNATIVES, Counts, STOP_BYTES, STOPS, check_options, check_scores};
use super::fields::{Field, Kind, read};
use super::generation::Generation;
use super::input::{Input, Prompt, longest};
use super::refusal;
use super::response::Tokens;
use super::served::Served;
use super::text::{Piece, TextToken, described, prompt_text};
use crate::error::ApiError;

pub(super) struct Request {
    model: Option<String>,
    prompt: Option<Input>,
    /// None for as many as the context has room for.
    n_predict: Option<usize>,
    seed: Option<u64>,
    n_probs: Option<u64>,
    stream: bool,
    return_tokens: bool,
    options: GenerationOptions,
}

impl Default for Request {
    /// llama.cpp's defaults.
    fn default() -> Self {
        Self {
            model: None,
            prompt: None,
            n_predict: None,
            seed: None,
            n_probs: None,
            stream: false,
            return_tokens: false,
            options: GenerationOptions {
                sampling: SamplingOptions {
                    do_sample: true,
                    temperature: 0.8,
                    top_k: 40,
                    top_p: 0.95,
                    min_p: 0.05,
                    ..SamplingOptions::default()
                },
                ..GenerationOptions::default()
            },
        }
    }
}

pub(super) static FIELDS: LazyLock<Vec<Field<Request>>> = LazyLock::new(|| {
    use Kind::{Count, Ignored, Name, Other, Parameter, Refused, Switch, Texts};
    let parameter =
        |name, of, help| Field::new(name, Parameter(|r: &mut Request| &mut r.options, of), help);
    let mut fields = vec![
        Field::new(
            "model",
            Name(|r: &mut Request| &mut r.model),
            "the model's name",
        ),
        Field::new(
            "prompt",
            Kind::Input(|r| &mut r.prompt),
            "what to continue, one text",
        ),
        Field::new(
            "n_predict",
            Other("a whole number of at least −1", |r, json| {
                r.n_predict = at_least_minus_one("n_predict", json)?.map(|count| count as usize);
                Ok(())
            }),
            "most tokens of the text; −1 for what the context has room for [−1]",
        ),
        Field::new(
            "temperature",
            Other("a number of at least 0", |r, json| {
                set_temperature(&mut r.options.sampling, json)
            }),
            "divides the scores [0.8]; 0 takes the likeliest token every time",
        ),
        parameter(
            "top_k",
            "top_k",
            "draw from the k likeliest tokens; 0 for all [40]",
        ),
        parameter(
            "top_p",
            "top_p",
            "draw from the likeliest of this probability together [0.95]",
        ),
        parameter(
            "min_p",
            "min_p",
            "draw from tokens this much as likely as the best [0.05]",
        ),
        parameter(
            "typical_p",
            "typical_p",
            "draw from tokens near the expected information [1]",
        ),
        parameter(
            "repeat_penalty",
            "repetition_penalty",
            "makes tokens seen less likely [1]",
        ),
        parameter(
            "presence_penalty",
            "presence_penalty",
            "for tokens that the text has [0]",
        ),
        parameter(
            "frequency_penalty",
            "frequency_penalty",
            "for every time that it has them [0]",
        ),
        parameter("ignore_eos", "ignore_eos", "never end the text [false]"),
        Field::new(
            "seed",
            Other("a whole number of at least −1", |r, json| {
                r.seed = at_least_minus_one("seed", json)?;
                Ok(())
            }),
            "starts the draws; −1 at random [−1]",
        ),
        Field::new(
            "stop",
            Texts(|r| &mut r.options.stop, STOPS, STOP_BYTES),
            "texts that end the text",
        ),
        Field::new(
            "stream",
            Switch(|r| &mut r.stream),
            "send the text as it is made [false]",
        ),
        Field::new(
            "n_probs",
            Count(|r| &mut r.n_probs, 0..=ALTERNATIVES),
            "the log-probability of each token, and of the n likeliest [0]",
        ),
        Field::new(
            "t_max_predict_ms",
            Other("a whole number of at least −1", |r, json| {
                let limit = at_least_minus_one("t_max_predict_ms", json)?;
                r.options.max_time = limit.filter(|limit| *limit > 0).map(Duration::from_millis);
                Ok(())
            }),
            "milliseconds after which the text ends; 0 for no limit [0]",
        ),
        Field::new(
            "return_tokens",
            Switch(|r| &mut r.return_tokens),
            "add the tokens' ids [false]",
        ),
    ];
    let refused = ["grammar", "json_schema", "image_data", "logit_bias"];
    let advice = "this server has the part of /completion that editors use; see /v1/completions";
    fields.extend(refused.map(|name| Field::new(name, Refused(advice), "")));
    let ignored = [
        "cache_prompt",
        "id_slot",
        "repeat_last_n",
        "mirostat",
        "mirostat_tau",
        "mirostat_eta",
        "samplers",
        "dynatemp_range",
        "dynatemp_exponent",
        "xtc_probability",
        "xtc_threshold",
        "dry_multiplier",
        "dry_base",
        "dry_allowed_length",
        "dry_penalty_last_n",
        "dry_sequence_breakers",
        "timings_per_token",
        "min_keep",
        "n_keep",
        "n_indent",
        "n_discard",
        "tfs_z",
        "penalize_nl",
        "post_sampling_probs",
        "response_fields",
        "lora",
        "n_cmpl",
        "return_progress",
        "top_n_sigma",
    ];
    fields.extend(ignored.map(|name| Field::new(name, Ignored, "")));
    fields
});

/// −1 is none.
fn at_least_minus_one(name: &str, json: &Json) -> Result<Option<u64>, ApiError> {
    match (json.as_i64(), json.as_u64()) {
        (Some(-1), _) => Ok(None),
        (_, Some(number)) => Ok(Some(number)),
        _ => Err(refusal::expected(
            name,
            "a whole number of at least −1",
            json,
        )),
    }
}

/// A request, checked.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) generation: Generation,
    pub(crate) form: Form,
}

/// What the response has.
#[derive(Debug, Clone)]
pub(crate) struct Form {
    pub(crate) stream: bool,
    probabilities: Option<usize>,
    return_tokens: bool,
    prompt: String,
    prompt_tokens: usize,
    /// The stop string, where there is one only.
    stop: Option<String>,
}

impl Plan {
    /// What `body` asks for.
    ///
    /// # Errors
    /// [`ApiError`] (400) for a field that is wrong, 404 for another model.
    pub(crate) fn of(body: &[u8], served: &Served) -> Result<Self, ApiError> {
        let request = read(&FIELDS, body, served.json_depth)?;
        served.check_model(request.model.as_deref())?;
        served.check_generates()?;
        let Some(input) = request.prompt else {
            return Err(refusal::field(
                "prompt",
                "prompt: expected a text, found none",
            ));
        };
        if input.count() != 1 {
            let found = input.count();
            let message = format!("prompt: expected one text, found {found}; see /v1/completions");
            return Err(refusal::field("prompt", message));
        }
        let prompts = input.prompts("prompt", served)?;
        prompts
            .iter()
            .try_for_each(|prompt| prompt.check_not_empty("prompt"))?;
        let tokens = prompts.iter().map(|prompt| prompt.ids.len()).sum();
        let left = served.context.saturating_sub(tokens);
        // As llama.cpp does, what does not fit any more is not written.
        let asked = request.n_predict.unwrap_or(left).min(left.max(1));
        let new_tokens = served.new_tokens("prompt", longest(&prompts), asked)?;
        let probabilities = request.n_probs.filter(|count| *count > 0);
        let probabilities = probabilities.map(|count| count as usize);
        let mut options = request.options;
        options.max_new_tokens = new_tokens;
        options.logprobs = probabilities;
        check_options(&options, served)?;
        if let Some(alternatives) = probabilities {
            check_scores(new_tokens, alternatives)?;
        }
        let prompt = prompts.iter().map(|prompt: &Prompt| {
            let text = prompt.text.clone();
            text.unwrap_or_else(|| prompt_text(&served.model, &prompt.ids))
        });
        let form = Form {
            stream: request.stream,
            probabilities,
            return_tokens: request.return_tokens,
            prompt: prompt.collect(),
            prompt_tokens: tokens,
            stop: match &options.stop[..] {
                [stop] => Some(stop.clone()),
                _ => None,
            },
        };
        let counts = Counts {
            generated: 1,
            returned: 1,
        };
        Ok(Self {
            generation: Generation {
                prompts,
                options,
                seed: request.seed,
                counts,
                echo: false,
                prompt_scores: None,
            },
            form,
        })
    }
}

impl Form {
    /// A part of a text.
    pub(crate) fn part(&self, served: &Served, piece: &Piece) -> Json {
        let mut json = self.content(served, piece);
        json["stop"] = false.into();
        json
    }

    /// All of a text, or its end.
    pub(crate) fn whole(&self, served: &Served, piece: &Piece, tokens: &Tokens) -> Json {
        let mut json = self.content(served, piece);
        json["stop"] = true.into();
        let timings = &tokens.timings;
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let speed = |count: usize, time: Duration| {
            let seconds = time.as_secs_f64();
            (seconds > 0.0).then(|| count as f64 / seconds)
        };
        let stopped = piece.finish == Some(FinishReason::Stop);
        let more = json!({
            "model": served.name(), "prompt": self.prompt, "truncated": false,
            "tokens_predicted": tokens.completion, "tokens_evaluated": self.prompt_tokens,
            "tokens_cached": tokens.cached, "stop_type": stop_type(piece.finish),
            "stopping_word": self.stop.as_deref().filter(|_| stopped).unwrap_or_default(),
            "timings": {
                "prompt_n": timings.prefill_tokens, "prompt_ms": milliseconds(timings.prefill),
                "prompt_per_second": speed(timings.prefill_tokens, timings.prefill),
                "predicted_n": tokens.completion, "predicted_ms": milliseconds(timings.decode),
                "predicted_per_second": speed(timings.decode_tokens, timings.decode),
            },
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            json[name] = value.clone();
        }
        json
    }

    fn content(&self, served: &Served, piece: &Piece) -> Json {
        let ids = if self.return_tokens {
            piece.ids()
        } else {
            Vec::new()
        };
        let mut json = json!({ "index": 0, "content": piece.text, "tokens": ids });
        if let Some(top) = self.probabilities {
            let entry = |id, log_probability| {
                let mut entry = described(&served.model, id, log_probability);
                entry["id"] = id.into();
                entry
            };
            let probability = |token: &TextToken| {
                let score = token.score.as_ref();
                let own = score.map(|score| score.log_probability);
                let others = score
                    .into_iter()
                    .flat_map(|score| score.top.iter().take(top));
                let others = others.map(|other| entry(other.id, Some(other.log_probability)));
                let mut entry = entry(token.id, own);
                entry["top_logprobs"] = others.collect();
                entry
            };
            json["completion_probabilities"] = piece.tokens.iter().map(probability).collect();
        }
        json
    }
}

fn stop_type(finish: Option<FinishReason>) -> &'static str {
    match finish {
        Some(FinishReason::Eos) => "eos",
        Some(FinishReason::Stop) => "word",
        Some(FinishReason::Length | FinishReason::ContextFull | FinishReason::Time) => "limit",
        Some(FinishReason::Stopped) | None => "none",
    }
}
