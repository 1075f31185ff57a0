//! `gpt2 chat` with lines from a pipe, as scripts use it.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::checkpoints::{Converted, folder};
use crate::run::{Done, run_on, run_with};

/// Runs `chat` greedily, with `arguments` and lines on its stdin.
fn chat(arguments: &[&str], lines: &str) -> Done {
    let arguments = [&["chat", "--do-sample=false"], arguments].concat();
    run_on(&arguments, lines.as_bytes())
}

/// The documents of a run with `--json`.
fn documents(done: Done) -> Vec<Value> {
    done.ok()
        .lines()
        .map(|line| serde_json::from_str(line).expect("a document a line"))
        .collect()
}

fn ids(value: &Value) -> Vec<u64> {
    let list = value.as_array().expect("a list");
    list.iter().filter_map(Value::as_u64).collect()
}

#[cfg(feature = "chat-template")]
#[test]
fn the_prompt_is_what_the_template_of_the_checkpoint_makes() {
    let expected = fs::read_to_string(folder("tok_chat").join("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    let first = &expected["chats"][0];
    let said = first["messages"][0]["content"].as_str().unwrap();
    let model = Converted::new("tok_chat");
    for template in ["auto", "dialogpt"] {
        let arguments = [
            "-m",
            model.path(),
            "-n",
            "4",
            "--json",
            "--template",
            template,
        ];
        let replies = documents(chat(&arguments, &format!("{said}\n")));
        assert_eq!(replies.len(), 1);
        assert_eq!(replies[0]["prompt_ids"], first["ids"], "{template}");
    }
}

#[test]
fn only_new_tokens_are_prefilled() {
    let arguments = ["-n", "8", "--template", "dialogpt", "--json"];
    let replies = documents(chat(&arguments, "Emma was happy.\nAnd Harriet?\nWhy?\n"));
    assert_eq!(replies.len(), 3);
    for pair in replies.windows(2) {
        let known = [ids(&pair[0]["prompt_ids"]), ids(&pair[0]["ids"])].concat();
        let prompt = ids(&pair[1]["prompt_ids"]);
        assert_eq!(
            prompt[..known.len()],
            known,
            "the next prompt goes on from it"
        );
        // The last token of a reply was not computed yet.
        let new = prompt.len() - (known.len() - 1);
        assert_eq!(pair[1]["prefill_tokens"], new);
        assert!(new < 16, "{new}");
    }
}

#[test]
fn replies_alone_are_on_stdout() {
    let done = chat(
        &["-n", "5"],
        "Who is she?\n\n/stats\n\"\"\"\nA turn\nof lines\n\"\"\"\n/set top-k=3\n/exit\n\
         never said\n",
    );
    assert!(
        done.stderr.contains("turns: 2, of which 0"),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("top_k=3"), "{}", done.stderr);
    assert!(!done.stderr.contains('\u{1b}'), "{:?}", done.stderr);
    let stdout = done.ok();
    assert!(
        !stdout.contains('\u{1b}') && !stdout.contains("> "),
        "{stdout:?}"
    );
    assert!(stdout.lines().count() >= 2, "{stdout:?}");
    // Greedy replies are the same every time; sampled ones with a seed, too.
    let first = chat(&["-n", "5"], "Who is she?\n").ok();
    assert!(stdout.starts_with(&first), "{stdout:?} {first:?}");
    let sampled = || run_on(&["chat", "-n", "9", "--seed", "3"], b"Who?\nWho?\n").ok();
    assert_eq!(sampled(), sampled());
}

#[test]
fn a_full_context_loses_the_oldest_turns_and_says_so() {
    let arguments = ["-c", "64", "-n", "4", "--template", "dialogpt", "--json"];
    let lines = "It was a dark and stormy night in Bath.\n".repeat(8);
    let done = chat(&arguments, &lines);
    assert!(
        done.stderr
            .contains("the context is full: the model is no longer shown the"),
        "{}",
        done.stderr
    );
    let replies = documents(done);
    assert_eq!(replies.len(), 8);
    let hidden: Vec<_> = replies
        .iter()
        .map(|reply| reply["hidden_turns"].as_u64())
        .collect();
    assert!(
        hidden.is_sorted() && hidden[0] == Some(0) && hidden[7] > Some(0),
        "{hidden:?}"
    );
    for reply in &replies {
        assert!(ids(&reply["prompt_ids"]).len() <= 60);
    }
    let long = chat(&["-c", "64"], &"never ending words ".repeat(64));
    assert!(
        long.error(1).contains("the context is full"),
        "{}",
        long.stderr
    );
}

#[test]
fn conversations_are_saved_loaded_and_taken_back() {
    let to = TempDir::new().unwrap();
    let file = to.path().join("a talk.json");
    let file = file.to_str().unwrap();
    let first = chat(
        &["-n", "4", "--system", "In Bath."],
        &format!("One\nTwo\\\nlines\nThree\n/undo\n/save {file}\n"),
    );
    assert!(
        first.stderr.contains("taken back: Three"),
        "{}",
        first.stderr
    );
    assert!(first.stderr.contains("saved 4 turns"), "{}", first.stderr);
    let saved: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(saved["version"], 1);
    assert_eq!(saved["messages"][0]["content"], "In Bath.");
    assert_eq!(saved["messages"][3]["content"], "Two\nlines");
    assert_eq!(saved["messages"].as_array().unwrap().len(), 5);

    // Loaded by the command or by the flag, the talk goes on in the same way.
    let by_command = chat(&["-n", "4"], &format!("/load {file}\nFour\n")).ok();
    let by_flag = chat(&["-n", "4", "--load", file], "Four\n").ok();
    assert_eq!(by_command, by_flag);

    let again = chat(&[], &format!("/save {file}\n"));
    assert!(again.error(1).contains("--force"), "{}", again.stderr);
    assert!(
        chat(&[], &format!("/save --force {file}\n"))
            .ok()
            .is_empty()
    );
    assert!(
        fs::read_to_string(file)
            .unwrap()
            .contains("\"messages\": []")
    );
    fs::write(file, "{}").unwrap();
    let broken = chat(&["--load", file], "");
    assert!(
        broken.error(1).contains("a saved conversation"),
        "{}",
        broken.stderr
    );
}

#[test]
fn what_is_wrong_ends_a_script_with_its_reason() {
    for (lines, status, said) in [
        ("/nothing\n", 2, "expected one of /help"),
        ("/stats now\n", 2, "expected nothing after it"),
        ("/set temperature=hot\n", 2, "expected a number"),
        ("/save\n", 2, "expected a file's name"),
        ("/load no/such.json\n", 1, "no/such.json"),
    ] {
        let done = chat(&[], lines);
        assert!(done.error(status).contains(said), "{}", done.stderr);
    }
    for (arguments, status, said) in [
        (
            &["chat", "--template", "no/such.jinja"][..],
            2,
            "a file with a template",
        ),
        (&["chat", "--temperature", "-1"], 2, "temperature"),
        (&["chat", "--load", "no/such.json"], 1, "no/such.json"),
    ] {
        let done = run_with(arguments);
        assert!(done.error(status).contains(said), "{}", done.stderr);
    }
    let classifier = Converted::new("seqcls");
    let done = run_with(&["chat", "-m", classifier.path()]);
    assert!(done.error(1).contains("writes no text"), "{}", done.stderr);
}

#[cfg(feature = "chat-template")]
#[test]
fn a_template_of_a_file_is_used_or_refused() {
    let to = TempDir::new().unwrap();
    let path = to.path().join("own.jinja");
    let file = path.to_str().unwrap();
    fs::write(
        &path,
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}",
    )
    .unwrap();
    let arguments = ["-n", "1", "--json", "--template", file];
    let replies = documents(chat(&arguments, "Hello\n"));
    let tokens: Value = run_with(&["tokenize", "[user] Hello\n", "--json"]).json();
    assert_eq!(replies[0]["prompt_ids"], tokens["ids"]);

    fs::write(&path, "{{ raise_exception('only one turn') }}").unwrap();
    let done = chat(&["--template", file], "Hello\n");
    assert!(done.error(1).contains("only one turn"), "{}", done.stderr);
    fs::write(&path, "{% for %}").unwrap();
    let done = chat(&["--template", file], "");
    assert!(
        done.error(1).contains("chat template: line 1"),
        "{}",
        done.stderr
    );
}
