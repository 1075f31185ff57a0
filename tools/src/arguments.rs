//! Arguments that all commands share, and the typed options they become.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use gpt2::gguf::{Bytes, Gguf};
use gpt2::session::{CacheType, FlashAttention, Model, ModelOptions, Session, SessionOptions, fit};

use crate::demo;
use crate::failure::Failure;
use crate::memory;
use crate::stream::note;

/// Which model, for commands that read one without running it.
#[derive(Debug, Args)]
pub(crate) struct ModelFile {
    /// The model; without it the demo model is used
    #[arg(short, long, value_name = "MODEL.gguf")]
    pub(crate) model: Option<PathBuf>,
}

impl ModelFile {
    /// The model's file, described.
    pub(crate) fn open(&self) -> Result<Gguf, Failure> {
        match &self.model {
            Some(path) => open_gguf(path),
            None => Ok(Gguf::parse(demo_model()?)?),
        }
    }
}

/// Describes the GGUF file at `path`.
pub(crate) fn open_gguf(path: &Path) -> Result<Gguf, Failure> {
    Ok(gpt2::open_gguf(path)?)
}

/// The embedded model, with a word about it.
fn demo_model() -> Result<Bytes, Failure> {
    let Some(bytes) = demo::FILE else {
        return Err(Failure::Usage(
            "no model given, and this program has no demo model inside; name one with -m MODEL.gguf"
                .to_owned(),
        ));
    };
    note!("no model given (-m): using the demo model, {}", demo::NAME);
    Ok(Arc::new(bytes))
}

/// Which model, and how it runs.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    pub(crate) file: ModelFile,
    /// Threads to compute with [default: one a fast physical core]
    #[arg(short, long, value_name = "N", help_heading = "Running the model")]
    threads: Option<usize>,
    /// Positions of the context; 0 for as many as the model has [default: what memory allows]
    #[arg(short, long, value_name = "N", help_heading = "Running the model")]
    pub(crate) ctx_size: Option<usize>,
    #[arg(long, value_name = "TYPE", value_parser = parse_cache_type)]
    #[arg(
        help = "Type of the cache: f32, f16, q8_0 or q4_0 [default: f16; f32 for a model in f32]"
    )]
    #[arg(help_heading = "Running the model")]
    cache_type: Option<CacheType>,
    /// Attention that never stores its scores: auto, on or off
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = parse_flash_attention)]
    #[arg(help_heading = "Running the model")]
    flash_attn: FlashAttention,
    /// Whose kernels to use on the CPU: own, or ggml for comparisons
    #[arg(long, value_name = "WHOSE", default_value = "own")]
    #[arg(value_parser = ["own", "ggml"], help_heading = "Running the model")]
    kernels: String,
    /// Device to run on, from `gpt2 devices` or rpc://HOST:PORT; may be repeated [default: cpu]
    #[arg(long, value_name = "DEVICE", help_heading = "Running the model")]
    device: Vec<String>,
    /// Layers to put on the GPUs: the last ones, head included [default: all, on GPUs named]
    #[arg(long, value_name = "N", help_heading = "Running the model")]
    gpu_layers: Option<usize>,
    /// Most memory to use, such as 800M for 800 MiB [default: what is free, less in a cgroup or
    /// with ulimit]
    #[arg(long, value_name = "SIZE", value_parser = memory::parse_size)]
    #[arg(help_heading = "Running the model")]
    pub(crate) mem: Option<u64>,
    /// Read the model into memory instead of mapping the file
    #[arg(long, help_heading = "Running the model")]
    no_mmap: bool,
    /// Keep the model from being swapped out
    #[arg(long, help_heading = "Running the model")]
    mlock: bool,
    /// Seed of the random draws; -1 for a new one [default: a new one every time]
    #[arg(long, value_name = "N", value_parser = parse_seed, allow_negative_numbers = true)]
    #[arg(help_heading = "Running the model")]
    seed: Option<Seed>,
    /// Write the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is said of a temperature of 0, which other programs take for greedy decoding.
pub(crate) const GREEDY: &str =
    "a temperature of 0 takes the most likely token every time, as without sampling";

/// A seed, or the wish for a new one.
#[derive(Debug, Clone, Copy)]
enum Seed {
    Given(u64),
    New,
}

fn parse_seed(text: &str) -> Result<Seed, String> {
    match text.parse() {
        Ok(seed) => Ok(Seed::Given(seed)),
        Err(_) if text == "-1" => Ok(Seed::New),
        Err(_) => Err("expected a whole number from 0 to 2^64-1, or -1 for a new one".to_owned()),
    }
}

/// A seed that was not used before, which is said so that the result can be repeated.
pub(crate) fn new_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // The standard library's source of differing numbers; 32 bits are easier to type again.
    let seed = RandomState::new().hash_one("seed") >> 32;
    note!("seed {seed}");
    seed
}

fn parse_cache_type(name: &str) -> Result<CacheType, String> {
    CacheType::from_name(name).ok_or_else(|| {
        let known: Vec<&str> = CacheType::all().map(CacheType::name).collect();
        format!("expected one of {}", known.join(", "))
    })
}

fn parse_flash_attention(name: &str) -> Result<FlashAttention, String> {
    FlashAttention::from_name(name).ok_or_else(|| "expected auto, on or off".to_owned())
}

/// Starts a session with these options, made smaller for the memory there is where they leave it
/// open.
pub(crate) fn start(model: Arc<Model>, options: SessionOptions) -> Result<Session, Failure> {
    let positions = model.hyperparameters().n_positions;
    let fitting = fit(&model, &options, u64::MAX)?;
    if let (Some(context), None) = (fitting.context, options.context)
        && context < positions
    {
        note!("context shortened from {positions} to {context} positions, to stay within memory");
    }
    if let (Some(cache_type), None) = (fitting.cache_type, options.cache_type) {
        note!(
            "cache stored as {}, to stay within memory",
            cache_type.name()
        );
    }
    Ok(Session::new(model, fitting)?)
}

impl RunArguments {
    /// Opens the model named by `-m`, or the demo model.
    pub(crate) fn open_model(&self) -> Result<Arc<Model>, Failure> {
        self.open_model_as(&self.model_options())
    }

    /// Opens it in another way than these arguments say.
    pub(crate) fn open_model_as(&self, options: &ModelOptions) -> Result<Arc<Model>, Failure> {
        match &self.file.model {
            Some(path) => Ok(Model::open(path, options)?),
            None => Ok(Model::from_bytes(demo_model()?, options)?),
        }
    }

    /// Opens another model in the same way.
    pub(crate) fn open_model_at(&self, path: &Path) -> Result<Arc<Model>, Failure> {
        Ok(Model::open(path, &self.model_options())?)
    }

    /// How the model is brought into memory.
    pub(crate) fn model_options(&self) -> ModelOptions {
        ModelOptions {
            map: !self.no_mmap,
            lock: self.mlock,
            own_kernels: self.kernels == "own",
            devices: self.device.clone(),
            gpu_layers: self.gpu_layers,
            memory: self.mem,
            session: self.session_options(None),
            ..ModelOptions::default()
        }
    }

    /// What a session is asked for; `context` as in [`RunArguments::start`].
    pub(crate) fn session_options(&self, context: Option<usize>) -> SessionOptions {
        SessionOptions {
            context: self.ctx_size.filter(|&size| size > 0).or(context),
            cache_type: self.cache_type,
            flash_attention: self.flash_attn,
            threads: self.threads,
            ..SessionOptions::default()
        }
    }

    /// Starts a session; `context` is what the command needs when `-c` says nothing, `None` being
    /// all the model has.
    pub(crate) fn start(
        &self,
        model: Arc<Model>,
        context: Option<usize>,
    ) -> Result<Session, Failure> {
        start(model, self.session_options(context))
    }

    /// The seed asked for, or a new one.
    pub(crate) fn seed_or_new(&self) -> u64 {
        match self.seed {
            Some(Seed::Given(seed)) => seed,
            Some(Seed::New) | None => new_seed(),
        }
    }
}
