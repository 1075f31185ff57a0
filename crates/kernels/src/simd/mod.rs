//! Vectors: a token for each instruction set, one way to compile code for it, and the operations
//! on vectors of f32.
//!
//! A *token* ([`Avx2`], [`Avx512`], …) is a value of size 0 that proves that the processor has an
//! instruction set and that [`cpu_features`](crate::cpu_features) allows it. [`Token::detect`] is
//! the only safe way to one, so functions that take a token can use its instructions safely. A
//! [`Task`] is code that is compiled for the instruction set of a token by [`Token::vectorize`],
//! which holds the only `#[target_feature]` functions of the crate but for helpers of one or two
//! instructions. Everything between them and the intrinsics is `#[inline(always)]`: code that the
//! compiler leaves outside is compiled for the baseline, still right, but slow.
//!
//! Two families of operations stand over the same tokens. [`Simd`] has vectors of f32 whose lanes
//! are neighbours in memory: attention is written with it. Matrix products (`linear/`) have a
//! family of their own, whose lanes are the rows of one panel or of two and which multiplies bytes:
//! it loads from two places at once and has almost no operation in common with `Simd`. Loops that
//! the compiler vectorizes by itself need neither, see [`autovectorize`].

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod exp;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
mod portable;

#[cfg(test)]
mod tests;

use half::f16;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::{Avx512, Avx512Vnni};
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::{Neon, NeonDotprod, NeonFp16};
pub(crate) use portable::Baseline;
#[cfg(test)]
pub(crate) use portable::Portable;

/// Work that is compiled for the instruction set of `S`.
pub(crate) trait Task<S> {
    /// What it gives.
    type Output;

    /// Does the work. Implementations are `#[inline(always)]`.
    fn run(self, simd: S) -> Self::Output;
}

/// A value that proves that an instruction set is there and may be used.
pub(crate) trait Token: Copy {
    /// The token, if the processor has the instructions and they are allowed.
    fn detect() -> Option<Self>;

    /// The token, for functions that are found by a pointer, which carries none.
    ///
    /// # Safety
    /// [`Token::detect`] has given one in this process.
    unsafe fn assume() -> Self;

    /// Runs `task`, compiled for the instructions: a call of a function of its own.
    fn vectorize<T: Task<Self>>(self, task: T) -> T::Output;
}

/// The most lanes of a vector.
pub(crate) const MAX_LANES: usize = 16;

/// The most chains that are interleaved, see [`Simd::INTERLEAVE`].
pub(crate) const MAX_INTERLEAVE: usize = 3;

/// Vectors of [`Simd::LANES`] f32.
///
/// Where an order of additions is said, it is that of ggml compiled for vectors as long.
pub(crate) trait Simd: Token {
    /// A vector.
    type F32: Copy;

    /// Elements of a vector.
    const LANES: usize;

    /// Rows of two vectors of accumulators that the registers hold in a microkernel.
    const MICROKERNEL_ROWS: usize;

    /// Chains of dependent operations that are computed side by side, 1 or [`MAX_INTERLEAVE`]:
    /// code for more than one is large.
    const INTERLEAVE: usize;

    /// Whether little code matters more than speed: loops are not compiled for several widths.
    const COMPACT: bool = false;

    /// `value` in every lane.
    fn splat(self, value: f32) -> Self::F32;

    /// The first elements of `from`.
    fn load(self, from: &[f32]) -> Self::F32;

    /// The first elements of `from`, as f32.
    fn load_f16(self, from: &[f16]) -> Self::F32;

    /// Writes to the first elements of `to`.
    fn store(self, vector: Self::F32, to: &mut [f32]);

    /// a + b.
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// a · b.
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// a · b + c, rounded once where the processor can.
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;

    /// a · b + c of scalars, rounded like [`Simd::fma`].
    fn fma_scalar(self, a: f32, b: f32, c: f32) -> f32;

    /// The greater of each two; b where either is NaN.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// Each value rounded to the nearest f16, ties to even.
    fn round_to_f16(self, vector: Self::F32) -> Self::F32;

    /// One f16 as f32.
    fn f16_to_f32(self, value: f16) -> f32;

    /// The sum of all lanes.
    fn reduce_add(self, vector: Self::F32) -> f32;

    /// [`Simd::reduce_add`] of each.
    #[inline(always)]
    fn reduce_add_4(self, vectors: [Self::F32; 4]) -> [f32; 4] {
        let [a, b, c, d] = vectors;
        [
            self.reduce_add(a),
            self.reduce_add(b),
            self.reduce_add(c),
            self.reduce_add(d),
        ]
    }

    /// `total` + (first group + second group + …), computed in f64 and rounded once.
    fn add_in_f64(self, total: Self::F32, groups: &[Self::F32]) -> Self::F32;

    /// e^x for x ≤ 0, within 2 units in the last place; NaN stays NaN.
    fn exp(self, x: Self::F32) -> Self::F32;

    /// e^x for x ≤ 0 in place, bit-identical to `f32::exp`.
    fn exp_libm(self, values: &mut [f32]);

    /// The dot product of two rows of `q8_0` blocks.
    fn dot_q8_0(self, x: &[u8], y: &[u8]) -> f32;

    /// The dot product of a row of `q4_0` blocks and one of `q8_0` blocks.
    fn dot_q4_0(self, x: &[u8], y: &[u8]) -> f32;

    /// Writes the integers of a block, times `scale`, to the beginning of `to`.
    #[inline(always)]
    fn dequantize(self, integers: &[i8; BLOCK], scale: f32, to: &mut [f32]) {
        for (to, &integer) in to.iter_mut().zip(integers) {
            *to = f32::from(integer) * scale;
        }
    }

    /// Prefetches `from[start..start + count]`, which may lie outside, into the first-level cache.
    #[inline(always)]
    fn prefetch<T>(self, from: &[T], start: usize, count: usize) {
        const LINE: usize = 64;
        let first = from.as_ptr().wrapping_add(start).cast::<u8>();
        let bytes = count * size_of::<T>();
        // Most heads are 64 f16: a loop would take longer than what it does.
        prefetch_l1(first);
        if bytes > LINE {
            prefetch_l1(first.wrapping_add(LINE));
        }
        for offset in (2 * LINE..bytes).step_by(LINE) {
            prefetch_l1(first.wrapping_add(offset));
        }
    }

    /// Up to a vector of elements, the other lanes 0.
    #[inline(always)]
    fn load_partial(self, from: &[f32]) -> Self::F32 {
        if from.len() >= Self::LANES {
            return self.load(from);
        }
        let mut padded = [0.0; MAX_LANES];
        padded[..from.len()].copy_from_slice(from);
        self.load(&padded)
    }

    /// Up to a vector of elements as f32, the other lanes 0.
    #[inline(always)]
    fn load_f16_partial(self, from: &[f16]) -> Self::F32 {
        if from.len() >= Self::LANES {
            return self.load_f16(from);
        }
        let mut padded = [f16::ZERO; MAX_LANES];
        padded[..from.len()].copy_from_slice(from);
        self.load_f16(&padded)
    }
}

/// Elements of a block of a quantized row.
pub(crate) const BLOCK: usize = 32;

/// Bytes of a `q8_0` block: an f16 scale and 32 signed bytes.
pub(crate) const Q8_0_BYTES: usize = 2 + BLOCK;

/// Bytes of a `q4_0` block: an f16 scale and 16 bytes, the low nibbles first, each minus 8.
pub(crate) const Q4_0_BYTES: usize = 2 + BLOCK / 2;

/// The scale at the beginning of a block.
#[inline(always)]
pub(crate) fn block_scale(block: &[u8]) -> f16 {
    f16::from_le_bytes([block[0], block[1]])
}

/// The integers of a `q4_0` block.
#[inline(always)]
pub(crate) fn q4_0_integers(block: &[u8]) -> [i8; BLOCK] {
    let mut integers = [0; BLOCK];
    for (index, &byte) in block[2..Q4_0_BYTES].iter().enumerate() {
        integers[index] = (byte & 15) as i8 - 8;
        integers[index + BLOCK / 2] = (byte >> 4) as i8 - 8;
    }
    integers
}

/// The instruction set that plain loops are compiled for, beside the baseline.
#[cfg(target_arch = "x86_64")]
type Widest = Avx2;
/// NEON is in the baseline.
#[cfg(target_arch = "aarch64")]
type Widest = Neon;
/// There is nothing but the baseline.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
type Widest = Baseline;

/// Runs a task of plain loops, which the compiler makes vectors of, with the widest vectors that
/// are worth it. Its results are the same with any: the compiler keeps the order of operations.
pub(crate) fn autovectorize<T, R>(task: T) -> R
where
    T: Task<Baseline, Output = R> + Task<Widest, Output = R>,
{
    match Widest::detect() {
        Some(simd) => simd.vectorize(task),
        None => Baseline::default().vectorize(task),
    }
}

/// Instruction sets that have [`Simd`] vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstructionSet {
    /// The baseline of the target, no instruction in particular.
    Portable,
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512F besides.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// NEON.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl InstructionSet {
    /// The one with the widest vectors that this processor has and that is allowed.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if Avx512::detect().is_some() {
                return Self::Avx512;
            }
            if Avx2::detect().is_some() {
                return Self::Avx2;
            }
        }
        #[cfg(target_arch = "aarch64")]
        if Neon::detect().is_some() {
            return Self::Neon;
        }
        Self::Portable
    }

    /// Runs `task` with this instruction set, or with the best below it that the processor has.
    pub(crate) fn dispatch<R>(self, task: impl AnySimdTask<R>) -> R {
        #[cfg(target_arch = "x86_64")]
        {
            if self == Self::Avx512
                && let Some(simd) = Avx512::detect()
            {
                return simd.vectorize(task);
            }
            if self != Self::Portable
                && let Some(simd) = Avx2::detect()
            {
                return simd.vectorize(task);
            }
        }
        #[cfg(target_arch = "aarch64")]
        if self == Self::Neon
            && let Some(simd) = Neon::detect()
        {
            return simd.vectorize(task);
        }
        Baseline::default().vectorize(task)
    }
}

/// A task for every instruction set of this target that has [`Simd`] vectors.
#[cfg(target_arch = "x86_64")]
pub(crate) trait AnySimdTask<R>:
    Task<Baseline, Output = R> + Task<Avx2, Output = R> + Task<Avx512, Output = R>
{
}

#[cfg(target_arch = "x86_64")]
impl<R, T> AnySimdTask<R> for T where
    T: Task<Baseline, Output = R> + Task<Avx2, Output = R> + Task<Avx512, Output = R>
{
}

/// A task for every instruction set of this target that has [`Simd`] vectors.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) trait AnySimdTask<R>:
    Task<Baseline, Output = R> + Task<Widest, Output = R>
{
}

#[cfg(not(target_arch = "x86_64"))]
impl<R, T> AnySimdTask<R> for T where T: Task<Baseline, Output = R> + Task<Widest, Output = R> {}

/// Prefetches the cache line of `address`, which may be any, into the first-level cache.
#[inline(always)]
pub(crate) fn prefetch_l1(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch accesses no memory that a program sees, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a prefetch accesses no memory that a program sees, whatever the address.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{0}]", in(reg) address,
            options(readonly, nostack, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}

/// Prefetches the cache line of `address`, which may be any, into the second-level cache.
#[inline(always)]
pub(crate) fn prefetch_l2(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a prefetch accesses no memory that a program sees, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) };
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a prefetch accesses no memory that a program sees, whatever the address.
    unsafe {
        std::arch::asm!("prfm pldl2keep, [{0}]", in(reg) address,
            options(readonly, nostack, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}
