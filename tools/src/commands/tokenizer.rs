//! `gpt2 tokenizer`: what a model carries of its tokenizer.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use gpt2::tokenizer::save_vocabulary_files;
use serde_json::json;

use crate::arguments::ModelFile;
use crate::failure::Failure;
use crate::report;

/// Write the tokenizer of a model out as files.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gpt2 tokenizer save folder -m model.gguf")]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Save(Save),
}

/// Write vocab.json, merges.txt, tokenizer.json and what goes with them into a folder.
///
/// All comes from the model's file. Beside weights, the files convert to the same ids again. A
/// tokenizer that is not byte-level BPE has no vocab.json and no merges.txt: its tokenizer.json is
/// all of it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gpt2 tokenizer save folder -m model.gguf")]
struct Save {
    /// The folder; made if it is not there
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    file: ModelFile,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
    /// Write the result as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Action::Save(save) = &arguments.action;
    let gguf = save.file.open()?;
    let files = save_vocabulary_files(gguf.metadata(), &save.folder, save.force)?;
    let paths: Vec<String> = files
        .iter()
        .map(|file| save.folder.join(file.name).display().to_string())
        .collect();
    if save.json {
        return report::print_json(&json!({ "files": paths }));
    }
    report::print(&format!("{}\n", paths.join("\n")))
}
