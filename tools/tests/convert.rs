//! `gpt2-convert` as a program: exit status, what goes where, and its JSON.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/austen-gpt2");

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gpt2-convert"))
        .args(arguments)
        .output()
        .unwrap()
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

#[test]
fn the_json_says_what_was_written() {
    let folder = TempDir::new().unwrap();
    let output = path(folder.path(), "out.gguf");
    let done = run(&[DEMO, "-o", &output, "--type", "Q4_K_M", "--json"]);
    assert_eq!(done.status.code(), Some(0));
    let json: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(json["output"], output.as_str());
    assert_eq!(json["bytes"], fs::metadata(&output).unwrap().len());
    assert!(json["bits_per_weight"].as_f64().unwrap() > 4.5);
    assert!(json["seconds"].is_f64() && json["warnings"].is_array());
    let tensors = json["tensors"].as_array().unwrap();
    assert_eq!(tensors.len(), 76);
    let first = &tensors[0];
    assert_eq!(first["name"], "token_embd.weight");
    assert_eq!(first["shape"], serde_json::json!([256, 4096]));
    assert_eq!(
        (&first["source_dtype"], &first["type"]),
        (&"F16".into(), &"q6_k".into())
    );
    assert!(first["fallback_from"].is_null());
    assert_eq!(first["bytes"], 4096 * 210);
}

#[test]
fn a_dry_run_writes_nothing_and_knows_the_size() {
    let folder = TempDir::new().unwrap();
    let output = path(folder.path(), "out.gguf");
    let dry = run(&[DEMO, "-o", &output, "--type", "q4_0", "--json", "--dry-run"]);
    assert_eq!(dry.status.code(), Some(0));
    assert!(!Path::new(&output).exists());
    let json: Value = serde_json::from_slice(&dry.stdout).unwrap();
    run(&[DEMO, "-o", &output, "--type", "q4_0"]);
    assert_eq!(json["bytes"], fs::metadata(&output).unwrap().len());
}

#[test]
fn failures_are_one_line_and_exit_1_wrong_usage_exits_2() {
    let folder = TempDir::new().unwrap();
    let output = path(folder.path(), "out.gguf");
    let failed = run(&["nowhere", "-o", &output, "--type", "q4_0"]);
    let line = String::from_utf8(failed.stderr).unwrap();
    assert_eq!(
        (failed.status.code(), line.lines().count()),
        (Some(1), 1),
        "{line}"
    );
    assert!(line.starts_with("error: nowhere"), "{line}");
    for arguments in [
        &[DEMO, "-o", &output, "--type", "q99"][..],
        &[DEMO, "-o", &output],
        &[DEMO, "--type", "q4_0"],
        &[
            DEMO,
            "-o",
            &output,
            "--type",
            "q4_0",
            "--tensor-type",
            "ffn",
        ],
        &[DEMO, "-o", &output, "--type", "q4_0", "--threads", "0"],
        &[],
    ] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
    assert!(!Path::new(&output).exists());
    fs::write(&output, b"kept").unwrap();
    assert_eq!(
        run(&[DEMO, "-o", &output, "--type", "q8_0"]).status.code(),
        Some(1)
    );
    assert_eq!(fs::read(&output).unwrap(), b"kept");
    assert_eq!(run(&["--version"]).status.code(), Some(0));
}
