//! A checkpoint's `config.json`: every field is mapped, known to be without effect, or refused.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::class::{Claim, SummaryOutputs};
use super::config_fields::{GENERATION, REFUSED, field, is_known};
use crate::TokenId;
use crate::error::{Error, Result};
use crate::spec::{
    Activation, HeadSettings, Hyperparameters, ModelClass, ProblemType, Summary, SummaryType,
};

/// The configuration of a checkpoint.
#[derive(Debug)]
pub(super) struct Config {
    /// What it says of the model; `vocab_size` is what the file claims until the embedding is read.
    pub hyperparameters: Hyperparameters,
    /// What it says of the class.
    pub claim: Claim,
    /// Fields that are not known and might matter.
    pub warnings: Vec<String>,
    /// Settings for generation that old checkpoints keep here.
    pub generation: Map<String, Value>,
}

/// Most labels a configuration may name.
const MAX_LABELS: usize = 1 << 20;

impl Config {
    /// Interprets the object of a `config.json`; `place` (the file) begins the messages.
    ///
    /// Missing fields have GPT-2's defaults.
    ///
    /// # Errors
    /// [`Error::Format`] for values of the wrong type or out of range; [`Error::Unsupported`] for
    /// another model type, an unknown activation, or a feature that is refused.
    pub(super) fn parse(place: &str, object: &Map<String, Value>) -> Result<Self> {
        let fields = Fields { place, object };
        if let Some(model_type) = fields.string(field::MODEL_TYPE)?
            && model_type != "gpt2"
        {
            return Err(Error::Unsupported(format!(
                "{place}: model_type '{model_type}'; only 'gpt2' is converted"
            )));
        }
        for (name, what) in REFUSED {
            if object.get(*name).is_some_and(|value| !is_off(value)) {
                let method = object
                    .get(*name)
                    .and_then(|value| value.get("quant_method"));
                let by = method
                    .and_then(Value::as_str)
                    .map_or_else(String::new, |method| {
                        format!(" with '{method}'; convert the model that they were made from")
                    });
                return Err(Error::Unsupported(format!("{place}: {name} ({what}{by})")));
            }
        }
        let n_embd = fields.size(field::EMBD)?.unwrap_or(768);
        let hyperparameters = Hyperparameters {
            vocab_size: fields.size(field::VOCAB_SIZE)?.unwrap_or(50257),
            n_positions: fields.size(field::POSITIONS)?.unwrap_or(1024),
            n_embd,
            n_layer: fields.size(field::LAYER)?.unwrap_or(12),
            n_head: fields.size(field::HEAD)?.unwrap_or(12),
            n_inner: fields
                .size(field::INNER)?
                .unwrap_or(n_embd.saturating_mul(4)),
            layer_norm_epsilon: fields.number(field::EPSILON)?.unwrap_or(1e-5) as f32,
            activation_function: fields
                .string(field::ACTIVATION)?
                .map_or(Ok(Activation::GeluNew), Activation::from_name)?,
            scale_attn_weights: fields.boolean(field::SCALE_ATTENTION)?.unwrap_or(true),
            scale_attn_by_inverse_layer_idx: fields
                .boolean(field::SCALE_BY_LAYER)?
                .unwrap_or(false),
            tied_head: fields.boolean(field::TIED)?.unwrap_or(true),
            bos: fields.tokens(field::BOS)?.first().copied(),
            eos: fields.tokens(field::EOS)?,
            pad: fields.tokens(field::PAD)?.first().copied(),
            head: HeadSettings {
                outputs: 0,
                labels: fields.labels()?,
                problem_type: fields
                    .string(field::PROBLEM_TYPE)?
                    .map(ProblemType::from_name)
                    .transpose()?,
                summary: Summary {
                    kind: fields
                        .string(field::SUMMARY_TYPE)?
                        .map_or(Ok(SummaryType::default()), SummaryType::from_name)?,
                    activation: fields
                        .string(field::SUMMARY_ACTIVATION)?
                        .filter(|name| !name.is_empty())
                        .map(Activation::from_name)
                        .transpose()?,
                },
            },
            class: ModelClass::default(),
        };
        hyperparameters.validate(place)?;
        let projection = fields
            .boolean(field::SUMMARY_USE_PROJECTION)?
            .unwrap_or(true);
        let to_labels = fields.boolean(field::SUMMARY_TO_LABELS)?.unwrap_or(true);
        let warnings = object
            .iter()
            .filter(|(name, value)| !is_known(name) && !value.is_null())
            .map(|(name, _)| {
                format!("config.json: the field '{name}' is not known and was ignored")
            })
            .collect();
        let generation = object
            .iter()
            .filter(|(name, value)| GENERATION.contains(&name.as_str()) && !value.is_null())
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        Ok(Self {
            claim: Claim {
                architectures: fields.strings(field::ARCHITECTURES)?,
                summary_outputs: match (projection, to_labels) {
                    (false, _) => SummaryOutputs::NoProjection,
                    (true, true) => SummaryOutputs::One,
                    (true, false) => SummaryOutputs::Embd,
                },
            },
            hyperparameters,
            warnings,
            generation,
        })
    }
}

/// The token ids a field of `object` holds: an integer, a list of them, or nothing.
///
/// # Errors
/// [`Error::Format`] for anything else.
pub(super) fn token_ids(
    place: &str,
    object: &Map<String, Value>,
    name: &str,
) -> Result<Vec<TokenId>> {
    let id = |value: &Value| {
        value
            .as_u64()
            .and_then(|id| TokenId::try_from(id).ok())
            .ok_or_else(|| {
                Error::format(
                    format!("{place}: {name}"),
                    format!("expected a token id, found {value}"),
                )
            })
    };
    match object.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(values)) => values.iter().map(id).collect(),
        // Some training scripts write -1 for "none".
        Some(value) if value.as_i64() == Some(-1) => Ok(Vec::new()),
        Some(value) => Ok(vec![id(value)?]),
    }
}

/// A line for each of a model's own tokens that is outside its vocabulary. Configurations keep
/// GPT-2's ids beside smaller vocabularies; the ids are left out.
pub(super) fn outside_vocabulary(model: &Hyperparameters) -> Vec<String> {
    let named = |name: &'static str, ids: &[TokenId]| {
        ids.iter()
            .filter(|id| **id as usize >= model.vocab_size)
            .map(|id| {
                format!(
                    "config.json: {name} is {id}, but the model has {} tokens; left out",
                    model.vocab_size
                )
            })
            .collect::<Vec<_>>()
    };
    [
        named("bos_token_id", model.bos.as_slice()),
        named("eos_token_id", &model.eos),
        named("pad_token_id", model.pad.as_slice()),
    ]
    .concat()
}

/// Whether a value means that a feature is not used.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// The object, with typed access that names file and field in errors.
struct Fields<'a> {
    place: &'a str,
    object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// The value under one of its names; two that differ are an error.
    fn get(&self, names: &[&str]) -> Result<Option<(&'a Value, String)>> {
        let mut found: Option<(&Value, String)> = None;
        for name in names {
            let Some(value) = self.object.get(*name).filter(|value| !value.is_null()) else {
                continue;
            };
            match &found {
                Some((first, place)) if *first != value => {
                    return Err(Error::format(
                        place,
                        format!("is {first}, but its other name {name} is {value}"),
                    ));
                }
                _ => found = Some((value, format!("{}: {name}", self.place))),
            }
        }
        Ok(found)
    }

    /// A value that `convert` understands, else an error saying what was expected.
    fn typed<T>(
        &self,
        names: &[&str],
        expected: &str,
        convert: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        self.get(names)?
            .map(|(value, place)| {
                convert(value).ok_or_else(|| {
                    Error::format(place, format!("expected {expected}, found {value}"))
                })
            })
            .transpose()
    }

    fn size(&self, names: &[&str]) -> Result<Option<usize>> {
        self.typed(names, "a positive integer", |value| {
            value
                .as_u64()
                .filter(|size| *size > 0)
                .and_then(|size| usize::try_from(size).ok())
        })
    }

    fn number(&self, names: &[&str]) -> Result<Option<f64>> {
        self.typed(names, "a number", Value::as_f64)
    }

    fn boolean(&self, names: &[&str]) -> Result<Option<bool>> {
        self.typed(names, "true or false", Value::as_bool)
    }

    fn string(&self, names: &[&str]) -> Result<Option<&'a str>> {
        self.typed(names, "a string", Value::as_str)
    }

    /// A list of strings; empty when it is not there.
    fn strings(&self, names: &[&str]) -> Result<Vec<String>> {
        let list = self.typed(names, "a list of strings", |value| {
            let texts = value.as_array()?.iter();
            texts
                .map(|text| text.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
        })?;
        Ok(list.unwrap_or_default())
    }

    /// The labels by id, from `id2label`, else as many as `num_labels` says; an id without a name
    /// gets transformers' `LABEL_n`. transformers takes the number of names for the number of
    /// outputs, so names of ids beyond it name nothing.
    fn labels(&self) -> Result<Vec<String>> {
        let named = self.typed(field::LABELS, "a map from ids to labels", |value| {
            let entries = value.as_object()?.iter();
            entries
                .map(|(id, label)| {
                    let id: usize = id.parse().ok().filter(|id| *id < MAX_LABELS)?;
                    Some((id, label.as_str()?.to_owned()))
                })
                .collect::<Option<BTreeMap<usize, String>>>()
        })?;
        let count = self
            .size(field::LABEL_COUNT)?
            .map(|count| count.min(MAX_LABELS));
        let named = named.unwrap_or_default();
        let count = Some(named.len()).filter(|&names| names > 0).or(count);
        Ok((0..count.unwrap_or(0))
            .map(|id| {
                named
                    .get(&id)
                    .cloned()
                    .unwrap_or_else(|| format!("LABEL_{id}"))
            })
            .collect())
    }

    fn tokens(&self, names: &[&str]) -> Result<Vec<TokenId>> {
        for name in names {
            let ids = token_ids(self.place, self.object, name)?;
            if !ids.is_empty() {
                return Ok(ids);
            }
        }
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(value: Value) -> Result<Config> {
        let Value::Object(object) = value else {
            unreachable!("tests pass objects")
        };
        Config::parse("config.json", &object)
    }

    fn refusal(value: Value) -> String {
        parse(value).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_configuration_is_gpt2_itself() {
        let config = parse(json!({})).unwrap();
        let gpt2 = config.hyperparameters;
        assert_eq!(
            (gpt2.vocab_size, gpt2.n_positions, gpt2.n_embd, gpt2.n_layer),
            (50257, 1024, 768, 12)
        );
        assert_eq!(
            (gpt2.n_head, gpt2.n_inner, gpt2.layer_norm_epsilon),
            (12, 3072, 1e-5)
        );
        assert_eq!(gpt2.activation_function, Activation::GeluNew);
        assert!(gpt2.scale_attn_weights && gpt2.tied_head);
        assert!(!gpt2.scale_attn_by_inverse_layer_idx);
        assert!(config.warnings.is_empty());
    }

    #[test]
    fn aliases_are_read_and_must_agree() {
        let config = parse(json!({
            "hidden_size": 64, "num_attention_heads": 2, "num_hidden_layers": 3,
            "max_position_embeddings": 32, "n_inner": 100, "activation_function": "relu",
            "scale_attn_by_inverse_layer_idx": true, "scale_attn_weights": false,
            "tie_word_embeddings": false, "eos_token_ids": [7, 8]
        }))
        .unwrap()
        .hyperparameters;
        assert_eq!(
            (
                config.n_embd,
                config.n_head,
                config.n_layer,
                config.n_positions
            ),
            (64, 2, 3, 32)
        );
        assert_eq!(
            (config.n_inner, config.activation_function),
            (100, Activation::Relu)
        );
        assert!(config.scale_attn_by_inverse_layer_idx && !config.scale_attn_weights);
        assert!(!config.tied_head);
        assert_eq!(config.eos, [7, 8]);
        let message = refusal(json!({"n_embd": 64, "hidden_size": 128}));
        assert!(message.contains("n_embd") && message.contains("hidden_size"));
    }

    #[test]
    fn what_is_not_run_is_refused_by_name() {
        for (value, word) in [
            (json!({"model_type": "gptj"}), "gptj"),
            (json!({"add_cross_attention": true}), "add_cross_attention"),
            (json!({"pruned_heads": {"0": [1]}}), "pruned_heads"),
            (
                json!({"quantization_config": {"bits": 4}}),
                "quantization_config",
            ),
            (json!({"activation_function": "prelu"}), "prelu"),
            (json!({"n_embd": 100, "n_head": 3}), "n_head 3"),
            (json!({"n_embd": 0}), "n_embd"),
            (json!({"n_embd": 4_000_000_000_u64}), "n_embd: expected"),
            (json!({"n_layer": "12"}), "n_layer"),
            (json!({"scale_attn_weights": "yes"}), "scale_attn_weights"),
            (json!({"eos_token_id": "end"}), "eos_token_id"),
            (json!({"layer_norm_epsilon": -1.0}), "epsilon"),
        ] {
            let message = refusal(value);
            assert!(message.contains(word), "{message}");
        }
    }

    #[test]
    fn ids_outside_the_vocabulary_are_told_and_not_refused() {
        let mut model = parse(json!({"eos_token_id": [7, 300], "pad_token_id": 301}))
            .unwrap()
            .hyperparameters;
        assert!(outside_vocabulary(&model).is_empty());
        model.vocab_size = 300;
        let lines = outside_vocabulary(&model);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].contains("eos_token_id is 300"), "{lines:?}");
        assert!(lines[1].contains("pad_token_id is 301"), "{lines:?}");
    }

    #[test]
    fn every_activation_of_the_reference_is_known() {
        for name in [
            "gelu",
            "gelu_python",
            "gelu_new",
            "gelu_accurate",
            "gelu_pytorch_tanh",
            "gelu_python_tanh",
            "gelu_fast",
            "quick_gelu",
            "gelu_10",
            "relu",
            "relu2",
            "relu6",
            "leaky_relu",
            "silu",
            "swish",
            "tanh",
            "sigmoid",
            "linear",
            "mish",
            "laplace",
            "hardswish",
        ] {
            assert!(
                parse(json!({"activation_function": name})).is_ok(),
                "{name}"
            );
        }
    }

    #[test]
    fn as_many_labels_as_names() {
        let labels = |value: Value| parse(value).unwrap().hyperparameters.head.labels;
        let named = labels(json!({"id2label": {"0": "a", "7": "b", "1": "c"}}));
        assert_eq!(named, ["a", "c", "LABEL_2"]);
        assert_eq!(labels(json!({"num_labels": 2})), ["LABEL_0", "LABEL_1"]);
        assert!(labels(json!({})).is_empty());
    }

    #[test]
    fn unknown_fields_are_warned_about() {
        let config = parse(json!({"attn_pdrop": 0.1, "alibi": true, "max_length": 50})).unwrap();
        assert_eq!(config.warnings.len(), 1);
        assert!(
            config
                .warnings
                .iter()
                .any(|warning| warning.contains("'alibi'"))
        );
        assert_eq!(config.generation.get("max_length"), Some(&json!(50)));
    }
}
