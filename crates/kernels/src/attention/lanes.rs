//! Vectors of f32 as the processor has them: what attention needs of them, and a portable version.
//!
//! A value of a type that implements [`Lanes`] proves that the processor has the instructions, so that
//! its methods are safe. They must be inlined into a function compiled for these instructions
//! ([`Lanes::run`]): otherwise they are correct but slow.

use half::f16;

use super::exponential;

/// Work that is compiled for an instruction set.
pub(super) trait Task {
    /// Does it. Implementations are `#[inline(always)]`.
    fn run<L: Lanes>(self, lanes: L);
}

/// Vectors of [`Lanes::WIDTH`] f32.
///
/// Where an order of additions is said, it is that of ggml compiled for the same width.
pub(super) trait Lanes: Copy {
    /// A vector.
    type F32: Copy;

    /// Elements in a vector.
    const WIDTH: usize;

    /// Rows of a register block of two vectors each.
    const BLOCK_ROWS: usize;

    /// Heads that are weighed side by side, 1 or [`HEADS`](super::weighing::HEADS): code for more than one is large.
    const HEADS: usize;

    /// Runs `task`, compiled for these instructions.
    fn run<T: Task>(self, task: T);

    /// A vector of one number.
    fn splat(self, number: f32) -> Self::F32;

    /// The first elements of `from`.
    fn load(self, from: &[f32]) -> Self::F32;

    /// The first elements of `from`.
    fn load_half(self, from: &[f16]) -> Self::F32;

    /// Writes to the first elements of `to`.
    fn store(self, vector: Self::F32, to: &mut [f32]);

    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;

    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// a · b + c, rounded once where the processor can.
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;

    /// a · b + c of single numbers, rounded like [`Lanes::fma`].
    fn fma_one(self, a: f32, b: f32, c: f32) -> f32;

    /// The greater of each two; b where either is NaN.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// Each number rounded to the nearest half float, ties to even.
    fn round_to_half(self, vector: Self::F32) -> Self::F32;

    /// A half float's number.
    fn half(self, number: f16) -> f32;

    /// The sum of all elements.
    fn sum(self, vector: Self::F32) -> f32;

    /// [`Lanes::sum`] of each.
    #[inline(always)]
    fn sums(self, vectors: [Self::F32; 4]) -> [f32; 4] {
        let [a, b, c, d] = vectors;
        [self.sum(a), self.sum(b), self.sum(c), self.sum(d)]
    }

    /// `total` + (first group + second group + …), computed in f64 and rounded once.
    fn add_in_f64(self, total: Self::F32, groups: &[Self::F32]) -> Self::F32;

    /// e^x for x ≤ 0, within 2 units in the last place; NaN stays NaN.
    fn exp(self, x: Self::F32) -> Self::F32;

    /// e^x for x ≤ 0 in place, to the bit what `f32::exp` gives.
    fn exp_as_libm(self, numbers: &mut [f32]);

    /// The product of two rows of `q8_0` blocks.
    fn dot_q8_0(self, x: &[u8], y: &[u8]) -> f32;

    /// The product of a row of `q4_0` blocks and one of `q8_0` blocks.
    fn dot_q4_0(self, x: &[u8], y: &[u8]) -> f32;

    /// Writes the integers of a block, times `scale`, to the beginning of `to`.
    #[inline(always)]
    fn scale_integers(self, integers: &[i8; BLOCK], scale: f32, to: &mut [f32]) {
        for (to, &integer) in to.iter_mut().zip(integers) {
            *to = f32::from(integer) * scale;
        }
    }

    /// Asks for the memory of `from[start..start + count]`, which may lie outside.
    fn prefetch<T>(self, from: &[T], start: usize, count: usize);

    /// Up to a vector of elements, filled up with zeros.
    #[inline(always)]
    fn load_some(self, from: &[f32]) -> Self::F32 {
        if from.len() >= Self::WIDTH {
            return self.load(from);
        }
        let mut filled = [0.0; MAX_WIDTH];
        filled[..from.len()].copy_from_slice(from);
        self.load(&filled)
    }

    /// Up to a vector of half floats, filled up with zeros.
    #[inline(always)]
    fn load_half_some(self, from: &[f16]) -> Self::F32 {
        if from.len() >= Self::WIDTH {
            return self.load_half(from);
        }
        let mut filled = [f16::ZERO; MAX_WIDTH];
        filled[..from.len()].copy_from_slice(from);
        self.load_half(&filled)
    }
}

/// Elements of the widest vector.
pub(super) const MAX_WIDTH: usize = 16;

/// Elements in a block of a quantized row.
pub(super) const BLOCK: usize = 32;

/// Bytes of a `q8_0` block: an f16 scale and 32 signed bytes.
pub(super) const Q8_0_BYTES: usize = 2 + BLOCK;

/// Bytes of a `q4_0` block: an f16 scale and 16 bytes, the low halves first, each less 8.
pub(super) const Q4_0_BYTES: usize = 2 + BLOCK / 2;

/// The scale at the beginning of a block.
#[inline(always)]
pub(super) fn block_scale(block: &[u8]) -> f16 {
    f16::from_le_bytes([block[0], block[1]])
}

/// The integers of a `q4_0` block.
#[inline(always)]
pub(super) fn q4_0_integers(block: &[u8]) -> [i8; BLOCK] {
    let mut integers = [0; BLOCK];
    for (index, &byte) in block[2..Q4_0_BYTES].iter().enumerate() {
        integers[index] = (byte & 15) as i8 - 8;
        integers[index + BLOCK / 2] = (byte >> 4) as i8 - 8;
    }
    integers
}

/// Vectors of `W` numbers without any instruction of a particular processor. `FUSED` says whether
/// products are added without a rounding between.
#[derive(Clone, Copy)]
pub(super) struct Portable<const W: usize, const FUSED: bool>;

/// The portable version that is used where there is no better one: a processor with fused operations
/// in its baseline uses them, others would have to compute them digit by digit.
pub(super) type Fallback =
    Portable<8, { cfg!(any(target_arch = "aarch64", target_feature = "fma")) }>;

/// One element from each of two vectors.
#[inline(always)]
fn zip<const W: usize>(a: [f32; W], b: [f32; W], with: impl Fn(f32, f32) -> f32) -> [f32; W] {
    std::array::from_fn(|lane| with(a[lane], b[lane]))
}

impl<const W: usize, const FUSED: bool> Portable<W, FUSED> {
    /// Adds the products of blocks, four neighbours to a lane as vector instructions do.
    #[inline(always)]
    fn add_block(self, sums: &mut [f32; 8], scale: f32, x: &[i8; BLOCK], y: &[u8]) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            let products: i32 = (4 * lane..4 * lane + 4)
                .map(|index| i32::from(x[index]) * i32::from(y[index] as i8))
                .sum();
            *sum = self.fma_one(scale, products as f32, *sum);
        }
    }

    #[inline(always)]
    fn dot_blocks<const BYTES: usize>(
        self,
        x: &[u8],
        y: &[u8],
        integers: impl Fn(&[u8]) -> [i8; BLOCK],
    ) -> f32 {
        let mut sums = [0.0; 8];
        for (x, y) in x.chunks_exact(BYTES).zip(y.chunks_exact(Q8_0_BYTES)) {
            let scale = block_scale(x).to_f32() * block_scale(y).to_f32();
            self.add_block(&mut sums, scale, &integers(x), &y[2..]);
        }
        sum_by_halves(sums)
    }
}

/// Adds the upper half to the lower one until one number is left.
#[inline(always)]
fn sum_by_halves<const W: usize>(mut vector: [f32; W]) -> f32 {
    let mut half = W / 2;
    while half > 0 {
        for lane in 0..half {
            vector[lane] += vector[lane + half];
        }
        half /= 2;
    }
    vector[0]
}

impl<const W: usize, const FUSED: bool> Lanes for Portable<W, FUSED> {
    type F32 = [f32; W];
    const WIDTH: usize = W;
    const BLOCK_ROWS: usize = 4;
    const HEADS: usize = 1;

    #[inline(never)]
    fn run<T: Task>(self, task: T) {
        task.run(self);
    }

    #[inline(always)]
    fn splat(self, number: f32) -> [f32; W] {
        [number; W]
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> [f32; W] {
        std::array::from_fn(|lane| from[lane])
    }

    #[inline(always)]
    fn load_half(self, from: &[f16]) -> [f32; W] {
        std::array::from_fn(|lane| from[lane].to_f32())
    }

    #[inline(always)]
    fn store(self, vector: [f32; W], to: &mut [f32]) {
        to[..W].copy_from_slice(&vector);
    }

    #[inline(always)]
    fn add(self, a: [f32; W], b: [f32; W]) -> [f32; W] {
        zip(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn mul(self, a: [f32; W], b: [f32; W]) -> [f32; W] {
        zip(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn fma(self, a: [f32; W], b: [f32; W], c: [f32; W]) -> [f32; W] {
        std::array::from_fn(|lane| self.fma_one(a[lane], b[lane], c[lane]))
    }

    #[inline(always)]
    fn fma_one(self, a: f32, b: f32, c: f32) -> f32 {
        if FUSED { a.mul_add(b, c) } else { a * b + c }
    }

    #[inline(always)]
    fn max(self, a: [f32; W], b: [f32; W]) -> [f32; W] {
        zip(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn round_to_half(self, vector: [f32; W]) -> [f32; W] {
        vector.map(|number| f16::from_f32(number).to_f32())
    }

    #[inline(always)]
    fn half(self, number: f16) -> f32 {
        number.to_f32()
    }

    #[inline(always)]
    fn sum(self, vector: [f32; W]) -> f32 {
        if W == 16 {
            return sum_by_halves(vector);
        }
        // ggml adds neighbours in the last two steps.
        let quarter: [f32; 4] = std::array::from_fn(|lane| vector[lane] + vector[lane + 4]);
        (quarter[0] + quarter[1]) + (quarter[2] + quarter[3])
    }

    #[inline(always)]
    fn add_in_f64(self, total: [f32; W], groups: &[[f32; W]]) -> [f32; W] {
        std::array::from_fn(|lane| {
            let mut sum = 0.0;
            for group in groups {
                sum += f64::from(group[lane]);
            }
            (f64::from(total[lane]) + sum) as f32
        })
    }

    #[inline(always)]
    fn exp(self, x: [f32; W]) -> [f32; W] {
        x.map(|x| exponential::exp(x, W == 16, |a, b, c| self.fma_one(a, b, c)))
    }

    #[inline(always)]
    fn exp_as_libm(self, numbers: &mut [f32]) {
        for number in numbers {
            *number = number.exp();
        }
    }

    #[inline(always)]
    fn dot_q8_0(self, x: &[u8], y: &[u8]) -> f32 {
        self.dot_blocks::<Q8_0_BYTES>(x, y, |block| {
            std::array::from_fn(|index| block[2 + index] as i8)
        })
    }

    #[inline(always)]
    fn dot_q4_0(self, x: &[u8], y: &[u8]) -> f32 {
        self.dot_blocks::<Q4_0_BYTES>(x, y, q4_0_integers)
    }

    #[inline(always)]
    fn prefetch<T>(self, _: &[T], _: usize, _: usize) {}
}
