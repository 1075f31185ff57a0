//! The commands of the heads: a result for each text.

mod texts;

pub(super) mod answer;
pub(super) mod choose;
pub(super) mod classify;
pub(super) mod embed;
pub(super) mod tag;

use gpt2::session::Session;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::report;

/// Results of rows: printed as they come, or as one JSON document at the end.
struct Rows {
    json: bool,
    rows: Vec<Value>,
}

impl Rows {
    fn new(json: bool) -> Self {
        Self {
            json,
            rows: Vec::new(),
        }
    }

    /// Takes the next result, `text` being what people read.
    fn add(&mut self, row: Value, text: &str) -> Result<(), Failure> {
        if self.json {
            self.rows.push(row);
            return Ok(());
        }
        report::print(text)
    }

    fn finish(self) -> Result<(), Failure> {
        if self.json {
            report::print_json(&json!({ "rows": self.rows }))
        } else {
            Ok(())
        }
    }
}

/// Starts a session that is stopped by Ctrl-C.
fn start(
    arguments: &crate::arguments::RunArguments,
    model: std::sync::Arc<gpt2::session::Model>,
) -> Result<Session, Failure> {
    let session = arguments.start(model, None)?;
    crate::interrupt::stop_on_interrupt(session.stop_flag());
    Ok(session)
}
