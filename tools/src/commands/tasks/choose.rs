//! `gpt2 choose`: which of several continuations is right.

use std::fmt::Write;
use std::io::{self, IsTerminal};

use clap::Args;
use gpt2::TokenId;
use gpt2::sampling::softmax;
use gpt2::spec::ModelClass;
use serde_json::{Value, json};

use super::rows::start;
use crate::arguments::RunArguments;
use crate::failure::Failure;
use crate::prompt::{self, Ids};
use crate::report;
use crate::texts::{self, Reading, TEXTS, TextSource};

/// Score the choices of a question, with a double heads model.
///
/// Each choice is read after the text, where there is one, as one with it, and scored at its last
/// token. Scores are probabilities over the choices.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  gpt2 choose -m swag.gguf -p \"She sat down\" --choice \" and \
        wrote.\" --choice \" and flew.\""
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    texts: TextSource,
    /// A choice; at least two
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    #[arg(value_parser = texts::prompt_parser())]
    choice: Vec<String>,
    /// A choice with what comes before it, as token ids; may be repeated
    #[arg(long, value_name = "IDS", value_parser = prompt::parse_ids, conflicts_with = "choice")]
    #[arg(conflicts_with = TEXTS)]
    ids: Vec<Ids>,
    /// For each choice, the token it is scored at [default: the last]
    #[arg(long, value_name = "INDICES", value_parser = prompt::parse_ids)]
    mc_token_ids: Option<Ids>,
    #[command(flatten)]
    run: RunArguments,
}

impl Arguments {
    /// What comes before every choice: stdin only where no terminal would have to be typed into,
    /// since choices may stand alone.
    fn prompt(&self) -> Result<String, Failure> {
        if !self.texts.is_given() && (!self.ids.is_empty() || io::stdin().is_terminal()) {
            return Ok(String::new());
        }
        self.texts.read_one(Reading {
            may_be_empty: true,
            ..Reading::default()
        })
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let prompt = arguments.prompt()?;
    let model = arguments.run.open_model()?;
    model.expect_class(ModelClass::DoubleHeads)?;
    let mut choices: Vec<Vec<TokenId>> = arguments.ids.iter().map(|Ids(ids)| ids.clone()).collect();
    for choice in &arguments.choice {
        choices.push(prompt::encode(&model, &format!("{prompt}{choice}"))?);
    }
    if choices.len() < 2 || choices.iter().any(Vec::is_empty) {
        return Err(Failure::Usage(format!(
            "expected at least two choices of one token or more (--choice), found {}",
            choices.len()
        )));
    }
    for ids in &choices {
        model.check_tokens(ids)?;
    }
    let indices: Option<Vec<usize>> = arguments
        .mc_token_ids
        .as_ref()
        .map(|Ids(indices)| indices.iter().map(|&index| index as usize).collect());
    let mut session = start(&arguments.run, model)?;
    let scores = session.choose(&choices, indices.as_deref())?;
    if scores.shape != [choices.len()] {
        return Err(Failure::Work(format!(
            "the model's summary gives {:?} values and not one a choice; `gpt2 forward` writes \
             them",
            scores.shape
        )));
    }
    let probabilities = softmax(&scores.scores);
    let best = (0..choices.len())
        .reduce(|best, other| {
            if scores.scores[other] > scores.scores[best] {
                other
            } else {
                best
            }
        })
        .unwrap_or_default();
    if !arguments.run.json {
        let mut table = String::new();
        for (index, score) in probabilities.iter().enumerate() {
            let mark = if index == best { '*' } else { ' ' };
            let text = arguments.choice.get(index).map_or("", String::as_str);
            let _ = writeln!(table, "{mark}\t{index}\t{score:.4}\t{text}");
        }
        return report::print(&table);
    }
    let rows: Vec<Value> = choices
        .iter()
        .zip(probabilities.iter().zip(&scores.scores))
        .enumerate()
        .map(|(index, (ids, (score, logit)))| {
            json!({
                "choice": arguments.choice.get(index), "ids": ids, "score": score, "logit": logit,
            })
        })
        .collect();
    report::print_json(&json!({ "best": best, "rows": rows }))
}
