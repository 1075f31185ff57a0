//! K-quants with many tokens: a super-block becomes one integer, which is scaled and added; of `q5_k` and `q6_k` that
//! is ggml's order of sums as well.

use super::Job;
use super::vectors::{LARGEST_BYTE, Vectors};

/// How the product reads a K-quant's panel.
pub(super) trait SuperBlocks {
    /// Bytes of a super-block of a panel.
    const BYTES: usize;
    /// Groups with a scale.
    const GROUPS: usize;
    /// No weight is larger, and none below zero.
    const LARGEST: i32;
    /// Where in a step, of one token, the activations' sums of a group are (i16).
    const SUMS: usize;
    /// Whether each token's sums lie together, or each pair of all tokens.
    const SUMS_BY_TOKEN: bool;

    /// The scales of a group.
    unsafe fn scales<V: Vectors>(block: *const u8, other: usize, group: usize) -> V::Integers;

    /// Four weights of each row: those of a group's columns from 4 · `index` on.
    unsafe fn weights<V: Vectors>(
        block: *const u8,
        other: usize,
        group: usize,
        index: usize,
    ) -> V::Integers;

    /// What the activations' sums of two groups are multiplied with (i16).
    unsafe fn factors<V: Vectors>(block: *const u8, other: usize, pair: usize) -> V::Integers;

    /// What a super-block gives, without the token's scale.
    unsafe fn result<V: Vectors>(
        block: *const u8,
        other: usize,
        dots: V::Integers,
        pair_dots: V::Integers,
    ) -> V::Floats;
}

/// Bytes of a token in a super-block's step.
const STEP: usize = 308;

/// The product, see [`Kernel`](super::Kernel) and [`add_group`].
#[inline(always)]
pub(super) unsafe fn panel<
    V: Vectors,
    F: SuperBlocks,
    const TOKENS: usize,
    const TOGETHER: usize,
>(
    job: Job<'_>,
    output: *mut f32,
    stride: usize,
) {
    debug_assert!(job.panel.len() >= job.blocks * F::BYTES);
    debug_assert!(job.tile.len() >= job.blocks * TOKENS * STEP);
    // SAFETY: every block of the panel and every step of the tile is as long as the constants say, as the caller
    // ensures.
    unsafe {
        let mut sums = [V::float_zero(); TOKENS];
        let mut block = job.panel.as_ptr();
        let mut step = job.tile.as_ptr();
        for _ in 0..job.blocks {
            let mut dots = [V::zero(); TOKENS];
            for group in 0..F::GROUPS {
                add_group::<V, F, TOKENS, TOGETHER>(block, job.other, step, group, &mut dots);
            }
            let mut pair_dots = [V::zero(); TOKENS];
            for pair in 0..F::GROUPS / 2 {
                let factors = F::factors::<V>(block, job.other, pair);
                for (token, dot) in pair_dots.iter_mut().enumerate() {
                    let place = if F::SUMS_BY_TOKEN {
                        32 * token + 4 * pair
                    } else {
                        4 * (pair * TOKENS + token)
                    };
                    *dot = V::add_pair_products(*dot, factors, step.add(F::SUMS * TOKENS + place));
                }
            }
            for (token, sum) in sums.iter_mut().enumerate() {
                let token_scale = V::everywhere(step.add(304 * TOKENS + 4 * token));
                let result = F::result::<V>(block, job.other, dots[token], pair_dots[token]);
                *sum = V::multiply_add(result, token_scale, *sum);
            }
            block = block.add(F::BYTES);
            step = step.add(STEP * TOKENS);
        }
        for (token, &sum) in sums.iter().enumerate() {
            V::store(sum, job.rows, output.add(token * stride));
        }
    }
}

/// Adds to each token's sum the products of a group, times the group's scale: `TOGETHER` vectors of weights at a time, which
/// registers hold for all tokens.
#[inline(always)]
pub(super) unsafe fn add_group<
    V: Vectors,
    F: SuperBlocks,
    const TOKENS: usize,
    const TOGETHER: usize,
>(
    block: *const u8,
    other: usize,
    step: *const u8,
    group: usize,
    dots: &mut [V::Integers; TOKENS],
) {
    let fitting = V::fitting(F::LARGEST).min(TOGETHER);
    let largest = 4 * fitting as i32 * F::LARGEST * LARGEST_BYTE;
    let vectors = 64 / F::GROUPS;
    // SAFETY: the caller has the block, the tokens' step and the instructions.
    unsafe {
        let scales = F::scales::<V>(block, other, group);
        for first in (0..vectors).step_by(TOGETHER) {
            let column = group * vectors + first;
            let bytes = step.add(32 * (column / 8 * TOKENS) + 4 * (column % 8));
            let mut weights = [scales; TOGETHER];
            for (index, weights) in weights.iter_mut().enumerate() {
                *weights = F::weights::<V>(block, other, group, first + index);
            }
            for (token, dot) in dots.iter_mut().enumerate() {
                let bytes = bytes.add(32 * token);
                for start in (0..TOGETHER).step_by(fitting) {
                    let mut partial = V::zero();
                    for index in start..start + fitting {
                        partial = V::small_dot(partial, weights[index], bytes.add(4 * index));
                    }
                    *dot = V::add_scaled(*dot, partial, largest, scales);
                }
            }
        }
    }
}

/// What a super-block with minimums gives.
#[inline(always)]
pub(super) unsafe fn less_minimums<V: Vectors>(
    scales: V::Floats,
    minimum_scales: V::Floats,
    dots: V::Integers,
    pair_dots: V::Integers,
) -> V::Floats {
    // SAFETY: the caller has the instructions.
    unsafe {
        let scaled = V::multiply(scales, V::to_floats(dots));
        V::subtract_product(minimum_scales, V::to_floats(pair_dots), scaled)
    }
}
