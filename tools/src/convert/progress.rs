//! The plan and a bar on stderr while a conversion runs.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use gpt2::convert::{Plan, Progress};
use indicatif::{ProgressBar, ProgressStyle};

use super::report;
use crate::stream;

/// Shows the plan, then a bar when stderr is a terminal, and stops when asked.
pub(super) struct Bar<'a> {
    stop: &'a AtomicBool,
    bar: OnceLock<ProgressBar>,
}

impl<'a> Bar<'a> {
    /// A bar that stops the conversion once `stop` is set.
    pub(super) fn new(stop: &'a AtomicBool) -> Self {
        Self {
            stop,
            bar: OnceLock::new(),
        }
    }
}

impl Progress for Bar<'_> {
    fn begin(&self, plan: &Plan) {
        stream::note_text(&report::plan_text(plan));
        if !stream::notes_are_on_terminal() {
            return;
        }
        let data = plan.tensors.iter().map(|tensor| tensor.bytes).sum();
        let bar = ProgressBar::new(data);
        if let Ok(style) =
            ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {msg}")
        {
            bar.set_style(style);
        }
        // There is one conversion for each bar.
        let _ = self.bar.set(bar);
    }

    fn tensor(&self, name: &str) {
        if let Some(bar) = self.bar.get() {
            bar.set_message(name.to_owned());
        }
    }

    fn written(&self, bytes: u64) {
        if let Some(bar) = self.bar.get() {
            bar.inc(bytes);
        }
    }

    fn proceed(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}
