//! Results that cannot be written, notes that cannot, and work that is cut short: every command,
//! with stdout and stderr full, closed, or left by their readers.
#![cfg(target_os = "linux")]
#![allow(
    dead_code,
    reason = "the tiny model's files serve other tests, too, each a part"
)]

#[path = "../../tests/hostile/random.rs"]
mod random;
#[path = "../../tests/hostile/tiny.rs"]
mod tiny;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use gpt2::gguf::TensorType;
use gpt2::spec::{HeadSettings, Hyperparameters, ModelClass};
use serde_json::Value;
use tempfile::TempDir;
use tiny::{TinyModel, checkpoint, hyperparameters};

const GPT2: &str = env!("CARGO_BIN_EXE_gpt2");
const CONVERT: &str = env!("CARGO_BIN_EXE_gpt2-convert");

/// What each command is run with, in a folder that [`folder`] made. Of those marked `~` only the
/// numbers of the result differ from run to run.
const RUNS: &[&str] = &[
    "generate -m lm.gguf -p the -n 8",
    "generate -m lm.gguf -p the -n 8 --do-sample --seed 1",
    // A seed is drawn and said.
    "generate -m lm.gguf -p the -n 8 --do-sample --top-k 1",
    "generate -m lm.gguf -p the -n 8 --temperature 0.5 --prompt-cache cache",
    "generate -m lm.gguf -p the -p text -n 4 --num-beams 2",
    "~generate -m lm.gguf -p the -n 8 --json",
    "chat -m lm.gguf --seed 1 -n 4",
    "~chat -m lm.gguf -n 4 --json --top-k 1",
    "forward -m lm.gguf -p the --output out.safetensors --force",
    "forward -m lm.gguf --ids 1,2 --json",
    "classify -m classify.gguf -p the -p text",
    "classify -m classify.gguf -p the --json",
    "tag -m tag.gguf -p text",
    "answer -m answer.gguf --question a -p text",
    "choose -m choose.gguf --prompt the --choice a --choice b",
    "choose -m lm.gguf the --choice a --choice b",
    "embed -m lm.gguf -p the",
    "score -m lm.gguf the text",
    "score -m lm.gguf the text --json --top 2 --ranks",
    "perplexity -m lm.gguf -f text --window 16",
    "perplexity -m lm.gguf -f text --window 16 --json --reference lm.gguf",
    "~bench -m lm.gguf -p 4 -n 2 -r 1",
    "~bench -m lm.gguf -p 4 -n 2 -r 1 --json",
    "~bench --attention -m lm.gguf -p 4 -r 1 --plot plot.svg --force",
    "tokenize -m lm.gguf text",
    "detokenize -m lm.gguf 1,2,3",
    "tokenizer save vocabulary -m lm.gguf --force",
    "info lm.gguf",
    "info lm.gguf --json",
    "~devices",
    "worker --device none",
    "--help",
    "generate --help",
    "--version",
    "",
    "generate --no-such-flag",
    "generate -m no-such.gguf -p a",
    "generate -m lm.gguf -p the -n 700 --on-overflow keep=64",
    "~convert . -o out.gguf --type q8_0 --force",
    "~convert . --dry-run --type f16 --json",
    "convert --help",
    "convert --version",
    "convert",
    "convert nowhere -o out.gguf --type f16",
];

/// Runs that need the model inside the program.
#[cfg(feature = "demo-model")]
const DEMO_RUNS: &[&str] = &["generate -p Emma -n 4", "tokenize Emma"];
#[cfg(not(feature = "demo-model"))]
const DEMO_RUNS: &[&str] = &[];

/// What became of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is read.
    Read,
    /// Every write says that the disk is full.
    Full,
    /// Its file descriptor was closed before the program began.
    Closed,
    /// A pipe whose reader left.
    Left,
}

impl Fate {
    fn stdio(self) -> Stdio {
        match self {
            Self::Full => File::options()
                .write(true)
                .open("/dev/full")
                .unwrap()
                .into(),
            Self::Left => std::io::pipe().unwrap().1.into(),
            // The shell closes it.
            Self::Read | Self::Closed => Stdio::piped(),
        }
    }
}

/// A folder with a model of every class, a checkpoint and a text.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let model = |name: &str, class: ModelClass, outputs: usize| {
        let sizes = Hyperparameters {
            n_positions: 64,
            class,
            head: HeadSettings {
                outputs,
                ..HeadSettings::default()
            },
            ..hyperparameters()
        };
        let bytes = TinyModel::new(&sizes, TensorType::Q8_0).bytes();
        fs::write(folder.path().join(name), bytes).unwrap();
    };
    model("lm.gguf", ModelClass::LanguageModel, 0);
    model("classify.gguf", ModelClass::SequenceClassification, 2);
    model("tag.gguf", ModelClass::TokenClassification, 2);
    model("answer.gguf", ModelClass::QuestionAnswering, 2);
    model("choose.gguf", ModelClass::DoubleHeads, 1);
    for (name, bytes) in checkpoint() {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    fs::write(folder.path().join("text"), "the text ".repeat(20)).unwrap();
    folder
}

/// Runs a program in a shell that does `before` first.
fn run_after(before: &str, run: &str, folder: &Path, [out, err]: [Fate; 2]) -> Output {
    let arguments: Vec<&str> = run.trim_start_matches('~').split_whitespace().collect();
    let (program, arguments) = match arguments.split_first() {
        Some((&"convert", rest)) => (CONVERT, rest),
        _ => (GPT2, &arguments[..]),
    };
    let closed = |fate: Fate, number: u8| match fate {
        Fate::Closed => format!("{number}>&-"),
        _ => String::new(),
    };
    let (first, second) = (closed(out, 1), closed(err, 2));
    let mut child = Command::new("sh")
        .args([
            "-c",
            &format!("{before} exec \"$0\" \"$@\" {first} {second}"),
            program,
        ])
        .args(arguments)
        .current_dir(folder)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::piped())
        .stdout(out.stdio())
        .stderr(err.stdio())
        .spawn()
        .expect("the shell starts");
    // Who does not read it has ended.
    let _ = child.stdin.take().unwrap().write_all(b"the text\n");
    child.wait_with_output().expect("the program ends")
}

fn run(run: &str, folder: &Path, fates: [Fate; 2]) -> Output {
    run_after("", run, folder, fates)
}

/// A result, of which the numbers do not count where they differ from run to run.
fn shown(run: &str, output: &Output) -> String {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    if !run.starts_with('~') {
        return text;
    }
    let number = |character: char| character.is_ascii_digit() || "+-.e ".contains(character);
    let parts = text.split(number).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("0")
}

#[test]
fn no_command_fails_for_its_notes_nor_hides_a_lost_result() {
    use Fate::{Closed, Full, Left, Read};
    let folder = folder();
    let folder = folder.path();
    let mut failures = Vec::new();
    for &command in RUNS.iter().chain(DEMO_RUNS) {
        let healthy = run(command, folder, [Read, Read]);
        let result = shown(command, &healthy);
        let mut judge = |fates: [Fate; 2], fine: &dyn Fn(&Output) -> bool| {
            let output = run(command, folder, fates);
            let status = output.status;
            if status.code().is_none_or(|code| code == 101) || !fine(&output) {
                let found = shown(command, &output);
                failures.push(format!("{command:?} {fates:?}: {status}, {found:?}"));
            }
        };
        for fate in [Full, Closed, Left] {
            judge([Read, fate], &|output| {
                output.status == healthy.status && shown(command, output) == result
            });
        }
        let well = healthy.status.success();
        for err in [Read, Full, Left] {
            judge([Full, err], &|output| match (well, result.is_empty()) {
                (true, false) => output.status.code() == Some(1),
                _ => output.status == healthy.status,
            });
            judge([Left, err], &|output| output.status == healthy.status);
        }
        // The system puts /dev/null there before the program begins.
        judge([Closed, Closed], &|output| output.status == healthy.status);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_reader_of_both_streams_may_leave_after_a_line() {
    let folder = folder();
    for command in RUNS {
        let script = "\"$0\" \"$@\" 2>&1; echo $? >status";
        let arguments: Vec<&str> = command.trim_start_matches('~').split_whitespace().collect();
        let (program, arguments) = match arguments.split_first() {
            Some((&"convert", rest)) => (CONVERT, rest),
            _ => (GPT2, &arguments[..]),
        };
        let status = Command::new("sh")
            .args([
                "-c",
                &format!("{{ {script}; }} </dev/null | head -n 1"),
                program,
            ])
            .args(arguments)
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        let status = fs::read_to_string(folder.path().join("status")).unwrap();
        let status: i32 = status.trim().parse().unwrap();
        assert!((0..3).contains(&status), "{command}: {status}");
    }
}

#[test]
fn places_for_results_are_tried_before_the_work() {
    let folder = folder();
    for command in [
        "generate -p the -n 8 --prompt-cache no/file",
        "generate -p the -n 8 --prompt-cache no/file --json",
        "generate -p the -n 8 --output-scores -o no/file",
        "generate -p the -n 8 --output-logits -o no/file --json",
        "forward -m lm.gguf -p the --output no/file",
        "bench --attention -m lm.gguf --plot no/file",
        "convert . -o no/file --type f16",
        "tokenizer save text/no/file -m lm.gguf",
    ] {
        let output = run(command, folder.path(), [Fate::Read, Fate::Read]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{command}: {error}");
        assert!(output.stdout.is_empty(), "{command}");
        // Not even a model was looked for.
        assert!(!error.contains("no model given"), "{command}: {error}");
        let line = error.lines().last().unwrap();
        let named = line.starts_with("error: ") && line.contains("no/file");
        assert!(named && !line.contains(".part"), "{command}: {line}");
    }
}

/// Files may not grow here beyond 4 KiB, which only writing finds out.
const SMALL_FILES: &str = "trap '' XFSZ; ulimit -f 8;";

#[test]
fn other_results_come_out_where_one_cannot_be_written() {
    let folder = folder();
    let names = || {
        let entries = fs::read_dir(folder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    let before = names();
    let read = [Fate::Read, Fate::Read];
    for command in [
        "generate -m lm.gguf -p the -n 8",
        "~generate -m lm.gguf -p the -n 8 --json",
    ] {
        let healthy = run(command, folder.path(), read);
        for more in [
            "--output-scores -o big",
            "--output-logits --output-scores -o big --prompt-cache small",
        ] {
            let with_files = format!("{command} {more}");
            let output = run_after(SMALL_FILES, &with_files, folder.path(), read);
            let error = String::from_utf8(output.stderr.clone()).unwrap();
            assert_eq!(output.status.code(), Some(1), "{with_files}: {error}");
            assert_eq!(
                shown(command, &output),
                shown(command, &healthy),
                "{with_files}"
            );
            let line = error.lines().last().unwrap();
            assert!(
                line.starts_with("error: ") && line.contains("big"),
                "{line}"
            );
        }
    }
    let forward = "forward -m lm.gguf --ids 1,2,3,4,5,6,7,8 --json";
    let healthy = run(forward, folder.path(), read);
    let with_file = format!("{forward} --output big");
    let output = run_after(SMALL_FILES, &with_file, folder.path(), read);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout, healthy.stdout);
    // Nothing is left of what was not whole.
    let _ = fs::remove_file(folder.path().join("small"));
    assert_eq!(names(), before);

    // The other way about: the files are there although nobody reads the text.
    let files = "generate -m lm.gguf -p the -n 8 --output-scores -o scores --prompt-cache cache";
    for (fate, status) in [(Fate::Full, 1), (Fate::Left, 0)] {
        let output = run(files, folder.path(), [fate, Fate::Read]);
        assert_eq!(output.status.code(), Some(status));
        for file in ["scores", "cache"] {
            fs::remove_file(folder.path().join(file)).expect(file);
        }
    }
}

/// Runs a command, ends it by Ctrl-C after a while, and gives its document; later if it had none
/// yet.
fn interrupted(arguments: &[&str], folder: &Path) -> Value {
    for seconds in [1, 2, 4, 8, 16] {
        let child = Command::new(GPT2)
            .args(arguments)
            .args(["--json", "--threads", "1"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_secs(seconds));
        let id = child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-INT", &id])
                .status()
                .unwrap()
                .success()
        );
        let output = child.wait_with_output().unwrap();
        // Before the program listens, Ctrl-C ends it as it ends any.
        let Some(code) = output.status.code() else {
            continue;
        };
        assert_eq!(code, 130, "{arguments:?}");
        if !output.stdout.is_empty() {
            return serde_json::from_slice(&output.stdout).unwrap();
        }
    }
    panic!("{arguments:?}: nothing was done in time");
}

#[test]
fn what_was_cut_short_says_so() {
    let folder = folder();
    let path = folder.path();
    let line = format!("{}\n", "the text ".repeat(6));
    fs::write(path.join("long"), line.repeat(60_000)).unwrap();

    let arguments = [
        "perplexity",
        "-m",
        "lm.gguf",
        "-f",
        "long",
        "--window",
        "64",
    ];
    let document = interrupted(&arguments, path);
    assert_eq!(document["interrupted"], true);
    let count = |name: &str| document[name].as_u64().unwrap();
    assert!(
        (1..count("all_windows")).contains(&count("windows")),
        "{document}"
    );
    assert_eq!(count("tokens"), 63 * count("windows"));

    let document = interrupted(&["embed", "-m", "lm.gguf", "--lines", "long"], path);
    assert_eq!(document["interrupted"], true);
    let rows = document["rows"].as_array().unwrap().len();
    assert!(rows < 60_000, "{rows} rows");

    let arguments = [
        "bench", "-m", "lm.gguf", "-p", "1,64", "-n", "0", "-r", "50000",
    ];
    let document = interrupted(&arguments, path);
    assert_eq!(document["interrupted"], true);
    let rows = document["rows"].as_array().unwrap();
    assert!(rows.len() == 1 && rows[0]["test"] == "pp1", "{document}");
}
