//! The blocks of rows as GGUF files hold them. Names are ggml's.

use super::plain::{F16Bytes, Layout};

/// 32 elements: d · (q − 8). The first half is in the lower nibbles, the second in the upper.
/// Of `iq4_nl`, which has the same fields: d · [`IQ4_VALUES`]`[q]`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(in super::super) struct BlockQ4_0 {
    pub(in super::super) d: F16Bytes,
    pub(in super::super) qs: [u8; 16],
}

/// The values of `iq4_nl` and `iq4_xs`.
pub(in super::super) const IQ4_VALUES: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// 32 elements: d · q + m, in the order of [`BlockQ4_0`].
#[derive(Clone, Copy)]
#[repr(C)]
pub(in super::super) struct BlockQ4_1 {
    pub(in super::super) d: F16Bytes,
    pub(in super::super) m: F16Bytes,
    pub(in super::super) qs: [u8; 16],
}

/// 32 elements: d · (q − 16), in the order of [`BlockQ4_0`].
#[derive(Clone, Copy)]
#[repr(C)]
pub(in super::super) struct BlockQ5_0 {
    pub(in super::super) d: F16Bytes,
    /// A fifth bit of each element.
    pub(in super::super) qh: [u8; 4],
    pub(in super::super) qs: [u8; 16],
}

/// 32 elements: d · q + m, see [`BlockQ5_0`].
#[derive(Clone, Copy)]
#[repr(C)]
pub(in super::super) struct BlockQ5_1 {
    pub(in super::super) d: F16Bytes,
    pub(in super::super) m: F16Bytes,
    pub(in super::super) qh: [u8; 4],
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

/// 256 elements in groups of 16: d · scale · q − dmin · min. Each half has 32 bytes, of which byte
/// i has the bits of elements i, 32 + i, 64 + i and 96 + i.
#[derive(Clone, Copy)]
#[repr(C)]
pub(in super::super) struct BlockQ2K {
    /// The groups' scales in the lower nibbles, minimums in the upper.
    pub(in super::super) scales: [u8; 16],
    pub(in super::super) qs: [u8; 64],
    pub(in super::super) d: F16Bytes,
    pub(in super::super) dmin: F16Bytes,
}

/// 256 elements in groups of 16: d · scale · (q − 4), the lower two bits as in [`BlockQ2K`].
#[derive(Clone, Copy)]
#[repr(C)]
pub(in super::super) struct BlockQ3K {
    /// Bit g of byte i is the third of element 32 · g + i.
    pub(in super::super) hmask: [u8; 32],
    pub(in super::super) qs: [u8; 64],
    /// See [`BlockQ3K::scales`].
    pub(in super::super) scales: [u8; 12],
    pub(in super::super) d: F16Bytes,
}

/// 256 elements in groups of 32: d · scale · [`IQ4_VALUES`]`[q]`; each group has the order of
/// [`BlockQ4_0`].
#[derive(Clone, Copy)]
#[repr(C)]
pub(in super::super) struct BlockIq4Xs {
    pub(in super::super) d: F16Bytes,
    /// The upper two bits of the groups' scales, a little-endian integer.
    pub(in super::super) scales_h: [u8; 2],
    /// Their lower four, two groups in a byte.
    pub(in super::super) scales_l: [u8; 4],
    pub(in super::super) qs: [u8; 128],
}

const _: () = assert!(size_of::<BlockQ4_0>() == 18 && align_of::<BlockQ4_0>() == 1);
const _: () = assert!(size_of::<BlockQ4_1>() == 20 && align_of::<BlockQ4_1>() == 1);
const _: () = assert!(size_of::<BlockQ5_0>() == 22 && align_of::<BlockQ5_0>() == 1);
const _: () = assert!(size_of::<BlockQ5_1>() == 24 && align_of::<BlockQ5_1>() == 1);
const _: () = assert!(size_of::<BlockQ8_0>() == 34 && align_of::<BlockQ8_0>() == 1);
const _: () = assert!(size_of::<BlockQ2K>() == 84 && align_of::<BlockQ2K>() == 1);
const _: () = assert!(size_of::<BlockQ3K>() == 110 && align_of::<BlockQ3K>() == 1);
const _: () = assert!(size_of::<BlockIq4Xs>() == 136 && align_of::<BlockIq4Xs>() == 1);
const _: () = assert!(size_of::<BlockQ4K>() == 144 && align_of::<BlockQ4K>() == 1);
const _: () = assert!(size_of::<BlockQ5K>() == 176 && align_of::<BlockQ5K>() == 1);
const _: () = assert!(size_of::<BlockQ6K>() == 210 && align_of::<BlockQ6K>() == 1);

// SAFETY: of each: bytes alone, so there is no padding and any bytes are a value.
unsafe impl Layout for BlockQ4_0 {}
// SAFETY: see above.
unsafe impl Layout for BlockQ4_1 {}
// SAFETY: see above.
unsafe impl Layout for BlockQ5_0 {}
// SAFETY: see above.
unsafe impl Layout for BlockQ5_1 {}
// SAFETY: see above.
unsafe impl Layout for BlockQ8_0 {}
// SAFETY: see above.
unsafe impl Layout for BlockQ2K {}
// SAFETY: see above.
unsafe impl Layout for BlockQ3K {}
// SAFETY: see above.
unsafe impl Layout for BlockIq4Xs {}
// SAFETY: see above.
unsafe impl Layout for BlockQ4K {}
// SAFETY: see above.
unsafe impl Layout for BlockQ5K {}
// SAFETY: see above.
unsafe impl Layout for BlockQ6K {}

impl BlockQ3K {
    /// The groups' scales, each 32 too large: two bits of every fourth group are together in one of
    /// the last four bytes.
    #[inline(always)]
    pub(in super::super) fn scales(&self) -> [u8; 16] {
        const NIBBLES: u32 = 0x0f0f_0f0f;
        const PAIRS: u32 = 0x3030_3030;
        let [a, b, upper] = [0, 4, 8].map(|first| {
            let four = &self.scales[first..first + 4];
            u32::from_le_bytes([four[0], four[1], four[2], four[3]])
        });
        let fours = [
            a & NIBBLES | upper << 4 & PAIRS,
            b & NIBBLES | upper << 2 & PAIRS,
            a >> 4 & NIBBLES | upper & PAIRS,
            b >> 4 & NIBBLES | upper >> 2 & PAIRS,
        ];
        let mut scales = [0; 16];
        for (places, four) in scales.as_chunks_mut().0.iter_mut().zip(fours) {
            *places = four.to_le_bytes();
        }
        scales
    }
}

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
