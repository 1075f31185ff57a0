//! `tokenize`, `detokenize` and `tokenizer save` with tokenizers of every kind.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::checkpoints::{Converted, folder};
use crate::run::{run_on, run_with};

fn expected(name: &str) -> Value {
    let text = fs::read_to_string(folder(name).join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn list(value: &Value) -> String {
    let ids = value.as_array().unwrap().iter();
    ids.map(Value::to_string).collect::<Vec<_>>().join(",")
}

const NAMES: &[&str] = &[
    "tok_added",
    "tok_chat",
    "tok_prefix",
    "tok_slow_only",
    #[cfg(feature = "tokenizers")]
    "tok_charbpe",
    #[cfg(feature = "tokenizers")]
    "tok_wordpiece",
];

#[test]
fn tokenizers_of_every_kind_give_transformers_ids() {
    for name in NAMES {
        let model = Converted::new(name);
        for case in expected(name)["cases"]
            .as_array()
            .unwrap()
            .iter()
            .step_by(3)
        {
            let text = case["text"].as_str().unwrap();
            let found = run_on(&["tokenize", "-m", model.path(), "--json"], text.as_bytes()).json();
            assert_eq!(found["ids"], case["ids"], "{name}: {text:?}");
            assert_eq!(found["offsets"], case["offsets"], "{name}: {text:?}");
            let ids = list(&case["ids"]);
            for (key, flags) in [
                ("decoded", &[][..]),
                ("decoded_skip_special", &["--skip-special-tokens"]),
                (
                    "decoded_clean_up",
                    &["--skip-special-tokens", "--clean-up-tokenization-spaces"],
                ),
            ] {
                if let Some(decoded) = case[key].as_str() {
                    let all = [&["detokenize", "-m", model.path(), &ids], flags].concat();
                    assert_eq!(run_with(&all).ok(), decoded, "{name}: {key} of {ids}");
                }
            }
        }
    }
}

#[test]
fn what_is_saved_converts_to_the_same_ids() {
    for name in NAMES {
        let model = Converted::new(name);
        let to = TempDir::new().unwrap();
        let path = to.path().join("saved");
        let saved = path.to_str().unwrap();
        let save = ["tokenizer", "save", saved, "-m", model.path()];
        let files = run_with(&[&save[..], &["--json"]].concat()).json();
        let count = fs::read_dir(&path).unwrap().count();
        assert_eq!(files["files"].as_array().unwrap().len(), count);
        let refused = run_with(&save);
        assert!(refused.error(1).contains("--force"), "{}", refused.stderr);
        run_with(&[&save[..], &["--force"]].concat()).ok();
        for file in ["config.json", "model.safetensors"] {
            fs::copy(folder(name).join(file), path.join(file)).unwrap();
        }
        let output = to.path().join("again.gguf");
        let again = output.to_str().unwrap();
        let converted = Command::new(env!("CARGO_BIN_EXE_gpt2-convert"))
            .args([saved, "--type", "f32", "-o", again])
            .output()
            .unwrap();
        assert!(converted.status.success(), "{converted:?}");
        for case in expected(name)["cases"]
            .as_array()
            .unwrap()
            .iter()
            .step_by(5)
        {
            let text = case["text"].as_str().unwrap();
            let found = run_on(&["tokenize", "-m", again], text.as_bytes()).ok();
            assert_eq!(found.trim_end(), list(&case["ids"]), "{name}: {text:?}");
        }
    }
}

#[test]
fn texts_are_paired_cut_and_filled() {
    let tokenize = |arguments: &[&str]| {
        run_with(&[&["tokenize", "It is a truth", "--json"], arguments].concat()).json()
    };
    assert_eq!(tokenize(&["--max-length", "2"])["ids"], json!([1024, 363]));
    let left = tokenize(&["--max-length", "2", "--truncation-side", "left"]);
    assert_eq!(left["ids"], json!([258, 1898]));
    let filled = tokenize(&[
        "--pad-to",
        "6",
        "--padding-side",
        "left",
        "--pad-token-id",
        "7",
    ]);
    assert_eq!(filled["ids"], json!([7, 7, 1024, 363, 258, 1898]));
    assert_eq!(filled["attention_mask"], json!([0, 0, 1, 1, 1, 1]));
    let pair = tokenize(&["--pair", " a", "--max-length", "3"]);
    assert_eq!(pair["ids"], json!([1024, 363, 258]));
    assert_eq!(pair["token_type_ids"], json!([0, 0, 1]));
    assert_eq!(pair["sequence_ids"], json!([0, 0, 1]));
    let done = run_with(&["tokenize", "a", "--pad-to", "6"]);
    assert!(done.error(2).contains("padding token"), "{}", done.stderr);
    let special = |flags: &[&str]| run_with(&[&["tokenize", "<|endoftext|>"], flags].concat()).ok();
    assert_eq!(special(&[]), "4095\n");
    assert_ne!(special(&["--split-special-tokens"]), "4095\n");
}
