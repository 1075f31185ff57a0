//! Tensors that are not GPT-2's: which say that the weights are in another form, which belong to
//! another model, and which may be left out.

use crate::error::{Error, Result};
use crate::spec::tensor_table::{Module, checkpoint_paths_of, class_of_head};

/// Parts of a layer that only models with cross-attention have.
const CROSS_ATTENTION: &[&str] = &[".crossattention.", ".ln_cross_attn."];

/// Heads for training alone, by which reinforcement learning estimates values.
const TRAINING_HEADS: &[&str] = &["v_head", "value_head", "critic_head"];

/// Models that are GPT-2 but for some tensor, by a part of its name.
const OTHER_MODELS: &[(&str, &str)] = &[
    (
        "emb_norm",
        "a normalization after the embedding (GROVER, gpt2-ml, the first AraGPT2)",
    ),
    ("inv_freq", "a model with rotary positions"),
    ("rotary", "a model with rotary positions"),
    ("lm_head.bias", "a head with a bias"),
    ("prefix_encoder", "a model with a learned prefix"),
];

/// Levels of names that say that the weights are in another form.
const OTHER_FORMS: &[(&str, &str)] = &[
    (".qweight.", GPTQ),
    (".qzeros.", GPTQ),
    (".g_idx.", GPTQ),
    (".SCB.", BITSANDBYTES),
    (".absmax.", BITSANDBYTES),
    (".quant_map.", BITSANDBYTES),
    (".lora_A.", ADAPTER),
    (".lora_B.", ADAPTER),
    (".lora_embedding_A.", ADAPTER),
    (".base_layer.", ADAPTER),
];
const GPTQ: &str = "weights quantized by GPTQ or AWQ; convert the model that they were made from";
const BITSANDBYTES: &str =
    "weights quantized by bitsandbytes; convert the model that they were made from";
const ADAPTER: &str = "an adapter of PEFT beside the model's weights; merge it \
                       (merge_and_unload) and save the result, or name the model as the source \
                       and the adapter's folder as an adapter";

/// Refuses weights that another library quantized, and adapters beside a model's weights: their
/// names tell more than a missing tensor would.
///
/// # Errors
/// [`Error::Unsupported`] by name.
pub(super) fn refuse_other_forms(paths: &[&str]) -> Result<()> {
    for path in paths {
        let levels = [".", path, "."].concat();
        let known = OTHER_FORMS.iter().find(|(part, _)| levels.contains(part));
        if let Some((_, what)) = known {
            return Err(Error::Unsupported(format!("tensor '{path}': {what}")));
        }
    }
    Ok(())
}

/// Checks the tensors that are left when a model's are found. Those of heads that its class does
/// not use are reported in warnings. The rest is refused: what a model does with a tensor that is
/// not GPT-2's is not known, and a file without it could be another function.
///
/// # Errors
/// [`Error::Unsupported`] by name.
pub(super) fn check_leftovers(left: &[&str]) -> Result<Vec<String>> {
    for path in left {
        if CROSS_ATTENTION.iter().any(|part| path.contains(part)) {
            return Err(Error::Unsupported(format!(
                "tensor '{path}': cross-attention, which this GPT-2 is without"
            )));
        }
        if path.starts_with("h.") || path.starts_with("blk.") {
            return Err(Error::Unsupported(format!(
                "tensor '{path}': a GPT-2 of this configuration has no such tensor"
            )));
        }
        if !is_other_head(path) {
            let what = OTHER_MODELS.iter().find(|(part, _)| path.contains(part));
            let what = what.map_or("a model of another kind", |(_, what)| what);
            return Err(Error::Unsupported(format!(
                "tensor '{path}': no GPT-2 has it, and without it the results could be others; \
                 {what} is not converted. If it changes no result, remove it from the checkpoint"
            )));
        }
    }
    Ok(left
        .iter()
        .map(|path| {
            format!("tensor '{path}' is of a head that this model does not use, and was left out")
        })
        .collect())
}

/// Whether a tensor is of a head beside the one in use, or of one of training alone: without it the
/// model computes the same.
fn is_other_head(path: &str) -> bool {
    let is = |module: &str| {
        let parameter = path.strip_prefix(module);
        parameter.is_some_and(|rest| rest.starts_with('.'))
    };
    class_of_head(path).is_some()
        || checkpoint_paths_of(Module::Output).contains(&path)
        || path == "output.weight"
        || path.starts_with("cls.")
        || TRAINING_HEADS.iter().any(|head| is(head))
}
