//! `q4_0`, eight rows interleaved.

use std::arch::aarch64::*;

use super::{Job, Vectors, add_scaled, bytes, each_vector, eight_halves, signed_bytes, store_rows};

/// Bytes of a block of eight rows.
const BLOCK: usize = 144;
/// Bytes of a token in a block's step.
const STEP: usize = 40;

/// See [`Kernel`](super::Kernel).
#[inline(always)]
pub(super) unsafe fn panel<V: Vectors, const TOKENS: usize>(
    job: Job<'_>,
    output: *mut f32,
    stride: usize,
) {
    debug_assert!(job.panel.len() >= job.blocks * BLOCK);
    debug_assert!(job.tile.len() >= job.blocks * TOKENS * STEP);
    // SAFETY: every block of the panel and every step of the tile is as long as the constants say, as the caller
    // ensures.
    unsafe {
        let low = vdupq_n_u8(15);
        let mut sums = [[vdupq_n_f32(0.0); 2]; TOKENS];
        let mut block = job.panel.as_ptr();
        let mut step = job.tile.as_ptr();
        for _ in 0..job.blocks {
            let words = step.add(32 * TOKENS);
            let x: [_; TOKENS] = std::array::from_fn(|token| signed_bytes(step.add(32 * token)));
            let mut dots: [V::Dots; TOKENS] = std::array::from_fn(|token| {
                let correction = words.add(4 * (TOKENS + token)).cast::<i32>();
                V::start(vdupq_n_s32(correction.read_unaligned()))
            });
            each_vector!(|VECTOR, HALF, LANE| {
                // Elements of the first half are low nibbles, those of the second the high ones beside them.
                if HALF == 0 {
                    let both = bytes(block.add(16 + 32 * VECTOR));
                    let lower = both.map(|both| vreinterpretq_s8_u8(vandq_u8(both, low)));
                    let upper = both.map(|both| vreinterpretq_s8_u8(vshrq_n_u8::<4>(both)));
                    for (dots, x) in dots.iter_mut().zip(&x) {
                        *dots = V::add::<LANE>(*dots, lower, x[0]);
                        *dots = V::add::<LANE>(*dots, upper, x[1]);
                    }
                }
            });
            let scales = eight_halves(block);
            for token in 0..TOKENS {
                let scale = vdupq_n_f32(words.add(4 * token).cast::<f32>().read_unaligned());
                add_scaled(&mut sums[token], V::finish(dots[token]), scales, scale);
            }
            block = block.add(BLOCK);
            step = step.add(STEP * TOKENS);
        }
        for (token, &sums) in sums.iter().enumerate() {
            store_rows(sums, job.rows, output.add(token * stride));
        }
    }
}
