//! `q8_0`, eight rows interleaved: a vector holds the same four bytes of each.

use super::vectors::Vectors;
use super::{Job, ask_for};

/// Bytes of the blocks of eight rows: eight scales, then eight vectors.
const BLOCK: usize = 272;
/// How far ahead of its use memory is asked for.
const AHEAD: usize = 2176;

/// See [`Kernel`](super::Kernel): the order of sums that ggml has, every fourth of a block by itself.
#[inline(always)]
pub(super) unsafe fn panel<V: Vectors, const TOKENS: usize>(
    job: Job<'_>,
    output: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's condition.
    unsafe {
        // One pass over the weights where the registers hold all sums.
        let sums = if TOKENS == 1 {
            let [even, odd] = some_fourths::<V, TOKENS, 2>(job, 0);
            [even, odd]
        } else {
            let [even] = some_fourths::<V, TOKENS, 1>(job, 0);
            let [odd] = some_fourths::<V, TOKENS, 1>(job, 1);
            [even, odd]
        };
        for token in 0..TOKENS {
            let sum = V::add(sums[0][token], sums[1][token]);
            V::store(sum, job.rows, output.add(token * stride));
        }
    }
}

/// Bytes of a token in a block's step beside sums of fourths.
const FOURTHS_STEP: usize = 68;

/// The sums of every second fourth from `first` on, and with `PARTS` = 2 from the one after it as well: of every row
/// for each token.
#[inline(always)]
unsafe fn some_fourths<V: Vectors, const TOKENS: usize, const PARTS: usize>(
    job: Job<'_>,
    first: usize,
) -> [[V::Floats; TOKENS]; PARTS] {
    debug_assert!(job.panel.len() >= job.blocks * BLOCK);
    debug_assert!(job.tile.len() >= job.blocks * TOKENS * FOURTHS_STEP);
    // SAFETY: the caller ensures that the panel and the tile have so many blocks and steps.
    unsafe {
        let mut sums = [[[V::float_zero(); 4]; TOKENS]; PARTS];
        let end = job.panel.as_ptr().add(job.blocks * BLOCK);
        let mut block = job.panel.as_ptr();
        let mut step = job.tile.as_ptr();
        for _ in 0..job.blocks {
            if first == 0 {
                ask_for::<V>(block, end, job.other, AHEAD, 5);
            }
            let row_scales = V::load_halves(block, job.other);
            let token_scales = step.add(64 * TOKENS);
            let mut scales = [row_scales; TOKENS];
            for (token, scales) in scales.iter_mut().enumerate() {
                *scales = V::multiply(*scales, V::everywhere(token_scales.add(4 * token)));
            }
            for (part, sums) in sums.iter_mut().enumerate() {
                for second in 0..4 {
                    let fourth = first + part + 2 * second;
                    let weights = V::load(block.add(16 + 32 * fourth), job.other);
                    let weights = V::signed_weights(weights);
                    for (token, sums) in sums.iter_mut().enumerate() {
                        let bytes = step.add(32 * token + 4 * fourth);
                        let excess = step.add(32 * (TOKENS + token) + 4 * fourth);
                        let dot = V::signed_dot(V::signed_start(excess), weights, bytes);
                        sums[second] =
                            V::multiply_add(scales[token], V::to_floats(dot), sums[second]);
                    }
                }
            }
            block = block.add(BLOCK);
            step = step.add(FOURTHS_STEP * TOKENS);
        }
        let mut all = [[V::float_zero(); TOKENS]; PARTS];
        for (all, sums) in all.iter_mut().zip(&sums) {
            for (all, sums) in all.iter_mut().zip(sums) {
                *all = V::add(V::add(sums[0], sums[2]), V::add(sums[1], sums[3]));
            }
        }
        all
    }
}

/// Bytes of a token in a block's step beside the sum of the block.
const BLOCK_STEP: usize = 40;

/// [`panel`] for many tokens: a block becomes one integer, which takes a third of the work away.
#[inline(always)]
pub(super) unsafe fn panel_of_many<V: Vectors, const TOKENS: usize>(
    job: Job<'_>,
    output: *mut f32,
    stride: usize,
) {
    debug_assert!(job.panel.len() >= job.blocks * BLOCK);
    debug_assert!(job.tile.len() >= job.blocks * TOKENS * BLOCK_STEP);
    // SAFETY: the caller ensures that the panel and the tile have so many blocks and steps.
    unsafe {
        let mut sums = [V::float_zero(); TOKENS];
        let mut block = job.panel.as_ptr();
        let mut step = job.tile.as_ptr();
        for _ in 0..job.blocks {
            let words = step.add(32 * TOKENS);
            let mut dots = [V::zero(); TOKENS];
            for (token, dot) in dots.iter_mut().enumerate() {
                *dot = V::signed_start(words.add(4 * (TOKENS + token)));
            }
            for fourth in 0..8 {
                let weights = V::load(block.add(16 + 32 * fourth), job.other);
                let weights = V::signed_weights(weights);
                for (token, dot) in dots.iter_mut().enumerate() {
                    *dot = V::signed_dot(*dot, weights, step.add(32 * token + 4 * fourth));
                }
            }
            let row_scales = V::load_halves(block, job.other);
            for (token, sum) in sums.iter_mut().enumerate() {
                let scales = V::multiply(row_scales, V::everywhere(words.add(4 * token)));
                *sum = V::multiply_add(V::to_floats(dots[token]), scales, *sum);
            }
            block = block.add(BLOCK);
            step = step.add(BLOCK_STEP * TOKENS);
        }
        for (token, &sum) in sums.iter().enumerate() {
            V::store(sum, job.rows, output.add(token * stride));
        }
    }
}
