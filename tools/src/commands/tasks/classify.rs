//! `gpt2 classify`: a label for each text.

use clap::Args;
use gpt2::spec::ModelClass;
use gpt2::tasks::{ScoreFunction, label_scores};
use serde_json::{Value, json};

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
    let head = model.hyperparameters().head.clone();
    let function = arguments.function.unwrap_or(ScoreFunction::of(&head));
    let mut session = start(&arguments.run, model)?;
    rows::write(arguments.run.json, inputs, |input| {
        let logits = session.classify(&input.ids)?;
        let scores = label_scores(&head, &logits, function);
        let (label, score) = scores
            .first()
            .map(|best| (best.label.clone(), best.score))
            .unwrap_or_default();
        let list: Vec<Value> = scores
            .iter()
            .map(|one| json!({ "label": one.label, "score": one.score }))
            .collect();
        let row = json!({
            "text": input.text, "ids": input.ids, "label": label, "score": score,
            "scores": list, "logits": logits,
        });
        let text = input.text.unwrap_or_default();
        Ok((row, format!("{label}\t{score:.4}\t{text}\n")))
    })
}
