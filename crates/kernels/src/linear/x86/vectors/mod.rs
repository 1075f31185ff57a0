//! Vectors with a lane for each row of one panel or of two.

mod avx2;
mod avx512;
mod operations;
mod rows;
mod two;

pub(super) use operations::{LARGEST_BYTE, PanelVectors};
pub(super) use rows::{RowVectors, reduce_8, sums_of_8};
pub(super) use two::Two;
