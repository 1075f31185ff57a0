//! `generate`.

use std::io::Read;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::run::{command, run, run_on, run_with};

const PROMPT: &str = "It is a truth universally acknowledged, that";

/// Runs `generate` on the prompt with more arguments.
fn generate(more: &str) -> Value {
    let mut arguments = vec!["generate", "-p", PROMPT, "--json"];
    arguments.extend(more.split_whitespace());
    run_with(&arguments).json()
}

fn ids(document: &Value) -> Vec<u64> {
    let ids = document["sequences"][0]["ids"].as_array().unwrap();
    ids.iter().map(|id| id.as_u64().unwrap()).collect()
}

#[test]
fn the_document_has_the_fields_it_should() {
    let document = generate("-n 3");
    let keys = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        keys(&document),
        ["prompt_ids", "sequences", "timings", "memory"]
    );
    assert_eq!(
        document["prompt_ids"],
        json!([1024, 363, 258, 1898, 469, 72, 1164, 554, 2750, 11, 332])
    );
    let sequence = &document["sequences"][0];
    assert_eq!(keys(sequence), ["ids", "text", "finish_reason", "score"]);
    assert_eq!(
        (&sequence["finish_reason"], &sequence["score"]),
        (&json!("length"), &Value::Null)
    );
    assert_eq!(
        keys(&document["timings"]),
        [
            "load_ms",
            "prefill_ms",
            "decode_ms",
            "prefill_tokens_per_s",
            "decode_tokens_per_s"
        ]
    );
    assert_eq!(
        keys(&document["memory"]),
        ["weights", "kv", "compute", "peak_rss"]
    );
    for value in document["timings"].as_object().unwrap().values() {
        assert!(value.as_f64().unwrap() > 0.0);
    }
}

#[test]
fn the_text_goes_to_stdout_and_the_rest_to_stderr() {
    let done = run_with(&["generate", "-p", PROMPT, "-n", "8"]);
    let document = generate("-n 8");
    let text = document["sequences"][0]["text"].as_str().unwrap();
    assert!(
        done.stderr.contains("demo model") && done.stderr.contains("decode"),
        "{}",
        done.stderr
    );
    assert_eq!(done.ok(), format!("{text}\n"));
}

#[test]
fn a_prompt_comes_in_four_ways() {
    let from_text = generate("-n 5");
    let from_ids = run_with(&[
        "generate",
        "-n",
        "5",
        "--json",
        "--ids",
        "1024,363,258,1898,469,72,1164,554,2750,11,332",
    ]);
    assert_eq!(from_ids.json()["sequences"], from_text["sequences"]);
    // The newline that editors and echo put at the end is not part of the prompt.
    let from_stdin = run_on(
        &["generate", "-n", "5", "--json"],
        format!("{PROMPT}\n").as_bytes(),
    );
    assert_eq!(from_stdin.json()["sequences"], from_text["sequences"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), PROMPT).unwrap();
    let from_file = run_with(&[
        "generate",
        "-n",
        "5",
        "--json",
        "-f",
        file.path().to_str().unwrap(),
    ]);
    assert_eq!(from_file.json()["sequences"], from_text["sequences"]);
}

#[test]
fn no_prompt_begins_a_text() {
    let document = run_with(&["generate", "-p", "", "-n", "2", "--json"]).json();
    assert_eq!(document["prompt_ids"], json!([4095]));
}

#[test]
fn the_text_ends_before_a_stop_string() {
    let free = generate("-n 20");
    let text = free["sequences"][0]["text"].as_str().unwrap();
    let stopped = generate("-n 20 --stop world");
    let expected = text.split("world").next().unwrap();
    assert!(
        expected.len() < text.len(),
        "the free text has the stop string: {text:?}"
    );
    assert_eq!(stopped["sequences"][0]["text"], expected);
    assert_eq!(stopped["sequences"][0]["finish_reason"], "stop");
}

#[test]
fn the_same_seed_draws_the_same_text() {
    let draw = |seed: u32| {
        ids(&generate(&format!(
            "-n 12 --do-sample --top-p 0.9 --seed {seed}"
        )))
    };
    assert_eq!(draw(3), draw(3));
    assert_ne!(draw(3), draw(4));
    // One of the 50 best is not always the best.
    assert_ne!(draw(3), ids(&generate("-n 12")));
    assert_eq!(
        ids(&generate("-n 12 --do-sample --top-k 1")),
        ids(&generate("-n 12"))
    );
}

#[test]
fn several_continuations_have_seeds_of_their_own() {
    let document = generate("-n 6 --do-sample --seed 10 --num-return-sequences 3");
    let sequences = document["sequences"].as_array().unwrap();
    assert_eq!(sequences.len(), 3);
    let second = generate("-n 6 --do-sample --seed 11");
    assert_eq!(sequences[1], second["sequences"][0]);
    let shown = run_with(&[
        "generate",
        "-p",
        PROMPT,
        "-n",
        "6",
        "--do-sample",
        "--seed",
        "10",
        "--num-return-sequences",
        "3",
    ]);
    let texts: Vec<&str> = sequences
        .iter()
        .map(|s| s["text"].as_str().unwrap())
        .collect();
    assert_eq!(shown.ok(), format!("{}\n", texts.join("\n---\n")));
}

#[test]
fn a_new_seed_is_said() {
    let done = run_with(&["generate", "-p", PROMPT, "-n", "6", "--do-sample"]);
    let seed = done
        .stderr
        .lines()
        .find_map(|line| line.strip_prefix("seed "))
        .unwrap()
        .to_owned();
    let again = run_with(&[
        "generate",
        "-p",
        PROMPT,
        "-n",
        "6",
        "--do-sample",
        "--seed",
        &seed,
    ]);
    assert_eq!(again.ok(), done.ok());
}

#[test]
fn a_full_context_ends_the_text() {
    let document = generate("-n 500 -c 16");
    assert_eq!(document["sequences"][0]["finish_reason"], "context_full");
    // 16 positions: 11 of the prompt, 5 more, and the token the last one predicts.
    assert_eq!(ids(&document).len(), 6);
    let done = run_with(&["generate", "-p", PROMPT, "-c", "8"]);
    assert!(
        done.error(1).contains("11 positions needed, 8 available"),
        "{}",
        done.stderr
    );
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let mut child = command(["generate", "-p", PROMPT, "-n", "400", "--ignore-eos"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 4]).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        !stderr.contains("error") && !stderr.contains("panic"),
        "{stderr}"
    );
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_with_what_there_is() {
    let mut child = command(["generate", "-p", PROMPT, "-n", "480", "--ignore-eos"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut text = vec![0; 4];
    stdout.read_exact(&mut text).unwrap();
    let killed = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    stdout.read_to_end(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(text.ends_with(b"\n"));
}

#[test]
fn a_text_that_the_context_ends_says_so_and_how_it_could_go_on() {
    let with = |arguments: &str| {
        let all = format!("generate -c 16 --ids 5,6,7 -n 60 --ignore-eos {arguments}");
        let done = run(&all);
        assert_eq!(done.status, Some(0), "{}", done.stderr);
        done.stderr
    };
    let plain = with("");
    for word in [
        "context of 16 positions is full",
        "--on-overflow keep=N",
        "-c up to",
    ] {
        assert!(plain.contains(word), "{plain}");
    }
    // Beams cannot go on so; what went on did not end.
    let beams = with("--num-beams 2");
    assert!(
        beams.contains("is full") && !beams.contains("--on-overflow"),
        "{beams}"
    );
    assert!(!with("--on-overflow keep=2").contains("is full"));
    assert!(!run("generate --ids 5,6,7 -n 3").stderr.contains("is full"));
}
