//! Floating-point matrices with few tokens: row by row as GGUF files hold them.

use std::arch::x86_64::*;

use half::bf16;

use super::super::layout::{F16Bytes, Layout};
use super::super::microkernel::Job;
use super::helpers::{load_f16x8, reduce_add, splat_f16};
use super::prefetch::prefetch_lines;
use super::vectors::PanelVectors;

/// Elements of a row.
pub(super) trait Element: Layout {
    /// Eight, converted.
    ///
    /// # Safety
    /// There are as many, and the processor has AVX2 and F16C.
    unsafe fn load(source: *const Self) -> __m256;

    /// One, converted.
    ///
    /// # Safety
    /// The processor has F16C.
    unsafe fn to_f32(self) -> f32;
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load(source: *const Self) -> __m256 {
        // SAFETY: the trait's condition.
        unsafe { _mm256_loadu_ps(source) }
    }

    #[inline(always)]
    unsafe fn to_f32(self) -> f32 {
        self
    }
}

impl Element for F16Bytes {
    #[inline(always)]
    unsafe fn load(source: *const Self) -> __m256 {
        // SAFETY: the trait's condition.
        unsafe { load_f16x8(source) }
    }

    #[inline(always)]
    unsafe fn to_f32(self) -> f32 {
        // SAFETY: the trait's condition.
        unsafe { _mm256_cvtss_f32(splat_f16(self)) }
    }
}

impl Element for bf16 {
    #[inline(always)]
    unsafe fn load(source: *const Self) -> __m256 {
        // SAFETY: the trait's condition.
        unsafe {
            let upper_halves = _mm256_cvtepu16_epi32(_mm_loadu_si128(source.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(upper_halves))
        }
    }

    #[inline(always)]
    unsafe fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

/// How many bytes ahead of its use memory is prefetched.
const AHEAD: usize = 8192;
/// Vectors of a row that go on at the same time.
const LANES: usize = 4;

/// The product with f32, see [`Microkernel`](super::Microkernel).
#[inline(always)]
pub(super) unsafe fn gemv_f32<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe { gemv::<f32, TOKENS>(job) }
}

/// The product with f16, see [`Microkernel`](super::Microkernel).
#[inline(always)]
pub(super) unsafe fn gemv_f16<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe { gemv::<F16Bytes, TOKENS>(job) }
}

/// The product with bf16, see [`Microkernel`](super::Microkernel).
#[inline(always)]
pub(super) unsafe fn gemv_bf16<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe { gemv::<bf16, TOKENS>(job) }
}

/// A dot product for each row and token.
#[inline(always)]
unsafe fn gemv<E: Element, const TOKENS: usize>(job: &Job<'_>) {
    let columns = job.blocks;
    // SAFETY: the caller's condition.
    let (rows, x) = unsafe { (job.row_blocks::<E>(), job.tile::<f32>(TOKENS * columns)) };
    for (row, weights) in rows.chunks_exact(columns).enumerate() {
        // SAFETY: there are as many columns of the row and of each token; the rest is the caller's
        // condition.
        unsafe {
            let (weights, x) = (weights.as_ptr(), x.as_ptr());
            let mut accumulators = [[_mm256_setzero_ps(); LANES]; TOKENS];
            let mut column = 0;
            while column + 8 * LANES <= columns {
                let bytes = 8 * LANES * size_of::<E>();
                prefetch_lines(
                    weights
                        .wrapping_add(column)
                        .cast::<u8>()
                        .wrapping_add(AHEAD),
                    bytes / 64,
                );
                for lane in 0..LANES {
                    let column = column + 8 * lane;
                    let weights = E::load(weights.add(column));
                    for (token, accumulators) in accumulators.iter_mut().enumerate() {
                        let x = _mm256_loadu_ps(x.add(token * columns + column));
                        accumulators[lane] = _mm256_fmadd_ps(weights, x, accumulators[lane]);
                    }
                }
                column += 8 * LANES;
            }
            while column + 8 <= columns {
                let weights = E::load(weights.add(column));
                for (token, accumulators) in accumulators.iter_mut().enumerate() {
                    let x = _mm256_loadu_ps(x.add(token * columns + column));
                    accumulators[0] = _mm256_fmadd_ps(weights, x, accumulators[0]);
                }
                column += 8;
            }
            for (token, accumulators) in accumulators.iter().enumerate() {
                let all = _mm256_add_ps(
                    _mm256_add_ps(accumulators[0], accumulators[2]),
                    _mm256_add_ps(accumulators[1], accumulators[3]),
                );
                let mut sum = reduce_add(all);
                for column in column..columns {
                    let x = *x.add(token * columns + column);
                    sum = (*weights.add(column)).to_f32().mul_add(x, sum);
                }
                *job.output(token).add(row) = sum;
            }
        }
    }
}
