//! What the tensors of an adapter are called: the module each is for, and its part in it.

use crate::spec::tensor_table::CHECKPOINT_PREFIX;

/// The part a tensor has in a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AdapterPart {
    /// The factor on the side of the input, `[rank, in]`.
    A,
    /// The factor on the side of the output, `[out, rank]`.
    B,
    /// What is added to the module's bias, `[out]`.
    BiasOfB,
    /// For an embedding: `[rank, rows]`.
    EmbeddingA,
    /// For an embedding: `[columns, rank]`.
    EmbeddingB,
    /// Norms of the rows of the result, `[out]`.
    Magnitude,
    /// A tensor of the model, in place of the base's.
    Whole,
    /// A tensor of the base that the adapter keeps beside its own, and that is not used.
    Original,
}

/// The last levels of names, without the adapter's own name.
const ENDS: &[(&str, AdapterPart)] = &[
    (".lora_A.weight", AdapterPart::A),
    (".lora_B.weight", AdapterPart::B),
    (".lora_B.bias", AdapterPart::BiasOfB),
    (".lora_embedding_A", AdapterPart::EmbeddingA),
    (".lora_embedding_B", AdapterPart::EmbeddingB),
    (".lora_magnitude_vector.weight", AdapterPart::Magnitude),
    (".lora_magnitude_vector", AdapterPart::Magnitude),
];

/// What PEFT puts before every name.
const PREFIXES: &[&str] = &["base_model.model.", "base_model.", CHECKPOINT_PREFIX];
/// Levels that PEFT puts into names of tensors that it wraps.
const WRAPPERS: &[&str] = &["base_layer", "modules_to_save"];
/// The level of a module that another one stands for.
const ORIGINAL: &str = "original_module";
/// The name that an adapter has unless it is given another; in files only when they were saved by
/// other means than PEFT's.
const DEFAULT: &str = "default";

/// The path of the module (of the tensor, for a whole one) as a checkpoint has it, without
/// `transformer.`, and the part.
pub(super) fn parse(name: &str) -> (String, AdapterPart) {
    let mut rest = name;
    for prefix in PREFIXES {
        rest = rest.strip_prefix(prefix).unwrap_or(rest);
    }
    let levels: Vec<&str> = rest
        .split('.')
        .filter(|level| !WRAPPERS.contains(level) && *level != DEFAULT)
        .collect();
    let path = levels.join(".");
    if levels.contains(&ORIGINAL) {
        return (path, AdapterPart::Original);
    }
    for (end, part) in ENDS {
        if let Some(module) = path.strip_suffix(end) {
            return (module.to_owned(), *part);
        }
    }
    (path, AdapterPart::Whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_modules_and_parts() {
        for (name, module, part) in [
            (
                "base_model.model.transformer.h.0.attn.c_attn.lora_A.weight",
                "h.0.attn.c_attn",
                AdapterPart::A,
            ),
            (
                "base_model.model.h.0.attn.c_attn.lora_B.default.weight",
                "h.0.attn.c_attn",
                AdapterPart::B,
            ),
            (
                "base_model.model.transformer.wte.lora_embedding_A",
                "wte",
                AdapterPart::EmbeddingA,
            ),
            (
                "base_model.model.transformer.wte.base_layer.weight",
                "wte.weight",
                AdapterPart::Whole,
            ),
            (
                "base_model.model.score.modules_to_save.default.weight",
                "score.weight",
                AdapterPart::Whole,
            ),
            (
                "base_model.model.transformer.ln_f.original_module.bias",
                "ln_f.original_module.bias",
                AdapterPart::Original,
            ),
            (
                "base_model.model.lm_head.lora_magnitude_vector",
                "lm_head",
                AdapterPart::Magnitude,
            ),
        ] {
            assert_eq!(parse(name), (module.to_owned(), part), "{name}");
        }
    }
}
