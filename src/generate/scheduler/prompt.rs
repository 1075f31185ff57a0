//! The prompt of a request at work: piece by piece, once for all continuations.

use std::time::Instant;

use super::active::{Active, Next};
use super::interface::SchedulerEvent;
use super::places::Places;
use super::prompt_scores;
use crate::session::{Output, SequenceSet, Session};
use crate::{Error, Result};

impl Active {
    /// Brings what others hold of the prompt into its first sequence, before they are let go.
    pub(super) fn reuse(&mut self, session: &mut Session, places: &mut Places) -> Result<()> {
        if self.scores.is_none() && self.request.options.shares_prompt() {
            for text in &self.texts {
                places.reuse(session, text.first, &self.prompt, 1)?;
            }
        }
        Ok(())
    }

    /// The texts that have tokens of a prompt to compute.
    pub(super) fn stretches(&self) -> impl Iterator<Item = usize> {
        let texts = self.texts.iter().enumerate();
        let texts = texts.filter(|(_, text)| matches!(text.next, Next::Stretch(_)));
        texts.map(|(index, _)| index)
    }

    /// Computes at most `most` tokens of a text's prompt; gives how many.
    pub(super) fn prefill(
        &mut self,
        index: usize,
        session: &mut Session,
        places: &mut Places,
        most: usize,
        events: &mut Vec<SchedulerEvent>,
    ) -> usize {
        match self.prefill_piece(index, session, places, most, events) {
            Ok(count) => count,
            Err(error) => {
                self.note(Err(error));
                0
            }
        }
    }

    fn prefill_piece(
        &mut self,
        index: usize,
        session: &mut Session,
        places: &mut Places,
        most: usize,
        events: &mut Vec<SchedulerEvent>,
    ) -> Result<usize> {
        let several = self.texts.len() > 1 || !self.left.is_empty();
        let text = &mut self.texts[index];
        let Next::Stretch(stretch) = &mut text.next else {
            return Ok(0);
        };
        let is_prompt = self.prompt_end.is_none()
            && stretch.is_of(&self.prompt)
            && stretch.start().map(|(sequences, _)| sequences)
                == Some(SequenceSet::of(text.first)?);
        if is_prompt && !stretch.is_whole() && self.scores.is_none() {
            let position = stretch.position();
            let reused = places.reuse(session, text.first, &self.prompt, position + 1)?;
            if let Some(reused) = reused {
                stretch.skip_to(reused);
                self.usage.cached_tokens += reused.saturating_sub(position);
            }
        }
        if is_prompt && self.scores.is_some() {
            stretch.output_all();
        }
        let position = stretch.position();
        let piece = stretch.piece(match self.scores {
            Some(_) => most.min(prompt_scores::MOST),
            None => most,
        });
        let count = piece.tokens.len();
        places.make_room(session, count)?;
        stretch.skip_to(position + count);
        let is_whole = stretch.is_whole();
        let is_done = stretch.is_done();
        let output = match session.run(&piece) {
            Ok(output) => output,
            Err(error) => {
                let stopped = matches!(error, Error::Stopped);
                text.next = Next::Unknown;
                text.decoder.accept(Err(error))?;
                return if stopped {
                    self.stop().map(|()| 0)
                } else {
                    Ok(0)
                };
            }
        };
        if self.prompt_end.is_none() {
            self.usage.timings.prefill_tokens += count;
        }
        if is_prompt {
            if let Some(details) = self.scores {
                let (first, scores) =
                    prompt_scores::of_piece(&self.prompt, position, output, details)?;
                events.push(SchedulerEvent::PromptScores {
                    request: self.id,
                    first,
                    scores,
                });
            }
            if !is_whole {
                places.computed(text.first, &self.prompt, position + count);
            }
        }
        if !is_done {
            return Ok(count);
        }
        text.next = Next::Unknown;
        if is_whole {
            text.decoder.accept(Ok(output.all_rows()))?;
        } else {
            let last = output.rows().saturating_sub(1);
            if is_prompt && several && self.request.options.shares_prompt() {
                let logits = output.row(last).to_vec();
                self.after_prompt = Some(Output::of_logits(logits, output.vocabulary));
            }
            text.decoder.accept(Ok(output.rows_from(last, 1)))?;
        }
        if text.decoder.is_prompt_computed() {
            self.prompt_end.get_or_insert_with(Instant::now);
        }
        self.share_prompt(session)?;
        Ok(count)
    }

    /// Ends the texts that wait for the prompt.
    fn stop(&mut self) -> Result<()> {
        for text in &mut self.texts {
            if matches!(text.next, Next::Prompt) {
                text.next = Next::Unknown;
                text.decoder.accept(Err(Error::Stopped))?;
            }
        }
        Ok(())
    }

    /// Brings the prompt, where it was computed, into the sequences of the texts that wait for it,
    /// and lets them choose their first token.
    pub(super) fn share_prompt(&mut self, session: &mut Session) -> Result<()> {
        let Some(logits) = &self.after_prompt else {
            return Ok(());
        };
        let mut texts = self.texts.iter();
        let holder = texts.find(|text| !matches!(text.next, Next::Prompt));
        let holder = holder.map(|text| text.first);
        for text in &mut self.texts {
            if matches!(text.next, Next::Prompt) {
                session.fork(holder.unwrap_or(text.first), text.first)?;
                session.truncate(text.first, self.prompt.len())?;
                text.next = Next::Unknown;
                text.decoder.accept(Ok(logits.all_rows()))?;
            }
        }
        Ok(())
    }
}
