//! f16: row by row as files hold it for few tokens; for many, rows are expanded once and used for all of them.

use std::arch::aarch64::*;

use super::{Job, Vectors, eight_halves};

/// See [`Kernel`](super::Kernel): a dot product for each row and token.
#[inline(always)]
pub(super) unsafe fn panel<V: Vectors, const TOKENS: usize>(
    job: Job<'_>,
    output: *mut f32,
    stride: usize,
) {
    debug_assert!(job.panel.len() >= job.rows * job.blocks * 2);
    debug_assert!(job.tile.len() >= job.blocks * TOKENS * 4);
    // SAFETY: the caller ensures that the panel has so many rows of so many halves (a multiple of 16), and the tile as
    // many floats of each token.
    unsafe {
        let mut row = 0;
        // As many rows as registers hold sums of: activations are loaded once for all of them.
        if TOKENS == 1 {
            while row + 8 <= job.rows {
                some_rows::<TOKENS, 8>(job, row, output, stride);
                row += 8;
            }
        }
        if TOKENS <= 2 {
            while row + 4 <= job.rows {
                some_rows::<TOKENS, 4>(job, row, output, stride);
                row += 4;
            }
        }
        while row + 2 <= job.rows {
            some_rows::<TOKENS, 2>(job, row, output, stride);
            row += 2;
        }
        if row < job.rows {
            some_rows::<TOKENS, 1>(job, row, output, stride);
        }
    }
}

#[inline(always)]
unsafe fn some_rows<const TOKENS: usize, const ROWS: usize>(
    job: Job<'_>,
    first: usize,
    output: *mut f32,
    stride: usize,
) {
    // SAFETY: as for `panel`.
    unsafe {
        let columns = job.blocks;
        let halves = job.panel.as_ptr().add(2 * first * columns);
        let floats = job.tile.as_ptr().cast::<f32>();
        let mut sums = [[[vdupq_n_f32(0.0); 2]; ROWS]; TOKENS];
        for column in (0..columns).step_by(8) {
            let weights: [_; ROWS] =
                std::array::from_fn(|row| eight_halves(halves.add(2 * (row * columns + column))));
            for (token, sums) in sums.iter_mut().enumerate() {
                let x = floats.add(token * columns + column);
                let x = [vld1q_f32(x), vld1q_f32(x.add(4))];
                for (sums, weights) in sums.iter_mut().zip(weights) {
                    sums[0] = vfmaq_f32(sums[0], weights[0], x[0]);
                    sums[1] = vfmaq_f32(sums[1], weights[1], x[1]);
                }
            }
        }
        for (token, sums) in sums.iter().enumerate() {
            for (row, sums) in sums.iter().enumerate() {
                let sum = vaddvq_f32(vaddq_f32(sums[0], sums[1]));
                *output.add(token * stride + first + row) = sum;
            }
        }
    }
}
