//! `gpt2 chat` in a terminal, as a person meets it: keys go in, text comes out.
#![cfg(all(unix, feature = "demo-model"))]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rexpect::process::WaitStatus;
use rexpect::session::{PtySession, spawn_command};
use serde_json::Value;
use tempfile::TempDir;

/// How long a machine with other work may take for anything.
const PATIENCE: Duration = Duration::from_secs(120);

const UP: &str = "\u{1b}[A";
const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";

/// With `-n 12` every reply has twelve tokens.
const LENGTH: &str = "/set min_new_tokens=12";

/// The program in a terminal.
struct Terminal {
    session: PtySession,
    /// What it wrote and no test has looked at, without escape sequences.
    unseen: String,
    /// An escape sequence that is not over.
    escape: Option<String>,
    /// Whether there was any.
    escaped: bool,
}

impl Terminal {
    /// `gpt2 chat` at its first prompt.
    fn start(history: &Path, arguments: &[&str]) -> Self {
        Self::start_on("xterm", history, arguments)
    }

    /// The same in a terminal of this kind.
    fn start_on(kind: &str, history: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gpt2"));
        command
            .args(["chat", "--threads", "1"])
            .args(arguments)
            .env("GPT2_CHAT_HISTORY", history)
            .env("TERM", kind)
            .env_remove("NO_COLOR");
        let patience = PATIENCE.as_millis().try_into().ok();
        let mut terminal = Self {
            session: spawn_command(command, patience).expect("the program starts"),
            unseen: String::new(),
            escape: None,
            escaped: false,
        };
        terminal.expect("/help lists commands");
        terminal.expect("> ");
        terminal
    }

    /// Takes what the program wrote since.
    fn read(&mut self) -> bool {
        let mut any = false;
        while let Some(character) = self.session.try_read() {
            any = true;
            match &mut self.escape {
                None if character == '\u{1b}' => {
                    self.escape = Some(String::new());
                    self.escaped = true;
                }
                None if character == '\r' => (),
                None => self.unseen.push(character),
                Some(sequence) => {
                    sequence.push(character);
                    let introduced = sequence.starts_with('[');
                    let is_last = ('@'..='~').contains(&character) && sequence != "[";
                    if !introduced || is_last {
                        self.escape = None;
                    }
                }
            }
        }
        any
    }

    /// Waits until `found` gives the end of what was waited for, and takes it.
    fn wait(&mut self, what: &str, found: impl Fn(&str) -> Option<usize>) -> String {
        let start = Instant::now();
        loop {
            self.read();
            if let Some(end) = found(&self.unseen) {
                let rest = self.unseen.split_off(end);
                return std::mem::replace(&mut self.unseen, rest);
            }
            assert!(
                start.elapsed() < PATIENCE,
                "expected {what:?}, found {:?}",
                self.unseen
            );
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for a text.
    fn expect(&mut self, text: &str) -> String {
        self.wait(text, |seen| seen.find(text).map(|start| start + text.len()))
    }

    fn press(&mut self, keys: &str) {
        self.session.send(keys).expect("the terminal takes keys");
        self.session.flush().expect("the terminal takes keys");
    }

    /// Types a line, waits for what is said to it and for the next prompt.
    fn enter(&mut self, line: &str, said: &str) {
        self.press(line);
        self.press("\r");
        self.expect(said);
        self.expect("> ");
    }

    /// Types a turn and waits until its reply is there, which [`LENGTH`] makes certain.
    fn say(&mut self, line: &str) {
        self.enter(line, "the reply was cut after 12 tokens");
    }

    /// Asks for `/stats`, expects something there, and gives the tokens of the last prompt: all,
    /// those that were prefilled, and those kept.
    fn prompt_counts(&mut self, said: &str) -> (usize, usize, usize) {
        self.press("/stats\r");
        self.expect(said);
        self.expect("last prompt: ");
        let line = self.expect(" kept from before");
        self.expect("> ");
        let counts: Vec<usize> = line
            .split(|character: char| !character.is_ascii_digit())
            .filter_map(|digits| digits.parse().ok())
            .collect();
        let [prompt, prefilled, kept] = counts[..] else {
            panic!("{line}");
        };
        (prompt, prefilled, kept)
    }

    /// Ends the conversation and gives the exit status.
    fn end(mut self) -> i32 {
        self.press(CTRL_D);
        let start = Instant::now();
        loop {
            self.read();
            match self.session.process().status() {
                Some(WaitStatus::Exited(_, status)) => return status,
                Some(WaitStatus::StillAlive) if start.elapsed() < PATIENCE => {
                    thread::sleep(Duration::from_millis(5));
                }
                other => panic!("expected an end, found {other:?}"),
            }
        }
    }
}

#[test]
fn a_conversation() {
    let folder = TempDir::new().unwrap();
    let history = folder.path().join("state/history");
    let talk = folder.path().join("talk.json");
    let talk = talk.to_str().unwrap();
    let mut terminal = Terminal::start(&history, &["-n", "12", "--seed", "1"]);
    terminal.enter(LENGTH, "\nmin_new_tokens=12");

    // Typing, with a mistake taken back.
    terminal.say("Who is Emmma\u{8}\u{8}a?");
    let (first, ..) = terminal.prompt_counts("turns: 2, of which 0");
    // The line of before, again: all of the prompt and the reply is kept but its last token, which
    // nothing had computed.
    terminal.say(&[UP, UP].concat());
    let (prompt, prefilled, kept) = terminal.prompt_counts("turns: 4");
    assert_eq!((prompt, kept), (prefilled + kept, first + 12 - 1));

    // Several lines, in both ways.
    terminal.press("Tell me\\\r");
    terminal.say("more.");
    terminal.press("\"\"\"\rOne\r");
    terminal.say("two\"\"\"");

    // Ctrl-C at the prompt leaves the line.
    terminal.press("never said");
    terminal.press(CTRL_C);
    terminal.expect("\n> ");
    terminal.enter("/stats", "turns: 8");

    // Ctrl-C stops a long reply, and not the program; twice, too.
    terminal.enter("/set max_new_tokens=100000", "\nmax_new_tokens=100000");
    terminal.enter("/set min-new-tokens = 100000", "\nmin_new_tokens=100000");
    terminal.enter("/set temperature=0.7", "\ntemperature=0.7");
    for _ in 0..2 {
        terminal.press("Go on.\r");
        terminal.wait("the beginning of a reply", |seen| {
            let (_, reply) = seen.split_once('\n')?;
            (reply.trim().len() > 5).then_some(seen.len())
        });
        terminal.press(CTRL_C);
        terminal.expect("the reply was stopped");
        terminal.expect("> ");
    }
    terminal.enter("/stats", "(stopped)");
    terminal.enter("/undo", "taken back: Go on.");
    terminal.enter("/undo", "taken back: Go on.");

    // What fails is said, and the conversation goes on.
    terminal.enter("/load no/such.json", "error: no/such.json");
    terminal.enter("/set top_p=2", "error: /set: top_p must be");
    terminal.enter("/bogus", "error: expected one of /help");

    terminal.enter(&format!("/save {talk}"), "saved 8 turns");
    terminal.enter("/reset", "starts over");
    terminal.enter("/stats", "turns: 0");
    terminal.enter(&format!("/load {talk}"), "loaded 8 turns");
    terminal.enter("/stats", "turns: 8");
    // Tab completes a command.
    terminal.enter("/he\t", "take your last turn");
    assert_eq!(terminal.end(), 0);

    let saved: Value = serde_json::from_str(&fs::read_to_string(talk).unwrap()).unwrap();
    let said: Vec<&str> = saved["messages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|message| message["role"] == "user")
        .filter_map(|message| message["content"].as_str())
        .collect();
    assert_eq!(
        said,
        ["Who is Emma?", "Who is Emma?", "Tell me\nmore.", "One\ntwo"]
    );

    // Another day the lines are still there: the last was /help, before it /stats.
    let mut terminal = Terminal::start(&history, &[]);
    terminal.enter(&[UP, UP].concat(), "turns: 0");
    terminal.enter("/exit\u{15}/stats", "no reply yet");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn without_a_history_nothing_is_written() {
    let folder = TempDir::new().unwrap();
    let history = folder.path().join("history");
    let mut terminal = Terminal::start(&history, &["--no-history"]);
    terminal.enter("/stats", "turns: 0");
    assert_eq!(terminal.end(), 0);
    assert!(!history.exists());
}

#[test]
fn a_terminal_without_escape_sequences_gets_none() {
    let folder = TempDir::new().unwrap();
    let history = folder.path().join("history");
    for (kind, escaped) in [("dumb", false), ("xterm", true)] {
        let mut terminal = Terminal::start_on(kind, &history, &["-n", "4", "Who are you?"]);
        terminal.enter("/bye now", "error: /bye: expected nothing");
        terminal.enter("/stats", "turns: 2");
        assert_eq!(terminal.escaped, escaped, "{kind}");
        assert_eq!(terminal.end(), 0, "{kind}");
    }
}

/// All that a program writes into a terminal.
fn written(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("TERM", "xterm")
        .env_remove("NO_COLOR");
    command.envs(variables.iter().copied());
    let patience = PATIENCE.as_millis().try_into().ok();
    let mut session = spawn_command(command, patience).expect("the program starts");
    session.exp_eof().expect("the program ends")
}

#[test]
fn colours_and_bars_are_for_terminals_that_know_them() {
    let (gpt2, convert) = (
        env!("CARGO_BIN_EXE_gpt2"),
        env!("CARGO_BIN_EXE_gpt2-convert"),
    );
    let text = "It is a truth universally acknowledged. ".repeat(20);
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("out.gguf");
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/models/austen-gpt2-q8_0.gguf");
    let perplexity = ["perplexity", "-t", "1", "--window", "16", "-p", &text];
    let converted = [
        demo,
        "-o",
        output.to_str().unwrap(),
        "--type",
        "f32",
        "--force",
    ];
    for (program, arguments) in [
        (gpt2, &["--no-such-flag"][..]),
        (gpt2, &["generate", "--help"]),
        (gpt2, &perplexity),
        (convert, &converted),
    ] {
        let shown = written(program, arguments, &[]);
        assert!(shown.contains('\u{1b}'), "{arguments:?}: {shown}");
        for variables in [("TERM", "dumb"), ("NO_COLOR", "1"), ("TERM", "")] {
            let shown = written(program, arguments, &[variables]);
            assert!(
                !shown.is_empty() && !shown.contains('\u{1b}'),
                "{arguments:?}: {shown:?}"
            );
        }
    }
}
