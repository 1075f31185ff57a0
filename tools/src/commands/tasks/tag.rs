//! `gpt2 tag`: a label for each word of a text.

use std::fmt::Write;

use clap::Args;
use gpt2::spec::ModelClass;
use gpt2::tasks::{Aggregation, Tagged};
use serde_json::json;

use super::rows::{self, start};
use crate::arguments::RunArguments;
use crate::failure::Failure;
use crate::texts::{Reading, TextSource};

/// Label the words of texts, with a token classifier.
///
/// Words are what stands between white space; start and end count characters of the text from 0.
/// The JSON has the tokens with their own labels, the words, and the entities that words labelled
/// B-... and I-... make up.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  gpt2 tag -m names.gguf -p \"Emma Woodhouse lived at Hartfield.\""
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    texts: TextSource,
    /// Which label a word of several tokens gets: the first token's (first), that of the largest
    /// mean (average), or the surest token's (max)
    #[arg(long, value_name = "HOW", default_value = "first", value_parser = parse_aggregation)]
    aggregation: Aggregation,
    #[command(flatten)]
    run: RunArguments,
}

fn parse_aggregation(name: &str) -> Result<Aggregation, String> {
    Aggregation::from_name(name).ok_or_else(|| {
        let known: Vec<&str> = Aggregation::names().collect();
        format!("expected one of {}", known.join(", "))
    })
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let texts = arguments.texts.read(Reading::default())?;
    let model = arguments.run.open_model()?;
    model.expect_class(ModelClass::TokenClassification)?;
    let mut session = start(&arguments.run, model)?;
    rows::write(arguments.run.json, texts, |text| {
        let row = Tagged::new(&mut session, text, arguments.aggregation)?;
        let mut table = String::new();
        for word in &row.words {
            let _ = writeln!(
                table,
                "{}\t{}\t{:.4}\t{}\t{}",
                word.place.start, word.place.end, word.score, word.label, word.word
            );
        }
        Ok((json!(row), table))
    })
}
