//! The tensors of a KV cache, and the columns of each that belong to a head.

use half::f16;

use crate::simd::{
    BLOCK, Q4_0_BYTES, Q8_0_BYTES, Simd, Task, block_scale, prefetch_l1, q4_0_integers,
};

/// The keys or the values of a cache, `[cells, heads × head_width]`.
#[derive(Clone, Copy)]
pub enum KvTensor<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Half precision.
    F16(&'a [f16]),
    /// Blocks of 32 elements in 34 bytes.
    Q8_0(&'a [u8]),
    /// Blocks of 32 elements in 18 bytes.
    Q4_0(&'a [u8]),
}

impl KvTensor<'_> {
    /// Whether the tensor has `rows` rows of heads of `head_width` elements.
    pub(super) fn holds(&self, rows: usize, width: usize, head_width: usize) -> bool {
        let (length, needed) = match *self {
            Self::F32(data) => (data.len(), rows * width),
            Self::F16(data) => (data.len(), rows * width),
            Self::Q8_0(data) => (data.len(), rows * (width / BLOCK * Q8_0_BYTES)),
            Self::Q4_0(data) => (data.len(), rows * (width / BLOCK * Q4_0_BYTES)),
        };
        let blocks = matches!(self, Self::Q8_0(_) | Self::Q4_0(_));
        length >= needed && (!blocks || head_width.is_multiple_of(BLOCK))
    }

    /// Prefetches a head's elements of `cells`.
    #[inline(never)]
    pub(super) fn prefetch(self, head: Head, cells: &[u32]) {
        const LINE: usize = 64;
        let in_bytes = |bytes: usize| Head {
            stride: head.stride * bytes,
            first: head.first * bytes,
            width: head.width * bytes,
        };
        let (data, head) = match self {
            Self::F32(data) => (data.as_ptr().cast(), in_bytes(size_of::<f32>())),
            Self::F16(data) => (data.as_ptr().cast(), in_bytes(size_of::<f16>())),
            Self::Q8_0(data) => (data.as_ptr(), head.in_blocks(Q8_0_BYTES)),
            Self::Q4_0(data) => (data.as_ptr(), head.in_blocks(Q4_0_BYTES)),
        };
        for &cell in cells {
            let first = data.wrapping_add(cell as usize * head.stride + head.first);
            for offset in (0..head.width).step_by(LINE) {
                prefetch_l1(first.wrapping_add(offset));
            }
        }
    }
}

/// Where the elements of a head are in a row.
#[derive(Clone, Copy)]
pub(super) struct Head {
    /// Elements from one row to the next.
    pub(super) stride: usize,
    /// The head's first element.
    pub(super) first: usize,
    /// Elements of the head.
    pub(super) width: usize,
}

impl Head {
    /// The head's elements in the row of `cell`.
    #[inline(always)]
    pub(super) fn of<T>(self, data: &[T], cell: usize) -> &[T] {
        &data[cell * self.stride + self.first..][..self.width]
    }

    /// The same in bytes, where a block has `bytes` bytes.
    #[inline(always)]
    pub(super) fn in_blocks(self, bytes: usize) -> Self {
        Self {
            stride: self.stride / BLOCK * bytes,
            first: self.first / BLOCK * bytes,
            width: self.width / BLOCK * bytes,
        }
    }
}

/// Elements that vectors are loaded from.
pub(super) trait Element: Copy {
    /// A vector of the first of them.
    fn load<S: Simd>(simd: S, from: &[Self]) -> S::F32;

    /// A vector of up to as many as it has lanes, the other lanes 0.
    fn load_partial<S: Simd>(simd: S, from: &[Self]) -> S::F32;
}

impl Element for f32 {
    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &[Self]) -> S::F32 {
        simd.load(from)
    }

    #[inline(always)]
    fn load_partial<S: Simd>(simd: S, from: &[Self]) -> S::F32 {
        simd.load_partial(from)
    }
}

impl Element for f16 {
    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &[Self]) -> S::F32 {
        simd.load_f16(from)
    }

    #[inline(always)]
    fn load_partial<S: Simd>(simd: S, from: &[Self]) -> S::F32 {
        simd.load_f16_partial(from)
    }
}

/// The work: dequantizing a head's elements of some cells. A task of its own, so that there
/// is one copy of its code.
pub(super) struct Dequantize<'a> {
    pub(super) tensor: KvTensor<'a>,
    pub(super) head: Head,
    pub(super) cells: &'a [u32],
    /// `[cells, head width]`: where the elements go as f32.
    pub(super) to: &'a mut [f32],
}

impl<S: Simd> Task<S> for Dequantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, simd: S) {
        let cells = self.cells.iter().map(|&cell| cell as usize);
        let rows = cells.zip(self.to.chunks_exact_mut(self.head.width));
        match self.tensor {
            KvTensor::F32(data) => {
                for (cell, to) in rows {
                    to.copy_from_slice(self.head.of(data, cell));
                }
            }
            KvTensor::F16(data) => {
                for (cell, to) in rows {
                    let mut from = self.head.of(data, cell).chunks_exact(S::LANES);
                    let mut to = to.chunks_exact_mut(S::LANES);
                    for (from, to) in (&mut from).zip(&mut to) {
                        simd.store(simd.load_f16(from), to);
                    }
                    for (&from, to) in from.remainder().iter().zip(to.into_remainder()) {
                        *to = simd.f16_to_f32(from);
                    }
                }
            }
            KvTensor::Q8_0(data) => {
                let head = self.head.in_blocks(Q8_0_BYTES);
                for (cell, to) in rows {
                    let blocks = head.of(data, cell).chunks_exact(Q8_0_BYTES);
                    for (block, to) in blocks.zip(to.chunks_exact_mut(BLOCK)) {
                        let scale = simd.f16_to_f32(block_scale(block));
                        let mut integers = [0; BLOCK];
                        for (integer, &byte) in integers.iter_mut().zip(&block[2..]) {
                            *integer = byte as i8;
                        }
                        simd.dequantize(&integers, scale, to);
                    }
                }
            }
            KvTensor::Q4_0(data) => {
                let head = self.head.in_blocks(Q4_0_BYTES);
                for (cell, to) in rows {
                    let blocks = head.of(data, cell).chunks_exact(Q4_0_BYTES);
                    for (block, to) in blocks.zip(to.chunks_exact_mut(BLOCK)) {
                        let scale = simd.f16_to_f32(block_scale(block));
                        simd.dequantize(&q4_0_integers(block), scale, to);
                    }
                }
            }
        }
    }
}

/// The work: quantizing values to `q8_0` blocks.
pub(super) struct QuantizeQ8_0<'a> {
    pub(super) values: &'a [f32],
    pub(super) to: &'a mut [u8],
}

impl<S> Task<S> for QuantizeQ8_0<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: S) {
        let blocks = self.to.chunks_exact_mut(Q8_0_BYTES);
        for (values, block) in self.values.chunks_exact(BLOCK).zip(blocks) {
            let max = values
                .iter()
                .fold(0.0f32, |max, value| max.max(value.abs()));
            let scale = f16::from_f32(max / 127.0);
            let inverse = if max == 0.0 { 0.0 } else { 127.0 / max };
            block[..2].copy_from_slice(&scale.to_le_bytes());
            for (byte, value) in block[2..].iter_mut().zip(values) {
                *byte = (value * inverse).round_ties_even() as i8 as u8;
            }
        }
    }
}
