//! Floating-point matrices with few tokens: row by row as GGUF files hold them.

use std::arch::aarch64::*;

use half::bf16;

use super::super::layout::{F16Bytes, Layout};
use super::super::microkernel::Job;
use super::helpers::{load_f16x8, splat_f16};
use super::vectors::PanelVectors;

/// Elements of a row.
pub(super) trait Element: Layout {
    /// Eight, converted.
    ///
    /// # Safety
    /// There are as many.
    unsafe fn load(source: *const Self) -> [float32x4_t; 2];

    /// One, converted.
    ///
    /// # Safety
    /// The processor has NEON.
    unsafe fn to_f32(self) -> f32;
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load(source: *const Self) -> [float32x4_t; 2] {
        // SAFETY: the trait's condition.
        unsafe { [vld1q_f32(source), vld1q_f32(source.add(4))] }
    }

    #[inline(always)]
    unsafe fn to_f32(self) -> f32 {
        self
    }
}

impl Element for F16Bytes {
    #[inline(always)]
    unsafe fn load(source: *const Self) -> [float32x4_t; 2] {
        // SAFETY: the trait's condition.
        unsafe { load_f16x8(&*source.cast()) }
    }

    #[inline(always)]
    unsafe fn to_f32(self) -> f32 {
        // SAFETY: the trait's condition.
        unsafe { vgetq_lane_f32::<0>(splat_f16(self)) }
    }
}

impl Element for bf16 {
    #[inline(always)]
    unsafe fn load(source: *const Self) -> [float32x4_t; 2] {
        // SAFETY: the trait's condition.
        unsafe {
            let upper_halves = vld1q_u16(source.cast());
            [
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_low_u16(upper_halves))),
                vreinterpretq_f32_u32(vshll_high_n_u16::<16>(upper_halves)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

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
    // SAFETY: the caller's condition, and no more than the job's rows.
    unsafe {
        let mut row = 0;
        // As many rows as registers hold accumulators for: activations are loaded once for all of
        // them.
        if TOKENS == 1 {
            while row + 8 <= job.rows {
                some_rows::<E, TOKENS, 8>(job, row);
                row += 8;
            }
        }
        if TOKENS <= 2 {
            while row + 4 <= job.rows {
                some_rows::<E, TOKENS, 4>(job, row);
                row += 4;
            }
        }
        while row + 2 <= job.rows {
            some_rows::<E, TOKENS, 2>(job, row);
            row += 2;
        }
        if row < job.rows {
            some_rows::<E, TOKENS, 1>(job, row);
        }
    }
}

#[inline(always)]
unsafe fn some_rows<E: Element, const TOKENS: usize, const ROWS: usize>(
    job: &Job<'_>,
    first: usize,
) {
    let columns = job.blocks;
    // SAFETY: the caller's condition; no column is beyond the last.
    unsafe {
        let weights = &job.row_blocks::<E>()[first * columns..][..ROWS * columns];
        let (weights, x) = (weights.as_ptr(), job.tile::<f32>(TOKENS * columns).as_ptr());
        let mut accumulators = [[[vdupq_n_f32(0.0); 2]; ROWS]; TOKENS];
        let mut column = 0;
        while column + 8 <= columns {
            let weights: [_; ROWS] =
                std::array::from_fn(|row| E::load(weights.add(row * columns + column)));
            for (token, accumulators) in accumulators.iter_mut().enumerate() {
                let x = f32::load(x.add(token * columns + column));
                for (accumulators, weights) in accumulators.iter_mut().zip(weights) {
                    accumulators[0] = vfmaq_f32(accumulators[0], weights[0], x[0]);
                    accumulators[1] = vfmaq_f32(accumulators[1], weights[1], x[1]);
                }
            }
            column += 8;
        }
        for (token, accumulators) in accumulators.iter().enumerate() {
            for (row, accumulators) in accumulators.iter().enumerate() {
                let mut sum = vaddvq_f32(vaddq_f32(accumulators[0], accumulators[1]));
                for column in column..columns {
                    let x = *x.add(token * columns + column);
                    sum = (*weights.add(row * columns + column))
                        .to_f32()
                        .mul_add(x, sum);
                }
                *job.output(token).add(first + row) = sum;
            }
        }
    }
}
