//! `gpt2 choose`: which of several continuations is right.

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::sync::Arc;

use clap::Args;
use gpt2::TokenId;
use gpt2::sampling::softmax;
use gpt2::session::{Model, SessionOptions};
use gpt2::spec::ModelClass;
use gpt2::tasks::{Normalization, choice_likelihoods, scoring_needs};
use serde_json::{Value, json};

use super::rows::start;
use crate::arguments::RunArguments;
use crate::failure::Failure;
use crate::prompt::{self, Ids};
use crate::report;
use crate::texts::{self, Reading, TEXTS, TextSource};

/// Choose among continuations of a text: by likelihood, or with a double heads model.
///
/// A language model scores each choice by its log-probability after the text; choices begin with
/// the space before their first word. A double heads model reads each choice after the text, where
/// there is one, as one with it, and scores it at its last token. Scores are probabilities over the
/// choices.
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
    /// What likelihoods are compared by: their sums as they are (none), by the number of tokens
    /// (tokens), or of bytes (bytes)
    #[arg(long, value_name = "HOW", default_value = "none", value_parser = parse_normalization)]
    normalize: Normalization,
    /// For double heads, a choice with what comes before it, as token ids; may be repeated
    #[arg(long, value_name = "IDS", value_parser = prompt::parse_ids, conflicts_with = "choice")]
    #[arg(conflicts_with = TEXTS)]
    ids: Vec<Ids>,
    /// For double heads, the token that each choice is scored at [default: the last]
    #[arg(long, value_name = "INDICES", value_parser = prompt::parse_ids)]
    mc_token_ids: Option<Ids>,
    #[command(flatten)]
    run: RunArguments,
}

fn parse_normalization(name: &str) -> Result<Normalization, String> {
    Normalization::from_name(name).ok_or_else(|| {
        let known: Vec<&str> = Normalization::names().collect();
        format!("expected one of {}", known.join(", "))
    })
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
    if model.hyperparameters().class == ModelClass::LanguageModel {
        by_likelihood(arguments, &prompt, model)
    } else {
        model.expect_class(ModelClass::DoubleHeads)?;
        by_head(arguments, &prompt, model)
    }
}

fn check_count(count: usize) -> Result<(), Failure> {
    if count >= 2 {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "expected at least two choices of one token or more (--choice), found {count}"
    )))
}

/// A choice's texts and numbers.
struct Row {
    /// What it is chosen by; all of them become probabilities.
    value: f64,
    details: Value,
}

/// Chooses by the likelihoods that a language model gives.
fn by_likelihood(arguments: &Arguments, prompt: &str, model: Arc<Model>) -> Result<(), Failure> {
    if !arguments.ids.is_empty() || arguments.mc_token_ids.is_some() {
        return Err(Failure::Usage(
            "--ids and --mc-token-ids are for double heads models: expected --choice".to_owned(),
        ));
    }
    let choices = &arguments.choice;
    check_count(choices.len())?;
    if choices.iter().any(String::is_empty) {
        return Err(Failure::Usage(
            "--choice: expected a text, found an empty one".to_owned(),
        ));
    }
    let (sequences, context) = scoring_needs(&model);
    let options = SessionOptions {
        sequences,
        ..arguments.run.session_options(Some(context))
    };
    let mut session = crate::arguments::start(model, options)?;
    crate::interrupt::stop_on_interrupt(&session.stop_flag());
    let likelihoods = choice_likelihoods(&mut session, prompt, choices)?;
    let rows: Vec<Row> = likelihoods
        .iter()
        .map(|likelihood| Row {
            value: likelihood.by(arguments.normalize),
            details: json!({
                "logprob": likelihood.log_probability,
                "logprob_per_token": likelihood.by(Normalization::Tokens),
                "logprob_per_byte": likelihood.by(Normalization::Bytes),
                "tokens": likelihood.tokens,
            }),
        })
        .collect();
    let more = json!({ "by": "likelihood", "normalization": arguments.normalize.name() });
    show(arguments, &rows, more)
}

/// Chooses by the scores of a double heads model.
fn by_head(arguments: &Arguments, prompt: &str, model: Arc<Model>) -> Result<(), Failure> {
    let mut choices: Vec<Vec<TokenId>> = arguments.ids.iter().map(|Ids(ids)| ids.clone()).collect();
    for choice in &arguments.choice {
        choices.push(prompt::encode(&model, &format!("{prompt}{choice}"))?);
    }
    check_count(choices.len())?;
    if choices.iter().any(Vec::is_empty) {
        return Err(Failure::Usage(
            "--ids: expected at least one token, found none".to_owned(),
        ));
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
    let rows: Vec<Row> = choices
        .iter()
        .zip(&scores.scores)
        .map(|(ids, &logit)| Row {
            value: logit.into(),
            details: json!({ "ids": ids, "logit": logit }),
        })
        .collect();
    show(arguments, &rows, json!({ "by": "head" }))
}

/// Prints the choices, each with its probability among them, and the best: of equals the first.
fn show(arguments: &Arguments, rows: &[Row], mut document: Value) -> Result<(), Failure> {
    let values: Vec<f32> = rows.iter().map(|row| row.value as f32).collect();
    let probabilities = softmax(&values);
    let better = |best: usize, other: usize| {
        if rows[other].value > rows[best].value {
            other
        } else {
            best
        }
    };
    let best = (0..rows.len()).reduce(better).unwrap_or_default();
    if !arguments.run.json {
        let mut table = String::new();
        for (index, score) in probabilities.iter().enumerate() {
            let mark = if index == best { '*' } else { ' ' };
            let text = arguments.choice.get(index).map_or("", String::as_str);
            let _ = writeln!(table, "{mark}\t{index}\t{score:.4}\t{text}");
        }
        return report::print(&table);
    }
    let rows = rows.iter().zip(&probabilities).enumerate();
    let rows = rows.map(|(index, (row, score))| {
        let mut all = json!({ "choice": arguments.choice.get(index), "score": score });
        for (name, value) in row.details.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        all
    });
    document["best"] = best.into();
    document["rows"] = rows.collect::<Vec<_>>().into();
    report::print_json(&document)
}
