//! `q4_0`, packed.

use std::arch::aarch64::*;

use super::super::layout::{Q4_0Panel, Q8_0Tile};
use super::super::microkernel::Job;
use super::helpers::{add_scaled, load_f16x8, load_i8, load_u8, store_rows};
use super::unroll::each_vector;
use super::vectors::PanelVectors;

/// See [`Microkernel`](super::Microkernel).
#[inline(always)]
pub(super) unsafe fn gemm<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe {
        let blocks = job.packed::<Q4_0Panel>();
        let low = vdupq_n_u8(15);
        let mut accumulators = [[vdupq_n_f32(0.0); 2]; TOKENS];
        for (block, step) in blocks.iter().zip(job.steps::<Q8_0Tile<TOKENS>>()) {
            let x: [_; TOKENS] = std::array::from_fn(|token| load_i8(&step.qs[token]));
            let mut dots: [V::Dots; TOKENS] =
                std::array::from_fn(|token| V::start(vdupq_n_s32(step.correction[token])));
            each_vector!(|VECTOR, HALF, LANE| {
                // Elements of the first half are low nibbles, those of the second the high ones
                // beside them.
                if HALF == 0 {
                    let both = load_u8(&block.qs[VECTOR % 4]);
                    let lower = both.map(|both| vreinterpretq_s8_u8(vandq_u8(both, low)));
                    let upper = both.map(|both| vreinterpretq_s8_u8(vshrq_n_u8::<4>(both)));
                    for (dots, x) in dots.iter_mut().zip(&x) {
                        *dots = V::dot::<LANE>(*dots, lower, x[0]);
                        *dots = V::dot::<LANE>(*dots, upper, x[1]);
                    }
                }
            });
            let scales = load_f16x8(&block.d);
            for token in 0..TOKENS {
                let scale = vdupq_n_f32(step.d[token]);
                add_scaled(&mut accumulators[token], V::end(dots[token]), scales, scale);
            }
        }
        for (token, &accumulators) in accumulators.iter().enumerate() {
            store_rows(accumulators, job.rows, job.output(token));
        }
    }
}
