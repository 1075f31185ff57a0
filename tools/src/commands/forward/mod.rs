//! `gpt2 forward`: one pass over given tokens.

mod outputs;
mod rows;

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use gpt2::TokenId;
use gpt2::session::Session;
use gpt2::spec::ModelClass;
use serde_json::{Map, Value, json};

use crate::arguments::RunArguments;
use crate::failure::{self, Failure};
use crate::tensors::TensorFile;
use crate::{interrupt, report};
use outputs::{Outputs, Wanted};
use rows::{Rows, Source};

/// Logits of the last position that the report shows.
const SHOWN: usize = 20;

/// Run one forward pass and write what it gives.
///
/// Each text or --ids is a row of the batch. OUT.safetensors gets f32 tensors under transformers'
/// names, by the model's class: logits [batch, tokens, vocabulary] of a language model;
/// `last_hidden_state` [batch, tokens, width] of a bare one; logits [batch, labels] or [batch,
/// tokens, labels] of a classifier; `start_logits` and `end_logits` [batch, tokens]; of double
/// heads, which read the rows as choices, logits [1, choices, tokens, vocabulary] and `mc_logits`
/// [1, choices]. Rows shorter than the longest are padded on the right and masked there. The report
/// shows the 20 best tokens or labels after each row.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gpt2 forward -p \"It is a truth\" --output logits.safetensors")]
pub(super) struct Arguments {
    #[command(flatten)]
    source: Source,
    /// The file to write
    #[arg(short, long, value_name = "OUT.safetensors")]
    output: Option<PathBuf>,
    /// Write `hidden_states.N` too [batch, tokens, width]: the embeddings, every layer but the
    /// last, and the last after the final norm
    #[arg(long)]
    hidden_states: bool,
    /// Write `attentions.N` too [batch, heads, tokens, tokens]: each layer's, after softmax
    #[arg(long)]
    attentions: bool,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    run: RunArguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let texts = arguments.source.texts()?;
    let model = arguments.run.open_model()?;
    let rows = arguments.source.rows(&model, &texts)?;
    let wanted = Wanted {
        hidden_states: arguments.hidden_states,
        attentions: arguments.attentions,
    };
    let mut file = match &arguments.output {
        Some(path) => {
            let tensors = outputs::described(model.hyperparameters(), &rows, wanted);
            Some(TensorFile::create(path, arguments.force, &tensors)?)
        }
        None => None,
    };
    let mut session = arguments.run.start(model, None)?;
    interrupt::stop_on_interrupt(&session.stop_flag());
    let outputs = outputs::compute(&mut session, &rows, wanted, file.as_mut())?;
    let written = file.map_or(Ok(()), |file| outputs.finish(file));
    let best: Vec<Vec<Best>> = outputs.last.iter().map(|logits| largest(logits)).collect();
    let reported = if arguments.run.json {
        report::print_json(&document(&rows, &best, &outputs, &session))
    } else {
        report::print(&table(&best, &outputs, &session))
    };
    failure::all([written, reported])
}

/// A token and its logit.
type Best = (TokenId, f32);

/// The largest logits, descending; of equals the smaller id first.
fn largest(logits: &[f32]) -> Vec<Best> {
    let mut all: Vec<Best> = (0..).zip(logits.iter().copied()).collect();
    all.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all.truncate(SHOWN);
    all
}

/// What the number is called in the report, and the name: a label's, or a token's as the vocabulary
/// spells it; a model without a usable tokenizer has only ids.
fn name_of(session: &Session, id: TokenId) -> (&'static str, Option<String>) {
    let hyperparameters = session.model().hyperparameters();
    match hyperparameters.class {
        ModelClass::SequenceClassification | ModelClass::TokenClassification => {
            ("label", Some(hyperparameters.head.label(id as usize)))
        }
        _ => {
            let tokenizer = session.model().tokenizer().ok();
            ("token", tokenizer.and_then(|known| known.token_text(id)))
        }
    }
}

fn document(rows: &Rows, best: &[Vec<Best>], outputs: &Outputs, session: &Session) -> Value {
    let top = |best: &Vec<Best>| -> Vec<Value> {
        best.iter()
            .map(|&(id, logit)| {
                let (kind, name) = name_of(session, id);
                json!({ "id": id, kind: name, "logit": logit })
            })
            .collect()
    };
    let rows: Vec<Value> = rows
        .all
        .iter()
        .enumerate()
        .map(|(index, row)| {
            let ids = &row.ids[..row.own];
            match best.get(index) {
                Some(best) => json!({ "ids": ids, "top": top(best) }),
                None => json!({ "ids": ids }),
            }
        })
        .collect();
    let shapes: Map<String, Value> = outputs
        .tensors
        .iter()
        .map(|tensor| (tensor.described.0.clone(), json!(tensor.described.1)))
        .collect();
    json!({ "shapes": shapes, "rows": rows })
}

fn table(best: &[Vec<Best>], outputs: &Outputs, session: &Session) -> String {
    let mut text = String::new();
    for tensor in &outputs.tensors {
        let (name, shape) = &tensor.described;
        let _ = writeln!(text, "{name} {shape:?}");
    }
    for (row, best) in best.iter().enumerate() {
        let _ = writeln!(text, "after row {row}:");
        for &(id, logit) in best {
            let name = name_of(session, id).1.unwrap_or_default();
            let _ = writeln!(text, "{logit:10.4}  {id:>6}  {name}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_come_first() {
        let mut logits = vec![0.0; 30];
        (logits[7], logits[3], logits[29]) = (2.0, 2.0, 5.0);
        let found = largest(&logits);
        assert_eq!(found[..4], [(29, 5.0), (3, 2.0), (7, 2.0), (0, 0.0)]);
        assert_eq!(found.len(), SHOWN);
        assert_eq!(largest(&[1.0]), [(0, 1.0)]);
    }
}
