//! Vectors with a lane for each row of one panel or of two.

mod avx2;
mod avx512;
mod operations;
mod two;

pub(super) use operations::{LARGEST_BYTE, PanelVectors};
pub(super) use two::Two;
