//! A checkpoint's names without what wrappers put around a model's.
//!
//! `torch.compile`, data parallelism, sharding and trainers save a model under names that begin
//! with their own, or have it between two levels. Which ones they are is not a list that ends: the
//! prefix of the token embedding is the prefix of the model.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::spec::tensor_table::{CHECKPOINT_PREFIX, Module, checkpoint_paths_of};

/// Levels that wrappers of single layers put between others.
const WRAPPED_LEVELS: &[&str] = &[
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_forward_module",
];

/// Names of a checkpoint as the table of tensors has them.
pub(super) struct Paths {
    /// A path for each name, in their order.
    pub paths: Vec<String>,
    /// What was taken off, a sentence.
    pub note: Option<String>,
}

impl Paths {
    /// Takes off wrappers' parts and `transformer.`.
    ///
    /// # Errors
    /// [`Error::Format`] when the names are those of several models.
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut taken = BTreeSet::new();
        let names: Vec<String> = names.map(|name| unwrapped(name, &mut taken)).collect();
        let prefix = prefix(&names)?;
        let mut paths = Vec::with_capacity(names.len());
        for name in names {
            let own = name.strip_prefix(&prefix).unwrap_or(&name);
            let path = own.strip_prefix(CHECKPOINT_PREFIX).unwrap_or(own);
            paths.push(path.to_owned());
        }
        if !prefix.is_empty() {
            taken.insert(prefix);
        }
        let taken: Vec<String> = taken.iter().map(|part| format!("'{part}'")).collect();
        let note = (!taken.is_empty()).then(|| {
            format!(
                "the tensors' names have {} of a wrapper around the model, which was left off",
                taken.join(", ")
            )
        });
        Ok(Self { paths, note })
    }
}

/// A name without the levels that wrappers put between others; these are added to `taken`.
fn unwrapped(name: &str, taken: &mut BTreeSet<String>) -> String {
    let mut kept = String::with_capacity(name.len());
    for level in name.split('.') {
        if WRAPPED_LEVELS.contains(&level) {
            taken.insert(format!("{level}."));
            continue;
        }
        if !kept.is_empty() {
            kept.push('.');
        }
        kept.push_str(level);
    }
    kept
}

/// What the name of the token embedding has before its path, or that of the head when there is no
/// embedding.
fn prefix(names: &[String]) -> Result<String> {
    for module in [Module::TokenEmbedding, Module::Output] {
        let found: BTreeSet<&str> = names
            .iter()
            .filter_map(|name| {
                let ends = checkpoint_paths_of(module).iter();
                ends.copied().find_map(|end| before(name, end))
            })
            .map(|before| before.strip_suffix(CHECKPOINT_PREFIX).unwrap_or(before))
            .collect();
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (Some(prefix), None) => return Ok(prefix.to_owned()),
            (Some(first), Some(second)) => {
                let path = checkpoint_paths_of(module).first().copied();
                return Err(Error::format(
                    format!("tensor '{}'", path.unwrap_or_default()),
                    format!(
                        "appears with and without a prefix, or with two: '{first}' and '{second}'; \
                         save one model's state dict alone"
                    ),
                ));
            }
            (None, _) => {}
        }
    }
    Ok(String::new())
}

/// What is before the levels `end` at the end of `name`.
fn before<'a>(name: &'a str, end: &str) -> Option<&'a str> {
    let before = name.strip_suffix(end)?;
    (before.is_empty() || before.ends_with('.')).then_some(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[&str]) -> Result<Paths> {
        Paths::of(names.iter().copied())
    }

    #[test]
    fn every_wrappers_prefix_is_taken_off_and_said() {
        for prefix in [
            "_orig_mod.",
            "module.",
            "_module.",
            "base_model.model.",
            "model.",
            "_orig_mod.module.",
            "module._orig_mod.",
            "pretrained_model.",
            "_forward_module.model._fsdp_wrapped_module.",
            "whatever.comes.next.",
        ] {
            for own in ["transformer.", ""] {
                let named = ["wte.weight", "h.0.attn._orig_mod.c_attn.bias"]
                    .map(|path| format!("{prefix}{own}{path}"));
                let head = format!("{prefix}lm_head.weight");
                let found = paths(&[&named[0], &named[1], &head, "v_head.summary.weight"]).unwrap();
                assert_eq!(
                    found.paths,
                    [
                        "wte.weight",
                        "h.0.attn.c_attn.bias",
                        "lm_head.weight",
                        "v_head.summary.weight"
                    ],
                    "{prefix}"
                );
                let note = found.note.unwrap();
                for part in prefix.split_inclusive('.') {
                    assert!(note.contains(part), "{prefix}: {note}");
                }
            }
        }
        let plain = paths(&["transformer.wte.weight", "transformer.h.0.ln_1.bias"]).unwrap();
        assert_eq!(plain.paths, ["wte.weight", "h.0.ln_1.bias"]);
        assert!(plain.note.is_none());
    }

    #[test]
    fn several_models_are_refused_by_their_prefixes() {
        for [first, second] in [
            ["module.transformer.wte.weight", "transformer.wte.weight"],
            ["actor.wte.weight", "critic.wte.weight"],
        ] {
            let message = paths(&[first, second]).err().unwrap().to_string();
            let prefix = first.split('.').next().unwrap();
            assert!(
                message.contains(&format!("'{prefix}.'")) && message.contains("prefix"),
                "{message}"
            );
        }
        // Part of a level's name is no prefix.
        assert!(
            paths(&["xwte.weight", "wte.weight"])
                .unwrap()
                .note
                .is_none()
        );
    }
}
