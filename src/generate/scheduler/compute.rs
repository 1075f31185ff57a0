//! What is computed in a step, and in which runs.

use std::time::Instant;

use super::Scheduler;
use super::active::Active;
use super::interface::{RequestId, SchedulerEvent};
use crate::Result;
use crate::session::{Batch, Output, Session};

impl Scheduler {
    /// Computes the newest token of every text: those that are made token by token together.
    pub(super) fn decode(&mut self, session: &mut Session) -> Result<()> {
        let prompts = |active: &Active| active.stretches().next().is_some();
        if self.prompts_first && self.running.iter().any(prompts) {
            return Ok(());
        }
        let start = Instant::now();
        let mut together = Vec::new();
        let mut apart = Vec::new();
        for (request, active) in self.running.iter_mut().enumerate() {
            for (text, batch) in active.take_newest() {
                if is_plain(&batch) {
                    together.push((request, text, batch));
                } else {
                    apart.push((request, text, batch));
                }
            }
        }
        let rows = together.len().max(1);
        let runs = rows.div_ceil(session.model().most_in_company()?);
        for texts in together.chunks(rows.div_ceil(runs)) {
            self.decode_together(session, texts)?;
        }
        for (request, text, batch) in apart {
            self.timings.decode_tokens += batch.tokens.len();
            self.run(session, request, text, &batch)?;
        }
        self.timings.decode += start.elapsed();
        Ok(())
    }

    /// One run for texts that each need one token.
    fn decode_together(
        &mut self,
        session: &mut Session,
        texts: &[(usize, usize, Batch)],
    ) -> Result<()> {
        if let [(request, text, batch)] = texts {
            self.timings.decode_tokens += 1;
            return self.run(session, *request, *text, batch);
        }
        if texts.is_empty() {
            return Ok(());
        }
        let tokens = texts.iter().flat_map(|(_, _, batch)| &batch.tokens);
        // Where it costs next to nothing, no text changes another in any case.
        let cheap = session.model().is_cheaply_batch_invariant(texts.len());
        let batch = Batch {
            tokens: tokens.copied().collect(),
            batch_invariant: self.options.batch_invariant || cheap,
            ..Batch::default()
        };
        self.places.make_room(session, batch.tokens.len())?;
        match session.run(&batch) {
            Ok(output) => {
                self.timings.decode_tokens += texts.len();
                for (row, &(request, text, _)) in texts.iter().enumerate() {
                    self.running[request].accept(text, Ok(output.rows_from(row, 1)));
                }
            }
            // Each finds its own error, and whoever can goes on.
            Err(_) => {
                for (request, text, batch) in texts {
                    self.run(session, *request, *text, batch)?;
                }
            }
        }
        Ok(())
    }

    /// A run for one text.
    fn run(
        &mut self,
        session: &mut Session,
        request: usize,
        text: usize,
        batch: &Batch,
    ) -> Result<()> {
        self.places.make_room(session, batch.tokens.len())?;
        let result = session.run(batch).map(Output::all_rows);
        self.running[request].accept(text, result);
        Ok(())
    }

    /// Computes some tokens of a prompt: of the two oldest, the one whose turn it is.
    pub(super) fn prefill(&mut self, session: &mut Session, events: &mut Vec<SchedulerEvent>) {
        let stretches = self
            .running
            .iter()
            .enumerate()
            .flat_map(|(request, active)| {
                let texts = active.stretches();
                texts.map(move |text| (request, active.id, text))
            });
        let oldest: Vec<_> = stretches.take(2).collect();
        let other =
            |&&(_, id, text): &&(usize, RequestId, usize)| Some((id, text)) != self.last_prompt;
        let Some(&(request, id, text)) = oldest.iter().find(other).or(oldest.first()) else {
            return;
        };
        self.last_prompt = Some((id, text));
        let most = if self.running.iter().any(Active::is_decoding) {
            self.options.chunk
        } else {
            self.options.idle_chunk.max(self.options.chunk)
        };
        let most = most.min(session.batch_size());
        let start = Instant::now();
        let active = &mut self.running[request];
        let count = active.prefill(text, session, &mut self.places, most, events);
        self.timings.prefill_tokens += count;
        self.timings.prefill += start.elapsed();
    }
}

/// Whether a batch can be part of a larger run: one token of which logits are wanted.
fn is_plain(batch: &Batch) -> bool {
    let plain = Batch {
        tokens: Vec::new(),
        ..Batch::default()
    };
    batch.tokens.len() == 1
        && plain
            == Batch {
                tokens: Vec::new(),
                ..*batch
            }
}
