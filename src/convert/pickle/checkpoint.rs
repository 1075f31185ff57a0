//! What a pickle is as a whole: a state dict, or the checkpoint of a training that holds one beside
//! the optimizer's state, counters and settings, of which nothing else is read.

use std::collections::HashSet;

use serde_json::{Map, Value as Json};

use super::machine::Machine;
use super::state_dict::{kind, tensors};
use super::value::Value;
use super::view::Packed;
use crate::convert::stored_tensor::{FileConfig, Parsed};
use crate::error::{Error, Result};

/// The end of a name by which the state dict of a GPT-2 is known.
const EMBEDDING: &str = "wte.weight";
/// Levels of dictionaries that are searched for the state dict.
const DEEPEST: usize = 3;
/// How many names a message lists.
const LISTED: usize = 8;
/// Where training scripts of nanoGPT's family keep the model's sizes: in a dictionary, or as
/// attributes of an object.
const SIZES: &[&str] = &[
    "model_args",
    "model_config",
    "config",
    "hyper_parameters",
    "args",
];
/// nanoGPT's names of the sizes, and those of `config.json`.
const FIELDS: &[(&str, &str)] = &[
    ("block_size", "n_positions"),
    ("n_layer", "n_layer"),
    ("n_head", "n_head"),
    ("n_embd", "n_embd"),
];

/// A dictionary in a pickle, and the name it is under.
struct Named<'a> {
    name: String,
    value: Value<'a>,
    /// The dictionary that it is in.
    parent: Value<'a>,
}

/// The tensors of the one state dict in `root`, and the sizes that are beside it; `packed` finds a
/// storage's bytes by its key.
///
/// # Errors
/// As those of [`tensors`]; [`Error::Unsupported`] for a checkpoint with several state dicts of a
/// GPT-2, or with none.
pub(super) fn contents<'p>(
    machine: &Machine,
    root: Value,
    packed: impl Fn(&str) -> Option<&'p Packed>,
) -> Result<Parsed> {
    let entries = machine.dictionary(root).unwrap_or_default();
    let is_dictionary = |value: Value| machine.dictionary(value).is_some();
    if is_state_dict(machine, root) || !entries.iter().any(|(_, value)| is_dictionary(*value)) {
        return tensors(machine, root, packed).map(Parsed::from);
    }
    let found = state_dicts(machine, root);
    match &found[..] {
        [one] => {
            let config = config(machine, one.parent).or_else(|| config(machine, root));
            let mut notes = vec![format!(
                "of the training's checkpoint, '{}' was read; left aside: {}",
                one.name,
                names(
                    entries
                        .iter()
                        .filter(|(key, _)| text(*key) != Some(&one.name))
                )
            )];
            if config.is_some() {
                notes.push(ACTIVATION_NOTE.to_owned());
            }
            Ok(Parsed {
                tensors: tensors(machine, one.value, packed)?,
                config,
                notes,
            })
        }
        [] => Err(Error::Unsupported(format!(
            "the pickle is a dictionary of {}; none of it is the state dict of a GPT-2 (no \
             '{EMBEDDING}'); save the model's state dict alone",
            names(entries.iter())
        ))),
        several => {
            let several: Vec<&str> = several.iter().map(|one| one.name.as_str()).collect();
            Err(Error::Unsupported(format!(
                "the pickle has several state dicts: {}; save one alone",
                several.join(", ")
            )))
        }
    }
}

/// What is said of the activation function, which nanoGPT's checkpoints do not name.
const ACTIVATION_NOTE: &str = "the sizes are those that nanoGPT wrote; its activation function is \
                               GELU by erf since June 2023 and by tanh in checkpoints without \
                               'bias' among the sizes; for another, write a config.json beside \
                               the file";

/// Whether a value is a dictionary with a GPT-2's token embedding.
fn is_state_dict(machine: &Machine, value: Value) -> bool {
    let entries = machine.dictionary(value).unwrap_or_default();
    entries.iter().any(|(key, value)| {
        matches!(value, Value::Tensor(_))
            && text(*key).is_some_and(|name| {
                let before = name.strip_suffix(EMBEDDING);
                before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
            })
    })
}

/// The state dicts inside `root`, each once.
fn state_dicts<'a>(machine: &Machine<'a>, root: Value<'a>) -> Vec<Named<'a>> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut level = vec![(String::new(), root)];
    for _ in 0..DEEPEST {
        let mut next = Vec::new();
        for (path, parent) in level {
            for &(key, value) in machine.dictionary(parent).unwrap_or_default() {
                let (Value::Dictionary(number), Some(key)) = (value, text(key)) else {
                    continue;
                };
                if !seen.insert(number) {
                    continue;
                }
                let shown: String = key.escape_debug().take(60).collect();
                let name = if path.is_empty() {
                    shown
                } else {
                    format!("{path}.{shown}")
                };
                if is_state_dict(machine, value) {
                    found.push(Named {
                        name,
                        value,
                        parent,
                    });
                } else {
                    next.push((name, value));
                }
            }
        }
        level = next;
    }
    found
}

/// The sizes of a model of nanoGPT's family, as fields of a `config.json`.
fn config(machine: &Machine, parent: Value) -> Option<FileConfig> {
    let entries = machine.dictionary(parent)?;
    let named = |name: &&str| {
        let found = entries.iter().find(|(key, _)| text(*key) == Some(name));
        let (_, value) = found?;
        let fields = machine.dictionary(*value);
        fields.or_else(|| machine.attributes(*value))
    };
    SIZES.iter().filter_map(named).find_map(fields)
}

/// The fields of a `config.json` from nanoGPT's; `None` when they are not all there.
fn fields(given: &[(Value, Value)]) -> Option<FileConfig> {
    let get = |name: &str| {
        let found = given.iter().find(|(key, _)| text(*key) == Some(name));
        found.map(|(_, value)| *value)
    };
    let mut fields = Map::new();
    for (theirs, ours) in FIELDS {
        let Value::Integer(size) = get(theirs)? else {
            return None;
        };
        fields.insert((*ours).to_owned(), size.into());
    }
    // The embedding's rows decide; without the field GPT-2's number would be taken for claimed.
    if let Some(Value::Integer(size)) = get("vocab_size") {
        fields.insert("vocab_size".to_owned(), size.into());
    }
    let activation = match get("bias") {
        Some(_) => "gelu",
        None => "gelu_new",
    };
    for (name, value) in [("model_type", "gpt2"), ("activation_function", activation)] {
        fields.insert(name.to_owned(), value.into());
    }
    let architectures = Json::Array(vec!["GPT2LMHeadModel".into()]);
    fields.insert("architectures".to_owned(), architectures);
    Some(FileConfig {
        place: "the sizes in the checkpoint",
        fields,
    })
}

/// The names of entries, for messages.
fn names<'e, 'a: 'e>(entries: impl Iterator<Item = &'e (Value<'a>, Value<'a>)>) -> String {
    let mut names: Vec<String> = entries
        .take(LISTED + 1)
        .map(|(key, _)| match text(*key) {
            Some(name) => name.escape_debug().take(60).collect(),
            None => kind(*key).to_owned(),
        })
        .collect();
    if names.is_empty() {
        return "nothing".to_owned();
    }
    if names.len() > LISTED {
        names.truncate(LISTED);
        names.push("...".to_owned());
    }
    names.join(", ")
}

fn text(value: Value<'_>) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}
