//! `gpt2 serve`: what it says, what it refuses, how it ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::run::command;

/// A server, and what it says from now on.
struct Server {
    child: Child,
    stderr: BufReader<ChildStderr>,
    address: String,
    /// What it said before.
    said: String,
}

/// Without the environment's key.
fn serve(arguments: &[&str]) -> Command {
    let all = ["serve", "--port", "0", "--threads", "1"];
    let mut command = command(all.into_iter().chain(arguments.iter().copied()));
    command.env_remove("GPT2_API_KEY");
    command
}

impl Server {
    fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut server = Self {
            child,
            stderr,
            address: String::new(),
            said: String::new(),
        };
        while server.address.is_empty() {
            let mut line = String::new();
            let length = server.stderr.read_line(&mut line).unwrap();
            assert!(length > 0, "it ended: {}", server.said);
            server.said.push_str(&line);
            if let Some(address) = line.strip_prefix("listening on http://") {
                address.trim_end().clone_into(&mut server.address);
            }
        }
        server
    }

    /// Asks for a text of `tokens`, as a stream.
    fn ask(&self, tokens: usize) -> TcpStream {
        let body = format!(
            r#"{{"prompt":"Emma was","max_tokens":{tokens},"ignore_eos":true,"stream":true}}"#
        );
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n\
                    Content-Type: application/json";
        let text = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(text.as_bytes()).unwrap();
        stream
    }

    fn get(&self, path: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        stream
            .write_all(format!("{head}{headers}\r\n").as_bytes())
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    fn signal(&self, signal: &str) {
        let mut kill = Command::new("kill");
        let done = kill.args([signal, &self.child.id().to_string()]).status();
        assert!(done.unwrap().success());
    }

    /// Its status, and what it said at last.
    fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

/// The one line with which it ends instead of starting.
fn refusal(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let errors: Vec<&str> = stderr
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    assert!(!stderr.contains("listening"), "{stderr}");
    (output.status.code(), errors[0].to_owned())
}

#[test]
fn sigterm_lets_running_texts_finish() {
    for signal in ["-TERM", "-INT"] {
        let server = Server::start(serve(&[]));
        assert!(server.said.contains("memory: "), "{}", server.said);
        let mut streams: Vec<TcpStream> = (0..6).map(|_| server.ask(300)).collect();
        let mut first = [0];
        streams[0].read_exact(&mut first).unwrap();
        server.signal(signal);
        for stream in &mut streams {
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            assert!(text.ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"), "{text}");
        }
        assert!(TcpStream::connect(&server.address).is_err());
        assert_eq!(server.end(), (Some(0), String::new()), "{signal}");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let server = Server::start(serve(&["--parallel", "1", "--queue", "200"]));
    let streams: Vec<TcpStream> = (0..100).map(|_| server.ask(480)).collect();
    let mut first = [0];
    (&streams[0]).read_exact(&mut first).unwrap();
    let start = Instant::now();
    server.signal("-TERM");
    // Until the first was heard, the second is none.
    while TcpStream::connect(&server.address).is_ok() {
        assert!(start.elapsed() < Duration::from_secs(60));
        thread::sleep(Duration::from_millis(5));
    }
    server.signal("-TERM");
    assert_eq!(server.end().0, Some(143));
}

#[test]
fn what_cannot_be_served_is_one_line() {
    let server = Server::start(serve(&[]));
    let port = server.address.rsplit(':').next().unwrap().to_owned();
    let (status, line) = refusal(command(["serve", "--port", &port]));
    assert_eq!(status, Some(1));
    assert!(
        line.contains(&server.address) && line.contains("in use"),
        "{line}"
    );
    let (status, line) = refusal(serve(&["-m", "/nowhere/model.gguf"]));
    assert_eq!(status, Some(1));
    assert!(line.contains("/nowhere/model.gguf"), "{line}");
    let (status, line) = refusal(serve(&["--mem", "1M"]));
    assert_eq!(status, Some(1));
    assert!(line.contains("--mem"), "{line}");
    server.signal("-TERM");
    assert_eq!(server.end().0, Some(0));
}

#[test]
fn other_machines_need_a_key() {
    let (status, line) = refusal(serve(&["--host", "0.0.0.0"]));
    assert_eq!(status, Some(2));
    assert!(
        line.contains("--api-key-file") && line.contains("--no-auth"),
        "{line}"
    );
    let (status, line) = refusal(serve(&["--host", "::"]));
    assert_eq!(status, Some(2), "{line}");
    let server = Server::start(serve(&["--host", "0.0.0.0", "--no-auth"]));
    assert!(server.said.contains("WARNING"), "{}", server.said);
    server.signal("-TERM");
    assert_eq!(server.end().0, Some(0));
}

#[test]
fn the_key_comes_from_a_file_or_the_environment_and_is_not_shown() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "from-the-file\n").unwrap();
    let file = file.to_str().unwrap();
    let mut both = serve(&["--host", "0.0.0.0", "--api-key-file", file]);
    both.env("GPT2_API_KEY", "from-the-environment");
    let mut environment = serve(&["--open-metrics", "--alias", "mine"]);
    environment.env("GPT2_API_KEY", "from-the-environment");
    for (command, key) in [
        (both, "from-the-file"),
        (environment, "from-the-environment"),
    ] {
        let server = Server::start(command);
        let with =
            |key: &str| server.get("/v1/models", &format!("Authorization: Bearer {key}\r\n"));
        assert!(with("another").starts_with("HTTP/1.1 401"));
        assert!(with(key).starts_with("HTTP/1.1 200"));
        assert!(server.get("/health", "").starts_with("HTTP/1.1 200"));
        let metrics = server.get("/metrics", &format!("x-api-key: {key}\r\n"));
        assert!(metrics.starts_with("HTTP/1.1 200") && !metrics.contains(key));
        let said = server.said.clone();
        server.signal("-TERM");
        let (status, rest) = server.end();
        assert_eq!(status, Some(0));
        assert!(!said.contains(key) && !rest.contains(key), "{said}{rest}");
    }
    std::fs::write(file, "two words").unwrap();
    let (status, line) = refusal(serve(&["--api-key-file", file]));
    assert_eq!(status, Some(1));
    assert!(line.contains(file) && !line.contains("words"), "{line}");
    let mut empty = serve(&[]);
    empty.env("GPT2_API_KEY", "");
    let (status, line) = refusal(empty);
    assert!(status == Some(2) && line.contains("GPT2_API_KEY"), "{line}");
}
