//! The events of the scheduler become the pieces of a prompt's texts.

use std::sync::Arc;

use gpt2::generate::{Continuation, FinishReason};
use gpt2::sampling::TokenScore;

use super::generation::Job;
use super::response::Tokens;
use super::served::Served;
use super::text::{Piece, TextWriter, prompt_text, prompt_tokens};
use gpt2::generate::SchedulerEvent;

/// What has become of a request of the scheduler.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// All of its texts are there.
    Done(Tokens),
    /// It failed.
    Failed(gpt2::Error),
}

/// Takes the events of one [`Job`].
#[derive(Debug)]
pub(crate) struct Collector {
    served: Arc<Served>,
    job: Job,
    prompt_scores: Vec<Option<TokenScore>>,
    /// A writer of each text; none before its prompt was sent.
    writers: Vec<Option<TextWriter>>,
    finished: Vec<bool>,
}

impl Collector {
    pub(crate) fn new(served: &Arc<Served>, job: Job) -> Self {
        let texts = job.texts.len();
        Self {
            served: Arc::clone(served),
            job,
            prompt_scores: Vec::new(),
            writers: (0..texts).map(|_| None).collect(),
            finished: vec![false; texts],
        }
    }

    /// Takes an event; calls `send` with pieces of texts, each with the number of its text among
    /// the job's.
    pub(crate) fn take(
        &mut self,
        event: SchedulerEvent,
        send: &mut impl FnMut(usize, Piece),
    ) -> Option<Outcome> {
        match event {
            SchedulerEvent::PromptScores { mut scores, .. } => {
                self.prompt_scores.append(&mut scores);
                None
            }
            SchedulerEvent::Token { step, .. } => {
                let served = Arc::clone(&self.served);
                let tokenizer = served.model.tokenizer().ok();
                let writer = self.writer(step.sequence, send)?;
                let piece = writer.token(tokenizer, step.id, &step.text, step.score);
                if let Some(piece) = piece {
                    send(step.sequence, piece);
                }
                None
            }
            SchedulerEvent::Finished {
                sequence,
                continuation,
                ..
            } => {
                self.finish(sequence, &continuation, send);
                None
            }
            SchedulerEvent::Done { usage, .. } => {
                self.end(send);
                Some(Outcome::Done(Tokens {
                    prompt: if self.job.texts.start == 0 {
                        self.job.prompt.ids.len()
                    } else {
                        0
                    },
                    cached: usage.cached_tokens,
                    completion: usage.completion_tokens * self.job.copies(),
                    timings: usage.timings,
                }))
            }
            SchedulerEvent::Failed { error, .. } => Some(Outcome::Failed(error)),
        }
    }

    /// Ends a job that the scheduler has nothing to do for.
    pub(crate) fn end_at_once(&mut self, send: &mut impl FnMut(usize, Piece)) -> Tokens {
        self.end(send);
        Tokens {
            prompt: self.job.prompt.ids.len(),
            ..Tokens::default()
        }
    }

    fn finish(
        &mut self,
        sequence: usize,
        continuation: &Continuation,
        send: &mut impl FnMut(usize, Piece),
    ) {
        let Some(writer) = self.writer(sequence, send) else {
            return;
        };
        let piece = writer.finish(continuation);
        send(sequence, piece);
        self.finished[sequence] = true;
    }

    /// Ends texts that have no end yet: because nothing was to be generated, or on request.
    fn end(&mut self, send: &mut impl FnMut(usize, Piece)) {
        let finish = if self.job.generates_nothing() {
            FinishReason::Length
        } else {
            FinishReason::Stopped
        };
        for sequence in 0..self.finished.len() {
            if self.finished[sequence] || self.writer(sequence, send).is_none() {
                continue;
            }
            let piece = Piece {
                finish: Some(finish),
                ..Piece::default()
            };
            send(sequence, piece);
            self.finished[sequence] = true;
        }
    }

    /// The writer of a text; before its first token the prompt is sent, if it is wanted.
    fn writer(
        &mut self,
        sequence: usize,
        send: &mut impl FnMut(usize, Piece),
    ) -> Option<&mut TextWriter> {
        let writer = self.writers.get_mut(sequence)?;
        if writer.is_none() {
            let mut characters = 0;
            if self.job.echo {
                let prompt = &self.job.prompt;
                let model = &self.served.model;
                let text = prompt.text.clone();
                let text = text.unwrap_or_else(|| prompt_text(model, &prompt.ids));
                characters = text.chars().count();
                // Each text has them; only the last may take them.
                let scores = self.prompt_scores.clone();
                let piece = Piece {
                    text,
                    tokens: prompt_tokens(model, &prompt.ids, scores),
                    finish: None,
                };
                send(sequence, piece);
            }
            *writer = Some(TextWriter::after(characters));
        }
        writer.as_mut()
    }
}
