//! Running the program and reading what it says.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The program with `arguments`, not yet started; nothing on its stdin.
pub(crate) fn command<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpt2"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .env_remove("COLUMNS");
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
    Done::of(command(arguments).output().expect("the program starts"))
}

/// Runs the program with `input` on its stdin.
pub(crate) fn run_on(arguments: &[&str], input: &[u8]) -> Done {
    let mut child = command(arguments)
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
