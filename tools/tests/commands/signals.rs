//! Signals: what ends a command, what it leaves, and its status.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::run::command;

/// Starts a command with all its streams in pipes.
fn start(arguments: &[&str]) -> Child {
    command(arguments.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn send(signal: &str, child: &Child) {
    let mut kill = Command::new("kill");
    let done = kill.args([signal, &child.id().to_string()]).status();
    assert!(done.unwrap().success());
}

/// What never ends in the time of a test.
const LONG: &[&str] = &[
    "generate",
    "-p",
    "Emma was",
    "-n",
    "1000000",
    "--ignore-eos",
    "--on-overflow",
    "keep=8",
];

#[test]
fn a_signal_leaves_the_text_so_far() {
    for (signal, status) in [("-INT", 130), ("-TERM", 143)] {
        let mut child = start(LONG);
        let mut stdout = child.stdout.take().unwrap();
        let mut text = vec![0; 4];
        stdout.read_exact(&mut text).unwrap();
        send(signal, &child);
        stdout.read_to_end(&mut text).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(status), "{signal}");
        assert!(text.len() > 4 && text.ends_with(b"\n"), "{signal}");
    }
}

#[test]
fn a_document_says_that_it_was_cut_short() {
    // After a while, and at the very beginning.
    for pause in [300, 60] {
        let mut arguments = LONG.to_vec();
        arguments.push("--json");
        let mut child = start(&arguments);
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(pause));
        send("-INT", &child);
        let mut text = String::new();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_to_string(&mut text).unwrap();
        let status = child.wait().unwrap();
        // Before there was a session, the signal ends the program.
        if status.code().is_some() {
            assert_eq!(status.code(), Some(130));
            let document: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(
                document["sequences"][0]["finish_reason"], "stopped",
                "{text}"
            );
        }
    }
}

/// Starts a chat that waits for a line.
fn waiting_chat(model: &[&str]) -> (Child, BufReader<std::process::ChildStderr>) {
    let arguments: Vec<&str> = ["chat", "-n", "4"].iter().chain(model).copied().collect();
    let mut child = start(&arguments);
    child
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"/stats\n")
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("memory:") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "a chat answers");
    }
    (child, stderr)
}

#[test]
fn a_chat_that_waits_for_a_line_ends_at_once() {
    for (signal, status) in [("-INT", 130), ("-TERM", 143)] {
        let (mut child, _stderr) = waiting_chat(&[]);
        // It was a moment ago that the line was answered.
        std::thread::sleep(std::time::Duration::from_millis(100));
        send(signal, &child);
        assert_eq!(child.wait().unwrap().code(), Some(status), "{signal}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_is_cut_while_it_is_mapped_is_named() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("cut.gguf");
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/models/austen-gpt2-q8_0.gguf");
    fs::copy(model, &path).unwrap();
    let path = path.to_str().unwrap();
    for more in [&["-m", path][..], &["-m", path, "--kernels", "ggml"]] {
        fs::copy(model, path).unwrap();
        let (mut child, mut stderr) = waiting_chat(more);
        fs::OpenOptions::new()
            .write(true)
            .open(path)
            .unwrap()
            .set_len(4096)
            .unwrap();
        child
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"Who are you?\n")
            .unwrap();
        let mut said = String::new();
        stderr.read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(
            said.starts_with(&format!("error: {path}: expected")),
            "{said}"
        );
    }
}
