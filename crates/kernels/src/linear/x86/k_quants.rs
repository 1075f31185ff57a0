//! K-quants with many tokens: a super-block becomes one integer, which is scaled and added; of `q5_k` and `q6_k` that
//! is ggml's order of sums as well.

use super::vectors::{LARGEST_BYTE, Vectors};
use super::{Job, for_each};

/// How the product reads a K-quant's panel.
pub(super) trait SuperBlocks {
    /// Bytes of a super-block of a panel.
    const BYTES: usize;
    /// Groups with a scale.
    const GROUPS: usize;
    /// Planes whose instructions differ, and are written out.
    const PLANES_TOGETHER: usize;
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

/// Parts of 32 columns that a super-block is read in.
const PLANES: usize = 8;
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
            let mut bytes = step;
            for first in (0..PLANES).step_by(F::PLANES_TOGETHER) {
                for_each!(next in F::PLANES_TOGETHER => {
                    let plane = first + next;
                    add_plane::<V, F, TOKENS, TOGETHER>(block, job.other, bytes, plane, &mut dots);
                    bytes = bytes.add(32 * TOKENS);
                });
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

/// Adds to each token's sum the products of a plane, times the scales of its groups: `TOGETHER` vectors of weights at a time,
/// which registers hold for all tokens. At `bytes` are the tokens' activations.
#[inline(always)]
pub(super) unsafe fn add_plane<
    V: Vectors,
    F: SuperBlocks,
    const TOKENS: usize,
    const TOGETHER: usize,
>(
    block: *const u8,
    other: usize,
    bytes: *const u8,
    plane: usize,
    dots: &mut [V::Integers; TOKENS],
) {
    let in_group = 8 * PLANES / F::GROUPS;
    if !V::WEIGHTS_STAY && V::fitting(F::LARGEST).min(in_group) == 8 {
        // SAFETY: the caller's condition.
        unsafe { add_whole_plane::<V, F, TOKENS>(block, other, bytes, plane, dots) };
        return;
    }
    let fitting = V::fitting(F::LARGEST).min(TOGETHER);
    let largest = 4 * fitting as i32 * F::LARGEST * LARGEST_BYTE;
    // SAFETY: the caller has the block, the tokens' bytes and the instructions.
    unsafe {
        for_each!(part in 8 / TOGETHER => {
            let first = 8 * plane + part * TOGETHER;
            let group = first / in_group;
            let scales = F::scales::<V>(block, other, group);
            let mut weights = [scales; TOGETHER];
            for (index, weights) in weights.iter_mut().enumerate() {
                *weights = F::weights::<V>(block, other, group, first % in_group + index);
            }
            for_each!(token in TOKENS => {
                let bytes = bytes.add(32 * token + 4 * part * TOGETHER);
                for start in (0..TOGETHER).step_by(fitting) {
                    let mut partial = V::small_first(weights[start], bytes.add(4 * start));
                    for index in start + 1..start + fitting {
                        partial = V::small_dot(partial, weights[index], bytes.add(4 * index));
                    }
                    dots[token] = V::add_scaled(dots[token], partial, scales, largest);
                }
            });
        });
    }
}

/// [`add_plane`] of one group whose products all fit 16 bits: registers hold the tokens' sums, and one vector of weights after
/// the other is multiplied with all.
#[inline(always)]
unsafe fn add_whole_plane<V: Vectors, F: SuperBlocks, const TOKENS: usize>(
    block: *const u8,
    other: usize,
    bytes: *const u8,
    plane: usize,
    dots: &mut [V::Integers; TOKENS],
) {
    let largest = 4 * 8 * F::LARGEST * LARGEST_BYTE;
    // SAFETY: the caller has the block, the tokens' bytes and the instructions.
    unsafe {
        let mut partial = [V::zero(); TOKENS];
        for index in 0..8 {
            let weights = F::weights::<V>(block, other, plane, index);
            for_each!(token in TOKENS => {
                let bytes = bytes.add(32 * token + 4 * index);
                partial[token] = if index == 0 {
                    V::small_first(weights, bytes)
                } else {
                    V::small_dot(partial[token], weights, bytes)
                };
            });
        }
        let scales = F::scales::<V>(block, other, plane);
        for_each!(token in TOKENS => {
            dots[token] = V::add_scaled(dots[token], partial[token], scales, largest);
        });
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
