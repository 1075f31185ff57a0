//! `gpt2 tokenize`: text to ids.

use clap::{Args, ValueEnum};
use gpt2::TokenId;
use gpt2::tokenizer::{
    EncodeOptions, Encoding, Padding, PaddingLength, Side, Tokenizer, Truncation,
    TruncationStrategy,
};
use serde_json::{Value, json};

use crate::arguments::ModelFile;
use crate::failure::Failure;
use crate::report;
use crate::texts::{Form, Reading, TextSource};

/// Turn text into token ids.
///
/// Texts are taken as they are: no newline is dropped. With --json, the ids, the tokens as the
/// vocabulary spells them, and the characters of the text that each came from; with --pair or
/// --pad-to also what a model is told of each token.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gpt2 tokenize \"Hello world\"")]
pub(super) struct Arguments {
    #[command(flatten)]
    texts: TextSource,
    #[command(flatten)]
    file: ModelFile,
    /// A second text, to be put together with the first
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pair: Option<String>,
    /// Put nothing around the text that the tokenizer would put there
    #[arg(long)]
    no_special_tokens: bool,
    /// Take special tokens written out in the text, such as <|endoftext|>, for text
    #[arg(long)]
    split_special_tokens: bool,
    /// Most tokens; what is beyond is cut off
    #[arg(long, value_name = "N")]
    max_length: Option<usize>,
    /// Of two texts, which is cut
    #[arg(long, value_name = "TEXT", default_value = "longest_first")]
    truncation: Which,
    /// The end that is cut
    #[arg(long, value_name = "SIDE", default_value = "right")]
    truncation_side: End,
    /// Pad to N tokens
    #[arg(long, value_name = "N")]
    pad_to: Option<usize>,
    /// The end that is filled
    #[arg(long, value_name = "SIDE", default_value = "right")]
    padding_side: End,
    /// The token to fill with [default: the tokenizer's]
    #[arg(long, value_name = "ID")]
    pad_token_id: Option<TokenId>,
    /// Write the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum End {
    Left,
    Right,
}

impl From<End> for Side {
    fn from(end: End) -> Self {
        match end {
            End::Left => Self::Left,
            End::Right => Self::Right,
        }
    }
}

/// transformers' names.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Which {
    LongestFirst,
    OnlyFirst,
    OnlySecond,
}

impl From<Which> for TruncationStrategy {
    fn from(which: Which) -> Self {
        match which {
            Which::LongestFirst => Self::LongestFirst,
            Which::OnlyFirst => Self::OnlyFirst,
            Which::OnlySecond => Self::OnlySecond,
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let texts = arguments.texts.read(Reading {
        form: Form::Verbatim,
        may_be_empty: true,
        ..Reading::default()
    })?;
    if arguments.pair.is_some() && texts.len() > 1 {
        return Err(Failure::Usage(format!(
            "--pair: expected one text that it follows, found {}",
            texts.len()
        )));
    }
    let gguf = arguments.file.open()?;
    let tokenizer = Tokenizer::from_metadata(gguf.metadata())?;
    let mut rows = Vec::new();
    for text in &texts {
        let encoding = encode(arguments, &tokenizer, text)?;
        if arguments.json {
            rows.push(describe(arguments, &tokenizer, &encoding));
        } else {
            report::print(&format!("{}\n", join(&encoding.ids)))?;
        }
    }
    match &rows[..] {
        [] => Ok(()),
        [row] => report::print_json(row),
        rows => report::print_json(&json!({ "rows": rows })),
    }
}

fn encode(arguments: &Arguments, tokenizer: &Tokenizer, text: &str) -> Result<Encoding, Failure> {
    let options = EncodeOptions {
        match_special_tokens: !arguments.split_special_tokens,
        add_special_tokens: !arguments.no_special_tokens,
    };
    let truncation = arguments.max_length.map(|max_length| Truncation {
        max_length,
        side: arguments.truncation_side.into(),
        strategy: arguments.truncation.into(),
    });
    let pair = arguments.pair.as_deref();
    let mut encoding = tokenizer.encode_pair(text, pair, options, truncation)?;
    let size = tokenizer.vocabulary_size();
    if let Some(id) = arguments.pad_token_id.filter(|&id| id as usize >= size) {
        return Err(Failure::Usage(format!(
            "--pad-token-id: expected an id below the tokenizer's {size}, found {id}"
        )));
    }
    if let Some(length) = arguments.pad_to {
        let padding = Padding {
            length: PaddingLength::Tokens(length),
            multiple_of: None,
            side: arguments.padding_side.into(),
            token: arguments.pad_token_id,
        };
        tokenizer.pad(std::slice::from_mut(&mut encoding), padding)?;
    }
    Ok(encoding)
}

fn describe(arguments: &Arguments, tokenizer: &Tokenizer, encoding: &Encoding) -> Value {
    let ids = encoding.ids.iter();
    let tokens: Vec<Option<String>> = ids.map(|&id| tokenizer.token_text(id)).collect();
    let offsets: Vec<[usize; 2]> = encoding
        .offsets
        .iter()
        .map(|characters| [characters.start, characters.end])
        .collect();
    let mut document = json!({ "ids": encoding.ids, "tokens": tokens, "offsets": offsets });
    if arguments.pair.is_some() || arguments.pad_to.is_some() {
        let bits = |mask: &[bool]| mask.iter().map(|&bit| u8::from(bit)).collect::<Vec<_>>();
        document["token_type_ids"] = json!(encoding.type_ids);
        document["attention_mask"] = json!(bits(&encoding.attention_mask));
        document["special_tokens_mask"] = json!(bits(&encoding.special_tokens_mask));
        document["sequence_ids"] = json!(encoding.sequence_ids);
    }
    document
}

/// Ids as the other commands take them.
fn join(ids: &[TokenId]) -> String {
    let texts: Vec<String> = ids.iter().map(ToString::to_string).collect();
    texts.join(",")
}
