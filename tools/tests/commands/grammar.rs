//! `--grammar` and `--json-schema`.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::run::{Done, run_on, run_with};

const SCHEMA: &str = r#"{"type": "object", "properties": {"name": {"enum": ["Emma", "Jane"]},
    "age": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["name", "age"],
    "additionalProperties": false}"#;

/// A file with `text`, and its folder.
fn file(text: &str) -> (TempDir, String) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("form");
    fs::write(&path, text).unwrap();
    (folder, path.to_str().unwrap().to_owned())
}

fn generate(flag: &str, text: &str, more: &[&str]) -> Done {
    let (_folder, path) = file(text);
    let arguments = ["generate", "-p", "A person: ", flag, &path];
    run_with(&[&arguments, more].concat())
}

#[test]
fn json_by_a_schema_is_written() {
    let text = generate("--json-schema", SCHEMA, &[]).ok();
    let person: Value = serde_json::from_str(&text).unwrap();
    assert!(["Emma", "Jane"].contains(&person["name"].as_str().unwrap()));
    assert!((0..100).contains(&person["age"].as_i64().unwrap()));
    // Several, and their reason to end.
    let more = [
        "--json",
        "--do-sample",
        "--seed",
        "3",
        "--num-return-sequences",
        "3",
    ];
    let document = generate("--json-schema", SCHEMA, &more).json();
    for sequence in document["sequences"].as_array().unwrap() {
        let person: Value = serde_json::from_str(sequence["text"].as_str().unwrap()).unwrap();
        assert!(person["name"].is_string());
        assert_eq!(sequence["finish_reason"], "eos");
    }
}

#[test]
fn a_grammar_is_kept_to() {
    let grammar = "start: \"It was \" /[a-z]{3,8}/ \".\"";
    let text = generate("--grammar", grammar, &[]).ok();
    let word = text.trim_end().strip_prefix("It was ").unwrap();
    let word = word.strip_suffix('.').unwrap();
    assert!(
        word.len() >= 3 && word.bytes().all(|byte| byte.is_ascii_lowercase()),
        "{text}"
    );
    let document = generate("--grammar", grammar, &["--json", "-n", "2"]).json();
    assert_eq!(document["sequences"][0]["finish_reason"], "length");
}

#[test]
fn replies_keep_to_a_grammar() {
    let (_folder, path) = file("start: \"yes\" | \"no\"");
    let arguments = ["chat", "--do-sample=false", "--grammar", &path];
    let replies = run_on(&arguments, b"Is it late?\nIs it early?\n").ok();
    let replies: Vec<&str> = replies.lines().collect();
    assert_eq!(replies.len(), 2, "{replies:?}");
    assert!(
        replies.iter().all(|reply| ["yes", "no"].contains(reply)),
        "{replies:?}"
    );
}

#[test]
fn what_is_wrong_is_said_in_a_line() {
    for (flag, text, part) in [
        ("--grammar", "start: \"a", "form: grammar: "),
        ("--grammar", "root ::= \"a\"", "GBNF"),
        ("--json-schema", "{", "expected a JSON schema"),
        ("--json-schema", r#"{"not": {}}"#, "the keyword \"not\""),
        ("--json-schema", r#"{"$ref": "/etc/passwd"}"#, "never read"),
        ("--json-schema", "false", "allows no value"),
    ] {
        let done = generate(flag, text, &[]);
        let error = done.error(1);
        assert!(error.contains(part), "{error}");
    }
    let arguments = ["generate", "-p", "a", "--grammar", "no such file"];
    assert!(run_with(&arguments).error(1).contains("no such file"));
    let done = generate("--grammar", "start: \"a\"", &["--num-beams", "2"]);
    assert!(done.error(2).contains("not with num_beams"));
    let arguments = [
        "generate",
        "-p",
        "a",
        "--grammar",
        "x",
        "--json-schema",
        "y",
    ];
    assert_eq!(run_with(&arguments).status, Some(2));
}

#[cfg(unix)]
#[test]
fn the_documents_examples_run() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/grammar.md");
    let document = fs::read_to_string(document).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_gpt2"));
    let folder = TempDir::new().unwrap();
    let mut examples = 0;
    for block in document.split("```sh\n").skip(1) {
        let script = block.split("```").next().unwrap();
        let path = [
            program.parent().unwrap(),
            Path::new("/usr/bin"),
            Path::new("/bin"),
        ];
        let mut shell = Command::new("sh");
        shell.args(["-ec", script]).current_dir(folder.path());
        shell.env("PATH", std::env::join_paths(path).unwrap());
        let output = shell.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && !output.stdout.is_empty(),
            "{script}: {said}"
        );
        examples += 1;
    }
    assert_eq!(examples, 2);
}
