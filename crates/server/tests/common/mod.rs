//! A server in this process, and a client that says exactly what a test wants it to.

// Each test program uses a part.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gpt2::{Model, ModelOptions, SessionOptions};
use gpt2_server::engine::{Engine, EngineOptions, Plan, PlanOptions};
use gpt2_server::metrics::Metrics;
use gpt2_server::{AppState, Hosts, Limits, ServeError, Settings, Stop, serve};
use tokio::sync::oneshot;

/// For anything that must come in the end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The demo model, loaded once.
pub(crate) fn model() -> Arc<Model> {
    static MODEL: OnceLock<Arc<Model>> = OnceLock::new();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/austen-gpt2-q8_0.gguf");
    let open = || Model::open(path, &ModelOptions::default()).unwrap();
    Arc::clone(MODEL.get_or_init(open))
}

/// What a test may change of a server.
pub(crate) struct Setup {
    pub(crate) settings: Settings,
    pub(crate) engine: EngineOptions,
    pub(crate) texts: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            settings: Settings {
                name: "demo".to_owned(),
                started: 1_700_000_000,
                max_tokens: None,
                key: None,
                hosts: Hosts::default(),
                origins: Vec::new(),
                page: true,
                open_metrics: false,
                limits: Limits::default(),
            },
            engine: EngineOptions::default(),
            texts: 4,
        }
    }
}

/// A server at work.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) state: AppState,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
}

impl Server {
    /// Starts one on a free port.
    pub(crate) fn start(setup: Setup) -> Self {
        let model = model();
        let options = PlanOptions {
            texts: Some(setup.texts),
            // Tests run side by side.
            session: SessionOptions {
                threads: Some(1),
                ..SessionOptions::default()
            },
            memory: None,
        };
        let plan = Plan::new(&model, &options).unwrap();
        let metrics = Arc::new(Metrics::new());
        let engine = Engine::start(model, &plan, setup.engine, Arc::clone(&metrics));
        let (engine, ended) = engine.unwrap();
        let settings = Arc::new(setup.settings);
        let state = AppState {
            engine,
            settings,
            metrics,
        };
        let listener = TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, message) = oneshot::channel();
        let served = state.clone();
        let run = move || serve(listener, served, ended, Stop::Message(message), |_| {});
        Self {
            address,
            state,
            stop: Some(stop),
            thread: Some(std::thread::spawn(run)),
        }
    }

    /// Begins the shutdown.
    pub(crate) fn stop(&mut self) {
        self.stop = None;
    }

    /// Stops it and waits for its end.
    pub(crate) fn end(mut self) -> Result<(), ServeError> {
        self.stop();
        let thread = self.thread.take().unwrap();
        thread.join().unwrap()
    }

    /// Waits for an end that comes by itself.
    pub(crate) fn ended(mut self) -> Result<(), ServeError> {
        let thread = self.thread.take().unwrap();
        thread.join().unwrap()
    }

    pub(crate) fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client {
            stream: BufReader::new(stream),
        }
    }

    /// Sends `head` (without its end) and `body` on a connection of its own.
    pub(crate) fn ask(&self, head: &str, body: &str) -> Answer {
        let mut client = self.connect();
        client.send(head, body);
        client.answer()
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost"), "")
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Answer {
        self.ask(&post(path, "Content-Type: application/json"), body)
    }

    /// What `/metrics` has under `name`.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.state.metrics.text();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let value = line.unwrap_or_else(|| panic!("no {name} in {text}"));
        value.trim().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.unwrap().unwrap();
            }
        }
    }
}

/// The head of a POST, without the length.
pub(crate) fn post(path: &str, headers: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}")
}

/// A body of `/v1/completions`, greedy, that goes on to its `max_tokens`.
pub(crate) fn completion(prompt: &str, max_tokens: usize, stream: bool) -> String {
    let prompt = serde_json::Value::from(prompt);
    format!(
        r#"{{"model":"demo","prompt":{prompt},"max_tokens":{max_tokens},"temperature":0,
           "ignore_eos":true,"stream":{stream}}}"#
    )
}

/// A connection.
pub(crate) struct Client {
    pub(crate) stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn send(&mut self, head: &str, body: &str) {
        let length = body.len();
        let text = if body.is_empty() && !head.starts_with("POST") {
            format!("{head}\r\n\r\n")
        } else {
            format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}")
        };
        self.write(text.as_bytes());
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// The next answer, whole.
    pub(crate) fn answer(&mut self) -> Answer {
        self.try_answer().expect("an answer, not the end")
    }

    /// The next answer; `None` when the connection is closed instead.
    pub(crate) fn try_answer(&mut self) -> Option<Answer> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let status = lines[0].split(' ').nth(1)?.parse().ok()?;
        let mut answer = Answer {
            status,
            headers: lines.split_off(1),
            body: String::new(),
        };
        let mut body = Vec::new();
        if let Some(length) = answer.header("content-length") {
            body.resize(length.parse().unwrap(), 0);
            self.stream.read_exact(&mut body).ok()?;
        } else if answer.header("transfer-encoding").is_some() {
            while let Some(chunk) = self.chunk() {
                body.extend(chunk);
            }
        }
        answer.body = String::from_utf8(body).unwrap();
        Some(answer)
    }

    /// The next chunk of a body; `None` at its end.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut line = String::new();
        self.stream.read_line(&mut line).ok()?;
        let length = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut chunk = vec![0; length + 2];
        self.stream.read_exact(&mut chunk).ok()?;
        chunk.truncate(length);
        (length > 0).then_some(chunk)
    }

    /// How long until the server closes this connection.
    pub(crate) fn time_to_close(&mut self) -> Duration {
        let start = Instant::now();
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "still open"),
        }
        start.elapsed()
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// Asserts an error of OpenAI's form with this status.
    pub(crate) fn is_error(&self, status: u16) -> serde_json::Value {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.header("x-request-id").is_some(), "{self:?}");
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        let error = &body["error"];
        assert!(
            error["message"].is_string() && error["type"].is_string(),
            "{body}"
        );
        assert!(
            error.get("param").is_some() && error.get("code").is_some(),
            "{body}"
        );
        error.clone()
    }
}

/// Calls `check` until it is true.
pub(crate) fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let start = Instant::now();
    while !check() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The program's descriptors, and its resident bytes.
pub(crate) fn resources() -> (usize, usize) {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = status.split(' ').nth(1).unwrap().parse().unwrap();
    (descriptors, pages * 4096)
}

/// Results of threads, together.
pub(crate) fn all<T: Send + 'static>(threads: Vec<JoinHandle<T>>) -> Vec<T> {
    threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect()
}
