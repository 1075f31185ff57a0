//! A generation as an iterator over its tokens.

use super::batch::Together;
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
    texts: Texts<'a>,
    generation: Generation,
}

/// What is written.
#[derive(Debug)]
enum Texts<'a> {
    /// One text, or a search.
    One(Box<Decoder<'a>>),
    /// Several continuations at the same time.
    Together(Box<Together>),
    /// Nothing more.
    Over,
}

impl<'a> Generate<'a> {
    pub(super) fn one(session: &'a mut Session, decoder: Decoder<'a>) -> Self {
        Self::new(session, Texts::One(Box::new(decoder)))
    }

    pub(super) fn together(session: &'a mut Session, texts: Together) -> Self {
        Self::new(session, Texts::Together(Box::new(texts)))
    }

    fn new(session: &'a mut Session, texts: Texts<'a>) -> Self {
        Self {
            session,
            texts,
            generation: Generation {
                sequences: Vec::new(),
                timings: GenerationTimings::default(),
            },
        }
    }

    /// Ends the generation when it is [cancelled](Cancel::cancel), from another thread too.
    pub fn cancel_flag(&self) -> Cancel {
        match &self.texts {
            Texts::One(decoder) => decoder.cancel_flag(),
            Texts::Together(together) => together.cancel_flag(),
            Texts::Over => Cancel::default(),
        }
    }

    /// Ends the text of the last step with that step: of a search this text, otherwise the
    /// generation.
    pub fn end_text(&mut self) {
        match &mut self.texts {
            Texts::One(decoder) => decoder.end_text(),
            Texts::Together(together) => together.stop(),
            Texts::Over => {}
        }
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
        Ok(self.take_generation())
    }

    /// [`Generate::finish`] with a function that is handed every token; a break ends the text.
    pub(super) fn with(mut self, on_token: &mut OnToken<'_>) -> Result<Generation> {
        while let Some(step) = self.step()? {
            if on_token(&step).is_break() {
                self.end_text();
            }
        }
        Ok(self.take_generation())
    }

    fn take_generation(&mut self) -> Generation {
        Generation {
            sequences: std::mem::take(&mut self.generation.sequences),
            timings: self.generation.timings,
        }
    }

    /// The next token, or the end.
    fn step(&mut self) -> Result<Option<Step>> {
        let step = match &mut self.texts {
            Texts::One(decoder) => step_of(decoder, self.session, &mut self.generation)?,
            Texts::Together(together) => together.step(self.session)?,
            Texts::Over => return Ok(None),
        };
        if let (None, Texts::Together(together)) = (&step, &mut self.texts) {
            let all = together.finish(self.session)?;
            self.generation.sequences = all.requests.into_iter().flatten().collect();
            self.generation.timings = all.timings;
            self.texts = Texts::Over;
        }
        Ok(step)
    }
}

/// The next token of a decoder; texts that end are put with the others.
fn step_of(
    decoder: &mut Decoder<'_>,
    session: &mut Session,
    generation: &mut Generation,
) -> Result<Option<Step>> {
    loop {
        match decoder.next_event()? {
            Some(Event::Token(step)) => return Ok(Some(step)),
            Some(Event::Finished { continuation, .. }) => {
                generation.timings = decoder.timings();
                generation.sequences.push(continuation);
            }
            None if decoder.is_done() => return Ok(None),
            None => decoder.advance(session)?,
        }
    }
}

/// What others than the first text have in the cache would be in the way of whoever comes next.
impl Drop for Generate<'_> {
    fn drop(&mut self) {
        if let Texts::Together(together) = &mut self.texts {
            // The sequences are the session's own.
            let _ = together.leave(self.session);
        }
    }
}

impl Iterator for Generate<'_> {
    type Item = Result<Step>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}
