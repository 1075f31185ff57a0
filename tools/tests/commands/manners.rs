//! What every command has in common: help, versions, errors, exit statuses.

use std::path::PathBuf;

use crate::run::{run, run_with};

const COMMANDS: &[&str] = &[
    "generate",
    "chat",
    "forward",
    "classify",
    "tag",
    "answer",
    "choose",
    "embed",
    "perplexity",
    "score",
    "bench",
    "tokenize",
    "detokenize",
    "tokenizer",
    "info",
    "devices",
    "worker",
    #[cfg(feature = "serve")]
    "serve",
];

/// Compares with the file `NAME.txt` under `snapshots`; with `UPDATE_SNAPSHOTS` set, writes it.
fn snapshot(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/snapshots")
        .join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(path, text).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text, expected,
        "{name}: if this is as meant, run with UPDATE_SNAPSHOTS=1"
    );
}

#[test]
fn help_is_as_it_was() {
    snapshot("help", &run("--help").ok());
    for command in COMMANDS {
        let text = run_with(&[command, "--help"]).ok();
        assert!(text.contains("Example:"), "{command}");
        snapshot(&format!("help-{command}"), &text);
    }
}

#[test]
fn the_version_names_what_is_inside() {
    let text = run("--version").ok();
    let mut lines = text.lines();
    assert_eq!(
        lines.next(),
        Some(concat!("gpt2 ", env!("CARGO_PKG_VERSION")))
    );
    assert!(
        lines.next().is_some_and(|line| line.starts_with("ggml 0.")),
        "{text}"
    );
    assert!(text.contains("backend CPU"), "{text}");
    assert_eq!(run("-V").ok(), text);
}

#[test]
fn wrong_usage_has_status_2() {
    for arguments in [
        "",
        "no-such-command",
        "generate --no-such-flag",
        "generate --num-beams many",
        "generate -p a --num-beams 4 --num-beam-groups 3",
        "generate -p a --num-beams 2 --dola-layers low",
        "generate -p a --on-overflow 4",
        "generate -p a --output-scores",
        "generate -p a --attention-mask 1",
        "generate -p a -f b",
        "generate --ids 1,x",
        "generate -p a --cache-type q5_0",
        "generate -p a --flash-attn maybe",
        "generate -p a --mem lots",
        "forward",
        "forward -p a --ids 1",
        "bench -r 0",
        "info a b",
    ] {
        let done = run(arguments);
        assert_eq!((done.status, &*done.stdout), (Some(2), ""), "{arguments}");
        assert!(!done.stderr.is_empty(), "{arguments}");
    }
}

#[test]
fn parameters_out_of_range_are_wrong_usage() {
    for (arguments, said) in [
        ("generate -p a --do-sample --temperature -1", "above 0"),
        ("generate -p a --do-sample --top-p 1.5", "top_p"),
        ("generate -p a --num-return-sequences 2", "do_sample"),
        (
            "generate -p a --num-return-sequences 0",
            "num_return_sequences",
        ),
    ] {
        let done = run(arguments);
        assert!(done.error(2).contains(said), "{}", done.stderr);
    }
    assert!(
        run_with(&["generate", "-p", "a", "--stop", ""])
            .error(2)
            .contains("stop")
    );
    let done = run("generate -p a -n 1 --temperature 0.5");
    assert!(
        done.stderr.contains("no effect of --temperature"),
        "{}",
        done.stderr
    );
}

#[test]
fn files_that_are_missing_are_named_in_one_line() {
    for command in [
        "generate -p a",
        "forward -p a",
        "perplexity -p a",
        "score a",
        "bench",
        "tokenize a",
        "detokenize 1",
    ] {
        let done = run(&format!("{command} -m no/such.gguf"));
        let line = done.error(1);
        assert!(line.contains("no/such.gguf"), "{line}");
        assert_eq!(line.matches("No such file").count(), 1, "{line}");
    }
    for arguments in [
        "info no/such.gguf",
        "generate -f no/such.txt",
        "perplexity -f no/such.txt",
    ] {
        assert!(run(arguments).error(1).contains("no/such."));
    }
}

#[test]
fn files_that_are_no_models_are_refused() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    for command in ["generate -p a -m", "tokenize a -m", "info"] {
        let done = run(&format!("{command} {file}"));
        assert!(done.error(1).contains("Cargo.toml"), "{}", done.stderr);
    }
}

#[test]
fn devices_of_other_builds_are_refused() {
    assert!(
        run("generate -p a --device cuda0")
            .error(2)
            .contains("expected one of cpu")
    );
    assert_eq!(
        run("generate -p a -n 1 --device cpu --threads 1").status,
        Some(0)
    );
    let done = run("generate -p a -n 1 --gpu-layers 5");
    assert!(done.stderr.contains("no effect"), "{}", done.stderr);
    assert_eq!(done.status, Some(0));
    assert!(
        run("generate -p a --threads 0")
            .error(2)
            .contains("threads")
    );
    assert!(run("generate -p a -c 513").error(2).contains("512"));
}

#[test]
fn every_way_to_run_the_model_gives_the_same_text() {
    let generate = |more: &str| {
        let mut arguments = vec![
            "generate",
            "-p",
            "It is a truth universally acknowledged, that",
        ];
        arguments.extend(["-n", "16"].into_iter().chain(more.split_whitespace()));
        run_with(&arguments).ok()
    };
    let text = generate("");
    for arguments in [
        "--no-mmap",
        "--flash-attn on",
        "--flash-attn off",
        "-t 2",
        "-c 64",
        "--cache-type f32",
    ] {
        assert_eq!(generate(arguments), text, "{arguments}");
    }
}
