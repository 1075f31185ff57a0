//! What comes out of a pass, by the model's class, under transformers' names.

use gpt2::session::{Batch, Model, Output, Session};
use gpt2::spec::{Hyperparameters, ModelClass, SummaryType};
use gpt2::tasks::last_token;

use super::rows::{Row, Rows};
use crate::failure::Failure;
use crate::tensors::{Described, TensorFile};

/// Tokens whose outputs are in memory at a time.
const CHUNK: usize = 64;
/// What has a number for each token of the vocabulary is written as it comes.
const LOGITS: &str = "logits";

/// Which outputs are wanted beside the class's own.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) hidden_states: bool,
    pub(super) attentions: bool,
}

/// The values of a tensor of the file.
pub(super) struct Values {
    pub(super) described: Described,
    /// Empty for what went to the file already.
    values: Vec<f32>,
}

/// The outputs of all rows.
pub(super) struct Outputs {
    /// The tensors in the order of the file.
    pub(super) tensors: Vec<Values>,
    /// For each row the values at its last token: logits of tokens or of labels; empty for other
    /// classes.
    pub(super) last: Vec<Vec<f32>>,
}

/// What one row gave.
#[derive(Default)]
struct RowOutputs {
    /// Row-major `[tokens, width]`.
    last_hidden_state: Vec<f32>,
    /// `[tokens, width]` for each.
    hidden_states: Vec<Vec<f32>>,
    /// `[heads, tokens, tokens]` for each layer.
    attentions: Vec<Vec<f32>>,
    /// Logits of the vocabulary after the row's own last token.
    last_logits: Vec<f32>,
}

/// Names and shapes of what comes out, in the order of the file.
pub(super) fn described(model: &Hyperparameters, rows: &Rows, wanted: Wanted) -> Vec<Described> {
    let (batch, length) = (rows.all.len(), rows.length);
    let of = |name: &str, shape: &[usize]| (name.to_owned(), shape.to_vec());
    let mut tensors = match model.class {
        ModelClass::Base => vec![of("last_hidden_state", &[batch, length, model.n_embd])],
        ModelClass::LanguageModel => vec![of(LOGITS, &[batch, length, model.vocab_size])],
        ModelClass::DoubleHeads => {
            let scored = match model.head.summary.kind {
                SummaryType::ClassificationIndex => batch,
                SummaryType::Last | SummaryType::First | SummaryType::Mean => length,
            };
            let mut scores = vec![1, scored];
            match model.head.outputs {
                0 => scores.push(model.n_embd),
                1 => {}
                outputs => scores.push(outputs),
            }
            vec![
                of(LOGITS, &[1, batch, length, model.vocab_size]),
                of("mc_logits", &scores),
            ]
        }
        ModelClass::SequenceClassification => vec![of(LOGITS, &[batch, model.head.outputs])],
        ModelClass::TokenClassification => {
            vec![of(LOGITS, &[batch, length, model.head.outputs])]
        }
        ModelClass::QuestionAnswering => vec![
            of("start_logits", &[batch, length]),
            of("end_logits", &[batch, length]),
        ],
    };
    if wanted.hidden_states {
        let shape = [1, batch, length, model.n_embd];
        // transformers gives the axis of the examples back to the last alone.
        let flat = |n| usize::from(model.class != ModelClass::DoubleHeads || n < model.n_layer);
        let states = |n| of(&format!("hidden_states.{n}"), &shape[flat(n)..]);
        tensors.extend((0..=model.n_layer).map(states));
    }
    if wanted.attentions {
        let shape = [batch, model.n_head, length, length];
        tensors.extend((0..model.n_layer).map(|n| of(&format!("attentions.{n}"), &shape)));
    }
    tensors
}

/// Runs every row; logits of the vocabulary go to `file` as they come.
pub(super) fn compute(
    session: &mut Session,
    rows: &Rows,
    wanted: Wanted,
    mut file: Option<&mut TensorFile>,
) -> Result<Outputs, Failure> {
    let mut outputs = Outputs {
        tensors: described(session.model().hyperparameters(), rows, wanted)
            .into_iter()
            .map(|described| Values {
                described,
                values: Vec::new(),
            })
            .collect(),
        last: Vec::new(),
    };
    let mut choices = Vec::new();
    for row in &rows.all {
        let given = run_row(session, row, wanted, file.as_deref_mut())?;
        let model = session.model();
        let hyperparameters = model.hyperparameters();
        let states = &given.last_hidden_state;
        let width = hyperparameters.n_embd;
        match hyperparameters.class {
            ModelClass::Base => outputs.append("last_hidden_state", states),
            ModelClass::LanguageModel => outputs.last.push(given.last_logits),
            ModelClass::DoubleHeads => {
                outputs.last.push(given.last_logits);
                choices.push(states.clone());
            }
            ModelClass::SequenceClassification => {
                let token = last_of(model, row) * width;
                let logits = model.head_outputs(&states[token..token + width])?;
                outputs.append(LOGITS, &logits);
                outputs.last.push(logits);
            }
            ModelClass::TokenClassification => {
                let logits = model.head_outputs(states)?;
                outputs.append(LOGITS, &logits);
                let labels = hyperparameters.head.outputs;
                let last = logits.chunks_exact(labels).nth(row.own - 1);
                outputs.last.push(last.unwrap_or_default().to_vec());
            }
            ModelClass::QuestionAnswering => {
                let pairs = model.head_outputs(states)?;
                let column = |column: usize| -> Vec<f32> {
                    pairs.chunks_exact(2).map(|pair| pair[column]).collect()
                };
                outputs.append("start_logits", &column(0));
                outputs.append("end_logits", &column(1));
            }
        }
        for (number, states) in given.hidden_states.iter().enumerate() {
            outputs.append(&format!("hidden_states.{number}"), states);
        }
        for (number, layer) in given.attentions.iter().enumerate() {
            outputs.append(&format!("attentions.{number}"), layer);
        }
    }
    if !choices.is_empty() {
        let scores = session
            .model()
            .choice_scores(&choices, &rows.choice_tokens)?;
        outputs.append("mc_logits", &scores.scores);
    }
    Ok(outputs)
}

/// The token a sequence classifier looks at; padding that was added here is none of it.
fn last_of(model: &Model, row: &Row) -> usize {
    match model.hyperparameters().pad {
        Some(pad) => last_token(&row.ids, Some(pad)),
        None => row.own - 1,
    }
}

/// Runs one row in pieces.
fn run_row(
    session: &mut Session,
    row: &Row,
    wanted: Wanted,
    mut file: Option<&mut TensorFile>,
) -> Result<RowOutputs, Failure> {
    let model = session.model().hyperparameters();
    let (class, heads, layers) = (model.class, model.n_head, model.n_layer);
    let length = row.ids.len();
    session.clear();
    let mut given = RowOutputs::default();
    if wanted.attentions {
        given.attentions = vec![vec![0.0; heads * length * length]; layers];
    }
    for start in (0..length).step_by(CHUNK) {
        let batch = Batch {
            tokens: row.batch(start, CHUNK)?,
            logits: class.has_language_head(),
            last_hidden_state: class != ModelClass::LanguageModel,
            hidden_states: wanted.hidden_states,
            attentions: wanted.attentions,
            batch_invariant: false,
        };
        let output = session.run(&batch)?;
        if let Some(file) = &mut file {
            file.write(&output.logits);
        }
        if (start..start + CHUNK).contains(&(row.own - 1)) {
            given.last_logits = output.row(row.own - 1 - start).to_vec();
        }
        given
            .last_hidden_state
            .extend_from_slice(&output.last_hidden_state);
        given
            .hidden_states
            .resize(output.hidden_states.len(), Vec::new());
        for (all, new) in given.hidden_states.iter_mut().zip(&output.hidden_states) {
            all.extend_from_slice(new);
        }
        for (all, new) in given.attentions.iter_mut().zip(&output.attentions) {
            place_attentions(all, new, output, [start, heads, length]);
        }
    }
    Ok(given)
}

/// Puts a piece's attentions (`[rows, heads, positions]`) where they belong in `[heads, length,
/// length]`.
fn place_attentions(
    all: &mut [f32],
    piece: &[f32],
    output: &Output,
    [start, heads, length]: [usize; 3],
) {
    let positions = output.positions;
    for (row, of_heads) in piece.chunks_exact(heads * positions).enumerate() {
        for (head, weights) in of_heads.chunks_exact(positions).enumerate() {
            let to = (head * length + start + row) * length;
            all[to..to + positions].copy_from_slice(weights);
        }
    }
}

impl Outputs {
    fn append(&mut self, name: &str, values: &[f32]) {
        let tensor = self
            .tensors
            .iter_mut()
            .find(|tensor| tensor.described.0 == name);
        if let Some(tensor) = tensor {
            tensor.values.extend_from_slice(values);
        }
    }

    /// Writes what is not in the file yet.
    pub(super) fn finish(&self, mut file: TensorFile) -> Result<(), Failure> {
        for tensor in &self.tensors {
            file.write(&tensor.values);
        }
        file.finish()
    }
}
