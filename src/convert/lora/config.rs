//! What an adapter's `adapter_config.json` says: the scale of each module's product, and whether it
//! can be merged at all.

use std::path::Path;

use regex_lite::Regex;
use serde_json::{Map, Value as Json};

use crate::convert::json::read_json;
use crate::error::{Error, Result};

/// Settings of a merged adapter.
pub(super) struct AdapterConfig {
    rank: u64,
    alpha: f64,
    /// Whether the scale is alpha over the rank's square root.
    rank_stabilized: bool,
    /// Other ranks and alphas for the modules that a pattern fits.
    ranks: Vec<(Regex, u64)>,
    alphas: Vec<(Regex, f64)>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Settings that make an adapter something else than a product to be added, when they are set.
const REFUSED: &[&str] = &[
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "mica_config",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
];

/// Initializations that change the base model's weights, too: such an adapter belongs to a base
/// that is not the one it names.
const CHANGING_BASE: &[&str] = &["pissa", "olora", "corda", "loftq", "lora_ga"];

/// Settings without effect on the merged weights. What the tensors show by themselves is among
/// them: which modules are adapted, which are saved whole, which have biases, which magnitudes.
const WITHOUT_EFFECT: &[&str] = &[
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "enable_lora",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_bias",
    "lora_dropout",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "merge_weights",
    "modules_to_save",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_dora",
    "velora_config",
];

/// Settings that are read.
const READ: &[&str] = &[
    "alpha_pattern",
    "init_lora_weights",
    "lora_alpha",
    "peft_type",
    "r",
    "rank_pattern",
    "use_rslora",
];

impl AdapterConfig {
    /// Reads `adapter_config.json`.
    ///
    /// # Errors
    /// Those of reading it; [`Error::Format`] for values of the wrong type; [`Error::Unsupported`]
    /// for another kind of adapter, and for settings that cannot be merged.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let mut warnings = Vec::new();
        let object: Map<String, Json> = read_json(path, &mut warnings)?;
        Self::parse(&object, warnings).map_err(|error| error.within(path.display().to_string()))
    }

    fn parse(object: &Map<String, Json>, mut warnings: Vec<String>) -> Result<Self> {
        let kind = object.get("peft_type").and_then(Json::as_str);
        if kind != Some("LORA") {
            return Err(Error::Unsupported(format!(
                "peft_type {}; only LORA can be merged into the weights here",
                kind.map_or_else(|| "is missing".to_owned(), |kind| format!("'{kind}'"))
            )));
        }
        for name in REFUSED {
            if object.get(*name).is_some_and(is_set) {
                return Err(Error::Unsupported(format!(
                    "{name}: an adapter with it is not merged; merge it with PEFT"
                )));
            }
        }
        let start = object.get("init_lora_weights").and_then(Json::as_str);
        if let Some(start) = start.filter(|start| is_changing_base(start)) {
            return Err(Error::Unsupported(format!(
                "init_lora_weights '{start}' changes the base model, too; save the adapter with \
                 PEFT's path_initial_model_for_weight_conversion"
            )));
        }
        let known = [REFUSED, WITHOUT_EFFECT, READ].concat();
        warnings.extend(
            object
                .iter()
                .filter(|(name, value)| !known.contains(&name.as_str()) && is_set(value))
                .map(|(name, _)| {
                    format!("adapter_config.json: the field '{name}' is not known and was ignored")
                }),
        );
        let rank = |value: &Json| value.as_u64().filter(|rank| *rank > 0);
        let alpha = |value: &Json| value.as_f64().filter(|alpha| alpha.is_finite());
        Ok(Self {
            rank: field(object, "r", "a positive integer", rank)?.unwrap_or(8),
            alpha: field(object, "lora_alpha", "a number", alpha)?.unwrap_or(8.0),
            rank_stabilized: field(object, "use_rslora", "true or false", Json::as_bool)?
                .unwrap_or(false),
            ranks: patterns(object, "rank_pattern", rank)?,
            alphas: patterns(object, "alpha_pattern", alpha)?,
            warnings,
        })
    }

    /// The factor of a module's product. `rank` is what its tensors have.
    ///
    /// # Errors
    /// [`Error::Format`] when the configuration has another rank.
    pub(super) fn scale(&self, module: &str, rank: u64) -> Result<f64> {
        let expected = fitting(&self.ranks, module).unwrap_or(self.rank);
        if rank != expected {
            return Err(Error::format(
                format!("adapter of '{module}'"),
                format!("expected rank {expected}, as adapter_config.json says, found {rank}"),
            ));
        }
        let alpha = fitting(&self.alphas, module).unwrap_or(self.alpha);
        let rank = rank as f64;
        Ok(alpha
            / if self.rank_stabilized {
                rank.sqrt()
            } else {
                rank
            })
    }
}

fn fitting<T: Copy>(patterns: &[(Regex, T)], module: &str) -> Option<T> {
    let mut patterns = patterns.iter();
    patterns.find_map(|(pattern, value)| pattern.is_match(module).then_some(*value))
}

fn is_changing_base(start: &str) -> bool {
    let start = start.to_ascii_lowercase();
    CHANGING_BASE.iter().any(|known| start.starts_with(known))
}

/// Whether a setting is other than off.
fn is_set(value: &Json) -> bool {
    match value {
        Json::Null | Json::Bool(false) => false,
        Json::Array(values) => !values.is_empty(),
        Json::Object(fields) => !fields.is_empty(),
        _ => true,
    }
}

fn field<T>(
    object: &Map<String, Json>,
    name: &str,
    expected: &str,
    convert: impl Fn(&Json) -> Option<T>,
) -> Result<Option<T>> {
    let value = object.get(name).filter(|value| !value.is_null());
    value
        .map(|value| {
            convert(value)
                .ok_or_else(|| Error::format(name, format!("expected {expected}, found {value}")))
        })
        .transpose()
}

/// The values of modules whose path, or its end, fits a pattern, as PEFT matches them.
fn patterns<T>(
    object: &Map<String, Json>,
    name: &str,
    convert: impl Fn(&Json) -> Option<T>,
) -> Result<Vec<(Regex, T)>> {
    let Some(value) = object.get(name).filter(|value| is_set(value)) else {
        return Ok(Vec::new());
    };
    let wrong = |found: String| Error::format(name, format!("expected numbers by module{found}"));
    let entries = value.as_object().ok_or_else(|| wrong(String::new()))?;
    let entry = |(pattern, value): (&String, &Json)| {
        let value = convert(value).ok_or_else(|| wrong(format!(", found {value}")))?;
        let pattern = Regex::new(&format!(r"^(.*\.)?({pattern})$"))
            .map_err(|error| Error::format(name, format!("pattern '{pattern}': {error}")))?;
        Ok((pattern, value))
    };
    entries.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(value: Json) -> Result<AdapterConfig> {
        let Json::Object(object) = value else {
            unreachable!("tests pass objects")
        };
        AdapterConfig::parse(&object, Vec::new())
    }

    #[test]
    fn the_scale_is_alpha_over_the_rank_or_its_root() {
        let plain = json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8});
        assert_eq!(parse(plain).unwrap().scale("h.0.attn", 4).unwrap(), 2.0);
        let rooted = json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_rslora": true});
        assert_eq!(parse(rooted).unwrap().scale("h.0.attn", 4).unwrap(), 4.0);
    }

    #[test]
    fn patterns_fit_a_path_or_its_end() {
        let config = parse(json!({
            "peft_type": "LORA", "r": 4, "lora_alpha": 8,
            "rank_pattern": {"h.1.attn.c_attn": 2}, "alpha_pattern": {r"h\.\d\.mlp\..*": 3}
        }))
        .unwrap();
        assert_eq!(config.scale("transformer.h.1.attn.c_attn", 2).unwrap(), 4.0);
        assert_eq!(config.scale("transformer.h.0.attn.c_attn", 4).unwrap(), 2.0);
        assert_eq!(config.scale("h.0.mlp.c_fc", 4).unwrap(), 0.75);
        let message = config
            .scale("h.1.attn.c_attn", 4)
            .err()
            .unwrap()
            .to_string();
        assert!(message.contains("expected rank 2"), "{message}");
    }

    #[test]
    fn what_cannot_be_merged_is_refused_by_name() {
        for (value, word) in [
            (json!({}), "peft_type is missing"),
            (json!({"peft_type": "PREFIX_TUNING"}), "PREFIX_TUNING"),
            (
                json!({"peft_type": "LORA", "use_qalora": true}),
                "use_qalora",
            ),
            (
                json!({"peft_type": "LORA", "init_lora_weights": "pissa_niter_4"}),
                "pissa_niter_4",
            ),
            (json!({"peft_type": "LORA", "r": 0}), "r: expected"),
            (
                json!({"peft_type": "LORA", "lora_alpha": "8"}),
                "lora_alpha",
            ),
            (
                json!({"peft_type": "LORA", "rank_pattern": {"(": 2}}),
                "rank_pattern",
            ),
        ] {
            let message = parse(value).err().unwrap().to_string();
            assert!(message.contains(word), "{message}");
        }
        let unknown = parse(json!({"peft_type": "LORA", "new": 1, "other": null})).unwrap();
        assert_eq!(unknown.warnings.len(), 1);
    }
}
