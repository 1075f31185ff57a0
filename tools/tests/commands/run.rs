//! Running the program and reading what it says.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The commands that compute.
const COMPUTING: &[&str] = &[
    "generate",
    "chat",
    "forward",
    "perplexity",
    "score",
    "bench",
    "classify",
    "tag",
    "answer",
    "choose",
    "embed",
];

/// The program with `arguments`, not yet started; nothing on its stdin.
///
/// It computes in one thread unless told otherwise: tests run side by side, and threads that wait
/// for each other would not get the processor when they need it.
pub(crate) fn command<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let arguments: Vec<&str> = arguments.into_iter().collect();
    let computing = arguments
        .first()
        .is_some_and(|first| COMPUTING.contains(first));
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpt2"));
    command
        .args(&arguments)
        .stdin(Stdio::null())
        .env_remove("COLUMNS");
    if computing
        && !arguments
            .iter()
            .any(|&other| ["-t", "--threads", "--help"].contains(&other))
    {
        command.args(["--threads", "1"]);
    }
    command
}

/// What the program did.
pub(crate) struct Done {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("the program writes UTF-8");
        Self {
            status: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Stdout, of a program that succeeded.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.status, Some(0), "{}", self.stderr);
        self.stdout
    }

    /// Stdout as the one JSON document it must be.
    pub(crate) fn json(self) -> Value {
        let stdout = self.ok();
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout:?}"))
    }

    /// The error's line, of a program that failed with `status` and wrote no data.
    pub(crate) fn error(&self, status: i32) -> &str {
        assert_eq!(self.status, Some(status), "{}", self.stderr);
        assert_eq!(self.stdout, "", "a failure has no result");
        let mut lines = self
            .stderr
            .lines()
            .filter_map(|line| line.strip_prefix("error: "));
        let line = lines
            .next()
            .unwrap_or_else(|| panic!("no error line in {:?}", self.stderr));
        assert_eq!(lines.next(), None, "one error is one line");
        line
    }
}

/// Runs the program with `arguments`, separated by spaces.
pub(crate) fn run(arguments: &str) -> Done {
    Done::of(
        command(arguments.split_whitespace())
            .output()
            .expect("the program starts"),
    )
}

/// Runs the program with arguments that have spaces in them.
pub(crate) fn run_with(arguments: &[&str]) -> Done {
    Done::of(
        command(arguments.iter().copied())
            .output()
            .expect("the program starts"),
    )
}

/// Runs the program in a shell that has run `before`, such as `ulimit -v 100000`.
#[cfg(target_os = "linux")]
pub(crate) fn run_after(before: &str, arguments: &[&str]) -> Done {
    let mut shell = Command::new("sh");
    let script = format!("{before} && exec \"$0\" \"$@\"");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_gpt2")]);
    shell.args(arguments).stdin(Stdio::null());
    Done::of(shell.output().expect("the shell starts"))
}

/// Runs the program with `input` on its stdin.
pub(crate) fn run_on(arguments: &[&str], input: &[u8]) -> Done {
    let mut child = command(arguments.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    stdin.write_all(input).expect("the program reads its stdin");
    drop(stdin);
    Done::of(child.wait_with_output().expect("the program ends"))
}
