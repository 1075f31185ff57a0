//! `gpt2 forward`: one pass over given tokens.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use gpt2::TokenId;
use gpt2::output::AtomicFile;
use gpt2::session::{Model, Session};
use serde_json::{Value, json};

use crate::arguments::RunArguments;
use crate::failure::Failure;
use crate::prompt::{self, Ids};
use crate::{interrupt, report};

/// Tokens of the last position that the report shows.
const SHOWN: usize = 20;
/// Tokens whose logits are in memory at a time.
const CHUNK: usize = 64;

/// Run one forward pass and write its logits.
///
/// Each --ids or -p is a row of the batch. OUT.safetensors gets `logits`, f32, [batch, tokens,
/// vocabulary]; where a row is shorter than the longest, its logits are followed by zeros. The report
/// shows the 20 best tokens after each row.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gpt2 forward -p \"It is a truth\" --output logits.safetensors")]
pub(super) struct Arguments {
    #[command(flatten)]
    source: Source,
    /// The file to write
    #[arg(short, long, value_name = "OUT.safetensors")]
    output: Option<PathBuf>,
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
    let shape = [rows.len(), longest, model.hyperparameters().vocabulary];
    let mut session = arguments.run.start(model, None)?;
    interrupt::stop_on_interrupt(session.stop_flag());
    let mut writer = match &arguments.output {
        Some(path) => Some(LogitsFile::create(path, arguments.force, shape)?),
        None => None,
    };
    let mut best = Vec::with_capacity(rows.len());
    for ids in &rows {
        session.clear();
        let mut last = Vec::new();
        for chunk in ids.chunks(CHUNK) {
            let logits = session.forward(chunk)?;
            if let Some(writer) = &mut writer {
                writer.write(logits)?;
            }
            last = logits[logits.len() - shape[2]..].to_vec();
        }
        if let Some(writer) = &mut writer {
            writer.pad(longest - ids.len())?;
        }
        best.push(largest(&last));
    }
    if let Some(writer) = writer {
        writer.finish()?;
    }
    if arguments.run.json {
        return report::print_json(&document(&rows, &best, shape, &session));
    }
    report::print(&table(&best, shape, &session))
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
    shape: [usize; 3],
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
    json!({ "shapes": { "logits": shape }, "rows": rows })
}

fn table(best: &[Vec<Best>], shape: [usize; 3], session: &Session) -> String {
    let mut text = format!("logits [{}, {}, {}]\n", shape[0], shape[1], shape[2]);
    for (row, best) in best.iter().enumerate() {
        let _ = writeln!(text, "after row {row}:");
        for &(id, logit) in best {
            let token = token_text(session, id).unwrap_or_default();
            let _ = writeln!(text, "{logit:10.4}  {id:>6}  {token}");
        }
    }
    text
}

/// A safetensors file with one tensor, written as its rows come: a length (u64, little-endian), a
/// JSON header of that length, the data (<https://huggingface.co/docs/safetensors>).
struct LogitsFile {
    file: AtomicFile,
    path: PathBuf,
    vocabulary: usize,
}

impl LogitsFile {
    fn create(path: &Path, force: bool, shape: [usize; 3]) -> Result<Self, Failure> {
        let bytes = shape.iter().product::<usize>() * size_of::<f32>();
        let tensor = json!({ "dtype": "F32", "shape": shape, "data_offsets": [0, bytes] });
        let mut header = json!({ "logits": tensor }).to_string();
        // The data begins at a multiple of 8, as readers that map the file want it.
        while !header.len().is_multiple_of(8) {
            header.push(' ');
        }
        let mut writer = Self {
            file: AtomicFile::create(path, force)?,
            path: path.to_path_buf(),
            vocabulary: shape[2],
        };
        writer.put(&(header.len() as u64).to_le_bytes())?;
        writer.put(header.as_bytes())?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self
            .file
            .write_all(bytes)
            .map_err(|error| gpt2::Error::io(&self.path, error))?)
    }

    fn write(&mut self, logits: &[f32]) -> Result<(), Failure> {
        let bytes: Vec<u8> = logits
            .iter()
            .flat_map(|logit| logit.to_le_bytes())
            .collect();
        self.put(&bytes)
    }

    /// Writes zeros for `positions` that a shorter row does not have.
    fn pad(&mut self, positions: usize) -> Result<(), Failure> {
        let zeros = vec![0; self.vocabulary * size_of::<f32>()];
        (0..positions).try_for_each(|_| self.put(&zeros))
    }

    fn finish(self) -> Result<(), Failure> {
        Ok(self.file.finish()?)
    }
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
