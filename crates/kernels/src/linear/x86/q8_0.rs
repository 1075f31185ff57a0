//! `q8_0` and `iq4_nl`, packed.

use super::super::layout::{
    F16Bytes, Layout, PANEL, Q4_0Panel, Q8_0LanesTile, Q8_0Panel, Q8_0Tile,
};
use super::super::microkernel::Job;
use super::prefetch::prefetch;
use super::vectors::PanelVectors;

/// How far ahead of its use memory is prefetched.
const AHEAD: usize = 2176;

/// See [`Microkernel`](super::Microkernel): ggml's order of accumulation, every fourth of a block
/// by itself.
#[inline(always)]
pub(super) unsafe fn gemm_in_lanes<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe {
        // One pass over the weights where the registers hold all accumulators.
        let accumulators = if TOKENS == 1 {
            let [even, odd] = some_fourths::<V, TOKENS, 2>(job, 0);
            [even, odd]
        } else {
            let [even] = some_fourths::<V, TOKENS, 1>(job, 0);
            let [odd] = some_fourths::<V, TOKENS, 1>(job, 1);
            [even, odd]
        };
        for token in 0..TOKENS {
            let sum = V::add(accumulators[0][token], accumulators[1][token]);
            V::store(sum, job.rows, job.output(token));
        }
    }
}

/// The sums of every second fourth from `first` on, and with `PARTS` = 2 from the one after it as
/// well: of every row for each token.
#[inline(always)]
unsafe fn some_fourths<V: PanelVectors, const TOKENS: usize, const PARTS: usize>(
    job: &Job<'_>,
    first: usize,
) -> [[V::Floats; TOKENS]; PARTS] {
    // SAFETY: the caller's condition.
    unsafe {
        let (panel, stride) = (job.packed::<Q8_0Panel>(), job.panel_stride);
        let end = panel.wrapping_add(job.blocks);
        let mut accumulators = [[[V::zero_f32(); 4]; TOKENS]; PARTS];
        let mut block = panel;
        for step in job.steps::<Q8_0LanesTile<TOKENS>>() {
            if first == 0 {
                prefetch::<V>(block.cast(), end.cast(), stride, AHEAD, 5);
            }
            let row_scales = V::load_f16(&raw const (*block).d, stride);
            let mut scales = [row_scales; TOKENS];
            for (token, scales) in scales.iter_mut().enumerate() {
                *scales = V::mul(*scales, V::splat(step.d[token]));
            }
            for (part, accumulators) in accumulators.iter_mut().enumerate() {
                for second in 0..4 {
                    let fourth = first + part + 2 * second;
                    let weights = V::load(&raw const (*block).qs[fourth], stride);
                    let weights = V::dot_i8_weights(weights);
                    for (token, accumulators) in accumulators.iter_mut().enumerate() {
                        let start = V::dot_i8_start(step.corrections[token][fourth]);
                        let dot = V::dot_i8(start, weights, step.qs[token][fourth]);
                        accumulators[second] =
                            V::fma(scales[token], V::to_f32(dot), accumulators[second]);
                    }
                }
            }
            block = block.add(1);
        }
        let mut all = [[V::zero_f32(); TOKENS]; PARTS];
        for (all, accumulators) in all.iter_mut().zip(&accumulators) {
            for (all, accumulators) in all.iter_mut().zip(accumulators) {
                *all = V::add(
                    V::add(accumulators[0], accumulators[2]),
                    V::add(accumulators[1], accumulators[3]),
                );
            }
        }
        all
    }
}

/// Packed blocks of 32 signed weights.
///
/// # Safety
/// The method is only called with the vectors' instructions, and a block that is there in every
/// panel.
trait BytePanel: Layout {
    /// Lines of the cache that a block fills.
    const LINES: usize = size_of::<Self>().div_ceil(64);

    /// The scales.
    unsafe fn scales(block: *const Self) -> *const [F16Bytes; PANEL];

    /// Four weights of each row.
    unsafe fn weights<V: PanelVectors>(block: *const Self, stride: usize, fourth: usize)
    -> V::Ints;
}

impl BytePanel for Q8_0Panel {
    #[inline(always)]
    unsafe fn scales(block: *const Self) -> *const [F16Bytes; PANEL] {
        // SAFETY: the trait's condition.
        unsafe { &raw const (*block).d }
    }

    #[inline(always)]
    unsafe fn weights<V: PanelVectors>(
        block: *const Self,
        stride: usize,
        fourth: usize,
    ) -> V::Ints {
        // SAFETY: the trait's condition.
        unsafe { V::load(&raw const (*block).qs[fourth], stride) }
    }
}

/// `iq4_nl`.
impl BytePanel for Q4_0Panel {
    #[inline(always)]
    unsafe fn scales(block: *const Self) -> *const [F16Bytes; PANEL] {
        // SAFETY: the trait's condition.
        unsafe { &raw const (*block).d }
    }

    #[inline(always)]
    unsafe fn weights<V: PanelVectors>(
        block: *const Self,
        stride: usize,
        fourth: usize,
    ) -> V::Ints {
        // SAFETY: the trait's condition.
        unsafe {
            let both = V::load(&raw const (*block).qs[fourth % 4], stride);
            V::iq4_values(if fourth < 4 {
                V::low_nibbles(both)
            } else {
                V::high_nibbles(both)
            })
        }
    }
}

/// [`gemm_in_lanes`] for a large batch: a block becomes one integer, which takes a third of the
/// work away.
#[inline(always)]
pub(super) unsafe fn gemm<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe { gemm_by_block::<V, Q8_0Panel, TOKENS>(job) }
}

/// The product with `iq4_nl`, see [`Microkernel`](super::Microkernel).
#[inline(always)]
pub(super) unsafe fn gemm_iq4_nl<V: PanelVectors, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe { gemm_by_block::<V, Q4_0Panel, TOKENS>(job) }
}

#[inline(always)]
unsafe fn gemm_by_block<V: PanelVectors, P: BytePanel, const TOKENS: usize>(job: &Job<'_>) {
    // SAFETY: the caller's condition.
    unsafe {
        let (panel, stride) = (job.packed::<P>(), job.panel_stride);
        let end = panel.wrapping_add(job.blocks);
        let mut accumulators = [V::zero_f32(); TOKENS];
        let mut block = panel;
        for step in job.steps::<Q8_0Tile<TOKENS>>() {
            prefetch::<V>(block.cast(), end.cast(), stride, AHEAD, P::LINES);
            let mut dots = [V::zero_i32(); TOKENS];
            for (token, dot) in dots.iter_mut().enumerate() {
                *dot = V::dot_i8_start(step.correction[token]);
            }
            for fourth in 0..8 {
                let weights = V::dot_i8_weights(P::weights::<V>(block, stride, fourth));
                for (token, dot) in dots.iter_mut().enumerate() {
                    *dot = V::dot_i8(*dot, weights, step.qs[token][fourth]);
                }
            }
            let row_scales = V::load_f16(P::scales(block), stride);
            for (token, sum) in accumulators.iter_mut().enumerate() {
                let scales = V::mul(row_scales, V::splat(step.d[token]));
                *sum = V::fma(V::to_f32(dots[token]), scales, *sum);
            }
            block = block.add(1);
        }
        for (token, &sum) in accumulators.iter().enumerate() {
            V::store(sum, job.rows, job.output(token));
        }
    }
}
