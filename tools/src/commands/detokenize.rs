//! `gpt2 detokenize`: ids to text.

use clap::Args;
use gpt2::TokenId;
use gpt2::tokenizer::{DecodeOptions, Tokenizer};
use serde_json::json;

use crate::arguments::ModelFile;
use crate::failure::Failure;
use crate::prompt::{self, Ids};
use crate::{report, texts};

/// Turn token ids into text.
///
/// The text is written as it is, with no newline after it: it gives the same ids again. Without
/// IDS, they are read from stdin.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gpt2 detokenize 1024,363,258")]
pub(super) struct Arguments {
    /// The ids, such as 1,2,3
    #[arg(value_parser = prompt::parse_ids)]
    ids: Option<Ids>,
    #[command(flatten)]
    file: ModelFile,
    /// Leave out tokens that are markers, such as <|endoftext|>
    #[arg(long)]
    skip_special_tokens: bool,
    /// Take out the spaces before punctuation and English contractions, as transformers does; the
    /// text may give other ids then
    #[arg(long)]
    clean_up_tokenization_spaces: bool,
    /// Write the result as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Ids(ids) = match &arguments.ids {
        Some(ids) => ids.clone(),
        None => prompt::parse_ids(&texts::read_stdin()?)
            .map_err(|message| Failure::Work(format!("stdin: {message}")))?,
    };
    let gguf = arguments.file.open()?;
    let tokenizer = Tokenizer::from_metadata(gguf.metadata())?;
    check(&ids, &tokenizer).map_err(|line| match &arguments.ids {
        Some(_) => Failure::Usage(line),
        None => Failure::Work(format!("stdin: {line}")),
    })?;
    let options = DecodeOptions {
        skip_special_tokens: arguments.skip_special_tokens,
        clean_up_spaces: arguments.clean_up_tokenization_spaces,
    };
    let text = tokenizer.decode_with(&ids, options);
    if !arguments.json {
        return report::print(&text);
    }
    let tokens: Vec<Option<String>> = ids.iter().map(|&id| tokenizer.token_text(id)).collect();
    report::print_json(&json!({ "ids": ids, "tokens": tokens, "text": text }))
}

fn check(ids: &[TokenId], tokenizer: &Tokenizer) -> Result<(), String> {
    let size = tokenizer.vocabulary_size();
    match ids.iter().position(|&id| id as usize >= size) {
        None => Ok(()),
        Some(index) => Err(format!(
            "token id {} at index {index}: expected ids below the tokenizer's {size}",
            ids[index]
        )),
    }
}
