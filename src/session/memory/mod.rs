//! The memory that a session needs, and the limits of what there is.

pub(super) mod compute;
mod fit;
pub(super) mod limits;
pub(super) mod plan;
pub(super) mod unmapped;

pub use fit::{estimate, fit};
pub use plan::kv_bytes;
