//! f16 with few tokens, where the processor has arithmetic on f16: see `../f16_accumulation.rs`.
//!
//! Element i of every 32 belongs to lane i mod 8, which adds its four products one after the other.

use std::arch::aarch64::*;
use std::arch::asm;

use super::super::f16_accumulation::{CHAIN, STEP};
use super::super::layout::F16Bytes;
use super::super::microkernel::Job;
use super::vectors::PanelVectors;
use crate::simd::neon::{f16_to_f32_high, f16_to_f32_low};

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
        let (x, factors) = job.tile.split_at(TOKENS * columns * size_of::<F16Bytes>());
        let factors = &*factors.as_ptr().cast::<[f32; TOKENS]>();
        let (weights, x) = (weights.as_ptr().cast::<u16>(), x.as_ptr().cast::<u16>());
        let mut accumulators = [[[vdupq_n_f32(0.0); 2]; ROWS]; TOKENS];
        let mut column = 0;
        // Two at once: finding the places of eight rows is a tenth of the instructions otherwise.
        while column + 2 * STEP <= columns {
            add::<TOKENS, ROWS, CHAIN>(
                &mut accumulators,
                weights.add(column),
                x.add(column),
                columns,
            );
            column += STEP;
            add::<TOKENS, ROWS, CHAIN>(
                &mut accumulators,
                weights.add(column),
                x.add(column),
                columns,
            );
            column += STEP;
        }
        if column + STEP <= columns {
            add::<TOKENS, ROWS, CHAIN>(
                &mut accumulators,
                weights.add(column),
                x.add(column),
                columns,
            );
            column += STEP;
        }
        if column < columns {
            add::<TOKENS, ROWS, 2>(
                &mut accumulators,
                weights.add(column),
                x.add(column),
                columns,
            );
        }
        for (token, accumulators) in accumulators.iter().enumerate() {
            for (row, accumulators) in accumulators.iter().enumerate() {
                let sum = vaddvq_f32(vaddq_f32(accumulators[0], accumulators[1]));
                *job.output(token).add(first + row) = sum * factors[token];
            }
        }
    }
}

/// Adds the products of `LENGTH` vectors of each row and token, accumulated in f16 first.
#[inline(always)]
unsafe fn add<const TOKENS: usize, const ROWS: usize, const LENGTH: usize>(
    accumulators: &mut [[[float32x4_t; 2]; ROWS]; TOKENS],
    weights: *const u16,
    x: *const u16,
    columns: usize,
) {
    // SAFETY: the caller has as many of both.
    unsafe {
        let vectors = |place: *const u16| -> [uint16x8_t; LENGTH] {
            std::array::from_fn(|index| vld1q_u16(place.add(8 * index)))
        };
        let x: [_; TOKENS] = std::array::from_fn(|token| vectors(x.add(token * columns)));
        for row in 0..ROWS {
            let weights = vectors(weights.add(row * columns));
            for token in 0..TOKENS {
                let mut chain = mul(weights[0], x[token][0]);
                for index in 1..LENGTH {
                    chain = fma(chain, weights[index], x[token][index]);
                }
                let [low, high] = &mut accumulators[token][row];
                *low = vaddq_f32(*low, f16_to_f32_low(chain));
                *high = vaddq_f32(*high, f16_to_f32_high(chain));
            }
        }
    }
}

/// a · b. Rust's own functions are not stable.
#[inline(always)]
unsafe fn mul(a: uint16x8_t, b: uint16x8_t) -> uint16x8_t {
    let result;
    // SAFETY: the instruction touches these registers and nothing else; the caller has it.
    unsafe {
        asm!("fmul {0:v}.8h, {1:v}.8h, {2:v}.8h", out(vreg) result, in(vreg) a, in(vreg) b,
            options(pure, nomem, nostack, preserves_flags));
    }
    result
}

/// `sum` + a · b, rounded once.
#[inline(always)]
unsafe fn fma(sum: uint16x8_t, a: uint16x8_t, b: uint16x8_t) -> uint16x8_t {
    let mut sum = sum;
    // SAFETY: the instruction touches these registers and nothing else; the caller has it.
    unsafe {
        asm!("fmla {0:v}.8h, {1:v}.8h, {2:v}.8h", inout(vreg) sum, in(vreg) a, in(vreg) b,
            options(pure, nomem, nostack, preserves_flags));
    }
    sum
}
