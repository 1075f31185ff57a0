//! Scores and logits of every step in a file.

use std::path::PathBuf;

use clap::Args;
use gpt2::generate::{Continuation, GenerationOptions};

use crate::failure::Failure;
use crate::report::check_place;
use crate::tensors::{Described, TensorFile};

/// Which values are written, and where.
#[derive(Debug, Args)]
#[command(next_help_heading = "Writing scores")]
pub(super) struct Scores {
    /// A safetensors file for --output-scores and --output-logits: f32 [tokens, vocabulary] of the
    /// continuation, or of several scores.0, scores.1...
    #[arg(short, long, value_name = "OUT.safetensors")]
    output: Option<PathBuf>,
    /// Write scores: what each token was chosen by, after all processors
    #[arg(long = "output-scores", id = "output_scores", requires = "output")]
    of_choice: bool,
    /// Write logits: what the model gave for each token
    #[arg(long = "output-logits", id = "output_logits", requires = "output")]
    of_model: bool,
    /// With --json, give the log-probability of every token by the model's own softmax, before any
    /// processor, and of the N likeliest tokens in its place
    #[arg(long, value_name = "N", requires = "json", num_args = 0..=1, default_missing_value = "0")]
    logprobs: Option<usize>,
    /// Replace the file if it exists
    #[arg(long, requires = "output")]
    force: bool,
}

impl Scores {
    /// Asks for the values.
    pub(super) fn apply(&self, options: &mut GenerationOptions) {
        options.output_scores = self.of_choice;
        options.output_logits = self.of_model;
        options.logprobs = self.logprobs;
    }

    /// Finds now and not at the end what is in the way of the file.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match &self.output {
            Some(_) if !self.of_choice && !self.of_model => Err(Failure::Usage(
                "--output: expected --output-scores or --output-logits, or both".to_owned(),
            )),
            Some(path) => check_place(path, self.force),
            None => Ok(()),
        }
    }

    /// Whether there is a file to write.
    pub(super) fn are_wanted(&self) -> bool {
        self.output.is_some()
    }

    /// Writes the values of all continuations.
    pub(super) fn write(&self, all: &[&Continuation], vocabulary: usize) -> Result<(), Failure> {
        let Some(path) = &self.output else {
            return Ok(());
        };
        let kinds = [(self.of_choice, "scores"), (self.of_model, "logits")];
        let mut tensors: Vec<Described> = Vec::new();
        let mut rows: Vec<&[Vec<f32>]> = Vec::new();
        for (_, kind) in kinds.iter().filter(|(wanted, _)| *wanted) {
            for (index, continuation) in all.iter().enumerate() {
                let name = match all.len() {
                    1 => (*kind).to_owned(),
                    _ => format!("{kind}.{index}"),
                };
                let steps = match *kind {
                    "scores" => &continuation.scores,
                    _ => &continuation.logits,
                };
                tensors.push((name, vec![steps.len(), vocabulary]));
                rows.push(steps);
            }
        }
        let mut file = TensorFile::create(path, self.force, &tensors)?;
        for step in rows.into_iter().flatten() {
            file.write(step);
        }
        file.finish()
    }
}
