//! `gpt2 forward`: one pass over given tokens.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use gpt2::TokenId;
use gpt2::session::{Batch, Model, SequenceSet, Session};
use serde_json::{Map, Value, json};

use crate::arguments::RunArguments;
use crate::failure::Failure;
use crate::prompt::{self, Ids};
use crate::tensors::{Described, TensorFile};
use crate::{interrupt, report};

/// Tokens of the last position that the report shows.
const SHOWN: usize = 20;
/// Tokens whose logits are in memory at a time.
const CHUNK: usize = 64;

/// Run one forward pass and write what it gives.
///
/// Each --ids or -p is a row of the batch. OUT.safetensors gets f32 tensors under transformers'
/// names: logits [batch, tokens, vocabulary]; with --hidden-states also `hidden_states.N`
/// [batch, tokens, width]: the embeddings, every layer but the last, and the last after the final norm.
/// Rows shorter than the longest are followed by zeros. The report shows the 20 best tokens after
/// each row.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gpt2 forward -p \"It is a truth\" --output logits.safetensors")]
pub(super) struct Arguments {
    #[command(flatten)]
    source: Source,
    /// The file to write
    #[arg(short, long, value_name = "OUT.safetensors")]
    output: Option<PathBuf>,
    /// Write the hidden states too
    #[arg(long)]
    hidden_states: bool,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    run: RunArguments,
}

/// The rows.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// A row of token ids, such as 1,2,3; may be repeated
    #[arg(long, value_name = "IDS", value_parser = prompt::parse_ids)]
    ids: Vec<Ids>,
    /// A row of text; may be repeated
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Vec<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let model = arguments.run.open_model()?;
    let rows = arguments.source.rows(&model)?;
    let longest = rows.iter().map(Vec::len).max().unwrap_or_default();
    let tensors = tensors(&model, rows.len(), longest, arguments.hidden_states);
    let mut session = arguments.run.start(model, None)?;
    interrupt::stop_on_interrupt(session.stop_flag());
    let mut file = match &arguments.output {
        Some(path) => Some(TensorFile::create(path, arguments.force, &tensors)?),
        None => None,
    };
    // The logits go to the file as they come; hidden states come all layers at once and wait.
    let mut hidden_states = vec![Vec::new(); tensors.len() - 1];
    let mut best = Vec::with_capacity(rows.len());
    for ids in &rows {
        session.clear();
        let mut last = Vec::new();
        for chunk in ids.chunks(CHUNK) {
            let position = session.length(0);
            let mut batch = Batch::of_text(chunk, position, SequenceSet::of(0)?, |_| true);
            batch.hidden_states = arguments.hidden_states;
            let output = session.run(&batch)?;
            if let Some(file) = &mut file {
                file.write(&output.logits)?;
            }
            for (all, new) in hidden_states.iter_mut().zip(&output.hidden_states) {
                all.extend_from_slice(new);
            }
            last = output.row(chunk.len() - 1).to_vec();
        }
        let missing = longest - ids.len();
        if let Some(file) = &mut file {
            file.write_zeros(missing * last.len())?;
        }
        for (all, (_, shape)) in hidden_states.iter_mut().zip(&tensors[1..]) {
            all.resize(all.len() + missing * shape[2], 0.0);
        }
        best.push(largest(&last));
    }
    if let Some(mut file) = file {
        hidden_states
            .iter()
            .try_for_each(|values| file.write(values))?;
        file.finish()?;
    }
    if arguments.run.json {
        return report::print_json(&document(&rows, &best, &tensors, &session));
    }
    report::print(&table(&best, &tensors, &session))
}

/// What comes out, under transformers' names: the logits first.
fn tensors(model: &Model, rows: usize, longest: usize, hidden_states: bool) -> Vec<Described> {
    let hyperparameters = model.hyperparameters();
    let mut tensors = vec![(
        "logits".to_owned(),
        [rows, longest, hyperparameters.vocabulary],
    )];
    if hidden_states {
        let shape = [rows, longest, hyperparameters.width];
        let name = |layer| (format!("hidden_states.{layer}"), shape);
        tensors.extend((0..=hyperparameters.layers).map(name));
    }
    tensors
}

impl Source {
    fn rows(&self, model: &Model) -> Result<Vec<Vec<TokenId>>, Failure> {
        let mut rows: Vec<Vec<TokenId>> = self.ids.iter().map(|Ids(ids)| ids.clone()).collect();
        for text in &self.prompt {
            rows.push(prompt::encode(model, text)?);
        }
        for (row, ids) in rows.iter().enumerate() {
            if ids.is_empty() {
                return Err(Failure::Usage(format!("--ids: row {row} has no token")));
            }
            model.check_tokens(ids)?;
        }
        Ok(rows)
    }
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

/// The token as the vocabulary spells it; a model without a usable tokenizer has only ids.
fn token_text(session: &Session, id: TokenId) -> Option<String> {
    session.model().tokenizer().ok()?.token_text(id)
}

fn document(
    rows: &[Vec<TokenId>],
    best: &[Vec<Best>],
    tensors: &[Described],
    session: &Session,
) -> Value {
    let top = |best: &Vec<Best>| -> Vec<Value> {
        best.iter()
            .map(|&(id, logit)| json!({ "id": id, "token": token_text(session, id), "logit": logit }))
            .collect()
    };
    let rows: Vec<Value> = rows
        .iter()
        .zip(best)
        .map(|(ids, best)| json!({ "ids": ids, "top": top(best) }))
        .collect();
    let shapes: Map<String, Value> = tensors
        .iter()
        .map(|(name, shape)| (name.clone(), json!(shape)))
        .collect();
    json!({ "shapes": shapes, "rows": rows })
}

fn table(best: &[Vec<Best>], tensors: &[Described], session: &Session) -> String {
    let mut text = String::new();
    for (name, shape) in tensors {
        let _ = writeln!(text, "{name} {shape:?}");
    }
    for (row, best) in best.iter().enumerate() {
        let _ = writeln!(text, "after row {row}:");
        for &(id, logit) in best {
            let token = token_text(session, id).unwrap_or_default();
            let _ = writeln!(text, "{logit:10.4}  {id:>6}  {token}");
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
