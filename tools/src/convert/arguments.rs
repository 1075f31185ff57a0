//! What can be asked of `gpt2-convert`.

use std::path::{Path, PathBuf};

use clap::Parser;
use gpt2::convert::{
    ConvertOptions, FILE_TYPES, FileType, LoraAdapter, TypeOptions, TypeOverride,
    tensor_type_from_name,
};

/// Convert a GPT-2 checkpoint to a GGUF file.
#[derive(Debug, Parser)]
#[command(
    name = "gpt2-convert",
    arg_required_else_help = true,
    disable_version_flag = true,
    after_help = "Example:\n  gpt2-convert models/austen-gpt2 -o austen-q4_k.gguf --type q4_k"
)]
pub(super) struct Arguments {
    /// A Hugging Face folder, one of a TensorFlow 1 checkpoint, a weights file (.safetensors, .bin,
    /// .pt, .ckpt, .h5, .msgpack, .index.json; nanoGPT's ckpt.pt, llm.c's .bin, TensorFlow's
    /// .index), or a .gguf to requantize
    #[arg(required_unless_present = "version")]
    pub source: Option<PathBuf>,

    /// The file to write
    #[arg(
        short,
        long,
        value_name = "OUT.gguf",
        required_unless_present_any = ["dry_run", "version"]
    )]
    pub output: Option<PathBuf>,

    #[arg(long = "type", value_name = "TYPE", help = type_help())]
    #[arg(required_unless_present = "version")]
    pub file_type: Option<String>,

    /// Another type for the tensors whose GGUF name a regular expression is found in; may be given
    /// several times, the first that fits decides
    #[arg(long, value_name = "PATTERN=TYPE")]
    pub tensor_type: Vec<String>,

    /// Another type for the head (the token embedding when it is the head)
    #[arg(long, value_name = "TYPE")]
    pub output_type: Option<String>,

    /// Another type for the token embedding
    #[arg(long, value_name = "TYPE")]
    pub embedding_type: Option<String>,

    /// Another tokenizer than the source's, or one for a source without: a folder with its files,
    /// or one of them
    #[arg(long, value_name = "DIR|FILE")]
    pub tokenizer: Option<PathBuf>,

    /// A low-rank adapter of PEFT to merge into the weights, with a factor [default: 1]; may
    /// be given several times
    #[arg(long, value_name = "DIR[=SCALE]")]
    pub lora: Vec<String>,

    /// An importance matrix in GGUF form, from llama-imatrix
    #[arg(long, value_name = "FILE")]
    pub imatrix: Option<PathBuf>,

    /// Threads that work [default: all processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,

    /// Show the plan and the exact size; write nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Replace an existing output
    #[arg(long)]
    pub force: bool,

    /// Report as one JSON document on stdout
    #[arg(long)]
    pub json: bool,

    /// Print the version, ggml's version, the backends and the CPU features in use
    #[arg(short = 'V', long)]
    pub version: bool,
}

/// Lists the types there are.
fn type_help() -> String {
    let names: Vec<&str> = FILE_TYPES
        .iter()
        .flat_map(|file_type| file_type.names)
        .copied()
        .collect();
    format!("The type of file: {}", names.join(", "))
}

/// The arguments, checked.
#[derive(Debug)]
pub(super) struct Request {
    /// From where.
    pub source: PathBuf,
    /// How to convert.
    pub options: ConvertOptions,
    /// Where to; empty for a dry run without one.
    pub output: PathBuf,
}

impl Request {
    /// Checks what clap cannot.
    ///
    /// # Errors
    /// Names and patterns that are not known.
    pub(super) fn new(arguments: &Arguments, source: &Path, file_type: &str) -> gpt2::Result<Self> {
        let named = |name: &Option<String>| name.as_deref().map(tensor_type_from_name).transpose();
        let types = TypeOptions {
            overrides: arguments
                .tensor_type
                .iter()
                .map(|argument| TypeOverride::parse(argument))
                .collect::<gpt2::Result<_>>()?,
            output_type: named(&arguments.output_type)?,
            embedding_type: named(&arguments.embedding_type)?,
            ..TypeOptions::new(FileType::from_name(file_type)?)
        };
        Ok(Self {
            source: source.to_path_buf(),
            options: ConvertOptions {
                types,
                importance: arguments.imatrix.clone(),
                tokenizer: arguments.tokenizer.clone(),
                adapters: arguments
                    .lora
                    .iter()
                    .map(|argument| LoraAdapter::parse(argument))
                    .collect(),
                threads: arguments.threads.map(usize::from),
                overwrite: arguments.force,
            },
            output: arguments.output.clone().unwrap_or_default(),
        })
    }
}
