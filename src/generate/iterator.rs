//! A generation as an iterator over its tokens.

use super::decoder::{Cancel, Decoder, Event};
use super::output::{Generation, GenerationTimings, OnToken, Step};
use crate::Result;
use crate::session::Session;

/// A generation at work in a session: an iterator over its tokens, each computed when it is asked
/// for. [`Generate::finish`] gives the whole.
///
/// An item is an error at most once, and then the last. Dropped, it computes nothing more.
#[derive(Debug)]
#[must_use = "nothing is computed until the tokens are asked for"]
pub struct Generate<'a> {
    session: &'a mut Session,
    decoder: Decoder<'a>,
    generation: Generation,
}

impl<'a> Generate<'a> {
    pub(super) fn new(session: &'a mut Session, decoder: Decoder<'a>) -> Self {
        Self {
            session,
            decoder,
            generation: Generation {
                sequences: Vec::new(),
                timings: GenerationTimings::default(),
            },
        }
    }

    /// Ends the generation when it is [cancelled](Cancel::cancel), from another thread too.
    pub fn cancel_flag(&self) -> Cancel {
        self.decoder.cancel_flag()
    }

    /// Ends the text of the last step with that step: of a search this text, otherwise the
    /// generation.
    pub fn end_text(&mut self) {
        self.decoder.end_text();
    }

    /// Writes what is not written yet, and gives everything. To end with what there is, cancel
    /// first.
    ///
    /// # Errors
    /// As [`generate`](super::generate).
    pub fn finish(mut self) -> Result<Generation> {
        for step in self.by_ref() {
            step?;
        }
        Ok(self.generation)
    }

    /// [`Generate::finish`] with a function that is handed every token; a break ends the text.
    pub(super) fn with(mut self, on_token: &mut OnToken<'_>) -> Result<Generation> {
        while let Some(step) = self.step()? {
            if on_token(&step).is_break() {
                self.end_text();
            }
        }
        Ok(self.generation)
    }

    /// The next token, or the end.
    fn step(&mut self) -> Result<Option<Step>> {
        loop {
            match self.decoder.next_event()? {
                Some(Event::Token(step)) => return Ok(Some(step)),
                Some(Event::Finished { continuation, .. }) => {
                    self.generation.timings = self.decoder.timings();
                    self.generation.sequences.push(continuation);
                }
                None if self.decoder.is_done() => return Ok(None),
                None => self.decoder.advance(self.session)?,
            }
        }
    }
}

impl Iterator for Generate<'_> {
    type Item = Result<Step>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}
