//! A request at work: its continuations, each a decoder in sequences of its own.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::interface::{RequestId, SchedulerEvent, Usage};
use super::places::Places;
use crate::generate::decoder::{Cancel, Decoder, Event, Slot};
use crate::generate::needs::Reservation;
use crate::generate::output::FinishReason;
use crate::generate::request::Request;
use crate::generate::stretch::Stretch;
use crate::generate::work::{Compute, Work};
use crate::sampling::ScoreDetails;
use crate::session::{Batch, Output, OutputRows, SequenceId, Session};
use crate::{Error, Result, TokenId};

/// A request that waits.
pub(super) struct Waiting {
    pub(super) id: RequestId,
    pub(super) request: Request,
    pub(super) cancel: Cancel,
    pub(super) scores: Option<ScoreDetails>,
    pub(super) reservation: Reservation,
    /// Most positions of a text.
    pub(super) capacity: usize,
}

/// What a text needs computed next.
pub(super) enum Next {
    /// Not known yet.
    Unknown,
    /// The prompt, which another text of the request computes.
    Prompt,
    /// Tokens of a prompt, or of what is recomputed of a text, in turn with others.
    Stretch(Stretch),
    /// The newest token, or what a search wants to know.
    Newest(Batch),
}

/// A continuation, or several that are made one after the other, or a search.
pub(super) struct Text {
    pub(super) first: SequenceId,
    pub(super) decoder: Decoder<'static>,
    pub(super) next: Next,
}

/// A request at work.
pub(super) struct Active {
    pub(super) id: RequestId,
    pub(super) request: Arc<Request>,
    pub(super) prompt: Arc<[TokenId]>,
    cancel: Cancel,
    reservation: Reservation,
    capacity: usize,
    pub(super) texts: Vec<Text>,
    /// Continuations that no text was begun for.
    pub(super) left: Range<usize>,
    /// The logits after the prompt, once it was computed, where continuations share it.
    pub(super) after_prompt: Option<Output>,
    pub(super) scores: Option<ScoreDetails>,
    /// Why it failed.
    error: Option<Error>,
    pub(super) usage: Usage,
    pub(super) prompt_end: Option<Instant>,
}

impl Active {
    /// Begins a request in the sequences from `first` on.
    pub(super) fn new(
        session: &mut Session,
        places: &mut Places,
        waiting: Waiting,
        first: SequenceId,
    ) -> Self {
        let mut request = waiting.request;
        request.start = Instant::now();
        let continuations = request.options.num_return_sequences;
        let shares = request.options.shares_prompt();
        let mut active = Self {
            id: waiting.id,
            prompt: request.prompt.as_slice().into(),
            cancel: waiting.cancel,
            reservation: waiting.reservation,
            capacity: waiting.capacity,
            texts: Vec::new(),
            left: if shares { 0..continuations } else { 0..1 },
            after_prompt: None,
            scores: waiting.scores,
            error: None,
            usage: Usage {
                prompt_tokens: request.prompt.len(),
                ..Usage::default()
            },
            prompt_end: None,
            request: Arc::new(request),
        };
        active.grow(session, places, first);
        active
    }

    /// Begins the next continuation in the sequences from `first` on.
    pub(super) fn grow(&mut self, session: &mut Session, places: &mut Places, first: SequenceId) {
        let texts = self.texts.len();
        let begun = self.begin(session, first);
        if begun.is_err() && self.texts.len() == texts {
            let count = self.reservation.sequences;
            self.note(places.discard(session, first, count));
        }
        self.note(begun);
    }

    fn begin(&mut self, session: &mut Session, first: SequenceId) -> Result<()> {
        let number = self.left.next().unwrap_or(0);
        let slot = Slot {
            first,
            capacity: Some(self.capacity),
        };
        let request = Arc::clone(&self.request);
        let decoder = if self.request.options.shares_prompt() {
            Decoder::of_continuation(session, slot, request, number)?
        } else {
            Decoder::of_request(session, slot, request, None)?
        };
        // The first computes the prompt.
        let next = if self.texts.is_empty() && self.after_prompt.is_none() {
            Next::Unknown
        } else {
            Next::Prompt
        };
        self.texts.push(Text {
            first,
            decoder: decoder.cancelled_by(&self.cancel),
            next,
        });
        self.share_prompt(session)
    }

    /// Keeps an error, of which the request fails.
    pub(super) fn note(&mut self, result: Result<()>) {
        if let Err(error) = result {
            self.error.get_or_insert(error);
        }
    }

    /// The flag that cancels it.
    pub(super) fn cancel_flag(&self) -> &Cancel {
        &self.cancel
    }

    /// Whether another continuation could be begun.
    pub(super) fn wants_more(&self) -> bool {
        !self.left.is_empty() && self.error.is_none() && !self.cancel.is_cancelled()
    }

    /// What each text may take of the session.
    pub(super) fn reservation(&self) -> Reservation {
        self.reservation
    }

    /// Positions that it may take.
    pub(super) fn reserved(&self) -> usize {
        self.reservation.positions(self.texts.len())
    }

    /// Takes what the decoders have to give, and finds what each needs next.
    pub(super) fn proceed(
        &mut self,
        session: &mut Session,
        places: &mut Places,
        events: &mut Vec<SchedulerEvent>,
    ) {
        for text in 0..self.texts.len() {
            if self.error.is_none() {
                let proceeded = self.proceed_with(text, session, places, events);
                self.note(proceeded);
            }
        }
    }

    fn proceed_with(
        &mut self,
        index: usize,
        session: &mut Session,
        places: &mut Places,
        events: &mut Vec<SchedulerEvent>,
    ) -> Result<()> {
        loop {
            let drained = self.drain(index, events)?;
            let text = &mut self.texts[index];
            if text.decoder.is_done() || !matches!(text.next, Next::Unknown) {
                return Ok(());
            }
            let Some(Work { edits, compute }) = text.decoder.work()? else {
                if drained == 0 && self.drain(index, events)? == 0 {
                    return Err(Error::Internal("a decoder without work".to_owned()));
                }
                continue;
            };
            places.cut(&edits);
            let work = Work {
                edits,
                compute: None,
            };
            work.edit(session)?;
            match compute {
                None => {}
                Some(Compute::Run(batch)) => text.need(batch),
                Some(compute) => text.decoder.compute(session, &compute)?,
            }
        }
    }

    /// Takes a text's events and gives their number.
    fn drain(&mut self, index: usize, events: &mut Vec<SchedulerEvent>) -> Result<usize> {
        let request = self.id;
        let mut count = 0;
        let text = &mut self.texts[index];
        while let Some(event) = text.decoder.next_event()? {
            count += 1;
            events.push(match event {
                Event::Token(step) => SchedulerEvent::Token { request, step },
                Event::Finished {
                    sequence,
                    continuation,
                } => {
                    // What was wanted next was for this text.
                    text.next = Next::Unknown;
                    self.usage.completion_tokens += continuation.ids.len();
                    if continuation.finish_reason == FinishReason::Stopped {
                        self.left.start = self.left.end;
                    }
                    SchedulerEvent::Finished {
                        request,
                        sequence,
                        continuation,
                    }
                }
            });
        }
        Ok(count)
    }

    /// Whether a text needs its newest token computed.
    pub(super) fn is_decoding(&self) -> bool {
        let mut texts = self.texts.iter();
        texts.any(|text| matches!(text.next, Next::Newest(_)))
    }

    /// Takes the batches that the texts need computed next, each with the number of its text.
    pub(super) fn take_newest(&mut self) -> Vec<(usize, Batch)> {
        let mut taken = Vec::new();
        for (index, text) in self.texts.iter_mut().enumerate() {
            match std::mem::replace(&mut text.next, Next::Unknown) {
                Next::Newest(batch) => taken.push((index, batch)),
                other => text.next = other,
            }
        }
        taken
    }

    /// Takes what came of a text's batch.
    pub(super) fn accept(&mut self, index: usize, result: Result<OutputRows<'_>>) {
        let accepted = self.texts[index].decoder.accept(result);
        self.note(accepted);
    }

    /// Puts the next continuation into the place of each text that has ended; gives whether there
    /// was one.
    pub(super) fn replace(&mut self, session: &mut Session, places: &mut Places) -> bool {
        let mut replaced = false;
        while self.wants_more() {
            let ended = self.texts.iter().position(|text| text.decoder.is_done());
            let Some(ended) = ended else { break };
            let first = self.end_text(ended);
            self.grow(session, places, first);
            replaced = true;
        }
        replaced
    }

    /// Lets the sequences of texts that have ended go, and of all when the request failed.
    pub(super) fn release(&mut self, session: &mut Session, places: &mut Places) -> Result<()> {
        let count = self.reservation.sequences;
        let failed = self.error.is_some();
        let is_over = |text: &Text| failed || text.decoder.is_done();
        while let Some(index) = self.texts.iter().position(is_over) {
            let first = self.end_text(index);
            if failed {
                places.discard(session, first, count)?;
            } else {
                places.release(session, first, count)?;
            }
        }
        Ok(())
    }

    /// Removes a text and gives its first sequence.
    fn end_text(&mut self, index: usize) -> SequenceId {
        let text = self.texts.remove(index);
        self.usage.timings.decode_tokens += text.decoder.timings().decode_tokens;
        text.first
    }

    /// Whether nothing more comes of it.
    pub(super) fn is_over(&self) -> bool {
        self.texts.is_empty()
    }

    /// The last event of a request that is over.
    pub(super) fn last_event(self) -> SchedulerEvent {
        let request = self.id;
        if let Some(error) = self.error {
            return SchedulerEvent::Failed { request, error };
        }
        let mut usage = self.usage;
        let start = self.request.start;
        match self.prompt_end {
            Some(end) => {
                usage.timings.prefill = end.duration_since(start);
                usage.timings.decode = end.elapsed();
            }
            None => usage.timings.prefill = start.elapsed(),
        }
        SchedulerEvent::Done { request, usage }
    }
}

impl Text {
    /// Notes what must be computed: one token, what a search wants to know, or a stretch of text.
    fn need(&mut self, batch: Batch) {
        let computed = self.decoder.is_prompt_computed();
        if computed && batch.tokens.len() == 1 {
            self.next = Next::Newest(batch);
            return;
        }
        let stretch = Stretch::new(batch);
        self.next = if computed && stretch.is_whole() {
            Next::Newest(stretch.into_batch())
        } else {
            Next::Stretch(stretch)
        };
    }
}
