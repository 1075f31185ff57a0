//! `q4_k`, eight rows interleaved.

use super::k_quants::{self, SuperBlocks, add_plane, less_minimums};
use super::vectors::Vectors;
use super::{Job, ask_for};

/// Bytes of a super-block of eight rows.
const BLOCK: usize = 1184;
/// Where its nibbles begin: for each pair of groups eight vectors, the first group in the lower halves of the bytes.
const NIBBLES: usize = 160;
/// Bytes of a token in a super-block's step.
const STEP: usize = 308;
/// How far ahead of its use memory is asked for.
const AHEAD: usize = 2816;

struct Q4K;

impl SuperBlocks for Q4K {
    const BYTES: usize = BLOCK;
    const GROUPS: usize = 8;
    // One has the lower halves of the bytes, one the upper.
    const PLANES_TOGETHER: usize = 2;
    const LARGEST: i32 = 15;
    const SUMS: usize = 256;
    const SUMS_BY_TOKEN: bool = false;

    #[inline(always)]
    unsafe fn scales<V: Vectors>(block: *const u8, other: usize, group: usize) -> V::Integers {
        // SAFETY: the caller's condition.
        unsafe { V::load_bytes(block.add(32 + 8 * group), other) }
    }

    #[inline(always)]
    unsafe fn weights<V: Vectors>(
        block: *const u8,
        other: usize,
        group: usize,
        index: usize,
    ) -> V::Integers {
        // SAFETY: the caller's condition.
        unsafe {
            let place = block.add(NIBBLES + 256 * (group / 2) + 32 * index);
            let both = V::load(place, other);
            if group.is_multiple_of(2) {
                V::low_nibbles(both)
            } else {
                V::high_nibbles(both)
            }
        }
    }

    #[inline(always)]
    unsafe fn factors<V: Vectors>(block: *const u8, other: usize, pair: usize) -> V::Integers {
        // SAFETY: the caller's condition.
        unsafe { V::load_pairs(block.add(96 + 16 * pair), other) }
    }

    #[inline(always)]
    unsafe fn result<V: Vectors>(
        block: *const u8,
        other: usize,
        dots: V::Integers,
        pair_dots: V::Integers,
    ) -> V::Floats {
        // SAFETY: the caller's condition.
        unsafe {
            let scales = V::load_halves(block, other);
            let minimum_scales = V::load_halves(block.add(16), other);
            less_minimums::<V>(scales, minimum_scales, dots, pair_dots)
        }
    }
}

/// [`panel`] for many tokens.
#[inline(always)]
pub(super) unsafe fn panel_of_many<V: Vectors, const TOKENS: usize>(
    job: Job<'_>,
    output: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's condition.
    unsafe { k_quants::panel::<V, Q4K, TOKENS, 4>(job, output, stride) }
}

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
        let mut sums = [V::float_zero(); TOKENS];
        let mut minimums = [V::float_zero(); TOKENS];
        let end = job.panel.as_ptr().add(job.blocks * BLOCK);
        let mut block = job.panel.as_ptr();
        let mut step = job.tile.as_ptr();
        for _ in 0..job.blocks {
            let pairs = step.add(256 * TOKENS);
            let token_scales = step.add(304 * TOKENS);
            let mut dots = [V::zero(); TOKENS];
            let mut minimum_dots = [V::zero(); TOKENS];
            for pair in 0..4 {
                if TOKENS <= 4 {
                    let nibbles = block.add(NIBBLES + 256 * pair);
                    ask_for::<V>(nibbles, end, job.other, AHEAD, 5);
                }
                for half in 0..2 {
                    let plane = 2 * pair + half;
                    let bytes = step.add(32 * TOKENS * plane);
                    add_plane::<V, Q4K, TOKENS, 4>(block, job.other, bytes, plane, &mut dots);
                }
                let minimum = Q4K::factors::<V>(block, job.other, pair);
                for (token, dot) in minimum_dots.iter_mut().enumerate() {
                    let sums = pairs.add(4 * (pair * TOKENS + token));
                    *dot = V::add_pair_products(*dot, minimum, sums);
                }
                // ggml's product of four tokens adds up every 64 elements.
                if TOKENS >= 4 {
                    add_scaled::<V, TOKENS>(
                        block,
                        job.other,
                        token_scales,
                        &dots,
                        &minimum_dots,
                        &mut sums,
                        &mut minimums,
                    );
                    dots = [V::zero(); TOKENS];
                    minimum_dots = [V::zero(); TOKENS];
                }
            }
            if TOKENS < 4 {
                add_scaled::<V, TOKENS>(
                    block,
                    job.other,
                    token_scales,
                    &dots,
                    &minimum_dots,
                    &mut sums,
                    &mut minimums,
                );
            }
            block = block.add(BLOCK);
            step = step.add(STEP * TOKENS);
        }
        for token in 0..TOKENS {
            let sum = V::subtract(sums[token], minimums[token]);
            V::store(sum, job.rows, output.add(token * stride));
        }
    }
}

/// Adds integers times the scales of rows and tokens.
#[inline(always)]
unsafe fn add_scaled<V: Vectors, const TOKENS: usize>(
    block: *const u8,
    other: usize,
    token_scales: *const u8,
    dots: &[V::Integers; TOKENS],
    minimum_dots: &[V::Integers; TOKENS],
    sums: &mut [V::Floats; TOKENS],
    minimums: &mut [V::Floats; TOKENS],
) {
    // SAFETY: a block begins with its scales, and there is a scale for each token.
    unsafe {
        let scales = V::load_halves(block, other);
        let minimum_scales = V::load_halves(block.add(16), other);
        for token in 0..TOKENS {
            let scale = V::everywhere(token_scales.add(4 * token));
            sums[token] = V::multiply_add(
                V::to_floats(dots[token]),
                V::multiply(scales, scale),
                sums[token],
            );
            minimums[token] = V::multiply_add(
                V::to_floats(minimum_dots[token]),
                V::multiply(minimum_scales, scale),
                minimums[token],
            );
        }
    }
}
