//! Several prompts at once: a decoder for each text, which take their next tokens in one pass.

use std::sync::Arc;
use std::time::Instant;

use super::decoder::{Decoder, Event, Slot};
use super::output::{BatchGeneration, Continuation, FinishReason, GenerationTimings, OnToken};
use super::request::Request;
use super::work::Compute;
use super::writer::Writer;
use crate::session::{Batch, Session};
use crate::{Error, Result};

/// Writes the continuations of all requests token by token, as many at a time as the session has
/// sequences.
pub(super) fn write(
    session: &mut Session,
    requests: &[Arc<Request>],
    on_token: &mut OnToken<'_>,
) -> Result<BatchGeneration> {
    let mut generation = BatchGeneration {
        requests: requests.iter().map(|_| Vec::new()).collect(),
        timings: GenerationTimings::default(),
    };
    // As they are needed: a request may ask for any number of texts.
    let mut numbered = requests.iter().enumerate().flat_map(|(place, request)| {
        (0..request.options.num_return_sequences).map(move |number| (place, number))
    });
    loop {
        let wanted: Vec<(usize, usize)> = numbered.by_ref().take(session.sequences()).collect();
        if wanted.is_empty() {
            break;
        }
        let texts: Vec<Wanted<'_>> = wanted
            .iter()
            .map(|&(place, number)| Wanted {
                request: &requests[place],
                number,
            })
            .collect();
        let mut together = Together::default();
        let result = together.write(session, &texts, &mut generation.timings, on_token);
        let stopped = match result {
            Ok(()) => false,
            Err(Error::Stopped) => true,
            Err(error) => return Err(error),
        };
        let mut written = together.finish(on_token)?.into_iter();
        for (&(place, number), text) in wanted.iter().zip(&texts) {
            let continuation = if let Some(continuation) = written.next() {
                continuation
            } else {
                // The end came before its turn.
                let writer = Writer::new(text.request, number)?;
                writer.finish(text.request, FinishReason::Stopped).1
            };
            generation.requests[place].push(continuation);
        }
        if stopped {
            break;
        }
    }
    Ok(generation)
}

/// A text to write.
struct Wanted<'r> {
    request: &'r Arc<Request>,
    /// Which of the request's continuations.
    number: usize,
}

/// Texts that are written together.
#[derive(Default)]
struct Together {
    /// The decoder of each text, which has the sequence of the same number.
    decoders: Vec<Decoder<'static>>,
    /// What they have finished.
    finished: Vec<Option<Continuation>>,
}

impl Together {
    /// Writes texts until all have ended.
    ///
    /// # Errors
    /// [`Error::Stopped`] when the caller asked for an end.
    fn write(
        &mut self,
        session: &mut Session,
        texts: &[Wanted<'_>],
        timings: &mut GenerationTimings,
        on_token: &mut OnToken<'_>,
    ) -> Result<()> {
        // Whatever is cached would take the cells of what is to come.
        for sequence in 0..session.sequences() {
            session.truncate(sequence, 0)?;
        }
        for (sequence, text) in texts.iter().enumerate() {
            let start = Instant::now();
            let before = sequence.checked_sub(1);
            let same = before.filter(|&before| Arc::ptr_eq(texts[before].request, text.request));
            match same {
                // The same prompt again: its last token alone is computed once more.
                Some(before) => session.fork(before, sequence)?,
                None => timings.prefill_tokens += text.request.prompt.len(),
            }
            self.begin(session, sequence, text)?;
            timings.prefill += start.elapsed();
            self.emit(sequence, on_token)?;
        }
        let start = Instant::now();
        let result = self.decode(session, timings, on_token);
        timings.decode += start.elapsed();
        result
    }

    /// Computes the prompt of a text.
    fn begin(&mut self, session: &mut Session, sequence: usize, text: &Wanted<'_>) -> Result<()> {
        let slot = Slot {
            first: sequence,
            capacity: Some(session.context_size() / session.sequences()),
        };
        let numbers = text.number..text.number + 1;
        let request = Arc::clone(text.request);
        let mut decoder = Decoder::token_by_token(session, slot, request, numbers, None)?;
        let result = decoder.advance(session);
        self.decoders.push(decoder);
        self.finished.push(None);
        result
    }

    /// Computes the newest token of every text that goes on, until none does.
    fn decode(
        &mut self,
        session: &mut Session,
        timings: &mut GenerationTimings,
        on_token: &mut OnToken<'_>,
    ) -> Result<()> {
        loop {
            let mut batch = Batch::default();
            let mut rows = Vec::new();
            for index in 0..self.decoders.len() {
                let decoder = &mut self.decoders[index];
                let Some(work) = decoder.work()? else {
                    // A full context may just have ended it.
                    self.emit(index, on_token)?;
                    continue;
                };
                work.edit(session)?;
                match work.compute {
                    Some(Compute::Run(own)) => {
                        rows.push(index);
                        batch.tokens.extend(own.tokens);
                    }
                    Some(other) => decoder.compute(session, &other)?,
                    None => {}
                }
            }
            if rows.is_empty() {
                return Ok(());
            }
            let output = session.run(&batch)?;
            timings.decode_tokens += rows.len();
            for (row, &index) in rows.iter().enumerate() {
                self.decoders[index].accept(Ok(output.rows_from(row, 1)))?;
                self.emit(index, on_token)?;
            }
        }
    }

    /// Emits what a decoder has.
    ///
    /// # Errors
    /// [`Error::Stopped`] when the caller asked for an end.
    fn emit(&mut self, index: usize, on_token: &mut OnToken<'_>) -> Result<()> {
        let decoder = &mut self.decoders[index];
        while let Some(event) = decoder.next_event()? {
            match event {
                Event::Token(step) => {
                    if on_token(&step).is_break() {
                        decoder.end_text();
                    }
                }
                Event::Finished { continuation, .. } => {
                    let stopped = continuation.was_stopped();
                    self.finished[index] = Some(continuation);
                    if stopped {
                        return Err(Error::Stopped);
                    }
                }
            }
        }
        Ok(())
    }

    /// The continuations, those that go on ended by the caller's wish.
    fn finish(mut self, on_token: &mut OnToken<'_>) -> Result<Vec<Continuation>> {
        for index in 0..self.decoders.len() {
            if self.finished[index].is_none() {
                self.decoders[index].end_text();
                match self.emit(index, on_token) {
                    Ok(()) | Err(Error::Stopped) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(self.finished.into_iter().flatten().collect())
    }
}
