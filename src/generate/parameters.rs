//! Every parameter of a generation under transformers' name: one table for all who name them.
//!
//! A parameter is one row: here for what belongs to the generation, in `sampling/parameters.rs` for
//! what belongs to the choice of a token. From the rows follow [`GenerationOptions::set`] (for
//! configuration files, the C interface and other languages), ranges and checks of token ids, the
//! commands' flags with their help texts, the chat's `/set`, and the table of `docs/sampling.md`.

use serde_json::{Value as Json, json};

use super::options::{DolaLayers, EarlyStopping, GenerationOptions};
use crate::sampling::SamplingOptions;
use crate::sampling::parameter::ParameterGroup::{Choice, End, Request, Scores, Search};
use crate::sampling::parameter::{About, FINITE, FRACTION, Row, Value, count, field, list};
use crate::sampling::parameters::PARAMETERS as SAMPLING;
use crate::{Error, Result, TokenId};

pub use crate::sampling::parameter::{ParameterGroup, ParameterKind};

/// The rows of what [`GenerationOptions`] has beside the sampling. Where several are given
/// together, what comes later wins: of the two lengths the number of new tokens.
static GENERATION: &[Row<GenerationOptions>] = &[
    Row::new(
        "num_return_sequences",
        Choice,
        "N",
        Value::Count(field!(num_return_sequences), 1),
        "Continuations: drawn, the n-th with the seed + n, or the best of a beam search",
    ),
    Row::new(
        "negative_prompt_ids",
        Scores,
        "IDS",
        Value::Prompt(field!(negative_prompt)),
        "The negative prompt as tokens [default: the prompt's last token]",
    ),
    Row::new(
        "num_beams",
        Search,
        "N",
        Value::Count(field!(num_beams), 1),
        "Beam search: keep the N best texts",
    ),
    Row::new(
        "length_penalty",
        Search,
        "X",
        Value::Number(field!(length_penalty), FINITE),
        "Above 0 prefers long texts, below 0 short ones",
    ),
    Row::new(
        "early_stopping",
        Search,
        "WHEN",
        Value::Other {
            kind: ParameterKind::EarlyStopping,
            get: |options| match options.early_stopping {
                EarlyStopping::WhenFull => json!(true),
                EarlyStopping::WhenUnlikely => json!(false),
                EarlyStopping::WhenImpossible => json!("never"),
            },
            set: |options, json| {
                options.early_stopping = match (json.as_bool(), json.as_str()) {
                    (Some(true), _) => EarlyStopping::WhenFull,
                    (Some(false), _) => EarlyStopping::WhenUnlikely,
                    (_, Some("never")) => EarlyStopping::WhenImpossible,
                    _ => return None,
                };
                Some(())
            },
        },
        "End when there are N texts (true), when better ones are unlikely (false) or impossible \
         (never)",
    ),
    Row::new(
        "num_beam_groups",
        Search,
        "N",
        Value::Count(field!(num_beam_groups), 1),
        "Groups of beams that avoid each other's tokens",
    ),
    Row::new(
        "penalty_alpha",
        Search,
        "A",
        Value::Number(field!(penalty_alpha), FRACTION),
        "Contrastive search among the top_k best: what likeness to the text before costs",
    ),
    Row::new(
        "dola_layers",
        Search,
        "LAYERS",
        Value::Other {
            kind: ParameterKind::Layers,
            get: |options| match &options.dola_layers {
                Some(DolaLayers::Low) => json!("low"),
                Some(DolaLayers::High) => json!("high"),
                Some(DolaLayers::These(layers)) => json!(layers),
                None => Json::Null,
            },
            set: |options, json| {
                options.dola_layers = Some(match json.as_str() {
                    Some("low") => DolaLayers::Low,
                    Some("high") => DolaLayers::High,
                    Some(_) => return None,
                    None => DolaLayers::These(list(json, count)?),
                });
                Some(())
            },
        },
        "Contrast the last layer with one of these: low, high, or a list such as 2,4",
    ),
    Row::new(
        "prompt_lookup_num_tokens",
        Search,
        "N",
        Value::Limit(field!(prompt_lookup_num_tokens), 1),
        "Draft the N tokens that followed the same text before: faster, the same result",
    ),
    Row::new(
        "max_matching_ngram_size",
        Search,
        "N",
        Value::Count(field!(max_matching_ngram_size), 1),
        "The longest stretch of text that is looked up",
    ),
    Row::new(
        "num_assistant_tokens",
        Search,
        "N",
        Value::Count(field!(num_assistant_tokens), 1),
        "Tokens that the assistant model drafts at first",
    ),
    Row::<GenerationOptions>::new(
        "max_length",
        End,
        "N",
        Value::Limit(field!(max_length), 0),
        "Most tokens, the prompt's included",
    )
    .then(|options| options.max_new_tokens = usize::MAX),
    Row::<GenerationOptions>::new(
        "max_new_tokens",
        End,
        "N",
        Value::Count(field!(max_new_tokens), 0),
        "Most tokens to generate",
    )
    .then(|options| options.max_length = None),
    Row::new(
        "max_time",
        End,
        "SECONDS",
        Value::Seconds(field!(max_time)),
        "End after the token at which this time is over",
    ),
    Row::new(
        "eos_token_id",
        End,
        "IDS",
        Value::OwnTokens(field!(eos)),
        "Tokens that end the text [default: the model's]",
    ),
    Row::new(
        "stop_strings",
        End,
        "TEXT",
        Value::Texts(field!(stop)),
        "End before this text",
    ),
    Row::new(
        "seed",
        Request,
        "N",
        Value::Seed(field!(seed)),
        "Starts the draws; sequence n of several has the seed + n",
    ),
    Row::new(
        "ignore_eos",
        Request,
        "BOOL",
        Value::Switch(field!(ignore_eos)),
        "Never choose a token that ends the text",
    ),
    Row::new(
        "on_overflow",
        Request,
        "N",
        Value::Limit(field!(on_overflow), 0),
        "When the context is full, go on with the first N tokens and the newest half",
    ),
    Row::new(
        "output_scores",
        Request,
        "BOOL",
        Value::Switch(field!(output_scores)),
        "Keep the scores after all processors of every step",
    ),
    Row::new(
        "output_logits",
        Request,
        "BOOL",
        Value::Switch(field!(output_logits)),
        "Keep the model's logits of every step",
    ),
    Row::new(
        "logprobs",
        Request,
        "N",
        Value::Limit(field!(logprobs), 0),
        "Keep the log-probability of every token, and of the N likeliest",
    ),
];

/// A parameter of a generation: what it is called, what it may be, what it does.
#[derive(Clone, Copy)]
pub struct Parameter(Part);

/// Which part of the options has the parameter.
#[derive(Clone, Copy)]
enum Part {
    Sampling(&'static Row<SamplingOptions>),
    Generation(&'static Row<GenerationOptions>),
}

/// Every parameter, in the order in which they are applied where several are given together.
///
/// ```
/// use gpt2::generate::{GenerationOptions, parameters};
///
/// let mut options = GenerationOptions::default();
/// options.set("top_k", "40")?;
/// let top_k = parameters().find(|parameter| parameter.name() == "top_k").unwrap();
/// assert_eq!(top_k.get(&options), "40");
/// assert_eq!(top_k.get(&GenerationOptions::default()), "50");
/// # Ok::<(), gpt2::Error>(())
/// ```
pub fn parameters() -> impl Iterator<Item = Parameter> {
    let sampling = SAMPLING.iter().map(Part::Sampling);
    let generation = GENERATION.iter().map(Part::Generation);
    sampling.chain(generation).map(Parameter)
}

impl Parameter {
    fn about(self) -> &'static About {
        match self.0 {
            Part::Sampling(row) => &row.about,
            Part::Generation(row) => &row.about,
        }
    }

    /// Transformers' name, such as `top_k`.
    pub fn name(self) -> &'static str {
        self.about().name
    }

    /// The group that it is listed in.
    pub fn group(self) -> ParameterGroup {
        self.about().group
    }

    /// What help texts call a value, such as `N`.
    pub fn value_name(self) -> &'static str {
        self.about().value
    }

    /// What it does, in one line.
    pub fn help(self) -> &'static str {
        self.about().help
    }

    /// The type of its value.
    pub fn kind(self) -> ParameterKind {
        match self.0 {
            Part::Sampling(row) => row.kind(),
            Part::Generation(row) => row.kind(),
        }
    }

    /// What a value of this type must be, in words; `None` where every one will do.
    pub fn range(self) -> Option<&'static str> {
        match self.0 {
            Part::Sampling(row) => row.range(),
            Part::Generation(row) => row.range(),
        }
    }

    /// The value in `options` as JSON, which [`GenerationOptions::set`] reads; `null` for none.
    pub fn get(self, options: &GenerationOptions) -> String {
        let json = match self.0 {
            Part::Sampling(row) => row.get(&options.sampling),
            Part::Generation(row) => row.get(options),
        };
        match json.as_f64() {
            // Without the fraction of a whole number.
            Some(number) if json.is_f64() => number.to_string(),
            _ => json.to_string(),
        }
    }

    /// As [`GenerationOptions::set`], with a value that is parsed already.
    pub(super) fn set(self, options: &mut GenerationOptions, value: &Json) -> Result<()> {
        match self.0 {
            Part::Sampling(row) => row.set(&mut options.sampling, value),
            Part::Generation(row) => row.set(options, value),
        }
    }

    /// A token id of the value that is not below `vocabulary`.
    pub(super) fn unknown_id(
        self,
        options: &GenerationOptions,
        vocabulary: usize,
    ) -> Option<TokenId> {
        match self.0 {
            Part::Sampling(row) => row.unknown_id(&options.sampling, vocabulary),
            Part::Generation(row) => row.unknown_id(options, vocabulary),
        }
    }

    /// Leaves out what names token ids that are not below `vocabulary`.
    pub(super) fn drop_unknown_ids(self, options: &mut GenerationOptions, vocabulary: usize) {
        match self.0 {
            Part::Sampling(row) => row.drop_unknown_ids(&mut options.sampling, vocabulary),
            Part::Generation(row) => row.drop_unknown_ids(options, vocabulary),
        }
    }
}

impl std::fmt::Debug for Parameter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.about().fmt(formatter)
    }
}

impl GenerationOptions {
    /// Sets the parameter that transformers calls `name`, one of [`parameters`]. The value is JSON
    /// (`0.7`, `[[1, 2], [3]]`); what is no JSON is taken as a text (`never`); `null` changes
    /// nothing.
    ///
    /// Of `max_length` and `max_new_tokens` the one that is set last counts alone. Ranges are
    /// checked by [`GenerationOptions::validate`].
    ///
    /// # Errors
    /// [`Error::UnknownParameter`] for another name, [`Error::WrongType`] for a value of another
    /// type.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let json = serde_json::from_str(value).unwrap_or_else(|_| Json::from(value));
        parameters()
            .find(|parameter| parameter.name() == name)
            .ok_or_else(|| Error::UnknownParameter(name.to_owned()))?
            .set(self, &json)
    }

    /// Checks each value against its range.
    pub(super) fn check_ranges(&self) -> Result<()> {
        self.sampling.validate()?;
        GENERATION.iter().try_for_each(|row| row.check(self))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn with(settings: &[(&str, &str)]) -> Result<GenerationOptions> {
        let mut options = GenerationOptions::default();
        for (name, value) in settings {
            options.set(name, value)?;
        }
        Ok(options)
    }

    #[test]
    fn values_of_every_kind() {
        let options = with(&[
            ("temperature", "0.7"),
            ("top_k", "40"),
            ("min_length", "8.0"),
            ("do_sample", "true"),
            ("early_stopping", "never"),
            ("dola_layers", "[1, 3]"),
            ("eos_token_id", "7"),
            ("forced_eos_token_id", "[1, 2]"),
            ("bad_words_ids", "[[1, 2], [3]]"),
            ("sequence_bias", r#"[[[1, 2], -1.5], [[3], "-inf"]]"#),
            ("exponential_decay_length_penalty", "[5, 1.1]"),
            ("stop_strings", "END"),
            ("max_time", "0.5"),
            ("top_p", "null"),
        ])
        .unwrap();
        let sampling = &options.sampling;
        assert_eq!((sampling.temperature, sampling.top_k), (0.7, 40));
        assert_eq!((sampling.min_length, sampling.top_p), (8, 1.0));
        assert!(sampling.do_sample);
        assert_eq!(options.early_stopping, EarlyStopping::WhenImpossible);
        assert_eq!(options.dola_layers, Some(DolaLayers::These(vec![1, 3])));
        assert_eq!(options.eos, Some(vec![7]));
        assert_eq!(sampling.forced_eos_token_id, [1, 2]);
        assert_eq!(sampling.bad_words_ids, [vec![1, 2], vec![3]]);
        let biases = [(vec![1, 2], -1.5), (vec![3], f64::NEG_INFINITY)];
        assert_eq!(sampling.sequence_bias, biases);
        assert_eq!(sampling.exponential_decay_length_penalty, Some((5, 1.1)));
        assert_eq!(options.stop, ["END"]);
        assert_eq!(options.max_time, Some(Duration::from_millis(500)));
    }

    #[test]
    fn the_last_length_counts() {
        let options = with(&[("max_length", "20"), ("max_new_tokens", "5")]).unwrap();
        assert_eq!((options.max_length, options.max_new_tokens), (None, 5));
        let options = with(&[("max_new_tokens", "5"), ("max_length", "20")]).unwrap();
        assert_eq!(options.max_length, Some(20));
        assert_eq!(options.max_new_tokens, usize::MAX);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (name, value, expected) in [
            (
                "top_k",
                "-1",
                "top_k: expected a whole number of at least 0, found -1",
            ),
            ("top_k", "1.5", "found 1.5"),
            (
                "temperature",
                "hot",
                "temperature: expected a number, found \"hot\"",
            ),
            ("do_sample", "1", "true or false, found 1"),
            ("early_stopping", "soon", "\"never\""),
            ("eos_token_id", "4294967296", "a token id or a list of them"),
            ("bad_words_ids", "[1, -2]", "a list of lists"),
            ("sequence_bias", "[[1, 2]]", "[[ids], bias]"),
            ("max_time", "-1", "a number of seconds"),
            ("dola_layers", "middle", "\"low\", \"high\" or a list"),
            ("warmth", "1", "warmth is no parameter"),
        ] {
            let message = with(&[(name, value)]).unwrap_err().to_string();
            assert!(message.contains(expected), "{name} {value}: {message}");
        }
    }

    #[test]
    fn every_parameter_refuses_a_map() {
        for parameter in parameters() {
            let name = parameter.name();
            let error = with(&[(name, "{}")]).unwrap_err();
            assert!(matches!(error, Error::WrongType { .. }), "{error}");
        }
    }

    /// A value of each type that is no default.
    fn example(kind: ParameterKind) -> &'static str {
        match kind {
            ParameterKind::Switch => "true",
            ParameterKind::Count => "7",
            ParameterKind::Number => "0.25",
            ParameterKind::Seconds => "1.5",
            ParameterKind::Token => "3",
            ParameterKind::Tokens => "[3,4]",
            ParameterKind::Sequences => "[[3,4],[5]]",
            ParameterKind::Biases => "[[[3],-0.5],[[4],\"-inf\"]]",
            ParameterKind::Decay => "[5,1.5]",
            ParameterKind::Texts => "[\"END\"]",
            ParameterKind::EarlyStopping => "\"never\"",
            ParameterKind::Layers => "[1,3]",
        }
    }

    #[test]
    fn each_parameter_has_a_field_of_its_own() {
        let shown = |options: &GenerationOptions| {
            parameters()
                .map(|parameter| parameter.get(options))
                .collect::<Vec<_>>()
        };
        let default = GenerationOptions::default();
        for (index, parameter) in parameters().enumerate() {
            let (name, value) = (parameter.name(), example(parameter.kind()));
            let options = with(&[(name, value)]).unwrap();
            assert_eq!(parameter.get(&options), value, "{name}");
            let (before, mut after) = (shown(&default), shown(&options));
            after[index].clone_from(&before[index]);
            // A length in total puts the number of new tokens off.
            assert!(after == before || name == "max_length", "{name}");
            // What is shown can be set.
            let again = with(&[(name, &before[index])]).unwrap();
            assert_eq!(again, default, "{name}");
            assert_eq!(parameters().filter(|other| other.name() == name).count(), 1);
        }
    }

    #[test]
    fn ranges_are_checked_where_they_are_stated() {
        for parameter in parameters().filter(|parameter| parameter.range().is_some()) {
            let mut options = GenerationOptions::default();
            match parameter.0 {
                Part::Sampling(row) => match &row.value {
                    Value::Number(at, _) => *(at.get_mut)(&mut options.sampling) = f64::NAN,
                    _ => unreachable!("no other has a range"),
                },
                Part::Generation(row) => match &row.value {
                    Value::Number(at, _) => *(at.get_mut)(&mut options) = f64::NAN,
                    _ => options.set(parameter.name(), "0").unwrap(),
                },
            }
            let error = options.validate().unwrap_err();
            let named =
                matches!(&error, Error::OutOfRange { name, .. } if *name == parameter.name());
            assert!(named, "{parameter:?}: {error}");
        }
    }
}
