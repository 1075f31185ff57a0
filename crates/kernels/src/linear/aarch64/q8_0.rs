//! `q8_0`, packed.

use std::arch::aarch64::*;

use super::super::layout::{Q8_0LanesTile, Q8_0Panel};
use super::super::microkernel::Job;
use super::helpers::{add_scaled, load_f16x8, load_i8, store_rows};
use super::vectors::PanelVectors;

/// See [`Microkernel`](super::Microkernel).
#[inline(always)]
pub(super) unsafe fn gemm<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe {
        let blocks = job.packed::<Q8_0Panel>();
        let mut accumulators = [[vdupq_n_f32(0.0); 2]; TOKENS];
        for (block, step) in blocks.iter().zip(job.steps::<Q8_0LanesTile<TOKENS>>()) {
            let x: [_; TOKENS] = std::array::from_fn(|token| load_i8(&step.qs[token]));
            let dots = V::dot_i8::<TOKENS>(&block.qs, &x);
            let scales = load_f16x8(&block.d);
            for token in 0..TOKENS {
                let scale = vdupq_n_f32(step.d[token]);
                add_scaled(&mut accumulators[token], dots[token], scales, scale);
            }
        }
        for (token, &accumulators) in accumulators.iter().enumerate() {
            store_rows(accumulators, job.rows, job.output(token));
        }
    }
}
