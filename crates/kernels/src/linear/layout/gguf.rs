//! The blocks of rows as GGUF files hold them. Names are ggml's.

use super::plain::{F16Bytes, Layout};

/// 32 elements: d · (q − 8). The first half is in the lower nibbles, the second in the upper.
#[derive(Clone, Copy)]
#[repr(C)]
pub(in super::super) struct BlockQ4_0 {
    pub(in super::super) d: F16Bytes,
    pub(in super::super) qs: [u8; 16],
}

/// 32 elements: d · q.
#[derive(Clone, Copy)]
#[repr(C)]
pub(in super::super) struct BlockQ8_0 {
    pub(in super::super) d: F16Bytes,
    pub(in super::super) qs: [i8; 32],
}

/// 256 elements in groups of 32: d · scale · q − dmin · min.
#[derive(Clone, Copy)]
#[repr(C)]
pub(in super::super) struct BlockQ4K {
    pub(in super::super) d: F16Bytes,
    pub(in super::super) dmin: F16Bytes,
    /// The groups' scales and minimums, see [`scale_and_min`].
    pub(in super::super) scales: [u8; 12],
    /// Two groups in each 32 bytes, the first in the lower nibbles.
    pub(in super::super) qs: [u8; 128],
}

/// [`BlockQ4K`] with a fifth bit of each element.
#[derive(Clone, Copy)]
#[repr(C)]
pub(in super::super) struct BlockQ5K {
    pub(in super::super) d: F16Bytes,
    pub(in super::super) dmin: F16Bytes,
    pub(in super::super) scales: [u8; 12],
    /// Bit g of byte i belongs to element i of group g.
    pub(in super::super) qh: [u8; 32],
    pub(in super::super) qs: [u8; 128],
}

/// 256 elements in groups of 16: d · scale · (q − 32). Each half has 64 bytes of lower nibbles and
/// 32 of the upper two bits.
#[derive(Clone, Copy)]
#[repr(C)]
pub(in super::super) struct BlockQ6K {
    pub(in super::super) ql: [u8; 128],
    pub(in super::super) qh: [u8; 64],
    pub(in super::super) scales: [i8; 16],
    pub(in super::super) d: F16Bytes,
}

const _: () = assert!(size_of::<BlockQ4_0>() == 18 && align_of::<BlockQ4_0>() == 1);
const _: () = assert!(size_of::<BlockQ8_0>() == 34 && align_of::<BlockQ8_0>() == 1);
const _: () = assert!(size_of::<BlockQ4K>() == 144 && align_of::<BlockQ4K>() == 1);
const _: () = assert!(size_of::<BlockQ5K>() == 176 && align_of::<BlockQ5K>() == 1);
const _: () = assert!(size_of::<BlockQ6K>() == 210 && align_of::<BlockQ6K>() == 1);

// SAFETY: of each: bytes alone, so there is no padding and any bytes are a value.
unsafe impl Layout for BlockQ4_0 {}
// SAFETY: see above.
unsafe impl Layout for BlockQ8_0 {}
// SAFETY: see above.
unsafe impl Layout for BlockQ4K {}
// SAFETY: see above.
unsafe impl Layout for BlockQ5K {}
// SAFETY: see above.
unsafe impl Layout for BlockQ6K {}

/// The six-bit scale and minimum of one of eight groups, from the twelve bytes of a K-quant.
pub(in super::super) fn scale_and_min(scales: &[u8; 12], group: usize) -> (u8, u8) {
    if group < 4 {
        (scales[group] & 63, scales[group + 4] & 63)
    } else {
        let low = scales[group + 4];
        (
            low & 15 | scales[group - 4] >> 6 << 4,
            low >> 4 | scales[group] >> 6 << 4,
        )
    }
}

/// The reverse of [`scale_and_min`], into bytes that were zero.
pub(in super::super) fn set_scale_and_min(
    scales: &mut [u8; 12],
    group: usize,
    (scale, min): (u8, u8),
) {
    if group < 4 {
        scales[group] |= scale;
        scales[group + 4] |= min;
    } else {
        scales[group + 4] = scale & 15 | min << 4;
        scales[group - 4] |= scale >> 4 << 6;
        scales[group] |= min >> 4 << 6;
    }
}
