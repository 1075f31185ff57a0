//! Folders as strangers' programs leave them, against what transformers makes of them: random ones
//! in `folders.json`, and one for each kind of file that is read in other ways than it was.
//!
//! `GPT2_EDGE_FOLDERS=FILE` names another file of random folders, by
//! `tests/data/tokenizers/make_folders.py`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use crate::folders::file;
use gpt2::tokenizer::checkpoint::{ConfigTokens, GgufTokenizer, TokenizerFiles};
use gpt2::tokenizer::{DecodeOptions, EncodeOptions, Tokenizer};
use gpt2::{Result, TokenId};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

#[derive(Deserialize)]
struct Folders {
    vocabulary: Vec<String>,
    merges: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    without: Vec<String>,
    files: HashMap<String, Value>,
    whole: Option<Value>,
    merges: Option<String>,
    marked: Vec<String>,
    expected: Expected,
}

#[derive(Deserialize)]
struct Expected {
    rows: usize,
    roles: HashMap<String, Option<TokenId>>,
    texts: Vec<Text>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    ids: Vec<TokenId>,
    pair: Vec<TokenId>,
    decoded: String,
    decoded_skip_special: String,
}

const MARK: &[u8] = b"\xEF\xBB\xBF";

impl Folders {
    fn read(path: &Path) -> Self {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    fn own() -> Self {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tokenizers");
        Self::read(&data.join("folders.json"))
    }

    fn vocabulary(&self, without: &[String]) -> Value {
        let tokens = self.vocabulary.iter().enumerate();
        let kept = tokens.filter(|(_, token)| !without.contains(token));
        kept.map(|(id, token)| (token.clone(), Value::from(id)))
            .collect()
    }

    fn tokenizer_json(&self, vocabulary: &Value, part: &Value) -> Value {
        let byte_level = |prefix: &Value| json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true});
        json!({
            "version": "1.0",
            "added_tokens": part["added_tokens"],
            "pre_tokenizer": byte_level(&part["add_prefix_space"]),
            "post_processor": part["post_processor"],
            "decoder": byte_level(&json!(true)),
            "model": {"type": "BPE", "vocab": vocabulary, "merges": self.merges},
        })
    }

    fn write(&self, case: &Case) -> TempDir {
        let folder = TempDir::new().unwrap();
        let put = |name: &str, contents: &[u8]| {
            let is_marked = case.marked.iter().any(|marked| marked == name);
            let mark = if is_marked { MARK } else { b"" };
            fs::write(folder.path().join(name), [mark, contents].concat()).unwrap();
        };
        let vocabulary = self.vocabulary(&case.without);
        for (name, contents) in &case.files {
            put(name, contents.to_string().as_bytes());
        }
        if let Some(part) = &case.whole {
            let whole = self.tokenizer_json(&vocabulary, part);
            put("tokenizer.json", whole.to_string().as_bytes());
        }
        if let Some(merges) = &case.merges {
            put("vocab.json", vocabulary.to_string().as_bytes());
            put("merges.txt", merges.as_bytes());
        }
        folder
    }
}

fn convert(folder: &Path, rows: usize) -> Result<GgufTokenizer> {
    TokenizerFiles::read(folder)?.to_gguf(&ConfigTokens {
        vocabulary_size: rows,
        ..ConfigTokens::default()
    })
}

fn load(folder: &Path, rows: usize) -> Tokenizer {
    let file = file(convert(folder, rows).unwrap(), |_| true);
    Tokenizer::from_metadata(file.metadata()).unwrap()
}

/// What differs from transformers, a line each.
fn differences(ours: &Tokenizer, expected: &Expected) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, ours: String, theirs: String| {
        if ours != theirs {
            found.push(format!("{what}: {ours}, expected {theirs}"));
        }
    };
    for (role, id) in [
        ("bos_token", ours.bos()),
        ("eos_token", ours.eos()),
        ("unk_token", ours.unknown()),
        ("pad_token", ours.padding()),
    ] {
        compare(
            role,
            format!("{id:?}"),
            format!("{:?}", expected.roles[role]),
        );
    }
    for case in &expected.texts {
        let text = &case.text;
        let ids = ours.encode(text).unwrap();
        compare(
            &format!("{text:?}"),
            format!("{ids:?}"),
            format!("{:?}", case.ids),
        );
        let pair = ours.encode_pair(text, Some("the"), EncodeOptions::default(), None);
        let pair = pair.unwrap().ids;
        compare(
            "with \"the\"",
            format!("{pair:?}"),
            format!("{:?}", case.pair),
        );
        for (skip_special_tokens, theirs) in
            [(false, &case.decoded), (true, &case.decoded_skip_special)]
        {
            let options = DecodeOptions {
                skip_special_tokens,
                ..DecodeOptions::default()
            };
            let decoded = ours.decode_with(&case.ids, options);
            let what = format!("{text:?} decoded, special tokens skipped: {skip_special_tokens}");
            compare(&what, decoded, theirs.clone());
        }
    }
    found
}

#[test]
fn random_folders_give_what_transformers_gives() {
    let (folders, from) = match env::var_os("GPT2_EDGE_FOLDERS").map(PathBuf::from) {
        Some(path) => (Folders::read(&path), path),
        None => (Folders::own(), PathBuf::from("folders.json")),
    };
    assert!(folders.cases.len() > 20);
    let mut wrong = 0;
    for (number, case) in folders.cases.iter().enumerate() {
        let folder = folders.write(case);
        let differences = differences(&load(folder.path(), case.expected.rows), &case.expected);
        if !differences.is_empty() {
            wrong += 1;
            println!("case {number} of {}: {:#?}", from.display(), case.files);
            println!("{:?} {:?} {:?}", case.without, case.whole, case.merges);
            println!("{differences:#?}");
        }
    }
    assert_eq!(wrong, 0, "folders that differ");
}
