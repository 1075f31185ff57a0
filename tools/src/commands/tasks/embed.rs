//! `gpt2 embed`: a vector for each text.

use clap::Args;
use gpt2::tasks::Pooling;
use serde_json::json;

use super::rows::{self, start};
use super::texts::InputSource;
use crate::arguments::RunArguments;
use crate::failure::Failure;

/// Turn each text into a vector: its hidden states, pooled.
///
/// Any model will do; the values are what the final layer norm gives. A line of output is a text's
/// vector.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  gpt2 embed -p \"She was delighted.\" --pooling mean --normalize \
        --json"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    inputs: InputSource,
    /// The last token's state (last), or the mean over all tokens (mean)
    #[arg(long, value_name = "HOW", default_value = "last", value_parser = parse_pooling)]
    pooling: Pooling,
    /// Give each vector the length 1
    #[arg(long)]
    normalize: bool,
    #[command(flatten)]
    run: RunArguments,
}

fn parse_pooling(name: &str) -> Result<Pooling, String> {
    Pooling::from_name(name).ok_or_else(|| {
        let known: Vec<&str> = Pooling::names().collect();
        format!("expected one of {}", known.join(", "))
    })
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let model = arguments.run.open_model()?;
    let inputs = arguments.inputs.read(&model)?;
    let mut session = start(&arguments.run, model)?;
    rows::write(arguments.run.json, inputs, |input| {
        let vector = session.embed(&input.ids, arguments.pooling, arguments.normalize)?;
        let values: Vec<String> = vector.iter().map(f32::to_string).collect();
        let row = json!({ "text": input.text, "tokens": input.ids.len(), "embedding": vector });
        Ok((row, format!("{}\n", values.join(" "))))
    })
}
