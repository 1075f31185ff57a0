//! Habits of the command line: where texts come from, line ends, how flags are spelled.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::checkpoints::Converted;
use crate::run::{Done, run, run_on, run_with};

/// A command that takes texts: with what it needs besides, and where its document has the result of
/// a text.
struct Takes {
    arguments: Vec<String>,
    result: &'static str,
}

impl Takes {
    fn with<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let own = self.arguments.iter().map(String::as_str);
        own.chain(more.iter().copied()).collect()
    }

    /// What it makes of a text that `more` or `input` has.
    fn result(&self, more: &[&str], input: &str) -> Value {
        let mut arguments = self.with(more);
        arguments.insert(1, "--json");
        let document = match input {
            "" => run_with(&arguments).json(),
            input => run_on(&arguments, input.as_bytes()).json(),
        };
        document.pointer(self.result).cloned().unwrap_or_default()
    }
}

/// Text that every command has something to say of, without its last newline.
const TEXT: &str = "Emma Woodhouse, handsome, clever, and rich,\nwith a comfortable home";

#[test]
fn text_comes_the_same_way_in_every_command() {
    let (classifier, tagger) = (Converted::new("seqcls"), Converted::new("tokencls"));
    let (answerer, chooser) = (Converted::new("qa"), Converted::new("doubleheads"));
    let question = ["--question", "Who is rich?"];
    let choices = ["--choice", " and", "--choice", " or"];
    let takes = |command: &str, model: Option<&Converted>, more: &[&str], result| {
        let model = model.map(|model| ["-m", model.path()]);
        let more = model.iter().flatten().chain(more).copied();
        Takes {
            arguments: command.split(' ').chain(more).map(str::to_owned).collect(),
            result,
        }
    };
    let commands = [
        takes("generate -n 3", None, &[], "/sequences"),
        takes("forward", None, &[], "/rows"),
        takes("embed", None, &[], "/rows"),
        takes("tokenize", None, &[], "/ids"),
        takes("perplexity --window 8", None, &[], "/nll_sum"),
        takes("score", None, &[], "/rows"),
        takes("classify", Some(&classifier), &[], "/rows"),
        takes("tag", Some(&tagger), &[], "/rows"),
        takes("answer", Some(&answerer), &question, "/rows"),
        takes("choose", Some(&chooser), &choices, "/rows"),
    ];
    let folder = TempDir::new().unwrap();
    let (file, lines) = (folder.path().join("text"), folder.path().join("lines"));
    fs::write(&file, TEXT).unwrap();
    let line = TEXT.replace('\n', " ");
    fs::write(&lines, format!("\n{line}\n\n{line}")).unwrap();
    let (file, lines) = (file.to_str().unwrap(), lines.to_str().unwrap());
    for takes in &commands {
        let name = &*takes.arguments[0];
        let expected = takes.result(&[TEXT], "");
        assert!(!expected.is_null(), "{name}");
        for more in [["-p", TEXT], ["--prompt", TEXT], ["-f", file]] {
            assert_eq!(takes.result(&more, ""), expected, "{name} {}", more[0]);
        }
        assert_eq!(takes.result(&["-f", "-"], TEXT), expected, "{name} -f -");
        if !["classify", "embed"].contains(&name) {
            assert_eq!(takes.result(&[], TEXT), expected, "{name} on stdin");
        }
        // A text in every line, where there may be several.
        let two = run_with(&takes.with(&["--json", "--lines", lines]));
        match name {
            "choose" => assert!(two.error(2).contains("one text, found 2")),
            // Both together.
            "perplexity" => assert_ne!(two.json()["nll_sum"], expected),
            _ => {
                let rows = two.json()["rows"].as_array().unwrap().len();
                assert_eq!(rows, 2, "{name} --lines");
            }
        }
        // One source at a time, and a text at all.
        let mixed = [
            &["a", "-p", "b"][..],
            &["-p", "a", "-f", file],
            &["a", "--lines", lines],
        ];
        for more in mixed {
            let done = run_with(&takes.with(more));
            let ended = (done.status, &*done.stdout);
            assert_eq!(ended, (Some(2), ""), "{name} {more:?}");
        }
        if !["generate", "choose", "tokenize", "score"].contains(&name) {
            let none = run_with(&takes.with(&[]));
            assert!(none.error(2).contains("no text"), "{name}");
        }
    }
}

#[test]
fn windows_line_ends_in_prompts_are_those_of_unix() {
    let continued = |done: Done| done.json()["prompt_ids"].clone();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("prompt.txt");
    let path = path.to_str().unwrap();
    let of_file = |text: &str| {
        fs::write(path, text).unwrap();
        continued(run_with(&["generate", "-n", "1", "--json", "-f", path]))
    };
    let generate = ["generate", "-n", "1", "--json"];
    for (windows, unix) in [
        ("Emma was\r\n", "Emma was\n"),
        ("Emma\r\nwas\r\n\r\n", "Emma\nwas\n\n"),
        ("Emma was", "Emma was\n"),
        ("\u{FEFF}Emma was\r\n", "Emma was"),
    ] {
        let expected = continued(run_on(&generate, unix.as_bytes()));
        assert_eq!(continued(run_on(&generate, windows.as_bytes())), expected);
        assert_eq!(of_file(windows), expected, "{windows:?}");
        assert_eq!(of_file(unix), expected, "{unix:?}");
    }
    let of_argument =
        |text: &str| continued(run_with(&["generate", "-n", "1", "--json", "-p", text]));
    assert_eq!(of_argument("Emma\r\nwas"), of_argument("Emma\nwas"));
    // What `$(cat FILE)` leaves of a file with such lines.
    assert_eq!(of_argument("Emma\r\nwas\r"), of_argument("Emma\nwas"));
    // A conversation that was written elsewhere.
    let conversation = |newline: &str| {
        let text = format!(
            r#"{{"format": "gpt2-edge conversation", "version": 1, "messages": [
            {{"role": "user", "content": "a{newline}b"}},
            {{"role": "assistant", "content": "c"}}]}}"#
        );
        fs::write(path, format!("\u{FEFF}{text}")).unwrap();
        let arguments = [
            "chat",
            "--do-sample",
            "false",
            "-n",
            "2",
            "--json",
            "--load",
            path,
        ];
        continued(run_on(&arguments, b"d\r\n"))
    };
    assert_eq!(conversation("\\r\\n"), conversation("\\n"));
    // The tokenizer's own command takes every byte.
    let ids = |text: &[u8]| run_on(&["tokenize"], text).ok();
    assert_ne!(ids(b"a\r\n"), ids(b"a\n"));
}

#[test]
fn the_first_turns_of_a_chat_may_be_given() {
    let chat = ["chat", "--do_sample=false", "-n", "4"];
    let typed = run_on(&chat, b"Who are you?\nAnd then?\n").ok();
    let mut given = chat.to_vec();
    given.push("Who are you?");
    assert_eq!(run_on(&given, b"And then?\n").ok(), typed);
    given.push("And then?");
    assert_eq!(run_with(&given).ok(), typed);
}

#[test]
fn other_names_of_chat_commands() {
    for end in ["/bye", "/quit", "/exit"] {
        let done = run_on(&["chat"], format!("{end}\nnever said\n").as_bytes());
        assert_eq!(done.ok(), "", "{end}");
    }
    let help = run_on(&["chat"], b"/?\n");
    assert!(help.stderr.contains("/help, /?"), "{}", help.stderr);
    assert!(
        help.stderr.contains("/exit, /bye, /quit"),
        "{}",
        help.stderr
    );
}

/// What a greedy or seeded generation gives.
fn ids(arguments: &[&str]) -> Value {
    let mut all = vec!["generate", "-n", "6", "--json"];
    all.extend(arguments);
    run_with(&all).json()["sequences"].clone()
}

#[test]
fn flags_may_be_spelled_with_underscores() {
    let hyphens = ids(&[
        "--do-sample",
        "--seed",
        "3",
        "--top-k",
        "5",
        "-p",
        "Emma was",
    ]);
    let more = [
        "--do_sample",
        "--seed",
        "3",
        "--top_k",
        "5",
        "-p",
        "Emma was",
    ];
    assert_eq!(ids(&more), hyphens);
    assert_eq!(
        ids(&["--do_sample", "--seed=3", "--top_k=5", "Emma was"]),
        hyphens
    );
    // Values and what follows `--` are left alone.
    let tokens = |arguments: &[&str]| run_with(arguments).ok();
    let text = tokens(&["tokenize", "-p=--top_k"]);
    assert_eq!(tokens(&["tokenize", "-p", "--top_k"]), text);
    assert_eq!(tokens(&["tokenize", "--", "--top_k"]), text);
    assert_ne!(tokens(&["tokenize", "-p", "--top-k"]), text);
    assert_eq!(run("generate -p a --no_such_flag 1").status, Some(2));
    let mut convert = std::process::Command::new(env!("CARGO_BIN_EXE_gpt2-convert"));
    let done = convert
        .args(["no-such-folder", "--type", "q9", "--dry_run"])
        .output()
        .unwrap();
    let error = String::from_utf8(done.stderr).unwrap();
    assert!(
        done.status.code() == Some(2) && error.contains("q9"),
        "{error}"
    );
}

#[test]
fn booleans_have_values_and_swallow_no_text() {
    let greedy = ids(&["Emma was"]);
    let drawn = ids(&["--seed", "3", "--do-sample", "-p", "Emma was"]);
    assert_ne!(greedy, drawn);
    for spelled in [
        &["--do-sample", "Emma was"][..],
        &["--do-sample", "true", "Emma was"],
        &["--do_sample", "True", "Emma was"],
        &["--do-sample=true", "Emma was"],
        &["Emma was", "--do-sample"],
    ] {
        let mut arguments = vec!["--seed", "3"];
        arguments.extend(spelled);
        assert_eq!(ids(&arguments), drawn, "{spelled:?}");
    }
    assert_eq!(ids(&["--do-sample", "false", "Emma was"]), greedy);
    assert_eq!(ids(&["--do-sample=False", "Emma was"]), greedy);
    let beams = |more: &[&str]| {
        let mut arguments = vec!["--num_beams", "2"];
        arguments.extend(more);
        arguments.push("Emma was");
        ids(&arguments)
    };
    assert_eq!(
        beams(&["--early-stopping"]),
        beams(&["--early_stopping", "true"])
    );
    assert_eq!(
        beams(&["--early-stopping", "never"]),
        beams(&["--early-stopping=never"])
    );
    assert_eq!(run("generate -p a --do-sample=maybe").status, Some(2));
    assert_eq!(run("generate -p a --ignore-eos=maybe").status, Some(2));
}

#[test]
fn a_seed_of_minus_one_is_a_new_one() {
    for seed in [&["--seed", "-1"][..], &["--seed=-1"]] {
        let mut arguments = vec!["generate", "-p", "a", "-n", "1", "--do-sample"];
        arguments.extend(seed);
        let done = run_with(&arguments);
        assert_eq!(done.status, Some(0), "{}", done.stderr);
        let mut lines = done.stderr.lines();
        assert!(
            lines.any(|line| line.starts_with("seed ")),
            "{}",
            done.stderr
        );
    }
    for seed in ["-2", "1.5", "18446744073709551616", "x"] {
        assert_eq!(
            run(&format!("generate -p a --seed={seed}")).status,
            Some(2),
            "{seed}"
        );
    }
}

#[test]
fn a_temperature_of_zero_is_greedy_with_a_note() {
    let greedy = ids(&["Emma was"]);
    for zero in ["0", "0.0", "0e0"] {
        assert_eq!(
            ids(&["--do-sample", "--temperature", zero, "Emma was"]),
            greedy
        );
    }
    let done = run("generate -p a -n 1 --do-sample --temperature 0");
    assert!(done.stderr.contains("most likely token"), "{}", done.stderr);
    assert!(!done.stderr.contains("seed "), "{}", done.stderr);
    let chat = |flags: &str| {
        let arguments: Vec<&str> = "chat -n 4".split(' ').chain(flags.split(' ')).collect();
        run_on(&arguments, b"Who are you?\n")
    };
    let done = chat("--temperature 0");
    assert!(done.stderr.contains("most likely token"), "{}", done.stderr);
    assert_eq!(done.ok(), chat("--do-sample false").ok());
    assert_eq!(
        run("generate -p a --do-sample --temperature -1").status,
        Some(2)
    );
}

#[test]
fn wrong_values_are_wrong_usage_even_where_only_the_model_can_tell() {
    let model = Converted::new("doubleheads");
    let double = model.path();
    for arguments in [
        "generate --ids 1,4096",
        "generate -p a -c 513",
        "generate -p a --threads 0",
        "generate -p a --threads 100000",
        "generate -p a --device cuda9",
        "generate -p a --suppress-tokens 4096",
        "generate -p a --bad-words-ids 4096",
        "generate -p a --dola-layers 99",
        "generate -p a --max-length 1",
        "generate -p a --max-time nan",
        "generate -p a --max-time -1",
        "generate -p a --word-bias x=nan",
        "generate -p a -n -1",
        "generate -p a --mem 0",
        "forward --ids 1,4096",
        "forward --ids 1,2 --position-ids 0,512",
        "forward --ids 1,2 --token-type-ids 0,4096",
        "forward --ids 1,2 --attention-mask 1,2",
        &format!("forward -m {double} --ids 1,2 --ids 3,4 --mc-token-ids 0,2"),
        &format!("choose -m {double} --ids 1,2 --ids 3,4 --mc-token-ids 0,2"),
        &format!("choose -m {double} --ids 1,2"),
        "embed --ids 4096",
        "embed -p a --pooling median",
        "detokenize 4096",
        "tokenize a --pad-to 0",
        "tokenize a --pad-to 5 --pad-token-id 4096",
        "tokenize a --truncation longest",
        "perplexity -p a --window 0",
        "perplexity -p a --window 513",
        "bench -p 513 -n 0",
        "bench -p x",
        "answer --question a -p b --top-k 0",
        "answer --question a -p b --max-answer-length 0",
        "chat --temperature nan",
        "chat --top-p 1.5",
        "chat --template no-such-file",
        "worker --device cuda9",
        "worker --port 65536",
        "worker --threads 0",
        "worker --host nowhere",
    ] {
        let done = run(arguments);
        assert_eq!(
            (done.status, &*done.stdout),
            (Some(2), ""),
            "{arguments}: {}",
            done.stderr
        );
        assert!(
            !done.stderr.contains("panicked"),
            "{arguments}: {}",
            done.stderr
        );
    }
}

/// Sizes in texts for people have one sort of unit; `800M` of a flag counts in it, too.
#[test]
fn sizes_are_counted_in_powers_of_1024() {
    for arguments in ["devices", "generate -p a -n 1", "generate -p a --mem 3M"] {
        let done = run(arguments);
        let text = format!("{}{}", done.stdout, done.stderr);
        assert!(text.contains("iB"), "{arguments}: {text}");
        let mut words = text.split(|c: char| !c.is_alphabetic());
        assert!(
            !words.any(|word| ["kB", "KB", "MB", "GB", "TB"].contains(&word)),
            "{text}"
        );
    }
    let done = run("generate -p a --mem 3M");
    assert!(
        done.error(1).contains("of the 3.0 MiB that --mem allows"),
        "{}",
        done.stderr
    );
}
