//! What a model's file asks of its generations: `generation_config.json`, carried along by the
//! converter.
//!
//! Precedence is transformers': this library's defaults, then the file's, then what the caller
//! sets.

use serde_json::{Map, Value};

use super::options::GenerationOptions;
use super::parameters::{Parameter, ParameterGroup, parameters};
use crate::session::Model;
use crate::{Error, Result};

/// Where a GGUF file carries the JSON object.
const KEY: &str = "gpt2_edge.generation_config";

/// Names that change nothing of a text: what is returned, how it is computed, and ids that stand in
/// the model's own fields.
const WITHOUT_EFFECT: &[&str] = &[
    "_commit_hash",
    "_from_model_config",
    "assistant_confidence_threshold",
    "assistant_lookbehind",
    "bos_token_id",
    "cache_config",
    "cache_implementation",
    "compile_config",
    "decoder_start_token_id",
    "disable_compile",
    "is_assistant",
    "low_memory",
    "num_assistant_tokens_schedule",
    "output_attentions",
    "output_hidden_states",
    "output_logits",
    "output_scores",
    "pad_token_id",
    "prefill_chunk_size",
    "return_dict_in_generate",
    "return_legacy_cache",
    "target_lookbehind",
    "transformers_version",
    "use_cache",
];

/// What a model's file asks for, and what it asks for in vain.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationDefaults {
    /// The options to start from.
    pub options: GenerationOptions,
    /// A line for each setting that was ignored and may make a difference.
    pub warnings: Vec<String>,
}

impl GenerationOptions {
    /// The options that the model's file asks for (transformers' `generation_config.json`, else the
    /// generation keys of `config.json`), over this library's defaults. Sampling is on when the
    /// file says so.
    ///
    /// # Errors
    /// As [`GenerationDefaults::of`], which also tells what was ignored.
    pub fn from_model(model: &Model) -> Result<Self> {
        Ok(GenerationDefaults::of(model)?.options)
    }
}

impl GenerationDefaults {
    /// Reads what the model's file asks for. Ids outside the vocabulary, settings that this library
    /// does not have and names it does not know are ignored with a warning.
    ///
    /// # Errors
    /// [`Error::Format`] when the settings are no JSON object or a value is of the wrong kind.
    pub fn of(model: &Model) -> Result<Self> {
        let vocabulary = model.hyperparameters().vocab_size;
        match model.gguf().metadata().str(KEY)? {
            Some(text) => Self::parse(text, vocabulary),
            None => Ok(Self {
                options: GenerationOptions::default(),
                warnings: Vec::new(),
            }),
        }
    }

    fn parse(text: &str, vocabulary: usize) -> Result<Self> {
        let place = format!("key {KEY}");
        let fields: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
            Error::format(&place, format!("expected a JSON object, found {error}"))
        })?;
        let mut options = GenerationOptions::default();
        for parameter in carried() {
            if let Some(value) = fields.get(parameter.name()) {
                parameter
                    .set(&mut options, value)
                    .map_err(|error| match error {
                        error @ Error::WrongType { .. } => Error::format(&place, error.to_string()),
                        other => other,
                    })?;
            }
        }
        let mut warnings: Vec<String> = fields
            .iter()
            .filter(|(name, value)| is_missed(name, value))
            .map(|(name, value)| {
                format!(
                    "the model's generation settings ask for {name} ({}), which is not supported \
                     and was ignored",
                    shortened(value)
                )
            })
            .collect();
        keep_known_ids(&mut options, vocabulary, &mut warnings);
        if options.sampling.temperature == 0.0 && !options.sampling.do_sample {
            // Written for greedy decoding, where it does nothing.
            options.sampling.temperature = 1.0;
        }
        Ok(Self { options, warnings })
    }
}

/// Whether a field that is not applied may make a difference.
fn is_missed(name: &str, value: &Value) -> bool {
    let off = match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Number(_) | Value::String(_) | Value::Bool(true) => false,
    };
    !off && !WITHOUT_EFFECT.contains(&name) && !carried().any(|own| own.name() == name)
}

/// A value for a message, cut where it is long.
fn shortened(value: &Value) -> String {
    const SHOWN: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// The parameters that a model's file may set.
fn carried() -> impl Iterator<Item = Parameter> {
    parameters().filter(|parameter| parameter.group() != ParameterGroup::Request)
}

/// Leaves ids outside the vocabulary out: configurations keep GPT-2's beside smaller vocabularies.
fn keep_known_ids(options: &mut GenerationOptions, vocabulary: usize, warnings: &mut Vec<String>) {
    for parameter in carried() {
        if parameter.unknown_id(options, vocabulary).is_some() {
            parameter.drop_unknown_ids(options, vocabulary);
            warnings.push(format!(
                "the model's generation settings name ids outside its vocabulary of \
                 {vocabulary} for {}, which were ignored",
                parameter.name()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> GenerationDefaults {
        GenerationDefaults::parse(text, 100).unwrap()
    }

    #[test]
    fn settings_stand_over_the_defaults() {
        let found = parsed(
            r#"{"_from_model_config": true, "transformers_version": "4.40.0", "do_sample": true,
               "top_k": 7, "max_length": 50, "eos_token_id": [5, 6], "bos_token_id": 5,
               "pad_token_id": 0, "num_beams": null}"#,
        );
        assert_eq!(found.warnings, [""; 0]);
        let options = found.options;
        assert!(options.sampling.do_sample);
        assert_eq!((options.sampling.top_k, options.max_length), (7, Some(50)));
        assert_eq!(options.eos, Some(vec![5, 6]));
        assert_eq!((options.num_beams, options.sampling.top_p), (1, 1.0));
        assert_eq!(parsed("{}").options, GenerationOptions::default());
    }

    #[test]
    fn new_tokens_count_before_a_length_whatever_their_order() {
        for text in [
            r#"{"max_new_tokens": 9, "max_length": 50}"#,
            r#"{"max_length": 50, "max_new_tokens": 9}"#,
        ] {
            let options = parsed(text).options;
            assert_eq!((options.max_new_tokens, options.max_length), (9, None));
        }
    }

    #[test]
    fn what_is_ignored_is_said() {
        let found = parsed(
            r#"{"force_words_ids": [[1]], "constraints": null, "token_healing": false, "warmth": 3,
               "eos_token_id": [5, 100], "suppress_tokens": [100, 2],
               "bad_words_ids": [[1, 100], [2]], "forced_bos_token_id": 200}"#,
        );
        let of = |part: &str| {
            found
                .warnings
                .iter()
                .filter(|line| line.contains(part))
                .count()
        };
        assert_eq!((of("force_words_ids"), of("warmth")), (1, 1));
        assert_eq!((of("constraints"), of("token_healing")), (0, 0));
        for name in [
            "eos_token_id",
            "suppress_tokens",
            "bad_words_ids",
            "forced_bos_token_id",
        ] {
            assert_eq!(of(name), 1, "{name}: {:?}", found.warnings);
        }
        let options = found.options;
        assert_eq!(options.eos, Some(vec![5]));
        assert_eq!(options.sampling.suppress_tokens, [2]);
        assert_eq!(options.sampling.bad_words_ids, [[2]]);
        assert_eq!(options.sampling.forced_bos_token_id, None);
        assert_eq!(parsed(r#"{"eos_token_id": 50256}"#).options.eos, None);
        assert_eq!(
            parsed(r#"{"temperature": 0}"#).options.sampling.temperature,
            1.0
        );
    }

    #[test]
    fn broken_settings_are_refused() {
        for (text, part) in [
            ("[1]", "expected a JSON object"),
            ("{", "expected a JSON object"),
            (r#"{"top_k": "many"}"#, "top_k: expected a whole number"),
        ] {
            let error = GenerationDefaults::parse(text, 100).unwrap_err();
            assert!(matches!(error, Error::Format { .. }), "{error}");
            let message = error.to_string();
            assert!(message.contains(KEY) && message.contains(part), "{message}");
        }
    }
}
