//! `q4_0`, eight rows interleaved.

use super::vectors::Vectors;
use super::{Job, ask_for};

/// Bytes of a block of eight rows.
const BLOCK: usize = 144;
/// How far ahead of its use memory is asked for.
const AHEAD: usize = 2048;

/// See [`Kernel`](super::Kernel).
#[inline(always)]
pub(super) unsafe fn panel<V: Vectors, const TOKENS: usize>(
    job: Job<'_>,
    output: *mut f32,
    stride: usize,
) {
    debug_assert!(job.panel.len() >= job.blocks * BLOCK);
    debug_assert!(job.tile.len() >= job.blocks * TOKENS * 40);
    // SAFETY: every block of the panel is 144 bytes and every step of the tile 40 a token, as the caller ensures.
    unsafe {
        let mut sums = [V::float_zero(); TOKENS];
        let end = job.panel.as_ptr().add(job.blocks * BLOCK);
        let mut block = job.panel.as_ptr();
        let mut step = job.tile.as_ptr();
        for _ in 0..job.blocks {
            if TOKENS <= 4 {
                ask_for::<V>(block, end, job.other, AHEAD, 3);
            }
            let scales = V::load_halves(block, job.other);
            let words = step.add(32 * TOKENS);
            // What weights that are 8 too large add, taken away.
            let excess = |token: usize| words.add(4 * (TOKENS + token));
            let mut dots = [V::zero(); TOKENS];
            for index in 0..4 {
                let both = V::load(block.add(16 + 32 * index), job.other);
                let weights = [V::low_nibbles(both), V::high_nibbles(both)];
                for (half, weights) in weights.into_iter().enumerate() {
                    for (token, dot) in dots.iter_mut().enumerate() {
                        let bytes = step.add(32 * token + 16 * half + 4 * index);
                        *dot = if (index, half) == (0, 0) {
                            V::small_start(weights, excess(token), bytes)
                        } else {
                            V::small_dot(*dot, weights, bytes)
                        };
                    }
                }
            }
            for (token, sum) in sums.iter_mut().enumerate() {
                let dot = V::small_end(dots[token], excess(token));
                let scales = V::multiply(scales, V::everywhere(words.add(4 * token)));
                *sum = V::multiply_add(V::to_floats(dot), scales, *sum);
            }
            block = block.add(BLOCK);
            step = step.add(40 * TOKENS);
        }
        for (token, &sum) in sums.iter().enumerate() {
            V::store(sum, job.rows, output.add(token * stride));
        }
    }
}
