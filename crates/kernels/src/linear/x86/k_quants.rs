//! K-quants, several rows at a time. Where they were unpacked for a large batch, a super-block
//! becomes one integer, which is scaled and added: ggml's order of accumulation.

use super::super::layout::{Layout, Q8KTile};
use super::super::microkernel::Job;
use super::unroll::unroll;
use super::vectors::{LARGEST_BYTE, PanelVectors};

/// How the product reads a panel of a K-quant.
///
/// # Safety
/// The methods are only called with the vectors' instructions, and blocks that are there in every
/// panel.
pub(super) trait KQuantPanel: Layout {
    /// Groups with a scale.
    const GROUPS: usize;
    /// No weight is larger, and none below zero.
    const LARGEST: i32;

    /// The scales of a group.
    unsafe fn scales<V: PanelVectors>(block: *const Self, stride: usize, group: usize) -> V::Ints;

    /// Four weights of each row: those of a group's columns from 4 · `index` on.
    unsafe fn weights<V: PanelVectors>(
        block: *const Self,
        stride: usize,
        group: usize,
        index: usize,
    ) -> V::Ints;

    /// What a token's sums of two groups are multiplied with (i16).
    unsafe fn factors<V: PanelVectors>(block: *const Self, stride: usize, pair: usize) -> V::Ints;
}

/// A panel that was unpacked.
///
/// # Safety
/// That of [`KQuantPanel`].
pub(super) trait UnpackedPanel: KQuantPanel {
    /// A token's sums of two groups.
    fn sums<const TOKENS: usize>(step: &Q8KTile<TOKENS>, token: usize, pair: usize) -> [i16; 2];

    /// What a super-block gives, without the token's scale.
    unsafe fn result<V: PanelVectors>(
        block: *const Self,
        stride: usize,
        dots: V::Ints,
        pair_dots: V::Ints,
    ) -> V::Floats;
}

/// Parts of 32 columns that a super-block is read in.
const PLANES: usize = 8;

/// The product, see [`Microkernel`](super::Microkernel) and [`add_plane`].
#[inline(always)]
pub(super) unsafe fn gemm<
    V: PanelVectors,
    P: UnpackedPanel,
    const TOKENS: usize,
    const TOGETHER: usize,
>(
    job: &Job<'_>,
) {
    // SAFETY: the caller's condition.
    unsafe {
        let (panel, stride) = (job.packed::<P>(), job.panel_stride);
        let mut accumulators = [V::zero_f32(); TOKENS];
        let mut block = panel;
        for step in job.steps::<Q8KTile<TOKENS>>() {
            let mut dots = [V::zero_i32(); TOKENS];
            for (plane, x) in step.qs.iter().enumerate() {
                add_plane::<V, P, TOKENS, TOGETHER>(block, stride, x, plane, &mut dots);
            }
            let mut pair_dots = [V::zero_i32(); TOKENS];
            for pair in 0..P::GROUPS / 2 {
                let factors = P::factors::<V>(block, stride, pair);
                for (token, dot) in pair_dots.iter_mut().enumerate() {
                    *dot = V::dot_i16(*dot, factors, P::sums(step, token, pair));
                }
            }
            for (token, sum) in accumulators.iter_mut().enumerate() {
                let token_scale = V::splat(step.d[token]);
                let result = P::result::<V>(block, stride, dots[token], pair_dots[token]);
                *sum = V::fma(result, token_scale, *sum);
            }
            block = block.add(1);
        }
        for (token, &sum) in accumulators.iter().enumerate() {
            V::store(sum, job.rows, job.output(token));
        }
    }
}

/// Adds to each token's sum the products of a plane, times the scales of its groups: `TOGETHER`
/// vectors of weights at a time, which registers hold for all tokens, whose activations `x` is.
///
/// # Safety
/// That of [`KQuantPanel`].
#[inline(always)]
pub(super) unsafe fn add_plane<
    V: PanelVectors,
    P: KQuantPanel,
    const TOKENS: usize,
    const TOGETHER: usize,
>(
    block: *const P,
    stride: usize,
    x: &[[[i8; 4]; 8]; TOKENS],
    plane: usize,
    dots: &mut [V::Ints; TOKENS],
) {
    let in_group = 8 * PLANES / P::GROUPS;
    if !V::KEEPS_WEIGHTS && V::max_dots(P::LARGEST).min(in_group) == 8 {
        // SAFETY: the caller's condition.
        unsafe { add_whole_plane::<V, P, TOKENS>(block, stride, x, plane, dots) };
        return;
    }
    let max_dots = V::max_dots(P::LARGEST).min(TOGETHER);
    let largest = 4 * max_dots as i32 * P::LARGEST * LARGEST_BYTE;
    // SAFETY: the caller's condition.
    unsafe {
        unroll!(part in 8 / TOGETHER => {
            let first = 8 * plane + part * TOGETHER;
            let group = first / in_group;
            let scales = P::scales::<V>(block, stride, group);
            let mut weights = [scales; TOGETHER];
            for (index, weights) in weights.iter_mut().enumerate() {
                *weights = P::weights::<V>(block, stride, group, first % in_group + index);
            }
            unroll!(token in TOKENS => {
                let x = |index: usize| x[token][part * TOGETHER + index];
                for start in (0..TOGETHER).step_by(max_dots) {
                    let mut partial = V::dot_u8_first(weights[start], x(start));
                    for index in start + 1..start + max_dots {
                        partial = V::dot_u8(partial, weights[index], x(index));
                    }
                    dots[token] = V::add_scaled(dots[token], partial, scales, largest);
                }
            });
        });
    }
}

/// [`add_plane`] of one group whose products all fit 16 bits: registers hold the tokens'
/// accumulators, and one vector of weights after the other is multiplied with all.
#[inline(always)]
unsafe fn add_whole_plane<V: PanelVectors, P: KQuantPanel, const TOKENS: usize>(
    block: *const P,
    stride: usize,
    x: &[[[i8; 4]; 8]; TOKENS],
    plane: usize,
    dots: &mut [V::Ints; TOKENS],
) {
    let largest = 4 * 8 * P::LARGEST * LARGEST_BYTE;
    // SAFETY: the caller's condition.
    unsafe {
        let mut partial = [V::zero_i32(); TOKENS];
        for index in 0..8 {
            let weights = P::weights::<V>(block, stride, plane, index);
            unroll!(token in TOKENS => {
                let x = x[token][index];
                partial[token] = if index == 0 {
                    V::dot_u8_first(weights, x)
                } else {
                    V::dot_u8(partial[token], weights, x)
                };
            });
        }
        let scales = P::scales::<V>(block, stride, plane);
        unroll!(token in TOKENS => {
            dots[token] = V::add_scaled(dots[token], partial[token], scales, largest);
        });
    }
}

/// What a super-block with minimums gives.
///
/// # Safety
/// The caller has the vectors' instructions.
#[inline(always)]
pub(super) unsafe fn sub_mins<V: PanelVectors>(
    scales: V::Floats,
    min_scales: V::Floats,
    dots: V::Ints,
    min_dots: V::Ints,
) -> V::Floats {
    // SAFETY: the caller's condition.
    unsafe {
        let scaled = V::mul(scales, V::to_f32(dots));
        V::fnma(min_scales, V::to_f32(min_dots), scaled)
    }
}
