//! `gpt2 choose`: which of several continuations is right.

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::sync::Arc;

use clap::Args;
use gpt2::TokenId;
use gpt2::session::{Model, SessionOptions};
use gpt2::spec::ModelClass;
use gpt2::tasks::{Chosen, Normalization, scoring_needs};
use serde_json::json;

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
    let chosen = Chosen::by_likelihood(&mut session, prompt, choices, arguments.normalize)?;
    show(arguments, &chosen)
}

/// Chooses by the scores of a double heads model.
fn by_head(arguments: &Arguments, prompt: &str, model: Arc<Model>) -> Result<(), Failure> {
    let of_ids = |Ids(ids): &Ids| (None, ids.clone());
    let mut choices: Vec<(Option<String>, Vec<TokenId>)> =
        arguments.ids.iter().map(of_ids).collect();
    for choice in &arguments.choice {
        let ids = prompt::encode(&model, &format!("{prompt}{choice}"))?;
        choices.push((Some(choice.clone()), ids));
    }
    check_count(choices.len())?;
    if choices.iter().any(|(_, ids)| ids.is_empty()) {
        return Err(Failure::Usage(
            "--ids: expected at least one token, found none".to_owned(),
        ));
    }
    for (_, ids) in &choices {
        model.check_tokens(ids)?;
    }
    let indices: Option<Vec<usize>> = arguments
        .mc_token_ids
        .as_ref()
        .map(|Ids(indices)| indices.iter().map(|&index| index as usize).collect());
    let mut session = start(&arguments.run, model)?;
    let chosen = Chosen::by_head(&mut session, choices, indices.as_deref())?;
    show(arguments, &chosen)
}

/// Prints the choices, each with its probability among them, and the best.
fn show(arguments: &Arguments, chosen: &Chosen) -> Result<(), Failure> {
    if arguments.run.json {
        return report::print_json(&json!(chosen));
    }
    let mut table = String::new();
    for (index, row) in chosen.rows.iter().enumerate() {
        let mark = if index == chosen.best { '*' } else { ' ' };
        let text = row.choice.as_deref().unwrap_or_default();
        let _ = writeln!(table, "{mark}\t{index}\t{:.4}\t{text}", row.score);
    }
    report::print(&table)
}
