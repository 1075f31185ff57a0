//! `q4_0`, packed.

use super::super::layout::{Q4_0Panel, Q8_0Tile};
use super::super::microkernel::Job;
use super::prefetch::prefetch;
use super::vectors::PanelVectors;

/// How far ahead of its use memory is prefetched.
const AHEAD: usize = 2048;

/// See [`Microkernel`](super::Microkernel).
#[inline(always)]
pub(super) unsafe fn gemm<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe {
        let (panel, stride) = (job.packed::<Q4_0Panel>(), job.panel_stride);
        let end = panel.wrapping_add(job.blocks);
        let mut accumulators = [V::zero_f32(); TOKENS];
        let mut block = panel;
        for step in job.steps::<Q8_0Tile<TOKENS>>() {
            prefetch::<V>(block.cast(), end.cast(), stride, AHEAD, 3);
            let scales = V::load_f16(&raw const (*block).d, stride);
            let mut dots = [V::zero_i32(); TOKENS];
            for index in 0..4 {
                let both = V::load(&raw const (*block).qs[index], stride);
                let weights = [V::low_nibbles(both), V::high_nibbles(both)];
                for (half, weights) in weights.into_iter().enumerate() {
                    for (token, dot) in dots.iter_mut().enumerate() {
                        let x = step.qs[token][4 * half + index];
                        *dot = if (index, half) == (0, 0) {
                            V::dot_u8_start(weights, step.correction[token], x)
                        } else {
                            V::dot_u8(*dot, weights, x)
                        };
                    }
                }
            }
            for (token, sum) in accumulators.iter_mut().enumerate() {
                let dot = V::dot_u8_end(dots[token], step.correction[token]);
                let scales = V::mul(scales, V::splat(step.d[token]));
                *sum = V::fma(V::to_f32(dot), scales, *sum);
            }
            block = block.add(1);
        }
        for (token, &sum) in accumulators.iter().enumerate() {
            V::store(sum, job.rows, job.output(token));
        }
    }
}
