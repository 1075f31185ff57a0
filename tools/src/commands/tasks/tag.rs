//! `gpt2 tag`: a label for each word of a text.

use std::fmt::Write;

use clap::Args;
use gpt2::spec::ModelClass;
use gpt2::tasks::{Aggregation, entities, tag, words};
use serde_json::{Value, json};

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
    let model = session.model().clone();
    let tokenizer = model.tokenizer()?;
    let head = &model.hyperparameters().head;
    rows::write(arguments.run.json, texts, |text| {
        let tags = tag(&mut session, &text)?;
        let words = words(head, &text, &tags, arguments.aggregation);
        let mut table = String::new();
        for word in &words {
            let _ = writeln!(
                table,
                "{}\t{}\t{:.4}\t{}\t{}",
                word.characters.start, word.characters.end, word.score, word.label, word.word
            );
        }
        let tokens: Vec<Value> = tags
            .iter()
            .map(|tag| {
                json!({
                    "id": tag.id, "token": tokenizer.token_text(tag.id), "label": tag.label,
                    "score": tag.score, "start": tag.characters.start, "end": tag.characters.end,
                })
            })
            .collect();
        let entities: Vec<Value> = entities(&text, &words)
            .iter()
            .map(|entity| {
                json!({
                    "entity": entity.entity, "text": entity.text, "score": entity.score,
                    "start": entity.characters.start, "end": entity.characters.end,
                })
            })
            .collect();
        let words: Vec<Value> = words
            .iter()
            .map(|word| {
                json!({
                    "word": word.word, "label": word.label, "score": word.score,
                    "start": word.characters.start, "end": word.characters.end,
                })
            })
            .collect();
        let row = json!({ "text": text, "tokens": tokens, "words": words, "entities": entities });
        Ok((row, table))
    })
}
