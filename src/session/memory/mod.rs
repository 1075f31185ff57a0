//! What a session needs of memory, and what there is.

pub(super) mod limits;
pub(super) mod plan;
pub(super) mod unmapped;

pub use plan::{estimate, fit, kv_bytes};
