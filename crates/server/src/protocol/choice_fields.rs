//! The rows of what completions and chat completions have in common.

use gpt2::generate::GenerationOptions;
use gpt2::sampling::SamplingOptions;
use serde_json::Value as Json;

use super::choices::{CHOICES, Choices, HasChoices, STOP_BYTES, STOPS};
use super::fields::{Field, Kind};
use super::format::{self, TextFormat};
use super::refusal;
use crate::error::ApiError;

/// The rows of [`Choices`] for a request that has them.
pub(crate) fn fields<P: HasChoices>() -> Vec<Field<P>> {
    let mut fields = choice_fields();
    fields.extend(score_fields());
    let ignored = |name| Field::new(name, Kind::Ignored, "");
    let advice = "a grammar can say it";
    let refused = ["guided_regex", "guided_choice", "guided_grammar"];
    fields.extend(refused.map(|name| Field::new(name, Kind::Refused(advice), "")));
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

/// Which texts, how many, and how they are sent.
fn choice_fields<P: HasChoices>() -> Vec<Field<P>> {
    use Kind::{Biases, Count, Name, Other, Texts};
    vec![
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
    ]
}

/// How tokens are chosen, and what the response has.
fn score_fields<P: HasChoices>() -> Vec<Field<P>> {
    use Kind::{Other, Parameter, Switch};
    vec![
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
            Other(
                "an object with type text, json_object or json_schema",
                |p, json| {
                    let found = TextFormat::of_response_format(json)?;
                    format::put(&mut p.choices().format, found)
                },
            ),
            "plain text, or JSON, by the schema in `json_schema.schema` if there is one",
        ),
        Field::new(
            "guided_json",
            Other("a schema", |p, json| {
                let Some(found) = TextFormat::of_schema("guided_json", json) else {
                    return Err(refusal::expected("guided_json", "a schema", json));
                };
                format::put(&mut p.choices().format, Some(found))
            }),
            "the text is JSON that this schema allows",
        ),
        Field::new(
            "grammar",
            Other("a text", |p, json| {
                let Some(found) = TextFormat::of_grammar("grammar", json) else {
                    return Err(refusal::expected("grammar", "a text", json));
                };
                format::put(&mut p.choices().format, Some(found))
            }),
            "the text keeps to this grammar ([grammar.md](grammar.md))",
        ),
    ]
}

fn parameter<P: HasChoices>(name: &'static str, help: &'static str) -> Field<P> {
    Field::new(name, Kind::Parameter(|p: &mut P| options(p), name), help)
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
