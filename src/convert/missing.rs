//! Why a folder has no weights that are read: what it has instead, and what to do.

use std::fs;
use std::path::Path;

use super::formats::{WEIGHTS, can_be_named, has_weights};
use crate::error::Error;

/// Entries of a folder that are looked at.
const MOST_ENTRIES: usize = 10_000;
/// Names that a message lists.
const LISTED: usize = 5;

/// Endings of files that a download leaves while it is not done.
const UNFINISHED: &[&str] = &[
    "part",
    "partial",
    "crdownload",
    "download",
    "incomplete",
    "aria2",
];
/// Endings of weights in formats that are not read.
const NOT_READ: &[&str] = &[
    "onnx", "ot", "tflite", "mlmodel", "npz", "engine", "pb", "meta",
];

/// What a folder has.
#[derive(Default)]
struct Entries {
    files: Vec<String>,
    /// Folders in it that have weights.
    checkpoints: Vec<String>,
}

/// The error for a folder without weights.
pub(super) fn no_weights(folder: &Path) -> Error {
    Error::format(folder.display().to_string(), reason(folder))
}

fn reason(folder: &Path) -> String {
    for name in WEIGHTS {
        if let Ok(target) = fs::read_link(folder.join(name)) {
            return format!(
                "{name} is a link to {}, which is not there; download it again",
                target.display()
            );
        }
        if folder.join(name).is_dir() {
            return format!("{name} is a folder; expected a file");
        }
    }
    let entries = Entries::of(folder);
    let with_ending = |endings: &[&str]| entries.files_that(|name| has_ending(name, endings));
    if entries
        .files
        .iter()
        .any(|name| name == "adapter_config.json")
    {
        return "an adapter of PEFT, which changes the weights of another model: name that model \
                as the source and this folder as the adapter, or merge them (merge_and_unload) \
                and save the result"
            .to_owned();
    }
    if let Some(newest) = entries.checkpoints.last() {
        return format!(
            "no weights, but in folders inside it: {}; name one, such as {}",
            listed(&entries.checkpoints),
            folder.join(newest).display()
        );
    }
    let shards = entries.files_that(|name| name.contains("-of-") && can_be_named(name));
    if !shards.is_empty() {
        return format!(
            "shards without the index that names them ({}); download {} too",
            listed(&shards),
            if shards.iter().any(|name| has_ending(name, &["bin"])) {
                "pytorch_model.bin.index.json"
            } else {
                "model.safetensors.index.json"
            }
        );
    }
    let unfinished = with_ending(UNFINISHED);
    if !unfinished.is_empty() {
        return format!(
            "no weights but an unfinished download ({}); download them again",
            listed(&unfinished)
        );
    }
    let readable = entries.files_that(|name| can_be_named(name) && !is_of_a_training(name));
    if !readable.is_empty() {
        return format!(
            "no weights under a name that is looked for; found {}: name the file itself",
            listed(&readable)
        );
    }
    let other = with_ending(NOT_READ);
    if !other.is_empty() {
        return format!(
            "no weights in a format that is read; found {}, expected one of {}",
            listed(&other),
            WEIGHTS.join(", ")
        );
    }
    format!(
        "no weights: expected one of {}, or TensorFlow's model.ckpt.index{}",
        WEIGHTS.join(", "),
        if entries.files.is_empty() {
            "; the folder is empty"
        } else {
            ""
        }
    )
}

impl Entries {
    fn of(folder: &Path) -> Self {
        let mut all = Self::default();
        for entry in fs::read_dir(folder)
            .into_iter()
            .flatten()
            .take(MOST_ENTRIES)
        {
            let Ok(entry) = entry else { continue };
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                if has_weights(&path) {
                    all.checkpoints.push(name);
                }
            } else {
                all.files.push(name);
            }
        }
        all.files.sort_unstable();
        // checkpoint-1000 is newer than checkpoint-500.
        all.checkpoints
            .sort_by_key(|name| (number_at_end(name), name.clone()));
        all
    }

    fn files_that(&self, is_meant: impl Fn(&str) -> bool) -> Vec<String> {
        let files = self.files.iter().filter(|name| is_meant(name));
        files.cloned().collect()
    }
}

/// The number that a name ends in.
fn number_at_end(name: &str) -> Option<u64> {
    let digits = name.trim_end_matches(|character: char| character.is_ascii_digit());
    name.get(digits.len()..)?.parse().ok()
}

/// Files that trainers write beside the weights under an ending of weights.
fn is_of_a_training(name: &str) -> bool {
    [
        "optimizer",
        "scheduler",
        "rng_state",
        "training_args",
        "scaler",
    ]
    .iter()
    .any(|start| name.starts_with(start))
}

fn has_ending(name: &str, endings: &[&str]) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(_, ending)| endings.contains(&ending))
}

/// The first and last names of a list.
fn listed(names: &[String]) -> String {
    if names.len() <= LISTED {
        return names.join(", ");
    }
    let first = names.get(..LISTED - 1).unwrap_or_default().join(", ");
    let last = names.last().map_or("", String::as_str);
    format!("{first} ... {last}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a folder with these files, which are empty.
    fn said(files: &[&str]) -> String {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        no_weights(folder.path()).to_string()
    }

    #[test]
    fn what_a_folder_has_instead_is_said() {
        for (files, words) in [
            (
                &["adapter_config.json", "adapter_model.safetensors"][..],
                &["adapter"][..],
            ),
            (
                &[
                    "checkpoint-500/model.safetensors",
                    "checkpoint-1000/pytorch_model.bin",
                    "runs/events",
                    "config.json",
                ],
                &[
                    "checkpoint-500, checkpoint-1000",
                    "such as",
                    "/checkpoint-1000",
                ],
            ),
            (
                &["model-00001-of-00002.safetensors"],
                &["model.safetensors.index.json"],
            ),
            (
                &["pytorch_model-00001-of-00002.bin"],
                &["pytorch_model.bin.index.json"],
            ),
            (&["model.safetensors.part"], &["unfinished download"]),
            (
                &["model.safetensors/data"],
                &["model.safetensors is a folder; expected a file"],
            ),
            (
                &["gpt2-q8_0.gguf", "optimizer.pt"],
                &["found gpt2-q8_0.gguf: name the file itself"],
            ),
            (&["model.onnx"], &["found model.onnx", "model.safetensors"]),
            (
                &["config.json"],
                &["no weights: expected one of model.safetensors"],
            ),
            (&[], &["the folder is empty"]),
        ] {
            let message = said(files);
            for word in words {
                assert!(message.contains(word), "{files:?}: {message}");
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_nothing_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("model.safetensors");
        std::os::unix::fs::symlink("../../blobs/0123", link).unwrap();
        let message = no_weights(folder.path()).to_string();
        assert!(
            message.contains("model.safetensors is a link to ../../blobs/0123, which is not there"),
            "{message}"
        );
    }
}
