//! `q8_0` and `iq4_nl`, packed.

use std::arch::aarch64::*;

use super::super::layout::{F16Bytes, Lanes, PANEL, Q4_0Panel, Q8_0LanesTile, Q8_0Panel, Q8_0Tile};
use super::super::microkernel::Job;
use super::helpers::{add_scaled, iq4_values, load_f16x8, load_i8, load_u8, store_rows};
use super::vectors::{BytePanel, PanelVectors};

impl BytePanel for Q8_0Panel {
    #[inline(always)]
    unsafe fn weights(&self, vector: usize) -> [int8x16_t; 2] {
        // SAFETY: the trait's condition.
        unsafe { load_i8(&self.qs[vector]) }
    }
}

/// `iq4_nl`.
impl BytePanel for Q4_0Panel {
    #[inline(always)]
    unsafe fn weights(&self, vector: usize) -> [int8x16_t; 2] {
        // SAFETY: the trait's condition.
        unsafe {
            load_u8(&self.qs[vector % 4]).map(|both| {
                iq4_values(if vector < 4 {
                    vandq_u8(both, vdupq_n_u8(15))
                } else {
                    vshrq_n_u8::<4>(both)
                })
            })
        }
    }
}

/// The product with `q8_0`, see [`Microkernel`](super::Microkernel).
#[inline(always)]
pub(super) unsafe fn gemm<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe {
        let blocks = job.packed::<Q8_0Panel>();
        let mut accumulators = [[vdupq_n_f32(0.0); 2]; TOKENS];
        for (block, step) in blocks.iter().zip(job.steps::<Q8_0LanesTile<TOKENS>>()) {
            add_block::<V, _, TOKENS>(block, &block.d, &step.qs, &step.d, &mut accumulators);
        }
        for (token, &accumulators) in accumulators.iter().enumerate() {
            store_rows(accumulators, job.rows, job.output(token));
        }
    }
}

/// The product with `iq4_nl`, see [`Microkernel`](super::Microkernel).
#[inline(always)]
pub(super) unsafe fn gemm_iq4_nl<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe {
        let blocks = job.packed::<Q4_0Panel>();
        let mut accumulators = [[vdupq_n_f32(0.0); 2]; TOKENS];
        for (block, step) in blocks.iter().zip(job.steps::<Q8_0Tile<TOKENS>>()) {
            add_block::<V, _, TOKENS>(block, &block.d, &step.qs, &step.d, &mut accumulators);
        }
        for (token, &accumulators) in accumulators.iter().enumerate() {
            store_rows(accumulators, job.rows, job.output(token));
        }
    }
}

#[inline(always)]
unsafe fn add_block<V: PanelVectors, P: BytePanel, const TOKENS: usize>(
    block: &P,
    row_scales: &[F16Bytes; PANEL],
    x: &[Lanes<i8>; TOKENS],
    token_scales: &[f32; TOKENS],
    accumulators: &mut [[float32x4_t; 2]; TOKENS],
) {
    // SAFETY: the caller has the instructions.
    unsafe {
        let x: [_; TOKENS] = std::array::from_fn(|token| load_i8(&x[token]));
        let dots = V::dot_i8::<P, TOKENS>(block, &x);
        let scales = load_f16x8(row_scales);
        for token in 0..TOKENS {
            let scale = vdupq_n_f32(token_scales[token]);
            add_scaled(&mut accumulators[token], dots[token], scales, scale);
        }
    }
}
