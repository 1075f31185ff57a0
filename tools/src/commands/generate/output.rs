//! What a generation shows: the text as it comes, the document, the summary.

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use gpt2::GenerationOptions;
use gpt2::Tokenizer;
use gpt2::generate::{BatchGeneration, Continuation, FinishReason, PrintableText, Step};
use gpt2::session::Session;
use serde_json::{Value, json};

use super::source::Prompt;
use crate::failure::Failure;
use crate::stream::{note, write_result};
use crate::{interrupt, memory, report};

/// The text on its way to stdout, whole words at a time.
pub(super) struct Stream {
    /// Whether it goes there at all.
    shown: bool,
    /// Whether the generation goes on when it cannot: there are other results.
    others: bool,
    text: PrintableText,
    /// Bytes of the first continuation that were written; the others are written when all are done.
    written: usize,
    /// Why writing ended.
    pub(super) error: Option<io::Error>,
}

impl Stream {
    pub(super) fn new(shown: bool, others: bool) -> Self {
        Self {
            shown,
            others,
            text: PrintableText::default(),
            written: 0,
            error: None,
        }
    }

    pub(super) fn step(&mut self, step: &Step) -> ControlFlow<()> {
        if !self.shown || self.error.is_some() || step.sequence > 0 || step.request > 0 {
            return ControlFlow::Continue(());
        }
        let text = self.text.push(&step.text);
        self.written += text.len();
        match write_result(&text) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.error = Some(error);
                if self.others {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            }
        }
    }

    /// Writes what the steps did not.
    pub(super) fn finish(self, all: &[&Continuation]) -> Result<(), Failure> {
        if let Some(error) = self.error {
            return Err(error.into());
        }
        for (index, sequence) in all.iter().enumerate() {
            if index > 0 {
                write_result("---\n")?;
            }
            let written = if index == 0 { self.written } else { 0 };
            write_result(sequence.text.get(written..).unwrap_or_default())?;
            write_result("\n")?;
        }
        Ok(())
    }
}

/// The JSON document: the prompt and its continuations, or a row of them for each of several
/// prompts.
pub(super) fn document(
    prompts: &[Prompt],
    generation: &BatchGeneration,
    load: Duration,
    session: &Session,
) -> Value {
    let timings = &generation.timings;
    let tokenizer = session.model().tokenizer().ok();
    let row = |prompt: &Prompt, sequences: &[Continuation]| {
        let sequences = sequences.iter().map(|found| sequence(found, tokenizer));
        let mut sequences: Vec<Value> = sequences.collect();
        if sequences.is_empty() && interrupt::happened() {
            let finish_reason = FinishReason::Stopped.name();
            sequences.push(json!({
                "ids": [], "text": "", "finish_reason": finish_reason, "score": null,
            }));
        }
        json!({ "prompt_ids": prompt.ids, "sequences": sequences })
    };
    let none = Vec::new();
    let sequences = |index: usize| generation.requests.get(index).unwrap_or(&none);
    let mut document = if let [prompt] = prompts {
        row(prompt, sequences(0))
    } else {
        let rows = prompts.iter().enumerate();
        let rows = rows.map(|(index, prompt)| row(prompt, sequences(index)));
        json!({ "rows": rows.collect::<Vec<Value>>() })
    };
    document["timings"] = json!({
        "load_ms": milliseconds(load),
        "prefill_ms": milliseconds(timings.prefill),
        "decode_ms": milliseconds(timings.decode),
        "prefill_tokens_per_s": per_second(timings.prefill_tokens, timings.prefill),
        "decode_tokens_per_s": per_second(timings.decode_tokens, timings.decode),
    });
    document["memory"] = memory::of_session(session);
    document
}

fn sequence(sequence: &Continuation, tokenizer: Option<&Tokenizer>) -> Value {
    let mut document = json!({
        "ids": sequence.ids,
        "text": sequence.text,
        "finish_reason": sequence.finish_reason.name(),
        "score": sequence.score,
    });
    // Only on request.
    if !sequence.logprobs.is_empty() {
        let scores = sequence.logprobs.iter();
        let logprobs: Vec<f64> = scores.clone().map(|score| score.log_probability).collect();
        document["logprobs"] = json!(logprobs);
        if scores.clone().any(|score| !score.top.is_empty()) {
            let lists = scores.map(|score| report::alternatives(&score.top, tokenizer));
            document["top"] = lists.collect::<Vec<_>>().into();
        }
    }
    document
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Nothing was computed at no speed.
fn per_second(count: usize, duration: Duration) -> Option<f64> {
    (count > 0 && !duration.is_zero()).then(|| count as f64 / duration.as_secs_f64())
}

/// A line on stderr: what was computed how fast, in how much memory.
pub(super) fn summarize(generation: &BatchGeneration, load: Duration, session: &Session) {
    let timings = &generation.timings;
    let part = |count, duration| {
        let speed = per_second(count, duration).unwrap_or_default();
        format!(
            "{count} tokens in {:.0} ms ({speed:.0}/s)",
            milliseconds(duration)
        )
    };
    let memory = session.memory();
    let peak = memory::peak_rss().map_or_else(String::new, |peak| {
        format!(", {} at the peak", report::bytes(peak))
    });
    note!(
        "load {:.0} ms, prefill {}, decode {}; weights {}, cache {}, compute {}{peak}",
        milliseconds(load),
        part(timings.prefill_tokens, timings.prefill),
        part(timings.decode_tokens, timings.decode),
        report::bytes(memory.weights as u64),
        report::bytes(memory.kv as u64),
        report::bytes(memory.compute as u64),
    );
}

/// Says that texts ended because the context was full, and what would have let them go on.
pub(super) fn note_full_context(
    all: &[&Continuation],
    options: &GenerationOptions,
    session: &Session,
) {
    let ended = all
        .iter()
        .filter(|one| one.finish_reason == FinishReason::ContextFull)
        .count();
    if ended == 0 {
        return;
    }
    let model = session.model().hyperparameters().n_positions;
    let size = session.context_size().min(model);
    let mut ways = Vec::new();
    if size < model {
        ways.push(format!("-c up to {model} allows more"));
    }
    let probe = GenerationOptions {
        on_overflow: Some(0),
        ..options.clone()
    };
    // Not every decoding method can go on so.
    if options.on_overflow.is_none() && probe.validate().is_ok() {
        ways.push("--on-overflow keep=N goes on with the newest half of it".to_owned());
    }
    let whose = match all.len() {
        1 => "the text".to_owned(),
        count => format!("{ended} of {count} texts"),
    };
    let ways = ways.join(", ");
    let ways = if ways.is_empty() {
        ways
    } else {
        format!("; {ways}")
    };
    note!("{whose} ended because the context of {size} positions is full{ways}");
}
