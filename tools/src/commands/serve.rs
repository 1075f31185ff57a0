//! `gpt2 serve`: the model for programs and for the editor page, over HTTP.

use std::env;
use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use gpt2_server::engine::{Engine, EngineOptions, Plan, PlanOptions};
use gpt2_server::metrics::Metrics;
use gpt2_server::{ApiKey, AppState, Hosts, Limits, Settings, Stop};

use crate::arguments::RunArguments;
use crate::failure::Failure;
use crate::stream::note;
use crate::{demo, interrupt};

/// The environment's name for the key.
const KEY_VARIABLE: &str = "GPT2_API_KEY";

/// Bytes read of a file with a key: more than a key has.
const KEY_FILE_BYTES: u64 = 4096;

/// Serve a model over HTTP, as OpenAI's interface, with a page to write in.
///
/// Only this machine can connect unless --host says otherwise; then a key is needed. SIGTERM or
/// Ctrl-C lets running requests finish, 30 seconds at most; a second one ends them.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  gpt2 serve -m gpt2-q4_0.gguf --port 8080",
    // Requests have seeds, and answers are JSON.
    mut_arg("seed", |seed| seed.hide(true)),
    mut_arg("json", |json| json.hide(true)),
    mut_arg("ctx_size", |size| size.help(
        "Positions of one text; 0 for as many as the model has [default: what memory allows]"
    )),
)]
pub(super) struct Arguments {
    #[command(flatten)]
    run: RunArguments,
    /// Address of this machine to listen on
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// Port to listen on; 0 for a free one
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,
    /// The model's name for clients [default: the file's name]
    #[arg(long, value_name = "NAME")]
    alias: Option<String>,
    #[arg(long, value_name = "FILE", help_heading = "Who may ask")]
    #[arg(help = "File with the key that clients must show [default: $GPT2_API_KEY]")]
    api_key_file: Option<PathBuf>,
    /// Ask for no key although other machines can connect
    #[arg(long, help_heading = "Who may ask", conflicts_with = "api_key_file")]
    no_auth: bool,
    /// Another name of this machine that clients may use; may be repeated
    #[arg(long, value_name = "NAME", help_heading = "Who may ask")]
    allow_host: Vec<String>,
    #[arg(long, value_name = "ORIGIN", help_heading = "Who may ask", value_parser = parse_origin)]
    #[arg(
        help = "Origin whose pages may use the server, such as https://example.org; may be repeated"
    )]
    cors_origin: Vec<String>,
    /// Let /metrics be read without the key
    #[arg(long, help_heading = "Who may ask")]
    open_metrics: bool,
    /// Texts at work at a time [default: 4, fewer when memory is short]
    #[arg(long, value_name = "N", help_heading = "How much")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: Option<u16>,
    /// Requests that may wait; more are told to come back later
    #[arg(
        long,
        value_name = "N",
        default_value_t = 64,
        help_heading = "How much"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65536))]
    queue: u32,
    /// Most tokens of a continuation [default: what the context has room for]
    #[arg(long, value_name = "N", help_heading = "How much")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,
    /// Most seconds that a text may take [default: no limit]
    #[arg(long, value_name = "SECONDS", help_heading = "How much")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    timeout: Option<u32>,
    /// Serve programs alone, without the editor page
    #[arg(long)]
    no_page: bool,
}

fn parse_origin(text: &str) -> Result<String, String> {
    let name = ["http://", "https://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    match name {
        Some(name) if !name.is_empty() && !name.contains(['/', ' ', '*', '?', '#', '@']) => {
            Ok(text.to_ascii_lowercase())
        }
        _ => Err("expected a scheme and a host, such as https://example.org".to_owned()),
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let key = arguments.key()?;
    let hosts = Hosts::new(&arguments.allow_host)
        .map_err(|error| Failure::Usage(format!("--allow-host: {error}")))?;
    // The address first: a port in use is said before a model is read.
    let address = SocketAddr::new(arguments.host, arguments.port);
    let listener = TcpListener::bind(address).map_err(|error| Failure::at(address, &error))?;
    let model = arguments.run.open_model()?;
    let plan = Plan::new(&model, &arguments.plan_options())?;
    let parts = &plan.memory;
    note!(
        "memory: {} planned (weights {}, cache {}, computation {}); {} texts at a time, of {} \
         positions at most",
        mebibytes(parts.weights + parts.kv + parts.compute),
        mebibytes(parts.weights),
        mebibytes(parts.kv),
        mebibytes(parts.compute),
        plan.texts,
        plan.context,
    );
    let metrics = Arc::new(Metrics::new());
    let (engine, ended) = Engine::start(
        model,
        &plan,
        arguments.engine_options(),
        Arc::clone(&metrics),
    )?;
    let settings = Arc::new(arguments.settings(key, hosts));
    let state = AppState {
        engine,
        settings,
        metrics,
    };
    let stop = Stop::Signals(interrupt::end_at_second());
    let ready = |address| note!("listening on http://{address}");
    gpt2_server::serve(listener, state, ended, stop, ready)
        .map_err(|error| Failure::Work(error.to_string()))
}

impl Arguments {
    /// The key, from its file or the environment; refuses to be open to others without one.
    fn key(&self) -> Result<Option<ApiKey>, Failure> {
        let from_file = self.api_key_file.as_deref().map(key_of_file).transpose()?;
        let key = match from_file {
            Some(key) => Some(key),
            None if self.no_auth => None,
            None => match env::var(KEY_VARIABLE) {
                Ok(text) => {
                    let named = |error| Failure::Usage(format!("{KEY_VARIABLE}: {error}"));
                    Some(ApiKey::new(&text).map_err(named)?)
                }
                Err(env::VarError::NotPresent) => None,
                Err(env::VarError::NotUnicode(_)) => {
                    let line = format!("{KEY_VARIABLE}: expected a key of ASCII characters");
                    return Err(Failure::Usage(line));
                }
            },
        };
        if key.is_none() && !self.no_auth && !self.host.is_loopback() {
            return Err(Failure::Usage(format!(
                "{} can be reached from other machines: give --api-key-file or {KEY_VARIABLE}, or \
                 --no-auth to let everyone in",
                self.host
            )));
        }
        if self.no_auth && !self.host.is_loopback() {
            note!(
                "WARNING: whoever can connect to {} may use this server",
                self.host
            );
        }
        Ok(key)
    }

    fn plan_options(&self) -> PlanOptions {
        PlanOptions {
            texts: self.parallel.map(usize::from),
            session: self.run.session_options(None),
            memory: self.run.mem,
        }
    }

    fn engine_options(&self) -> EngineOptions {
        EngineOptions {
            queue: self.queue as usize,
            timeout: self
                .timeout
                .map(|seconds| Duration::from_secs(u64::from(seconds))),
            ..EngineOptions::default()
        }
    }

    fn settings(&self, key: Option<ApiKey>, hosts: Hosts) -> Settings {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Settings {
            name: self.alias.clone().unwrap_or_else(|| self.file_name()),
            started: since.map_or(0, |since| since.as_secs()),
            max_tokens: self.max_tokens.map(|most| most as usize),
            key,
            hosts,
            origins: self.cors_origin.clone(),
            page: !self.no_page,
            open_metrics: self.open_metrics,
            limits: Limits::default(),
        }
    }

    /// The model's file without folder and ending.
    fn file_name(&self) -> String {
        let Some(path) = &self.run.file.model else {
            return demo::ID.to_owned();
        };
        let stem = path.file_stem().unwrap_or(path.as_os_str());
        stem.to_string_lossy().into_owned()
    }
}

fn key_of_file(path: &Path) -> Result<ApiKey, Failure> {
    let mut text = String::new();
    let read =
        File::open(path).and_then(|file| file.take(KEY_FILE_BYTES).read_to_string(&mut text));
    read.map_err(|error| Failure::at(path.display(), &error))?;
    ApiKey::new(&text).map_err(|error| Failure::Work(format!("{}: {error}", path.display())))
}

fn mebibytes(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
