//! The commands of the heads: a result for each text.

mod rows;
mod texts;

pub(super) mod answer;
pub(super) mod choose;
pub(super) mod classify;
pub(super) mod embed;
pub(super) mod tag;
