//! What OpenAI's completions and chat completions have in common: how many texts, how their tokens
//! are chosen, where they end, how they are sent.

use gpt2::TokenId;
use gpt2::generate::GenerationOptions;
use gpt2::sampling::SamplingOptions;
use serde_json::Value as Json;

use super::fields::{Field, Kind};
use super::refusal;
use super::served::Served;
use crate::error::ApiError;

/// Texts that a request may ask for, of all its prompts together.
pub(crate) const CHOICES: u64 = 128;
/// Alternatives of a token that a request may ask for.
pub(crate) const ALTERNATIVES: u64 = 20;
/// Log-probabilities that a response may have, alternatives included.
const SCORES: usize = 1 << 17;
/// Stop strings, and the bytes of one.
pub(crate) const STOPS: usize = 16;
pub(crate) const STOP_BYTES: usize = 512;
/// Seconds that `max_time` may be.
const LONGEST: f64 = 86_400.0;

/// The fields that both have.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Choices {
    pub(crate) model: Option<String>,
    pub(crate) n: Option<u64>,
    pub(crate) seed: Option<u64>,
    pub(crate) stop: Vec<String>,
    pub(crate) biases: Vec<(TokenId, f64)>,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) return_token_ids: bool,
    /// Whether the temperature was given.
    temperature: bool,
    pub(crate) options: GenerationOptions,
}

impl Default for Choices {
    /// OpenAI's defaults: draws from the whole distribution.
    fn default() -> Self {
        let sampling = SamplingOptions {
            do_sample: true,
            top_k: 0,
            ..SamplingOptions::default()
        };
        Self {
            model: None,
            n: None,
            seed: None,
            stop: Vec::new(),
            biases: Vec::new(),
            stream: false,
            include_usage: false,
            return_token_ids: false,
            temperature: false,
            options: GenerationOptions {
                sampling,
                ..GenerationOptions::default()
            },
        }
    }
}

/// A request that has [`Choices`].
pub(crate) trait HasChoices: 'static {
    /// Its choices.
    fn choices(&mut self) -> &mut Choices;
}

/// The rows of [`Choices`] for a request that has them.
pub(crate) fn fields<P: HasChoices>() -> Vec<Field<P>> {
    use Kind::{Biases, Count, Ignored, Name, Other, Parameter, Refused, Switch, Texts};
    let parameter = |name, help| Field::new(name, Parameter(|p: &mut P| options(p), name), help);
    let ignored = |name| Field::new(name, Ignored, "");
    let mut fields = vec![
        Field::new(
            "model",
            Name(|p: &mut P| &mut p.choices().model),
            "the model's name, as `/v1/models` has it; may be left out",
        ),
        Field::new(
            "n",
            Count(|p| &mut p.choices().n, 1..=CHOICES),
            "texts for each prompt [1]; all prompts together at most 128",
        ),
        Field::new(
            "temperature",
            Other("a number of at least 0", |p, json| {
                temperature(p.choices(), json)
            }),
            "divides the scores [1]; 0 takes the likeliest token every time",
        ),
        parameter(
            "top_p",
            "draw from the likeliest tokens of this probability together [1]",
        ),
        Field::new(
            "stop",
            Texts(|p| &mut p.choices().stop, STOPS, STOP_BYTES),
            "texts that end a text; they are not part of it",
        ),
        Field::new(
            "seed",
            Count(|p| &mut p.choices().seed, 0..=u64::MAX),
            "starts the draws; the n-th text of a prompt has the seed + n [random]",
        ),
        Field::new(
            "logit_bias",
            Biases(|p| &mut p.choices().biases),
            "added to the scores of tokens",
        ),
        parameter(
            "presence_penalty",
            "subtracted from the scores of tokens that the text has [0]",
        ),
        parameter(
            "frequency_penalty",
            "subtracted from a token's score for every time that the text has it [0]",
        ),
        Field::new(
            "stream",
            Switch(|p| &mut p.choices().stream),
            "send the text as it is made, as server-sent events",
        ),
        Field::new(
            "stream_options",
            Other("an object with include_usage", |p, json| {
                stream_options(p.choices(), json)
            }),
            "`{\"include_usage\": true}`: one more event with the usage",
        ),
        parameter("top_k", "draw from the k likeliest tokens; 0 for all [0]"),
        parameter(
            "min_p",
            "draw from tokens at least this much as likely as the best [0]",
        ),
        parameter(
            "typical_p",
            "draw from the tokens nearest to the expected information [1]",
        ),
        parameter(
            "repetition_penalty",
            "above 1 makes tokens seen before less likely [1]",
        ),
        parameter(
            "no_repeat_ngram_size",
            "no run of n tokens occurs twice; 0 allows all [0]",
        ),
        parameter("num_beams", "beam search with n texts at a time [1]"),
        parameter("max_time", "seconds after which a text ends"),
        Field::new(
            "min_tokens",
            Parameter(|p: &mut P| options(p), "min_new_tokens"),
            "least tokens of a text [0]",
        ),
        parameter(
            "ignore_eos",
            "never choose the token that ends a text [false]",
        ),
        Field::new(
            "return_token_ids",
            Switch(|p| &mut p.choices().return_token_ids),
            "add `token_ids` and `prompt_token_ids` to each choice [false]",
        ),
        Field::new(
            "response_format",
            Other("{\"type\": \"text\"}", |_, json| response_format(json)),
            "only `{\"type\": \"text\"}`",
        ),
    ];
    let grammar = "this server writes plain text alone";
    let refused = [
        "grammar",
        "guided_json",
        "guided_regex",
        "guided_choice",
        "guided_grammar",
    ];
    fields.extend(refused.map(|name| Field::new(name, Refused(grammar), "")));
    let names = [
        "user",
        "store",
        "metadata",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
    ];
    fields.extend(names.map(ignored));
    fields
}

fn options<P: HasChoices>(request: &mut P) -> &mut GenerationOptions {
    &mut request.choices().options
}

fn temperature(choices: &mut Choices, json: &Json) -> Result<(), ApiError> {
    choices.temperature = true;
    set_temperature(&mut choices.options.sampling, json)
}

/// A temperature of 0 takes the likeliest token every time.
pub(crate) fn set_temperature(sampling: &mut SamplingOptions, json: &Json) -> Result<(), ApiError> {
    let number = json.as_f64().filter(|number| *number >= 0.0);
    let Some(temperature) = number else {
        let expected = "a number of at least 0";
        return Err(refusal::expected("temperature", expected, json));
    };
    sampling.do_sample = temperature > 0.0;
    if sampling.do_sample {
        sampling.temperature = temperature;
    }
    Ok(())
}

fn stream_options(choices: &mut Choices, json: &Json) -> Result<(), ApiError> {
    const NAME: &str = "stream_options";
    let Some(map) = json.as_object() else {
        return Err(refusal::expected(NAME, "an object", json));
    };
    for (name, value) in map {
        let field = format!("{NAME}.{}", refusal::shortened(name));
        match (name.as_str(), value.as_bool()) {
            ("include_usage", Some(on)) => choices.include_usage = on,
            // Obfuscation hides lengths from who watches the network; padding is no answer's part.
            ("include_obfuscation", Some(_)) => {}
            _ if value.is_null() => {}
            ("include_usage" | "include_obfuscation", None) => {
                return Err(refusal::expected(&field, "true or false", value));
            }
            _ => {
                return Err(refusal::field(
                    &field,
                    format!("{field} is no field of this request; expected include_usage"),
                ));
            }
        }
    }
    Ok(())
}

fn response_format(json: &Json) -> Result<(), ApiError> {
    let kind = json
        .as_object()
        .map(|map| map.get("type").and_then(Json::as_str));
    match kind {
        Some(Some("text")) => Ok(()),
        _ => Err(refusal::unsupported(
            "response_format",
            "this server writes plain text alone: expected {\"type\": \"text\"}",
        )),
    }
}

/// What a response has, and how it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    /// Alternatives of each token, where log-probabilities are wanted.
    pub(crate) logprobs: Option<usize>,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) return_token_ids: bool,
}

/// How many texts of each prompt are generated, and how many are returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Texts that the model writes for each prompt.
    pub(crate) generated: usize,
    /// Texts of each prompt in the response: more than are generated where all are equal.
    pub(crate) returned: usize,
}

impl Choices {
    /// What the response has.
    pub(crate) fn form(&self, logprobs: Option<usize>) -> Form {
        Form {
            logprobs,
            stream: self.stream,
            include_usage: self.include_usage,
            return_token_ids: self.return_token_ids,
        }
    }

    /// Checks what belongs together, and completes the options: `best_of` texts are written for
    /// each of `prompts`, of at most `new_tokens` tokens, and `alternatives` kept of each token.
    ///
    /// # Errors
    /// [`ApiError`] (400).
    pub(crate) fn complete(
        &mut self,
        served: &Served,
        prompts: usize,
        best_of: Option<u64>,
        new_tokens: usize,
        alternatives: Option<usize>,
    ) -> Result<Counts, ApiError> {
        let returned = self.n.unwrap_or(1);
        let written = best_of.unwrap_or(returned);
        if written < returned {
            return Err(refusal::field(
                "best_of",
                format!("best_of: expected at least n, {returned}, found {written}"),
            ));
        }
        if best_of.is_some() && written > returned && self.stream {
            return Err(refusal::field(
                "best_of",
                "best_of: expected n when the text is streamed, found more",
            ));
        }
        let texts = written.saturating_mul(prompts as u64);
        if texts > CHOICES {
            return Err(refusal::field(
                "n",
                format!(
                    "n: expected at most {CHOICES} texts for all prompts together, found {texts}"
                ),
            ));
        }
        let options = &mut self.options;
        let beams = options.num_beams > 1;
        // A beam search with draws is asked for by a temperature.
        if beams && !self.temperature {
            options.sampling.do_sample = false;
        }
        let (returned, written) = (returned as usize, written as usize);
        let one = !beams && !options.sampling.do_sample;
        let generated = if one { 1 } else { written };
        options.num_return_sequences = generated;
        options.max_new_tokens = new_tokens;
        options.logprobs = alternatives;
        if generated > returned && alternatives.is_none() {
            // What the best are chosen by.
            options.logprobs = Some(0);
        }
        options.stop.append(&mut self.stop);
        let biases = self.biases.drain(..).map(|(id, bias)| (vec![id], bias));
        options.sampling.sequence_bias = biases.collect();
        check_options(options, served)?;
        Ok(Counts {
            generated,
            returned,
        })
    }
}

/// Checks the options, and the ids among them.
pub(crate) fn check_options(options: &GenerationOptions, served: &Served) -> Result<(), ApiError> {
    if options
        .max_time
        .is_some_and(|time| time.as_secs_f64() > LONGEST)
    {
        let message = format!("max_time: expected at most {LONGEST} seconds, found more");
        return Err(refusal::field("max_time", message));
    }
    if options.num_beams > served.at_work {
        let (most, found) = (served.at_work, options.num_beams);
        let message =
            format!("num_beams: expected at most {most}, the texts at work, found {found}");
        return Err(refusal::field("num_beams", message));
    }
    let model = &served.model;
    if !options.stop.is_empty() && !model.has_tokenizer() {
        let message = "stop: expected none, since the model has no tokenizer";
        return Err(refusal::field("stop", message));
    }
    let checked = options.validate();
    checked.map_err(|error| refusal::of_library(error, "body"))?;
    let size = model.hyperparameters().vocab_size;
    let bias = options
        .sampling
        .sequence_bias
        .iter()
        .flat_map(|(ids, _)| ids);
    match bias.into_iter().find(|id| **id as usize >= size) {
        Some(id) => Err(refusal::field(
            "logit_bias",
            format!("logit_bias: expected token ids below {size}, the vocabulary, found {id}"),
        )),
        None => Ok(()),
    }
}

/// Refuses responses of more log-probabilities than are kept: `tokens` with one each, and
/// `alternatives` beside it.
pub(crate) fn check_scores(tokens: usize, alternatives: usize) -> Result<(), ApiError> {
    if tokens.saturating_mul(alternatives + 1) <= SCORES {
        return Ok(());
    }
    Err(refusal::field(
        "logprobs",
        format!(
            "logprobs: expected at most {SCORES} of all texts together, found up to {}; send \
             fewer prompts at a time",
            tokens.saturating_mul(alternatives + 1)
        ),
    ))
}
