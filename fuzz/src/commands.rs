//! Command lines: the programs with any arguments, each run by itself.
//!
//! The programs are built apart, without instrumentation, and `GPT2_FUZZ_PROGRAMS` is their folder.
//! An input is a choice of words, so that most lines mean something.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::files::{path, write, write_once};
use crate::hostile::tiny::{TinyModel, checkpoint};

/// Far longer than any of these commands takes.
const LONGEST: Duration = Duration::from_secs(20);
/// What a Rust program ends with after a panic.
const PANICKED: i32 = 101;
/// The most words of a line.
const MOST_WORDS: usize = 12;

/// Values that flags and commands might take, valid, at their edges and neither.
const VALUES: &[&str] = &[
    "",
    "0",
    "1",
    "2",
    "5",
    "-1",
    "16",
    "17",
    "512",
    "1e-40",
    "0.5",
    "1.5",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "65535",
    "65536",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "9223372036854775807",
    "1,2,3",
    "0,999999",
    ",",
    "true",
    "false",
    "on",
    "off",
    "auto",
    "cpu",
    "f32",
    "f16",
    "q8_0",
    "q4_0",
    "q4_k_m",
    "bf16",
    "the",
    "the the\r\n the",
    "é\u{301}\u{200d}🙂",
    "stop",
    "keep=1",
    "keep=512",
    "shift",
    "=",
    "a=b",
    ".=q8_0",
    "(=f16",
    "4K",
    "1G",
    "99999999T",
    "-",
    "--",
    "/dev/null",
    "/dev/full",
    "/nonexistent/x",
    "../..",
];

/// The words of a program: its commands, the flags of its help texts, values, files.
struct Words {
    program: PathBuf,
    commands: Vec<String>,
    flags: Vec<String>,
    values: Vec<String>,
    model: Vec<u8>,
}

impl Words {
    fn of(name: &str) -> Self {
        let folder = std::env::var_os("GPT2_FUZZ_PROGRAMS").expect("GPT2_FUZZ_PROGRAMS");
        let program = PathBuf::from(folder).join(name);
        let model = TinyModel::tiny().bytes();
        write("model.gguf", &model);
        write_once("broken.gguf", b"GGUF\x03\0\0\0");
        write_once("text.txt", b"the the the\nthe");
        for (name, bytes) in &checkpoint() {
            write_once(&format!("source/{name}"), bytes);
        }
        let mut values: Vec<String> = VALUES.iter().map(|&value| value.to_owned()).collect();
        for name in ["model.gguf", "broken.gguf", "text.txt", "source", "new"] {
            values.push(path(name).display().to_string());
        }
        let help = |arguments: &[&str]| {
            let output = Command::new(&program).args(arguments).output();
            String::from_utf8_lossy(&output.expect("the program runs").stdout).into_owned()
        };
        let text = help(&["--help"]);
        let mut commands: Vec<String> = text
            .lines()
            .skip_while(|line| !line.starts_with("Commands:"))
            .skip(1)
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.split_whitespace().next())
            // These go on until they are ended, or reach out.
            .filter(|name| !["worker", "serve", "pull", "help"].contains(name))
            .map(str::to_owned)
            .collect();
        let texts = commands.iter().map(|command| help(&[command, "--help"]));
        let mut flags: Vec<String> = std::iter::once(text)
            .chain(texts)
            .flat_map(|text| {
                let words = text.split(|c: char| c.is_whitespace() || ",[]=`'".contains(c));
                let flags = words.filter(|word| word.starts_with('-') && word.len() > 1);
                flags.map(str::to_owned).collect::<Vec<_>>()
            })
            .collect();
        flags.sort_unstable();
        flags.dedup();
        if commands.is_empty() {
            commands.push(path("source").display().to_string());
        }
        Self {
            program,
            commands,
            flags,
            values,
            model,
        }
    }

    /// The line that an input means.
    fn line(&self, data: &[u8]) -> Vec<String> {
        let mut bytes = data.iter().copied().map(usize::from);
        let mut next = move || Some(bytes.next()? << 8 | bytes.next()?);
        let of = |words: &[String], number: usize| words[number % words.len()].clone();
        let mut line = Vec::new();
        if let Some(number) = next() {
            line.push(of(&self.commands, number));
        }
        // Most lines name a model that there is.
        line.extend(["-m".to_owned(), path("model.gguf").display().to_string()]);
        if self.commands.len() == 1 {
            line.truncate(1);
        }
        while let (true, Some(number)) = (line.len() < MOST_WORDS, next()) {
            let words = if number % 3 == 0 {
                &self.values
            } else {
                &self.flags
            };
            line.push(of(words, number / 3));
            if let (1, Some(number)) = (number % 3, next()) {
                line.push(of(&self.values, number));
            }
        }
        line
    }

    /// Runs the program; anything but an orderly end is a finding.
    fn run(&self, data: &[u8]) {
        // A line before may have written over it.
        write("model.gguf", &self.model);
        let line = self.line(data);
        let mut child = Command::new(&self.program)
            .args(&line)
            .current_dir(path("."))
            .env("HOME", path("home"))
            .env("XDG_DATA_HOME", path("home"))
            .env("TERM", "dumb")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut stderr = child.stderr.take().expect("a pipe");
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stderr.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child of ours") {
                break status;
            }
            if start.elapsed() > LONGEST {
                let _ = child.kill();
                let _ = child.wait();
                panic!("after {LONGEST:?} still at work: {line:?}");
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let told = reader.join().unwrap_or_default();
        let is_orderly = status.code().is_some_and(|code| code != PANICKED);
        assert!(
            is_orderly && !told.contains("panicked at") && !told.contains("internal error"),
            "{status}: {line:?}\n{told}"
        );
        assert!(
            status.success() || told.contains("error") || told.contains("Usage"),
            "{status} without a reason: {line:?}\n{told}"
        );
    }
}

pub fn gpt2(data: &[u8]) {
    static WORDS: LazyLock<Words> = LazyLock::new(|| Words::of("gpt2"));
    WORDS.run(data);
}

pub fn gpt2_convert(data: &[u8]) {
    static WORDS: LazyLock<Words> = LazyLock::new(|| Words::of("gpt2-convert"));
    WORDS.run(data);
}
