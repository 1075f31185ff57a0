//! `q4_k`, packed.

use super::super::layout::{Q4KPanel, Q8KTile};
use super::super::microkernel::Job;
use super::k_quants::{KQuantPanel, add_plane};
use super::prefetch::prefetch;
use super::vectors::PanelVectors;

/// How far ahead of its use memory is prefetched.
const AHEAD: usize = 2816;

impl KQuantPanel for Q4KPanel {
    const GROUPS: usize = 8;
    const LARGEST: i32 = 15;

    #[inline(always)]
    unsafe fn scales<V: PanelVectors>(block: *const Self, stride: usize, group: usize) -> V::Ints {
        // SAFETY: the trait's condition.
        unsafe { V::load_u8_as_i32(&raw const (*block).scales[group], stride) }
    }

    #[inline(always)]
    unsafe fn weights<V: PanelVectors>(
        block: *const Self,
        stride: usize,
        group: usize,
        index: usize,
    ) -> V::Ints {
        // SAFETY: the trait's condition.
        unsafe {
            let both = V::load(&raw const (*block).qs[group / 2][index], stride);
            if group.is_multiple_of(2) {
                V::low_nibbles(both)
            } else {
                V::high_nibbles(both)
            }
        }
    }

    #[inline(always)]
    unsafe fn factors<V: PanelVectors>(block: *const Self, stride: usize, pair: usize) -> V::Ints {
        // SAFETY: the trait's condition.
        unsafe { V::load_u8_as_i16(&raw const (*block).mins[pair], stride) }
    }
}

/// See [`Microkernel`](super::Microkernel).
#[inline(always)]
pub(super) unsafe fn gemv<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe { some_tokens::<V, TOKENS, false>(job) }
}

/// [`gemv`] in the order of ggml's product of four tokens, which adds up every 64 elements.
#[inline(always)]
pub(super) unsafe fn gemv_by_64<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe { some_tokens::<V, TOKENS, true>(job) }
}

/// [`gemv`] or [`gemv_by_64`].
#[inline(always)]
unsafe fn some_tokens<V: PanelVectors, const TOKENS: usize, const BY_64: bool>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe {
        let (panel, stride) = (job.packed::<Q4KPanel>(), job.panel_stride);
        let end = panel.wrapping_add(job.blocks);
        let mut accumulators = [V::zero_f32(); TOKENS];
        let mut mins = [V::zero_f32(); TOKENS];
        let mut block = panel;
        for step in job.steps::<Q8KTile<TOKENS>>() {
            let mut dots = [V::zero_i32(); TOKENS];
            let mut min_dots = [V::zero_i32(); TOKENS];
            for pair in 0..4 {
                let qs = &raw const (*block).qs[pair];
                prefetch::<V>(qs.cast(), end.cast(), stride, AHEAD, 5);
                for half in 0..2 {
                    let plane = 2 * pair + half;
                    let x = &step.qs[plane];
                    add_plane::<V, Q4KPanel, TOKENS, 4>(block, stride, x, plane, &mut dots);
                }
                let factors = Q4KPanel::factors::<V>(block, stride, pair);
                for (token, dot) in min_dots.iter_mut().enumerate() {
                    *dot = V::dot_i16(*dot, factors, step.pair_sums[pair][token]);
                }
                if BY_64 {
                    add_scaled::<V, TOKENS>(
                        block,
                        stride,
                        step,
                        dots,
                        min_dots,
                        &mut accumulators,
                        &mut mins,
                    );
                    dots = [V::zero_i32(); TOKENS];
                    min_dots = [V::zero_i32(); TOKENS];
                }
            }
            if !BY_64 {
                add_scaled::<V, TOKENS>(
                    block,
                    stride,
                    step,
                    dots,
                    min_dots,
                    &mut accumulators,
                    &mut mins,
                );
            }
            block = block.add(1);
        }
        for token in 0..TOKENS {
            let sum = V::sub(accumulators[token], mins[token]);
            V::store(sum, job.rows, job.output(token));
        }
    }
}

/// Adds integers times the scales of rows and tokens.
#[inline(always)]
unsafe fn add_scaled<V: PanelVectors, const TOKENS: usize>(
    block: *const Q4KPanel,
    stride: usize,
    step: &Q8KTile<TOKENS>,
    dots: [V::Ints; TOKENS],
    min_dots: [V::Ints; TOKENS],
    accumulators: &mut [V::Floats; TOKENS],
    mins: &mut [V::Floats; TOKENS],
) {
    // SAFETY: the caller has the block and the instructions.
    unsafe {
        let scales = V::load_f16(&raw const (*block).d, stride);
        let min_scales = V::load_f16(&raw const (*block).dmin, stride);
        for token in 0..TOKENS {
            let scale = V::splat(step.d[token]);
            let (dot, min_dot) = (V::to_f32(dots[token]), V::to_f32(min_dots[token]));
            accumulators[token] = V::fma(dot, V::mul(scales, scale), accumulators[token]);
            mins[token] = V::fma(min_dot, V::mul(min_scales, scale), mins[token]);
        }
    }
}
