//! `gpt2 classify`: a label for each text.

use clap::Args;
use gpt2::spec::ModelClass;
use gpt2::tasks::{Classified, ScoreFunction};
use serde_json::json;

use super::rows::{self, start};
use super::texts::InputSource;
use crate::arguments::RunArguments;
use crate::failure::Failure;

/// Give each text a label, with a sequence classifier.
///
/// Scores are probabilities as transformers' pipeline makes them: softmax over the labels, sigmoid
/// for each when the model has one label or several may be right, and the number itself for
/// regression.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gpt2 classify -m sentiment.gguf -p \"She was delighted.\"")]
pub(crate) struct Arguments {
    #[command(flatten)]
    inputs: InputSource,
    /// How logits become scores: softmax, sigmoid or none [default: as the model's problem asks]
    #[arg(long, value_name = "FUNCTION", value_parser = parse_function)]
    function: Option<ScoreFunction>,
    #[command(flatten)]
    run: RunArguments,
}

fn parse_function(name: &str) -> Result<ScoreFunction, String> {
    ScoreFunction::from_name(name).ok_or_else(|| {
        let known: Vec<&str> = ScoreFunction::names().collect();
        format!("expected one of {}", known.join(", "))
    })
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let model = arguments.run.open_model()?;
    model.expect_class(ModelClass::SequenceClassification)?;
    let inputs = arguments.inputs.read(&model)?;
    let mut session = start(&arguments.run, model)?;
    rows::write(arguments.run.json, inputs, |input| {
        let row = Classified::new(&mut session, input.text, input.ids, arguments.function)?;
        let text = row.text.as_deref().unwrap_or_default();
        let line = format!("{}\t{:.4}\t{text}\n", row.label, row.score);
        Ok((json!(row), line))
    })
}
