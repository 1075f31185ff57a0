//! What the commands of the heads have in common: a session, and a result for each text.

use gpt2::session::Session;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::report;

/// Results of rows: printed as they come, or as one JSON document at the end.
pub(super) struct Rows {
    json: bool,
    rows: Vec<Value>,
}

impl Rows {
    pub(super) fn new(json: bool) -> Self {
        Self {
            json,
            rows: Vec::new(),
        }
    }

    /// Takes the next result, `text` being what people read.
    pub(super) fn add(&mut self, row: Value, text: &str) -> Result<(), Failure> {
        if self.json {
            self.rows.push(row);
            return Ok(());
        }
        report::print(text)
    }

    pub(super) fn finish(self) -> Result<(), Failure> {
        if self.json {
            report::print_json(&json!({ "rows": self.rows }))
        } else {
            Ok(())
        }
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
