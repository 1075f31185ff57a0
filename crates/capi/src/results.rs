//! The rows that tasks give: labels, tags, answers, choices.

use std::ffi::c_char;
use std::ptr;

use super::generate::ended;
use super::handles::{find, free, handle, open};
use super::status::{Failure, gpt2_status, guard};
use super::structs::{structure, write};

structure! {
    /// A row of results; what a task does not give is 0, NaN or an empty text.
    gpt2_result {
        /// The label's name.
        label: *const c_char = ptr::null(),
        /// The text that this is about.
        text: *const c_char = ptr::null(),
        /// The label's, token's or choice's number.
        id: u64 = 0,
        /// Its first character in the text.
        start: usize = 0,
        /// One more than its last.
        end: usize = 0,
        /// How sure the model is.
        score: f32 = f32::NAN,
        /// What the head gave.
        logit: f32 = f32::NAN,
    }
}

/// A row before C sees it.
pub(super) struct Row {
    pub(super) label: String,
    pub(super) text: String,
    pub(super) id: u64,
    pub(super) characters: std::ops::Range<usize>,
    pub(super) score: f32,
    pub(super) logit: f32,
}

impl Default for Row {
    fn default() -> Self {
        Self {
            label: String::new(),
            text: String::new(),
            id: 0,
            characters: 0..0,
            score: f32::NAN,
            logit: f32::NAN,
        }
    }
}

/// The rows, and the memory of their texts.
pub(super) struct Results(Vec<(Row, [Vec<u8>; 2])>);

handle!(
    /// The results of a task.
    gpt2_results = Results
);

/// A handle for rows.
pub(super) fn open_rows(rows: impl IntoIterator<Item = Row>) -> *mut gpt2_results {
    let with_texts = |row: Row| {
        let texts = [ended(&row.label), ended(&row.text)];
        (row, texts)
    };
    open(Results(rows.into_iter().map(with_texts).collect()))
}

/// How many rows there are; 0 for a handle that is not alive.
#[unsafe(no_mangle)]
pub extern "C" fn gpt2_results_count(results: *const gpt2_results) -> usize {
    let mut count = 0;
    guard(|| {
        count = find::<Results>(results)?.0.len();
        Ok(())
    });
    count
}

/// A row.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpt2_results_get(
    results: *const gpt2_results,
    index: usize,
    result: *mut gpt2_result,
) -> gpt2_status {
    guard(|| {
        let handle = find::<Results>(results)?;
        let (row, [label, text]) = handle.0.get(index).ok_or_else(|| {
            Failure::argument(format!(
                "index: expected a number below {}, found {index}",
                handle.0.len()
            ))
        })?;
        let found = gpt2_result {
            label: label.as_ptr().cast(),
            text: text.as_ptr().cast(),
            id: row.id,
            start: row.characters.start,
            end: row.characters.end,
            score: row.score,
            logit: row.logit,
            ..gpt2_result::default()
        };
        // SAFETY: the caller's structure is as the header asks.
        unsafe { write(result, found) }
    })
}

/// Frees results.
#[unsafe(no_mangle)]
pub extern "C" fn gpt2_results_free(results: *mut gpt2_results) -> gpt2_status {
    guard(|| free::<Results>(results))
}
