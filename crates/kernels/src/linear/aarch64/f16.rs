//! f16 with few tokens: row by row as GGUF files hold it.

use std::arch::aarch64::*;

use super::super::layout::{F16Bytes, PANEL};
use super::super::microkernel::Job;
use super::helpers::load_f16x8;
use super::vectors::PanelVectors;

/// See [`Microkernel`](super::Microkernel): a dot product for each row and token.
#[inline(always)]
pub(super) unsafe fn gemv<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition, and no more than the job's rows.
    unsafe {
        let mut row = 0;
        // As many rows as registers hold accumulators for: activations are loaded once for all of
        // them.
        if TOKENS == 1 {
            while row + 8 <= job.rows {
                some_rows::<TOKENS, 8>(job, row);
                row += 8;
            }
        }
        if TOKENS <= 2 {
            while row + 4 <= job.rows {
                some_rows::<TOKENS, 4>(job, row);
                row += 4;
            }
        }
        while row + 2 <= job.rows {
            some_rows::<TOKENS, 2>(job, row);
            row += 2;
        }
        if row < job.rows {
            some_rows::<TOKENS, 1>(job, row);
        }
    }
}

#[inline(always)]
unsafe fn some_rows<const TOKENS: usize, const ROWS: usize>(job: &Job<'_>, first: usize) {
    let columns = job.blocks;
    // SAFETY: the caller's condition; columns are a multiple of 16.
    unsafe {
        let weights = &job.row_blocks::<F16Bytes>()[first * columns..][..ROWS * columns];
        let (weights, x) = (weights.as_ptr(), job.tile::<f32>(TOKENS * columns).as_ptr());
        let mut accumulators = [[[vdupq_n_f32(0.0); 2]; ROWS]; TOKENS];
        for column in (0..columns).step_by(PANEL) {
            let weights: [_; ROWS] = std::array::from_fn(|row| {
                load_f16x8(
                    &*weights
                        .add(row * columns + column)
                        .cast::<[F16Bytes; PANEL]>(),
                )
            });
            for (token, accumulators) in accumulators.iter_mut().enumerate() {
                let x = x.add(token * columns + column);
                let x = [vld1q_f32(x), vld1q_f32(x.add(4))];
                for (accumulators, weights) in accumulators.iter_mut().zip(weights) {
                    accumulators[0] = vfmaq_f32(accumulators[0], weights[0], x[0]);
                    accumulators[1] = vfmaq_f32(accumulators[1], weights[1], x[1]);
                }
            }
        }
        for (token, accumulators) in accumulators.iter().enumerate() {
            for (row, accumulators) in accumulators.iter().enumerate() {
                let sum = vaddvq_f32(vaddq_f32(accumulators[0], accumulators[1]));
                *job.output(token).add(first + row) = sum;
            }
        }
    }
}
