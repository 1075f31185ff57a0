//! `gpt2 tokenize`: text to ids.

use clap::Args;
use gpt2::TokenId;
use gpt2::tokenizer::{EncodeOptions, Tokenizer};
use serde_json::json;

use crate::arguments::ModelFile;
use crate::failure::Failure;
use crate::{prompt, report};

/// Turn text into token ids.
///
/// Without TEXT, stdin is read as it is: no newline is dropped. With --json, the ids, the tokens as
/// the vocabulary spells them, and the characters of the text that each came from.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gpt2 tokenize \"Hello world\"")]
pub(super) struct Arguments {
    /// The text
    #[arg(allow_hyphen_values = true)]
    text: Option<String>,
    #[command(flatten)]
    file: ModelFile,
    /// Write the result as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let text = match &arguments.text {
        Some(text) => text.clone(),
        None => prompt::read_stdin()?,
    };
    let gguf = arguments.file.open()?;
    let tokenizer = Tokenizer::from_metadata(gguf.metadata())?;
    if !arguments.json {
        return report::print(&format!("{}\n", join(&tokenizer.encode(&text)?)));
    }
    let spans = tokenizer.encode_with_offsets(&text, EncodeOptions::default())?;
    let ids: Vec<TokenId> = spans.iter().map(|span| span.id).collect();
    let tokens: Vec<Option<String>> = ids.iter().map(|&id| tokenizer.token_text(id)).collect();
    let offsets: Vec<[usize; 2]> = spans
        .iter()
        .map(|span| [span.characters.start, span.characters.end])
        .collect();
    report::print_json(&json!({ "ids": ids, "tokens": tokens, "offsets": offsets }))
}

/// Ids as the other commands take them.
fn join(ids: &[TokenId]) -> String {
    let texts: Vec<String> = ids.iter().map(ToString::to_string).collect();
    texts.join(",")
}
