//! The files beside TensorFlow's weights: which checkpoint a folder holds, and `OpenAI`'s
//! `hparams.json`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json, json};

use crate::convert::json::{read_json, read_json_if_present};
use crate::convert::stored_tensor::FileConfig;
use crate::error::{Error, Result};
use crate::input::{is_there, read_small};

/// The ending of an index's name.
const INDEX: &str = ".index";
/// What `OpenAI`'s code has for a field that `hparams.json` leaves out; the vocabulary's size is
/// that of the embedding.
const HPARAMS: &[(&str, &str, u64)] = &[
    ("n_vocab", "vocab_size", 50257),
    ("n_ctx", "n_positions", 1024),
    ("n_embd", "n_embd", 768),
    ("n_head", "n_head", 12),
    ("n_layer", "n_layer", 12),
];
/// Fields that training programs add; a forward pass does not depend on them.
const WITHOUT_EFFECT: &[&str] = &[
    "attn_dropout",
    "dtype",
    "embd_dropout",
    "embed_dropout",
    "precision",
    "res_dropout",
    "resid_dropout",
];

/// The index of the checkpoint that a path means: the index itself, one of its data files, its
/// graph, or the prefix of their names, which is no file.
pub(in crate::convert) fn index_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let prefix = match name.split_once(".data-") {
        Some((prefix, _)) => prefix,
        None => [INDEX, ".meta"]
            .iter()
            .find_map(|ending| name.strip_suffix(ending))
            .unwrap_or(name),
    };
    let index = path.with_file_name(format!("{prefix}{INDEX}"));
    index.is_file().then_some(index)
}

/// The index of the checkpoint in a folder: the one that the text file `checkpoint` names, else the
/// only one. `None` when there is none.
///
/// # Errors
/// [`Error::Format`] when there are several and none is named.
pub(in crate::convert) fn index_in(folder: &Path) -> Result<Option<PathBuf>> {
    if let Some(prefix) = latest(folder)
        && let Some(index) = index_of(&folder.join(prefix))
    {
        return Ok(Some(index));
    }
    let names = std::fs::read_dir(folder).map_err(|source| Error::io(folder, source))?;
    let mut found: Vec<OsString> = names
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| name.to_str().is_some_and(|name| name.ends_with(INDEX)))
        .collect();
    found.sort_unstable();
    match &found[..] {
        [] => Ok(None),
        [one] => Ok(Some(folder.join(one))),
        [first, .., last] => Err(Error::format(
            folder.display().to_string(),
            format!(
                "expected one TensorFlow checkpoint, or a file 'checkpoint' that names it, found \
                 {} (the first is {}, the last {}); name the index of one",
                found.len(),
                first.display(),
                last.display()
            ),
        )),
    }
}

/// The prefix of the latest checkpoint, which the text file `checkpoint` names. It is looked for in
/// the folder, wherever it was written.
fn latest(folder: &Path) -> Option<String> {
    let text = String::from_utf8(read_small(&folder.join("checkpoint")).ok()?).ok()?;
    let value = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("model_checkpoint_path:"))?;
    let path = value.trim().trim_matches(['"', '\'']).replace("\\\\", "\\");
    let name = path.rsplit(['/', '\\']).next()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// What `OpenAI`'s `hparams.json` beside an index says, in the fields of a `config.json`; `None`
/// when there is only a `config.json`. `notes` gets what the user should know.
///
/// # Errors
/// Those of reading it; [`Error::Format`] when there is neither.
pub(in crate::convert) fn config_of(
    index: &Path,
    notes: &mut Vec<String>,
) -> Result<Option<FileConfig>> {
    let path = index.with_file_name("hparams.json");
    if !is_there(&path)? {
        if index.with_file_name("config.json").exists() {
            return Ok(None);
        }
        return Err(Error::format(
            path.display().to_string(),
            "expected this file beside a TensorFlow checkpoint (or a config.json), found none; \
             copy it from the model that was fine-tuned",
        ));
    }
    let hparams: Map<String, Json> = read_json(&path, notes)?;
    let mut fields = Map::new();
    for (theirs, ours, default) in HPARAMS {
        let value = hparams.get(*theirs).cloned();
        fields.insert((*ours).to_owned(), value.unwrap_or_else(|| json!(default)));
    }
    fields.insert("architectures".to_owned(), json!(["GPT2LMHeadModel"]));
    if let Some(id) = end_of_text(index, &fields)? {
        fields.insert("bos_token_id".to_owned(), id.clone());
        fields.insert("eos_token_id".to_owned(), id);
    }
    let is_known = |name: &str| {
        HPARAMS.iter().any(|(known, ..)| *known == name) || WITHOUT_EFFECT.contains(&name)
    };
    let unknown = hparams.keys().filter(|name| !is_known(name));
    notes.extend(
        unknown
            .map(|name| format!("hparams.json: the field '{name}' is not known and was ignored")),
    );
    let place = "hparams.json";
    Ok(Some(FileConfig { place, fields }))
}

/// The id of `<|endoftext|>`: as the vocabulary has it, else the last one, as in GPT-2.
fn end_of_text(index: &Path, fields: &Map<String, Json>) -> Result<Option<Json>> {
    let path = index.with_file_name("encoder.json");
    let vocabulary: Option<Map<String, Json>> = read_json_if_present(&path, &mut Vec::new())?;
    if let Some(vocabulary) = vocabulary {
        return Ok(vocabulary.get("<|endoftext|>").cloned());
    }
    let size = fields.get("vocab_size").and_then(Json::as_u64);
    Ok(size.and_then(|size| size.checked_sub(1)).map(Json::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_of(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn the_latest_checkpoint_is_found_wherever_it_was_written() {
        for path in [
            "model-20",
            "/content/checkpoint/run1/model-20",
            "C:\\\\runs\\\\model-20",
        ] {
            let text = format!(
                "model_checkpoint_path: \"{path}\"\nall_model_checkpoint_paths: \"model-10\"\n"
            );
            let folder = folder_of(&[
                ("checkpoint", &text),
                ("model-10.index", ""),
                ("model-20.index", ""),
            ]);
            let found = index_in(folder.path()).unwrap().unwrap();
            assert_eq!(found, folder.path().join("model-20.index"));
        }
    }

    #[test]
    fn one_checkpoint_needs_no_name_and_several_do() {
        let folder = folder_of(&[
            ("checkpoint", "model_checkpoint_path: \"gone\""),
            ("a.index", ""),
        ]);
        let found = index_in(folder.path()).unwrap().unwrap();
        assert_eq!(found, folder.path().join("a.index"));
        std::fs::write(folder.path().join("b.index"), "").unwrap();
        let message = index_in(folder.path()).unwrap_err().to_string();
        assert!(
            message.contains("a.index") && message.contains("b.index"),
            "{message}"
        );
        assert!(index_in(folder_of(&[]).path()).unwrap().is_none());
    }

    #[test]
    fn any_of_its_files_means_the_checkpoint() {
        let folder = folder_of(&[("model.ckpt.index", "")]);
        let index = folder.path().join("model.ckpt.index");
        for name in [
            "model.ckpt",
            "model.ckpt.index",
            "model.ckpt.meta",
            "model.ckpt.data-00000-of-00001",
        ] {
            assert_eq!(
                index_of(&folder.path().join(name)),
                Some(index.clone()),
                "{name}"
            );
        }
        assert_eq!(index_of(&folder.path().join("other.bin")), None);
    }

    #[test]
    fn hparams_have_openais_defaults_and_the_last_token_ends_texts() {
        let folder = folder_of(&[(
            "hparams.json",
            r#"{"n_embd": 1024, "res_dropout": 0, "x": 1}"#,
        )]);
        let index = folder.path().join("model.ckpt.index");
        let mut notes = Vec::new();
        let fields = config_of(&index, &mut notes).unwrap().unwrap().fields;
        assert_eq!(fields["n_embd"], 1024);
        assert_eq!(fields["n_positions"], 1024);
        assert_eq!(fields["eos_token_id"], 50256);
        assert_eq!(notes.len(), 1);
        assert!(notes[0].contains("'x'"));
        std::fs::write(
            folder.path().join("encoder.json"),
            r#"{"<|endoftext|>": 7}"#,
        )
        .unwrap();
        let fields = config_of(&index, &mut notes).unwrap().unwrap().fields;
        assert_eq!(fields["eos_token_id"], 7);
    }

    #[test]
    fn a_checkpoint_without_a_configuration_says_which_is_missing() {
        let folder = folder_of(&[]);
        let index = folder.path().join("model.ckpt.index");
        let message = config_of(&index, &mut Vec::new()).unwrap_err().to_string();
        assert!(
            message.contains("hparams.json") && message.contains("config.json"),
            "{message}"
        );
        std::fs::write(folder.path().join("config.json"), "{}").unwrap();
        assert!(config_of(&index, &mut Vec::new()).unwrap().is_none());
    }
}
