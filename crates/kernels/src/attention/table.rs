//! Rows of the cache, and the part of each that belongs to a head.

use half::f16;

use crate::simd::{self, BLOCK, Q4_0_BYTES, Q8_0_BYTES, Simd, block_scale, q4_0_integers};

/// The keys or the values of a cache, one row of heads × head width elements for each cell.
#[derive(Clone, Copy)]
pub enum Table<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Half precision.
    F16(&'a [f16]),
    /// Blocks of 32 elements in 34 bytes.
    Q8_0(&'a [u8]),
    /// Blocks of 32 elements in 18 bytes.
    Q4_0(&'a [u8]),
}

impl Table<'_> {
    /// Whether the table holds `rows` rows of heads of `head_width` elements.
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
}

impl Table<'_> {
    /// Asks for the memory of a head's elements of a cell.
    #[inline(always)]
    pub(super) fn prefetch(self, head: Head, cell: usize) {
        let (q8_0, q4_0) = (head.in_blocks(Q8_0_BYTES), head.in_blocks(Q4_0_BYTES));
        let place = |head: Head| cell * head.row + head.first;
        match self {
            Self::F32(data) => simd::prefetch(data, place(head), head.width),
            Self::F16(data) => simd::prefetch(data, place(head), head.width),
            Self::Q8_0(data) => simd::prefetch(data, place(q8_0), q8_0.width),
            Self::Q4_0(data) => simd::prefetch(data, place(q4_0), q4_0.width),
        }
    }
}

/// Where the elements of a head are in a row.
#[derive(Clone, Copy)]
pub(super) struct Head {
    /// Elements of a whole row.
    pub(super) row: usize,
    /// The head's first.
    pub(super) first: usize,
    /// How many are its own.
    pub(super) width: usize,
}

impl Head {
    /// The head's elements in the row of `cell`.
    #[inline(always)]
    pub(super) fn of<T>(self, data: &[T], cell: usize) -> &[T] {
        &data[cell * self.row + self.first..][..self.width]
    }

    /// The same in units of blocks of `bytes` bytes.
    #[inline(always)]
    pub(super) fn in_blocks(self, bytes: usize) -> Self {
        Self {
            row: self.row / BLOCK * bytes,
            first: self.first / BLOCK * bytes,
            width: self.width / BLOCK * bytes,
        }
    }
}

/// Numbers that vectors are loaded from.
pub(super) trait Number: Copy {
    /// A vector of the first of them.
    fn load<S: Simd>(simd: S, from: &[Self]) -> S::F32;

    /// A vector of what there is, filled up with zeros.
    fn load_partial<S: Simd>(simd: S, from: &[Self]) -> S::F32;
}

impl Number for f32 {
    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &[Self]) -> S::F32 {
        simd.load(from)
    }

    #[inline(always)]
    fn load_partial<S: Simd>(simd: S, from: &[Self]) -> S::F32 {
        simd.load_partial(from)
    }
}

impl Number for f16 {
    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &[Self]) -> S::F32 {
        simd.load_f16(from)
    }

    #[inline(always)]
    fn load_partial<S: Simd>(simd: S, from: &[Self]) -> S::F32 {
        simd.load_f16_partial(from)
    }
}

/// Writes a head's elements of a cell as f32 to the beginning of `to`.
#[inline(always)]
pub(super) fn expand<S: Simd>(simd: S, table: Table<'_>, head: Head, cell: usize, to: &mut [f32]) {
    match table {
        Table::F32(data) => to[..head.width].copy_from_slice(head.of(data, cell)),
        Table::F16(data) => {
            let mut from = head.of(data, cell).chunks_exact(S::LANES);
            let mut to = to[..head.width].chunks_exact_mut(S::LANES);
            for (from, to) in (&mut from).zip(&mut to) {
                simd.store(simd.load_f16(from), to);
            }
            for (&from, to) in from.remainder().iter().zip(to.into_remainder()) {
                *to = simd.f16_to_f32(from);
            }
        }
        Table::Q8_0(data) => {
            let blocks = head.in_blocks(Q8_0_BYTES).of(data, cell);
            for (block, to) in blocks
                .chunks_exact(Q8_0_BYTES)
                .zip(to.chunks_exact_mut(BLOCK))
            {
                let scale = simd.f16_to_f32(block_scale(block));
                let mut integers = [0; BLOCK];
                for (integer, &byte) in integers.iter_mut().zip(&block[2..]) {
                    *integer = byte as i8;
                }
                simd.dequantize(&integers, scale, to);
            }
        }
        Table::Q4_0(data) => {
            let blocks = head.in_blocks(Q4_0_BYTES).of(data, cell);
            for (block, to) in blocks
                .chunks_exact(Q4_0_BYTES)
                .zip(to.chunks_exact_mut(BLOCK))
            {
                let scale = simd.f16_to_f32(block_scale(block));
                simd.dequantize(&q4_0_integers(block), scale, to);
            }
        }
    }
}

/// Writes `numbers` as `q8_0` blocks to the beginning of `to`.
#[inline(always)]
pub(super) fn quantize_q8_0(numbers: &[f32], to: &mut [u8]) {
    for (numbers, block) in numbers
        .chunks_exact(BLOCK)
        .zip(to.chunks_exact_mut(Q8_0_BYTES))
    {
        let greatest = numbers
            .iter()
            .fold(0.0f32, |greatest, number| greatest.max(number.abs()));
        let scale = f16::from_f32(greatest / 127.0);
        let inverse = if greatest == 0.0 {
            0.0
        } else {
            127.0 / greatest
        };
        block[..2].copy_from_slice(&scale.to_le_bytes());
        for (byte, number) in block[2..].iter_mut().zip(numbers) {
            *byte = (number * inverse).round_ties_even() as i8 as u8;
        }
    }
}
