//! What `/stats` says.

use std::time::Duration;

use super::talk::{Answered, Talk};
use crate::report;

/// The context in use, and the work of the last reply.
pub(super) fn text(talk: &Talk) -> String {
    let session = talk.session();
    let memory = session.memory();
    let conversation = &talk.conversation;
    let mut lines = vec![
        format!(
            "turns: {}, of which {} are no longer shown to the model",
            conversation.turns().len(),
            conversation.hidden()
        ),
        format!(
            "context: {} of {} positions in use",
            session.length(0),
            talk.capacity()
        ),
    ];
    match talk.last() {
        Some(last) => lines.extend(of_reply(last)),
        None => lines.push("no reply yet".to_owned()),
    }
    lines.push(format!(
        "memory: weights {}, cache {}, compute {}",
        report::bytes(memory.weights as u64),
        report::bytes(memory.kv as u64),
        report::bytes(memory.compute as u64)
    ));
    lines.join("\n")
}

fn of_reply(last: &Answered) -> [String; 2] {
    let timings = &last.timings;
    [
        format!(
            "last prompt: {} tokens, {} prefilled, {} kept from before",
            last.prompt_ids.len(),
            timings.prefill_tokens,
            last.prompt_ids.len() - timings.prefill_tokens
        ),
        format!(
            "last reply: {} tokens ({}); prefill {}, decode {}",
            last.ids.len(),
            last.finish_reason.name(),
            speed(timings.prefill_tokens, timings.prefill),
            speed(timings.decode_tokens, timings.decode)
        ),
    ]
}

fn speed(tokens: usize, time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let rate = if seconds > 0.0 {
        tokens as f64 / seconds
    } else {
        0.0
    };
    format!("{:.0} ms ({rate:.0} tokens/s)", seconds * 1e3)
}
