//! Finds the tokenizer files of a folder, or those that one file stands for.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::files::{NAMES, OPENAI_NAMES, TokenizerFiles};
use super::special::END_OF_TEXT;
use crate::input::{is_there, read_small, read_text, read_text_if_present};
use crate::{Error, Result};

/// What the file of `SentencePiece` is called by T5's tokenizer and by `LLaMA`'s.
const SENTENCE_PIECES: [&str; 2] = ["spiece.model", "tokenizer.model"];

impl TokenizerFiles {
    /// Reads a tokenizer: the files that are there in the folder `path`, or those that the file
    /// `path` stands for. That is a `tokenizer.json` alone, a `spiece.model` alone, a `vocab.txt`
    /// alone, or one of `vocab.json` and `merges.txt`, or `encoder.json` and `vocab.bpe`, with the
    /// other beside it; `gpt2-vocab.json` and `gpt2-merges.txt` are such a pair too.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that is there and cannot be read, or for no file at `path`;
    /// [`Error::Format`] for one that is beyond 64 MiB, for a Git LFS pointer, and for a file that
    /// is no tokenizer.
    pub fn read(path: &Path) -> Result<Self> {
        if path.is_dir() {
            folder(path)
        } else {
            file(path)
        }
    }
}

fn folder(path: &Path) -> Result<TokenizerFiles> {
    let mut notes = Vec::new();
    let mut text = |name: &str| read_text_if_present(&path.join(name), &mut notes);
    let mut files = TokenizerFiles {
        tokenizer: text("tokenizer.json")?,
        vocabulary: text(NAMES[0])?,
        merges: text(NAMES[1])?,
        added_tokens: text("added_tokens.json")?,
        special_tokens_map: text("special_tokens_map.json")?,
        tokenizer_config: text("tokenizer_config.json")?,
        // Its mark is told by who reads the model.
        model_config: read_text_if_present(&path.join("config.json"), &mut Vec::new())?,
        chat_template: text("chat_template.jinja")?,
        word_list: text("vocab.txt")?,
        ..TokenizerFiles::default()
    };
    if files.is_empty() {
        let [vocabulary, merges] = OPENAI_NAMES;
        (files.vocabulary, files.merges) = (text(vocabulary)?, text(merges)?);
        files.openai_names = !files.is_empty();
        if files.openai_names {
            notes.push(format!(
                "{vocabulary} and {merges}, OpenAI's names, are read as {} and {}",
                NAMES[0], NAMES[1]
            ));
        }
    }
    for name in SENTENCE_PIECES {
        let path = path.join(name);
        if files.is_empty() && is_there(&path)? {
            files.sentence_pieces = Some(read_small(&path)?);
        }
    }
    files.notes = notes;
    Ok(files)
}

fn file(path: &Path) -> Result<TokenizerFiles> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut files = TokenizerFiles::default();
    if name.ends_with(".model") {
        files.sentence_pieces = Some(read_small(path)?);
        return Ok(files);
    }
    if name.ends_with("vocab.txt") {
        files.word_list = Some(read_text(path, &mut files.notes)?);
    } else if let Some([vocabulary, merges]) = pair(path, &name) {
        files.openai_names = OPENAI_NAMES.iter().any(|own| name.ends_with(own));
        files.vocabulary = Some(read_text(&vocabulary, &mut files.notes)?);
        files.merges = Some(read_text(&merges, &mut files.notes)?);
    } else {
        let bytes = read_text(path, &mut files.notes)?;
        let whole: Whole = serde_json::from_slice(&bytes).map_err(|_| {
            Error::format(
                path.display().to_string(),
                "expected a tokenizer: a folder, a tokenizer.json, a vocab.json or encoder.json, \
                 a merges.txt or vocab.bpe, a vocab.txt or a spiece.model, found something else",
            )
        })?;
        files.tokenizer_config = Some(whole.config().to_string().into_bytes());
        files.tokenizer = Some(bytes);
    }
    Ok(files)
}

/// The paths of vocabulary and merges when `name` is that of one of them.
fn pair(path: &Path, name: &str) -> Option<[PathBuf; 2]> {
    [NAMES, OPENAI_NAMES].into_iter().find_map(|pair| {
        let start = pair.iter().find_map(|own| name.strip_suffix(own))?;
        Some(pair.map(|other| path.with_file_name(format!("{start}{other}"))))
    })
}

/// What tells a tokenizer.json from another file.
#[derive(Deserialize)]
struct Whole {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(rename = "model")]
    _model: Model,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "vocab")]
    _vocabulary: IgnoredAny,
}

#[derive(Deserialize)]
struct Added {
    content: String,
}

impl Whole {
    /// The configuration of a tokenizer.json that comes without one: nothing in it is overridden,
    /// and GPT-2's marker keeps its roles.
    fn config(&self) -> Value {
        let is_marker = |token: &Added| token.content == END_OF_TEXT;
        let marker = self
            .added_tokens
            .iter()
            .any(is_marker)
            .then_some(END_OF_TEXT);
        json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": marker,
            "eos_token": marker,
            "unk_token": marker,
        })
    }
}
