//! The conversation at work: a turn goes in, a reply comes out as it is written.

use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gpt2::TokenId;
use gpt2::chat::{ChatFormat, Conversation, Room};
use gpt2::generate::{FinishReason, GenerationOptions, GenerationTimings, Step, generate_with};
use gpt2::session::Session;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::report;
use crate::stream::{note, write_result};

/// Whether the conversation goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Continue,
    End,
}

/// A conversation with a model.
pub(super) struct Talk {
    session: Session,
    format: ChatFormat,
    /// The turns.
    pub(super) conversation: Conversation,
    /// How replies are written.
    pub(super) options: GenerationOptions,
    json: bool,
    terminal: bool,
    last: Option<Answered>,
}

/// The work of a reply.
pub(super) struct Answered {
    pub(super) prompt_ids: Vec<TokenId>,
    pub(super) ids: Vec<TokenId>,
    pub(super) finish_reason: FinishReason,
    pub(super) timings: GenerationTimings,
}

impl Talk {
    pub(super) fn new(
        session: Session,
        format: ChatFormat,
        conversation: Conversation,
        mut options: GenerationOptions,
    ) -> Result<Self, Failure> {
        let model = session.model();
        let mut ends = model.hyperparameters().eos.clone();
        for id in format.end_tokens(model.tokenizer()?) {
            if !ends.contains(&id) {
                ends.push(id);
            }
        }
        options.eos = Some(ends);
        options.stop = format.stop_strings();
        Ok(Self {
            session,
            format,
            conversation,
            options,
            json: false,
            terminal: false,
            last: None,
        })
    }

    /// With documents instead of text, or in a terminal.
    pub(super) fn showing(mut self, json: bool, terminal: bool) -> Self {
        self.json = json;
        self.terminal = terminal;
        self
    }

    pub(super) fn is_in_terminal(&self) -> bool {
        self.terminal
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    pub(super) fn last(&self) -> Option<&Answered> {
        self.last.as_ref()
    }

    /// Positions that a prompt and its reply have together.
    pub(super) fn capacity(&self) -> usize {
        let positions = self.session.model().hyperparameters().n_positions;
        self.session.context_size().min(positions)
    }

    /// Says `text` to the model and shows its reply. What fails leaves the conversation as it was.
    pub(super) fn turn(&mut self, text: &str) -> Result<Flow, Failure> {
        self.conversation.ask(text)?;
        let replied = self.reply();
        if replied.is_err() {
            self.conversation.undo();
        }
        replied
    }

    fn reply(&mut self) -> Result<Flow, Failure> {
        let stop = self.session.stop_flag();
        if self.terminal {
            // From a Ctrl-C that had nothing to stop.
            stop.store(false, Ordering::Relaxed);
        }
        let room = Room {
            context: self.capacity(),
            model_limit: self.session.model().hyperparameters().n_positions,
            reply: self.options.max_new_tokens,
        };
        let model = self.session.model().clone();
        // With the last token of the reply, which needed no computation.
        let cached = self.last.as_ref().map_or_else(Vec::new, |last| {
            [last.prompt_ids.as_slice(), &last.ids].concat()
        });
        let prompt =
            self.format
                .prompt(model.tokenizer()?, &mut self.conversation, &cached, room)?;
        if prompt.newly_hidden > 0 {
            note!(
                "the context is full: the model is no longer shown the {} oldest turns",
                self.conversation.hidden()
            );
        }
        let mut stream = Stream::new(&self.format, !self.json, self.terminal);
        let mut on_token = |step: &Step| stream.push(&step.text);
        let generation =
            generate_with(&mut self.session, &prompt.ids, &self.options, &mut on_token);
        if let Some(error) = stream.error.take() {
            return Err(error.into());
        }
        let generation = generation?;
        // The same turns again shall not be answered with the same draws.
        self.options.seed = self.options.seed.wrapping_add(1);
        let written = generation.sequences.into_iter().next();
        let (text, ids, finish_reason) = match written {
            Some(reply) => (reply.text, reply.ids, reply.finish_reason),
            None => (String::new(), Vec::new(), FinishReason::Stopped),
        };
        stream.finish(&text)?;
        let reply = self.format.reply(&text);
        let answered = Answered {
            prompt_ids: prompt.ids,
            ids,
            finish_reason,
            timings: generation.timings,
        };
        if self.json {
            report::print_json(&document(&answered, reply, self.conversation.hidden()))?;
        }
        self.last = Some(answered);
        if finish_reason == FinishReason::Stopped && reply.is_empty() {
            self.conversation.undo();
            note!("stopped before a word was said: your turn is taken back");
        } else {
            self.conversation.answer(reply)?;
            if let Some(note) = self.note(finish_reason) {
                note!("{note}");
            }
        }
        let ended = !self.terminal && stop.load(Ordering::Relaxed);
        Ok(if ended { Flow::End } else { Flow::Continue })
    }

    /// What to say of a reply that the model did not end.
    fn note(&self, reason: FinishReason) -> Option<String> {
        match reason {
            FinishReason::Eos | FinishReason::Stop => None,
            FinishReason::Length => Some(format!(
                "the reply was cut after {} tokens (max_new_tokens)",
                self.options.max_new_tokens
            )),
            FinishReason::ContextFull => Some("the reply was cut: the context is full".to_owned()),
            FinishReason::Time => Some("the reply was cut: its time is over (max_time)".to_owned()),
            FinishReason::Stopped => Some("the reply was stopped".to_owned()),
        }
    }
}

/// One reply with `--json`.
fn document(answered: &Answered, reply: &str, hidden: usize) -> Value {
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let timings = &answered.timings;
    json!({
        "prompt_ids": answered.prompt_ids,
        "prefill_tokens": timings.prefill_tokens,
        "ids": answered.ids,
        "text": reply,
        "finish_reason": answered.finish_reason.name(),
        "hidden_turns": hidden,
        "timings": {
            "prefill_ms": milliseconds(timings.prefill),
            "decode_ms": milliseconds(timings.decode),
        },
    })
}

/// A reply on its way to stdout.
struct Stream<'a> {
    format: &'a ChatFormat,
    shown: bool,
    terminal: bool,
    /// What the model wrote so far.
    text: String,
    /// Bytes of the reply in it that were shown.
    written: usize,
    /// Why showing ended.
    error: Option<io::Error>,
}

impl<'a> Stream<'a> {
    fn new(format: &'a ChatFormat, shown: bool, terminal: bool) -> Self {
        Self {
            format,
            shown,
            terminal,
            text: String::new(),
            written: 0,
            error: None,
        }
    }

    fn push(&mut self, text: &str) -> ControlFlow<()> {
        self.text.push_str(text);
        match self.show() {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.error = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    /// Shows the rest of `text`, the whole, and ends the line.
    fn finish(mut self, text: &str) -> io::Result<()> {
        text.clone_into(&mut self.text);
        self.show()?;
        if self.shown {
            write_result("\n")?;
        }
        Ok(())
    }

    /// Shows what is certain: space at the end is not where the form leaves it out.
    fn show(&mut self) -> io::Result<()> {
        let reply = self.format.reply(&self.text);
        let new = reply.get(self.written..).unwrap_or_default();
        if !self.shown || new.is_empty() {
            return Ok(());
        }
        self.written = reply.len();
        if self.terminal {
            write_result(&harmless(new))
        } else {
            write_result(new)
        }
    }
}

/// A text that cannot take the terminal over: a model may write any byte.
pub(super) fn harmless(text: &str) -> String {
    let shown = |character: char| match character {
        '\n' | '\t' => character,
        other if other.is_control() => char::REPLACEMENT_CHARACTER,
        other => other,
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_escape_reaches_the_terminal() {
        assert_eq!(
            harmless("a\n\tb\u{1b}[2J\r\u{9b}"),
            "a\n\tb\u{FFFD}[2J\u{FFFD}\u{FFFD}"
        );
    }
}
