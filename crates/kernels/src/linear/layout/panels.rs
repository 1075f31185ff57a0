//! Packed panels: the blocks of eight rows, interleaved so that a vector holds the same four bytes
//! of each row.

use super::plain::{F16Bytes, Layout};

/// Rows of a panel.
pub const PANEL: usize = 8;

/// Four bytes of each of the eight rows: a vector of 256 bits.
pub(in super::super) type Lanes<T = u8> = [[T; 4]; PANEL];

/// Eight [`super::BlockQ4_0`].
#[derive(Clone, Copy)]
#[repr(C)]
pub(in super::super) struct Q4_0Panel {
    pub(in super::super) d: [F16Bytes; PANEL],
    pub(in super::super) qs: [Lanes; 4],
}

/// Eight [`super::BlockQ8_0`].
#[derive(Clone, Copy)]
#[repr(C)]
pub(in super::super) struct Q8_0Panel {
    pub(in super::super) d: [F16Bytes; PANEL],
    pub(in super::super) qs: [Lanes<i8>; 8],
}

/// The groups' minimums of eight rows.
#[cfg(target_arch = "aarch64")]
pub(in super::super) type Mins = [[u8; PANEL]; 8];

/// The groups' minimums of eight rows: those of two groups in pairs, as one instruction multiplies
/// pairs.
#[cfg(not(target_arch = "aarch64"))]
pub(in super::super) type Mins = [[[u8; 2]; PANEL]; 4];

/// Eight [`super::BlockQ4K`].
#[derive(Clone, Copy)]
#[repr(C)]
pub(in super::super) struct Q4KPanel {
    pub(in super::super) d: [F16Bytes; PANEL],
    pub(in super::super) dmin: [F16Bytes; PANEL],
    /// For each group the scales of the rows.
    pub(in super::super) scales: [[u8; PANEL]; 8],
    pub(in super::super) mins: Mins,
    /// For each pair of groups eight vectors.
    pub(in super::super) qs: [[Lanes; 8]; 4],
}

/// Eight [`super::BlockQ5K`].
#[derive(Clone, Copy)]
#[repr(C)]
pub(in super::super) struct Q5KPanel {
    pub(in super::super) d: [F16Bytes; PANEL],
    pub(in super::super) dmin: [F16Bytes; PANEL],
    /// For each group the scales of the rows.
    pub(in super::super) scales: [[u8; PANEL]; 8],
    pub(in super::super) mins: Mins,
    pub(in super::super) qh: [Lanes; 8],
    /// For each pair of groups eight vectors.
    pub(in super::super) qs: [[Lanes; 8]; 4],
}

/// Eight [`super::BlockQ6K`].
#[derive(Clone, Copy)]
#[repr(C)]
pub(in super::super) struct Q6KPanel {
    pub(in super::super) d: [F16Bytes; PANEL],
    /// For each group the scales of the rows.
    pub(in super::super) scales: [[i8; PANEL]; 16],
    /// For each half 16 vectors.
    pub(in super::super) ql: [[Lanes; 16]; 2],
    /// For each half eight vectors.
    pub(in super::super) qh: [[Lanes; 8]; 2],
}

const _: () = assert!(size_of::<Q4_0Panel>() == 144 && align_of::<Q4_0Panel>() == 1);
const _: () = assert!(size_of::<Q8_0Panel>() == 272 && align_of::<Q8_0Panel>() == 1);
const _: () = assert!(size_of::<Q4KPanel>() == 1184 && align_of::<Q4KPanel>() == 1);
const _: () = assert!(size_of::<Q5KPanel>() == 1440 && align_of::<Q5KPanel>() == 1);
const _: () = assert!(size_of::<Q6KPanel>() == 1680 && align_of::<Q6KPanel>() == 1);

// SAFETY: of each: bytes alone, so there is no padding and any bytes are a value.
unsafe impl Layout for Q4_0Panel {}
// SAFETY: see above.
unsafe impl Layout for Q8_0Panel {}
// SAFETY: see above.
unsafe impl Layout for Q4KPanel {}
// SAFETY: see above.
unsafe impl Layout for Q5KPanel {}
// SAFETY: see above.
unsafe impl Layout for Q6KPanel {}

/// Eight rows of `q5_k`, dequantized to bytes, for large batches.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
#[repr(C)]
pub(in super::super) struct UnpackedQ5K {
    pub(in super::super) d: [f32; PANEL],
    pub(in super::super) dmin: [f32; PANEL],
    /// For each group the scales of the rows.
    pub(in super::super) scales: [[i32; PANEL]; 8],
    /// For each pair of groups their minimums.
    pub(in super::super) mins: [[[i16; 2]; PANEL]; 4],
    /// For each group eight vectors.
    pub(in super::super) qs: [[Lanes; 8]; 8],
}

/// Eight rows of `q6_k`, dequantized to bytes of which each is 32 too large, for large batches.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
#[repr(C)]
pub(in super::super) struct UnpackedQ6K {
    pub(in super::super) d: [f32; PANEL],
    /// For each group the scales of the rows.
    pub(in super::super) scales: [[i32; PANEL]; 16],
    /// For each pair of groups 32 times their scales, which takes the 32 of each element away.
    pub(in super::super) offsets: [[[i16; 2]; PANEL]; 8],
    /// For each two groups eight vectors.
    pub(in super::super) qs: [[Lanes; 8]; 8],
}

#[cfg(target_arch = "x86_64")]
const _: () = assert!(size_of::<UnpackedQ5K>() == 2496 && align_of::<UnpackedQ5K>() == 4);
#[cfg(target_arch = "x86_64")]
const _: () = assert!(size_of::<UnpackedQ6K>() == 2848 && align_of::<UnpackedQ6K>() == 4);

#[cfg(target_arch = "x86_64")]
// SAFETY: integers and floats, all at multiples of four: no padding, and any bytes are a value.
unsafe impl Layout for UnpackedQ5K {}
#[cfg(target_arch = "x86_64")]
// SAFETY: integers and floats, all at multiples of four: no padding, and any bytes are a value.
unsafe impl Layout for UnpackedQ6K {}
