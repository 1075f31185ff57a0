//! What the commands of the heads have in common: a session, and a result for each text.

use gpt2::session::Session;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::report;

/// Writes a row for each input, as `row` makes it of one: its JSON, and the text that people read.
/// Texts are written as they come, JSON as one document at the end. Rows that are done when Ctrl-C
/// comes are written, and the document says that it has not all.
pub(super) fn write<T>(
    json: bool,
    inputs: impl IntoIterator<Item = T>,
    mut row: impl FnMut(T) -> Result<(Value, String), Failure>,
) -> Result<(), Failure> {
    let mut rows = Vec::new();
    let done = inputs.into_iter().try_for_each(|input| {
        let (document, text) = row(input)?;
        if json {
            rows.push(document);
            return Ok(());
        }
        report::print(&text)
    });
    if !json {
        return done;
    }
    match done {
        Ok(()) => report::print_json(&json!({ "rows": rows })),
        Err(Failure::Interrupted(line)) => {
            report::print_json(&json!({ "rows": rows, "interrupted": true }))?;
            Err(Failure::Interrupted(line))
        }
        Err(failure) => Err(failure),
    }
}

/// Starts a session that is stopped by Ctrl-C.
pub(super) fn start(
    arguments: &crate::arguments::RunArguments,
    model: std::sync::Arc<gpt2::session::Model>,
) -> Result<Session, Failure> {
    let session = arguments.start(model, None)?;
    crate::interrupt::stop_on_interrupt(&session.stop_flag());
    Ok(session)
}
