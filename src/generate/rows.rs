//! Several prompts at once: rows of one cache, each as long as it is, which take their next tokens in one pass.

use std::time::Instant;

use super::options::{BatchGeneration, FinishReason, GenerationTimings};
use super::tokens::Text;
use super::{OnToken, Request};
use crate::model::kv_cache::SequenceSet;
use crate::session::Session;
use crate::session::{Batch, BatchToken};
use crate::{Error, Result};

/// A row in progress.
struct Row<'a, 'r> {
    text: Text<'a, 'r>,
    /// Which prompt it continues.
    prompt: usize,
    /// Why it ended.
    ended: Option<FinishReason>,
}

/// Writes the continuations of all requests, as many at a time as the session has sequences.
pub(super) fn write(
    session: &mut Session,
    requests: &[Request<'_>],
    on_token: &mut OnToken<'_>,
) -> Result<BatchGeneration> {
    let mut generation = BatchGeneration {
        rows: requests.iter().map(|_| Vec::new()).collect(),
        timings: GenerationTimings::default(),
    };
    let wanted: Vec<(usize, usize)> = requests
        .iter()
        .enumerate()
        .flat_map(|(prompt, request)| {
            (0..request.options.num_return_sequences).map(move |sequence| (prompt, sequence))
        })
        .collect();
    for chunk in wanted.chunks(session.sequences()) {
        let mut rows = Vec::with_capacity(chunk.len());
        for &(prompt, sequence) in chunk {
            let request = &requests[prompt];
            rows.push(Row {
                text: Text::new(request, sequence, request.prompt)?,
                prompt,
                ended: None,
            });
        }
        let result = write_chunk(
            session,
            requests,
            &mut rows,
            on_token,
            &mut generation.timings,
        );
        let stopped = match result {
            Ok(()) => false,
            Err(Error::Stopped) => true,
            Err(error) => return Err(error),
        };
        for row in rows {
            let reason = row.ended.unwrap_or(FinishReason::Stopped);
            generation.rows[row.prompt].push(row.text.finish(reason));
        }
        if stopped {
            break;
        }
    }
    Ok(generation)
}

/// Writes rows until all have ended.
///
/// # Errors
/// [`Error::Stopped`] when the caller asked for an end: rows that have no reason to end then ended by it.
fn write_chunk(
    session: &mut Session,
    requests: &[Request<'_>],
    rows: &mut [Row<'_, '_>],
    on_token: &mut OnToken<'_>,
    timings: &mut GenerationTimings,
) -> Result<()> {
    let share = session.context_size() / session.sequences();
    let capacity = share.min(session.model().hyperparameters().n_positions);
    // What the session holds would take the place of what is to come.
    for sequence in 0..session.sequences() {
        session.truncate(sequence, 0)?;
    }
    for sequence in 0..rows.len() {
        let start = Instant::now();
        let request = &requests[rows[sequence].prompt];
        let length = request.prompt.len();
        if length > capacity {
            return Err(Error::ContextFull {
                needed: length,
                available: capacity,
                model_limit: session.model().hyperparameters().n_positions,
            });
        }
        let before = sequence.checked_sub(1);
        let alike = before.filter(|&before| rows[before].prompt == rows[sequence].prompt);
        let logits = if let Some(before) = alike {
            // The same prompt again: its last token alone is computed once more.
            session.fork(before, sequence)?;
            session.truncate(sequence, length - 1)?;
            prefill(session, &request.prompt[length - 1..], length - 1, sequence)?
        } else {
            timings.prefill_tokens += length;
            prefill(session, request.prompt, 0, sequence)?
        };
        timings.prefill += start.elapsed();
        if request.max_new_tokens == 0 {
            rows[sequence].ended = Some(FinishReason::Length);
            continue;
        }
        rows[sequence].take(&logits, on_token)?;
    }
    let start = Instant::now();
    let result = decode(session, rows, capacity, on_token, timings);
    timings.decode += start.elapsed();
    result
}

/// Appends tokens to a row; gives the logits after the last.
fn prefill(
    session: &mut Session,
    tokens: &[crate::TokenId],
    position: usize,
    sequence: usize,
) -> Result<Vec<f32>> {
    let last = tokens.len().saturating_sub(1);
    let batch = Batch::of_text(tokens, position, SequenceSet::of(sequence)?, |index| {
        index == last
    });
    Ok(session.run(&batch)?.row(0).to_vec())
}

/// Computes the newest token of every row that goes on, until none does.
fn decode(
    session: &mut Session,
    rows: &mut [Row<'_, '_>],
    capacity: usize,
    on_token: &mut OnToken<'_>,
    timings: &mut GenerationTimings,
) -> Result<()> {
    loop {
        let mut batch = Batch::default();
        let mut going = Vec::new();
        for (sequence, row) in rows.iter_mut().enumerate() {
            let (Some(&token), None) = (row.text.ids.last(), row.ended) else {
                continue;
            };
            let position = row.text.ids.len() - 1;
            if position >= capacity {
                row.ended = Some(FinishReason::ContextFull);
                continue;
            }
            batch.tokens.push(BatchToken {
                token,
                position,
                sequences: SequenceSet::of(sequence)?,
                output: true,
                ..BatchToken::default()
            });
            going.push(sequence);
        }
        if going.is_empty() {
            return Ok(());
        }
        let output = session.run(&batch)?;
        timings.decode_tokens += going.len();
        for (index, &sequence) in going.iter().enumerate() {
            rows[sequence].take(output.row(index), on_token)?;
        }
    }
}

impl Row<'_, '_> {
    /// Chooses the next token.
    ///
    /// # Errors
    /// [`Error::Stopped`] when the caller wants an end.
    fn take(&mut self, logits: &[f32], on_token: &mut OnToken<'_>) -> Result<()> {
        let id = self.text.choose(logits, None)?;
        self.ended = self.text.take(id, on_token);
        match self.ended {
            Some(FinishReason::Stopped) => Err(Error::Stopped),
            _ => Ok(()),
        }
    }
}
