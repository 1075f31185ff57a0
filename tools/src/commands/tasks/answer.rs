//! `gpt2 answer`: where in a text the answer to a question is.

use std::fmt::Write;
use std::num::NonZeroUsize;

use clap::Args;
use gpt2::spec::ModelClass;
use gpt2::tasks::{AnswerOptions, Answered};
use serde_json::json;

use super::rows::{self, start};
use crate::arguments::RunArguments;
use crate::failure::Failure;
use crate::texts::{self, Reading, TextSource};

/// Find the answer to a question in a text, with a question answering model.
///
/// The tokens of the question are followed by those of the text, as transformers' pipeline does.
/// start and end count characters of the text from 0. A text that does not fit is read in windows
/// that overlap. Of several texts each is asked every question.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  gpt2 answer -m qa.gguf --question \"Who was rich?\" -p \"Emma \
        Woodhouse was rich.\"",
    mut_arg("prompt", |prompt| prompt.visible_alias("context"))
)]
pub(crate) struct Arguments {
    /// The question; may be repeated
    #[arg(long, value_name = "TEXT", required = true, allow_hyphen_values = true)]
    #[arg(value_parser = texts::prompt_parser())]
    question: Vec<String>,
    #[command(flatten)]
    texts: TextSource,
    /// How many answers to give
    #[arg(long, value_name = "N", default_value = "1")]
    top_k: NonZeroUsize,
    /// Most tokens of an answer
    #[arg(long, value_name = "N", default_value = "15")]
    max_answer_length: NonZeroUsize,
    /// Let answers begin and end within words, where the best tokens do
    #[arg(long)]
    no_align_to_words: bool,
    #[command(flatten)]
    run: RunArguments,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let texts = arguments.texts.read(Reading::default())?;
    let model = arguments.run.open_model()?;
    model.expect_class(ModelClass::QuestionAnswering)?;
    let options = AnswerOptions {
        max_length: arguments.max_answer_length.get(),
        count: arguments.top_k.get(),
        align_to_words: !arguments.no_align_to_words,
    };
    let mut session = start(&arguments.run, model)?;
    let asked = texts.iter().flat_map(|text| {
        let questions = arguments.question.iter();
        questions.map(move |question| (text, question))
    });
    rows::write(arguments.run.json, asked, |(text, question)| {
        let mut row = Answered::new(&mut session, question, text, options)?;
        let mut table = String::new();
        for found in &row.answers {
            let _ = writeln!(table, "{:.4}\t{}", found.score, found.answer);
        }
        if texts.len() > 1 {
            row.context = Some(text.clone());
        }
        Ok((json!(row), table))
    })
}
