//! What the documents show of the commands: sessions print what is printed there, and every flag
//! that is shown exists.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::run::run;

/// The project's folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The documents with their texts.
fn documents() -> BTreeMap<String, String> {
    let folders = [root(), root().join("docs")];
    let entries = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap());
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .filter(|path| !path.ends_with("CHANGELOG.md"))
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// The blocks of a document that are marked as one of `kinds`; without a mark: the empty one.
fn blocks<'a>(text: &'a str, kinds: &[&str]) -> Vec<&'a str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("```") {
        let (kind, after) = after.split_once('\n').unwrap();
        let (block, after) = after.split_once("```").expect("a block ends");
        if kinds.contains(&kind) {
            found.push(block);
        }
        rest = after;
    }
    found
}

/// A session: a command, and lines that are typed (behind `> `) or printed.
struct Session {
    command: String,
    typed: String,
    printed: Vec<String>,
}

impl Session {
    fn of(block: &str) -> Self {
        let mut lines = block.lines();
        let command = lines.next().and_then(|line| line.strip_prefix("$ "));
        let mut session = Self {
            command: command.expect("a session begins with a command").to_owned(),
            typed: String::new(),
            printed: Vec::new(),
        };
        for line in lines {
            match line.strip_prefix("> ") {
                Some(typed) => session.typed.extend([typed, "\n"]),
                // Said to a terminal alone.
                None if line.contains("Ctrl-C") => {}
                None => session.printed.push(line.to_owned()),
            }
        }
        session
    }
}

/// Bits of logits, and so what is sampled, are those of x86-64 with AVX2.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_conversation_goes_as_its_document_shows() {
    if !std::arch::is_x86_feature_detected!("avx2") {
        println!("skipped: the document's text was computed with AVX2");
        return;
    }
    let documents = documents();
    let session = Session::of(blocks(&documents["chat.md"], &["console"])[0]);
    let folder = TempDir::new().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_gpt2"));
    let folders = [
        program.parent().unwrap(),
        Path::new("/usr/bin"),
        Path::new("/bin"),
    ];
    let path = std::env::join_paths(folders);
    // Both streams as one, as a terminal shows them.
    let mut shell = Command::new("sh")
        .args(["-c", &format!("exec 2>&1; {}", session.command)])
        .env("PATH", path.unwrap())
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = shell.stdin.take().unwrap();
    stdin.write_all(session.typed.as_bytes()).unwrap();
    drop(stdin);
    let output = shell.wait_with_output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed.lines().collect::<Vec<_>>(), session.printed);
}

/// The sessions of documents, and the tests that compare them: this file's, and `hostile.rs`.
#[test]
fn every_session_is_compared() {
    let sessions: Vec<String> = documents()
        .iter()
        .flat_map(|(name, text)| {
            let sessions = blocks(text, &["console"]);
            sessions
                .into_iter()
                .map(move |block| format!("{name}: {}", Session::of(block).command))
        })
        .collect();
    let known = [
        "chat.md: gpt2 chat --seed 7 -n 40 --temperature 0.7 --system \"A conversation at \
         Hartfield.\"",
        "convert.md: gpt2-convert somewhere -o out.gguf --type q8_0",
    ];
    assert_eq!(sessions, known);
}

/// What commands print is shown in sessions alone, which are compared; `text` is for diagrams.
#[test]
fn outputs_are_shown_in_sessions_alone() {
    const CODE: &[&str] = &[
        "sh",
        "console",
        "c",
        "cpp",
        "rust",
        "rust,no_run",
        "ini",
        "cmake",
        "python",
        "nginx",
    ];
    for (name, text) in documents() {
        let mut fences = text.lines().filter_map(|line| line.strip_prefix("```"));
        while let Some(kind) = fences.next() {
            let diagram = kind == "text" && name == "ARCHITECTURE.md";
            assert!(
                diagram || CODE.contains(&kind),
                "{name}: a block of {kind:?}"
            );
            assert_eq!(fences.next(), Some(""), "{name}: a block ends");
        }
    }
}

/// Words of a command's line before a comment, a pipe or another command.
fn words(line: &str) -> Vec<&str> {
    let words = line.split_whitespace();
    words
        .take_while(|word| !["#", "|", "&&", ">", "\\"].contains(word))
        .collect()
}

/// What a command's help says, by the words that name the command.
fn help(command: &str) -> String {
    match command.split_once(' ') {
        None if command == "gpt2-convert" => {
            let mut convert = Command::new(env!("CARGO_BIN_EXE_gpt2-convert"));
            let output = convert.arg("--help").output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        }
        None => run("--help").ok(),
        Some((_, command)) => run(&format!("{command} --help")).ok(),
    }
}

#[test]
fn flags_of_documented_commands_exist() {
    let mut helps: BTreeMap<String, String> = BTreeMap::new();
    let mut seen = 0;
    for (document, text) in documents() {
        for block in blocks(&text, &["sh", "console", "", "ini"]) {
            for line in block.lines() {
                let line = line
                    .trim_start_matches("$ ")
                    .trim_start_matches("ExecStart=");
                let words = words(line);
                let Some(first) = words.first().and_then(|word| word.rsplit('/').next()) else {
                    continue;
                };
                let command = match first {
                    "gpt2" if words.len() > 1 && !words[1].starts_with('-') => {
                        let two = words[1] == "tokenizer" && words.len() > 2;
                        format!("gpt2 {}", words[1..=1 + usize::from(two)].join(" "))
                    }
                    "gpt2" | "gpt2-convert" => first.to_owned(),
                    _ => continue,
                };
                let help = helps
                    .entry(command.clone())
                    .or_insert_with(|| help(&command));
                let known = |flag: &str| {
                    let mut words = help.split(|c: char| c.is_whitespace() || "[],=".contains(c));
                    words.any(|word| word == flag)
                };
                for flag in words.iter().filter(|word| word.starts_with("--")) {
                    let flag = flag.split('=').next().unwrap();
                    assert!(
                        known(flag),
                        "{document}: `{command}` has no {flag}:\n{line}"
                    );
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 20, "{seen} flags in the documents");
}

#[test]
fn help_names_no_command_that_does_not_exist() {
    let commands: Vec<String> = run("--help")
        .ok()
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect();
    assert!(commands.len() > 10, "{commands:?}");
    let of_convert = Command::new(env!("CARGO_BIN_EXE_gpt2-convert"))
        .arg("--help")
        .output()
        .unwrap();
    let mut texts = vec![String::from_utf8(of_convert.stdout).unwrap()];
    let named = commands.iter().filter(|name| *name != "help");
    texts.extend(named.map(|name| run(&format!("{name} --help")).ok()));
    let mut seen = 0;
    for text in texts {
        for (place, _) in text.match_indices("gpt2 ") {
            let before = text[..place].chars().next_back();
            if before.is_some_and(|before| before.is_alphanumeric() || "-_/".contains(before)) {
                continue;
            }
            let named = text[place + 5..].split(|c: char| !c.is_ascii_lowercase());
            let named = named.take(1).next().unwrap_or_default();
            if !named.is_empty() {
                seen += 1;
                assert!(commands.iter().any(|known| known == named), "gpt2 {named}");
            }
        }
    }
    assert!(seen > 10, "{seen} commands named");
}
