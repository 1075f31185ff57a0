//! How commands write results, sizes and progress.

use std::path::Path;

use gpt2::sampling::Alternative;
use gpt2::{AtomicFile, Tokenizer};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::stream;

/// Writes one JSON document, on one line.
pub(crate) fn print_json(document: &Value) -> Result<(), Failure> {
    let mut text = document.to_string();
    text.push('\n');
    print(&text)
}

/// Writes text as it is.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    Ok(stream::write_result(text)?)
}

/// Finds out before the work whether a result can be written to a file: it is begun and given up.
pub(crate) fn check_place(path: &Path, overwrite: bool) -> Result<(), Failure> {
    drop(AtomicFile::create(path, overwrite)?);
    Ok(())
}

/// Likely tokens as JSON.
pub(crate) fn alternatives(top: &[Alternative], tokenizer: Option<&Tokenizer>) -> Value {
    let list = top.iter().map(|other| {
        let token = tokenizer.and_then(|tokenizer| tokenizer.token_text(other.id));
        json!({ "id": other.id, "token": token, "logprob": other.log_probability })
    });
    list.collect::<Vec<_>>().into()
}

/// Bytes as people read them, in powers of 1024 as memory limits count: `6.3 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} bytes");
    }
    let mut value = count as f64;
    let mut unit = 0;
    // 1023.95 would be written as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A line on stderr that is written over, on a terminal only.
pub(crate) struct Progress {
    visible: bool,
    /// The last text, so that only a change is written.
    shown: String,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            visible: stream::notes_are_on_terminal(),
            shown: String::new(),
        }
    }

    pub(crate) fn show(&mut self, text: String) {
        if self.visible && text != self.shown {
            stream::note_text(&format!("\r{text}\x1b[K"));
            self.shown = text;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if !self.shown.is_empty() {
            stream::note_text("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_rounded_to_a_unit() {
        for (count, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            ((1 << 20) - 60, "1023.9 KiB"),
            ((1 << 20) - 50, "1.0 MiB"),
            (6_240_000_000, "5.8 GiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
