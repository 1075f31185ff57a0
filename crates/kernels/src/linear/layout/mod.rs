//! The layouts of weights and activations in memory, each declared once.
//!
//! Packing, unpacking, kernels and tests read the same `#[repr(C)]` types, whose sizes are
//! asserted. Bytes become values of these types in `plain.rs` alone.

mod aligned;
mod gguf;
mod panels;
mod plain;
mod tiles;

pub(super) use aligned::AlignedBuffer;
pub(super) use gguf::{
    BlockIq4Xs, BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K,
    BlockQ6K, BlockQ8_0, IQ4_VALUES, scale_and_min, set_scale_and_min,
};
pub use panels::PANEL;
pub(super) use panels::{Lanes, Mins, Q4_0Panel, Q4KPanel, Q5KPanel, Q6KPanel, Q8_0Panel};
#[cfg(target_arch = "x86_64")]
pub(super) use panels::{UnpackedQ5K, UnpackedQ6K};
pub(super) use plain::{F16Bytes, Layout, cast, cast_mut, cast_unchecked};
pub(super) use tiles::{
    Q8_0LanesStep, Q8_0LanesTile, Q8_0Step, Q8_0Tile, Q8_1Step, Q8_1Tile, Q8KStep, Q8KTile,
};
